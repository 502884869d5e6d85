package admin

import (
	"context"
	"strconv"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/journal/query"
	"github.com/signalbox-sts/signalbox/internal/operation"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

func (a *API) journalRoutes() []api.Route {
	return []api.Route{
		{
			Operation: operation.SearchJournal, Scope: "journal:read", Run: a.searchJournal,
			Summary: "Search this node's journal, newest first.", Query: api.Query(admin.JournalFilter{}, admin.Paging{}), Out: admin.Page[admin.Record]{},
		},
		{
			Operation: operation.TailJournal, Scope: "journal:read", Run: a.tailJournal,
			Summary: "Follow this node's journal: one JSON object a line, until the caller hangs up or the token ends.", Query: api.Query(admin.TailFilter{}), Out: admin.Record{}, Stream: true,
		},
		{
			Operation: operation.ShowJournal, Scope: "journal:read", Run: a.showJournal,
			Summary: "How far this node's journal is, and whether it still takes records.", Out: admin.JournalStatus{},
		},
	}
}

// searchJournal gives the newest first; the next page is older.
func (a *API) searchJournal(ctx context.Context, c *api.Call) (api.Plan, error) {
	filter, err := api.Filter[admin.JournalFilter](c)
	if err != nil {
		return api.Plan{}, err
	}
	q := a.querying(filter.JournalMatch)
	q.Text, q.Since, q.Until = filter.Text, filter.Since, filter.Until
	q.Newest, q.Limit = true, c.Page.Limit
	if c.Page.After != "" {
		if q.BeforeSeq, err = strconv.ParseUint(c.Page.After, 10, 63); err != nil || q.BeforeSeq == 0 {
			return api.Plan{}, api.Invalid("after must be the next of the page before")
		}
	}
	page := admin.Page[admin.Record]{Items: []admin.Record{}}
	err = query.Search(ctx, a.JournalDir, q, func(r query.Record) error {
		page.Items = append(page.Items, r.Record)
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
	filter, err := api.Filter[admin.TailFilter](c)
	if err != nil {
		return api.Plan{}, err
	}
	q := a.querying(filter.JournalMatch)
	return api.Plan{Stream: func(ctx context.Context, emit api.Emit) error {
		return query.Tail(ctx, a.Journal, filter.From, func(r query.Record) error {
			if !matches(q, r.Record) {
				return nil
			}
			return emit(r.Record)
		})
	}}, nil
}

func (a *API) showJournal(context.Context, *api.Call) (api.Plan, error) {
	status := admin.JournalStatus{Node: a.Node, Seq: a.Journal.Head()}
	if err := a.Journal.Err(); err != nil {
		status.Broken = err.Error()
	}
	return api.Reads(status), nil
}

// querying is the query of what chooses records.
func (a *API) querying(m admin.JournalMatch) query.Query {
	q := query.Query{
		Node: a.Node, ClientID: m.ClientID, SubjectID: m.Subject, GrantID: m.GrantID, TokenID: m.TokenID,
		TokenHash: m.TokenHash, RequestID: m.RequestID, Remote: m.Remote,
	}
	if m.Type != "" {
		q.Types = []string{m.Type}
	}
	return q
}

// matches is the part of a query that makes sense for what comes: no text, no
// times.
func matches(q query.Query, r admin.Record) bool {
	subject := ""
	if r.Subject != nil {
		subject = r.Subject.ID
	}
	same := func(want, have string) bool { return want == "" || want == have }
	return (len(q.Types) == 0 || q.Types[0] == r.Type) && same(q.ClientID, r.ClientID) && same(q.SubjectID, subject) &&
		same(q.GrantID, r.GrantID) && same(q.TokenID, r.TokenID) && same(q.TokenHash, r.TokenHash) &&
		same(q.RequestID, r.RequestID) && same(q.Remote, r.Remote)
}
