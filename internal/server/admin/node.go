package admin

import (
	"context"
	"fmt"
	"slices"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/operation"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

func (a *API) nodeRoutes() []api.Route {
	return []api.Route{
		{
			Operation: operation.ListNodes, Scope: "journal:read", Run: a.listNodes,
			Summary: "List what the database remembers of the journals of all nodes.", Query: api.Query(admin.Paging{}), Out: admin.Page[admin.JournalNode]{},
		},
		{
			Operation: operation.RetireNode, Scope: "journal:write", Event: authority.EventNodeRetired, Run: a.retireNode,
			Summary: "Say that a node will not come back: its journal has ended, and need not be where it was.", Out: admin.JournalNode{},
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
	page := admin.Page[admin.JournalNode]{Items: []admin.JournalNode{}, Next: next}
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

func showNode(j authority.Journal) admin.JournalNode {
	n := admin.JournalNode{Node: j.Node, Place: j.Place, Seq: j.Head.Seq, WrittenAt: shownTime(j.Head.At), RetiredAt: shownTime(j.RetiredAt)}
	if l := j.Loss; !l.At.IsZero() {
		n.Loss = &admin.JournalLoss{First: l.First, Last: l.Last, At: l.At, By: l.By, Reason: l.Reason}
	}
	return n
}
