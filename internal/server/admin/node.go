package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

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

func (a *API) nodeRoutes() []api.Route {
	return []api.Route{
		{
			Method: "GET", Path: "/journal/nodes", Name: "listNodes", Scope: "journal:read", Run: a.listNodes,
			Summary: "List what the database remembers of the journals of all nodes.", Query: api.Paging, Out: api.Page[JournalNode]{},
		},
		{
			Method: "POST", Path: "/journal/nodes/{id}/retire", Name: "retireNode", Scope: "journal:write", Event: authority.EventNodeRetired, Run: a.retireNode,
			Summary: "Say that a node will not come back: its journal has ended, and need not be where it was.", Out: JournalNode{},
		},
	}
}

func (a *API) listNodes(ctx context.Context, c *api.Call) (api.Plan, error) {
	known, err := a.Journals.Journals(ctx)
	if err != nil {
		return api.Plan{}, err
	}
	id := func(j authority.Journal) string { return j.Node }
	none := func(authority.Page) ([]authority.Journal, error) { return nil, nil }
	some, next, err := api.List(known, id, none, c.Page)
	if err != nil {
		return api.Plan{}, err
	}
	page := api.Page[JournalNode]{Items: []JournalNode{}, Next: next}
	for _, j := range some {
		page.Items = append(page.Items, showNode(j))
	}
	return api.Reads(page), nil
}

// retireNode ends another node's journal. One that still writes is stopped by it, since
// its next head is refused.
func (a *API) retireNode(ctx context.Context, c *api.Call) (api.Plan, error) {
	known, err := a.Journals.Journals(ctx)
	if err != nil {
		return api.Plan{}, err
	}
	i := slices.IndexFunc(known, func(j authority.Journal) bool { return j.Node == c.ID })
	switch {
	case i < 0:
		return api.Plan{}, api.NotFound("there is no node %q", api.Clip(c.ID))
	case c.ID == a.Node:
		return api.Plan{}, api.Conflict("conflict", "this is the node that answers: it cannot retire itself")
	}
	node := known[i]
	return api.Plan{
		Events: []authority.Event{{Target: c.ID, Reason: fmt.Sprintf("its last known record is %d", node.Head.Seq)}},
		Apply: func(ctx context.Context) (any, error) {
			if err := a.Journals.RetireJournal(ctx, c.ID, c.Now); err != nil {
				return nil, err
			}
			if node.RetiredAt.IsZero() {
				node.RetiredAt = c.Now
			}
			return showNode(node), nil
		},
	}, nil
}

func showNode(j authority.Journal) JournalNode {
	n := JournalNode{Node: j.Node, Place: j.Place, Seq: j.Head.Seq, WrittenAt: shownTime(j.Head.At), RetiredAt: shownTime(j.RetiredAt)}
	if l := j.Loss; !l.At.IsZero() {
		n.Loss = &JournalLoss{First: l.First, Last: l.Last, At: l.At, By: l.By, Reason: l.Reason}
	}
	return n
}
