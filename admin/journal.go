package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"time"

	"github.com/signalbox-sts/signalbox/internal/operation"
)

// JournalStatus is how far this node's journal is.
type JournalStatus struct {
	Node   string `json:"node"`
	Seq    uint64 `json:"seq" doc:"The last record that is on disk."`
	Broken string `json:"broken,omitempty" doc:"Why nothing can be recorded any more: then nothing is issued either."`
}

// Record is one record of the journal: docs/reference/journal.md says what each type of record has. Its strings
// hold what callers have sent.
type Record struct {
	Node          string    `json:"node,omitempty" doc:"The node that wrote it."`
	Seq           uint64    `json:"seq"`
	Time          time.Time `json:"time"`
	Type          string    `json:"type"`
	RequestID     string    `json:"request_id,omitempty"`
	Remote        string    `json:"remote,omitempty"`
	Actor         string    `json:"actor,omitempty"`
	ClientID      string    `json:"client_id,omitempty"`
	Subject       *Subject  `json:"subject,omitempty"`
	GrantType     string    `json:"grant_type,omitempty"`
	GrantID       string    `json:"grant_id,omitempty"`
	SessionID     string    `json:"sid,omitempty"`
	TokenID       string    `json:"jti,omitempty"`
	TokenHash     string    `json:"token_hash,omitempty"`
	OriginID      string    `json:"origin_jti,omitempty"`
	OriginHash    string    `json:"origin_hash,omitempty"`
	OriginPod     string    `json:"origin_pod,omitempty"`
	AssertionID   string    `json:"assertion_jti,omitempty"`
	AssertionHash string    `json:"assertion_hash,omitempty"`
	AssertionPod  string    `json:"assertion_pod,omitempty"`
	Policy        string    `json:"policy,omitempty"`
	Audience      []string  `json:"aud,omitempty"`
	Scope         string    `json:"scope,omitempty"`
	ExpiresAt     int64     `json:"exp,omitempty" doc:"Seconds since 1970."`
	Error         string    `json:"error,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	Target        string    `json:"target,omitempty"`
	Changes       []Change  `json:"changes,omitempty"`
	Count         uint64    `json:"count,omitempty"`
	Head          string    `json:"head,omitempty"`
	JWS           string    `json:"jws,omitempty"`
	Prev          string    `json:"prev"`
}

// Subject is whom a record, a grant or a token is about.
type Subject struct {
	Issuer string `json:"issuer,omitempty"`
	ID     string `json:"id,omitempty"`
	Kind   string `json:"kind,omitempty"`
}

// Change is one thing that was changed about the target.
type Change struct {
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// JournalNode is what the database remembers of one node's journal.
type JournalNode struct {
	Node      string       `json:"node"`
	Place     string       `json:"place" doc:"The machine and the folder that it is written at."`
	Seq       uint64       `json:"seq" doc:"The last record that is remembered."`
	WrittenAt *time.Time   `json:"written_at,omitempty" doc:"When that record was remembered."`
	RetiredAt *time.Time   `json:"retired_at,omitempty"`
	Loss      *JournalLoss `json:"loss,omitempty" doc:"Records that were missing at a start."`
}

// JournalLoss says which records are lost.
type JournalLoss struct {
	First  uint64    `json:"first"`
	Last   uint64    `json:"last"`
	At     time.Time `json:"at"`
	By     string    `json:"by" doc:"The node that continued."`
	Reason string    `json:"reason"`
}

// JournalMatch chooses records. Its zero value chooses all.
type JournalMatch struct {
	Type      string `query:"type" doc:"Only this type of record, such as token.issued."`
	ClientID  string `query:"client_id" doc:"Only records about this client."`
	Subject   string `query:"subject" doc:"Only records about this subject's id."`
	GrantID   string `query:"grant_id" doc:"Only records about this grant."`
	TokenID   string `query:"jti" doc:"Only records about this token."`
	TokenHash string `query:"token_hash" doc:"Only records about the token with this hash."`
	RequestID string `query:"request_id" doc:"Only records of this request."`
	Remote    string `query:"remote" doc:"Only records of this IP address."`
}

// JournalFilter chooses records for a search.
type JournalFilter struct {
	JournalMatch
	Text  string    `query:"text" doc:"Only records with this text in any of their values."`
	Since time.Time `query:"since" doc:"From this time on: RFC 3339."`
	Until time.Time `query:"until" doc:"Before this time: RFC 3339."`
}

// TailFilter chooses records to follow.
type TailFilter struct {
	JournalMatch
	From uint64 `query:"from" doc:"The seq of the first record. Default: from now on."`
}

// SearchJournal searches the journal of the node that answers, newest first.
func (a *API) SearchJournal(ctx context.Context, f JournalFilter, p Paging) (Page[Record], error) {
	return call[Page[Record]](ctx, a, operation.SearchJournal, "", nil, f, p)
}

// TailJournal follows the journal of the node that answers. It returns what each returns, or once the service ends
// the stream: then its error is nil. That happens at the latest when the token ends, so ask again from the record
// after the last one.
func (a *API) TailJournal(ctx context.Context, f TailFilter, each func(Record) error) error {
	response, err := a.send(ctx, operation.TailJournal, "", nil, []any{f})
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxRecord)
	for lines.Scan() {
		var r Record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return notAPI(response)
		}
		if err := each(r); err != nil {
			return err
		}
	}
	return lines.Err()
}

// maxRecord bounds one line of a stream.
const maxRecord = 1 << 20

// ShowJournal says how far the journal of the node that answers is, and whether it still takes records.
func (a *API) ShowJournal(ctx context.Context) (JournalStatus, error) {
	return call[JournalStatus](ctx, a, operation.ShowJournal, "", nil)
}

// ListNodes lists what the database remembers of the journals of all nodes.
func (a *API) ListNodes(ctx context.Context, p Paging) (Page[JournalNode], error) {
	return call[Page[JournalNode]](ctx, a, operation.ListNodes, "", nil, p)
}

// RetireNode says that a node will not come back: its journal has ended, and need not be where it was.
func (a *API) RetireNode(ctx context.Context, node string) (JournalNode, error) {
	return call[JournalNode](ctx, a, operation.RetireNode, node, nil)
}
