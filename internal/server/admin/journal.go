package admin

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

// Record is one record of the journal.
type Record = query.Record

// JournalStatus is how far this node's journal is.
type JournalStatus struct {
	Node   string `json:"node"`
	Seq    uint64 `json:"seq" doc:"The last record that is on disk."`
	Broken string `json:"broken,omitempty" doc:"Why nothing can be recorded any more: then nothing is issued either."`
}

var journalMatch = []api.Parameter{
	api.Text("type", "Only this type of record, such as token.issued."),
	api.Text("client_id", "Only records about this client."),
	api.Text("subject", "Only records about this subject's id."),
	api.Text("grant_id", "Only records about this grant."),
	api.Text("jti", "Only records about this token."),
	api.Text("token_hash", "Only records about the token with this hash."),
	api.Text("request_id", "Only records of this request."),
	api.Text("remote", "Only records of this IP address."),
}

var journalFilter = []api.Parameter{
	api.Text("text", "Only records with this text in any of their values."),
	api.Text("since", "From this time on: RFC 3339."),
	api.Text("until", "Before this time: RFC 3339."),
}

func (a *API) journalRoutes() []api.Route {
	return []api.Route{
		{
			Method: "GET", Path: "/journal", Name: "searchJournal", Scope: "journal:read", Run: a.searchJournal,
			Summary: "Search this node's journal, newest first.", Query: slices.Concat(journalMatch, journalFilter, api.Paging), Out: api.Page[Record]{},
		},
		{
			Method: "GET", Path: "/journal/tail", Name: "tailJournal", Scope: "journal:read", Run: a.tailJournal,
			Summary: "Follow this node's journal: one JSON object a line, until the caller hangs up or the token ends.", Query: slices.Concat(journalMatch, []api.Parameter{api.Integer("from", "The seq of the first record. Default: from now on.")}), Out: Record{}, Stream: true,
		},
		{
			Method: "GET", Path: "/journal/status", Name: "showJournal", Scope: "journal:read", Run: a.showJournal,
			Summary: "How far this node's journal is, and whether it still takes records.", Out: JournalStatus{},
		},
	}
}

// searchJournal gives the newest first; the next page is older.
func (a *API) searchJournal(ctx context.Context, c *api.Call) (api.Plan, error) {
	q, err := a.journalQuery(c.Query)
	if err != nil {
		return api.Plan{}, err
	}
	q.Newest, q.Limit = true, c.Page.Limit
	if c.Page.After != "" {
		if q.BeforeSeq, err = strconv.ParseUint(c.Page.After, 10, 63); err != nil || q.BeforeSeq == 0 {
			return api.Plan{}, api.Invalid("after must be the next of the page before")
		}
	}
	page := api.Page[Record]{Items: []Record{}}
	err = query.Search(ctx, a.JournalDir, q, func(r Record) error {
		page.Items = append(page.Items, r)
		return nil
	})
	if err != nil {
		return api.Plan{}, err
	}
	if n := len(page.Items); n == q.Limit && page.Items[0].Seq > 1 {
		page.Next = api.Cursor(strconv.FormatUint(page.Items[0].Seq, 10))
	}
	for i, j := 0, len(page.Items)-1; i < j; i, j = i+1, j-1 {
		page.Items[i], page.Items[j] = page.Items[j], page.Items[i]
	}
	return api.Reads(page), nil
}

// tailJournal follows what is on disk; a record shows up here after the
// answer that it records may leave, never for one that was not recorded.
func (a *API) tailJournal(_ context.Context, c *api.Call) (api.Plan, error) {
	q, err := a.journalQuery(c.Query)
	if err != nil {
		return api.Plan{}, err
	}
	from := uint64(0)
	if s := c.Query.Get("from"); s != "" {
		if from, err = strconv.ParseUint(s, 10, 63); err != nil || from == 0 {
			return api.Plan{}, api.Invalid("from must be the seq of a record")
		}
	}
	return api.Plan{Stream: func(ctx context.Context, emit api.Emit) error {
		return query.Tail(ctx, a.Journal, from, func(r Record) error {
			if !matches(q, r) {
				return nil
			}
			return emit(r)
		})
	}}, nil
}

func (a *API) showJournal(context.Context, *api.Call) (api.Plan, error) {
	status := JournalStatus{Node: a.Node, Seq: a.Journal.Head()}
	if err := a.Journal.Err(); err != nil {
		status.Broken = err.Error()
	}
	return api.Reads(status), nil
}

func (a *API) journalQuery(p httpx.Params) (query.Query, error) {
	q := query.Query{
		Node: a.Node, ClientID: p.Get("client_id"), SubjectID: p.Get("subject"), GrantID: p.Get("grant_id"), TokenID: p.Get("jti"),
		TokenHash: p.Get("token_hash"), RequestID: p.Get("request_id"), Remote: p.Get("remote"), Text: p.Get("text"),
	}
	if t := p.Get("type"); t != "" {
		q.Types = []string{t}
	}
	var err error
	if q.Since, err = moment(p, "since"); err != nil {
		return q, err
	}
	q.Until, err = moment(p, "until")
	return q, err
}

func moment(p httpx.Params, name string) (time.Time, error) {
	s := p.Get(name)
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, api.Invalid("%s must be a time like 2026-01-31T12:00:00Z", name)
	}
	return t, nil
}

// matches is the part of a query that makes sense for what comes: no text, no
// times.
func matches(q query.Query, r Record) bool {
	subject := ""
	if r.Subject != nil {
		subject = r.Subject.ID
	}
	same := func(want, have string) bool { return want == "" || want == have }
	return (len(q.Types) == 0 || q.Types[0] == r.Type) && same(q.ClientID, r.ClientID) && same(q.SubjectID, subject) &&
		same(q.GrantID, r.GrantID) && same(q.TokenID, r.TokenID) && same(q.TokenHash, r.TokenHash) &&
		same(q.RequestID, r.RequestID) && same(q.Remote, r.Remote)
}
