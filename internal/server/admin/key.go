package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/operation"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

func (a *API) keyRoutes() []api.Route {
	return []api.Route{
		{
			Operation: operation.ListKeys, Scope: "keys:read", Run: a.listKeys,
			Summary: "List signing keys.", Query: api.Query(admin.Paging{}), Out: admin.Page[admin.Key]{},
		},
		{
			Operation: operation.RotateKey, Scope: "keys:write", Event: authority.EventKeyChanged, Run: a.rotateKey,
			Summary: "Sign with a new key from now on. The old one is published until its last token has expired.", In: admin.RotateKey{}, Out: admin.Key{},
		},
		{
			Operation: operation.RemoveKey, Scope: "keys:write", Event: authority.EventKeyChanged, Run: a.removeKey,
			Summary: "Emergency: remove a key now. Every token that it signed is dead.", Status: http.StatusNoContent,
		},
	}
}

func (a *API) listKeys(_ context.Context, c *api.Call) (api.Plan, error) {
	id := func(k authority.Key) string { return k.ID }
	sorted := slices.SortedFunc(slices.Values(a.Keys()), func(x, y authority.Key) int { return strings.Compare(x.ID, y.ID) })
	none := func(authority.Page) ([]authority.Key, error) { return nil, nil }
	some, next, err := api.List(sorted, id, none, c.Page)
	if err != nil {
		return api.Plan{}, err
	}
	page := admin.Page[admin.Key]{Items: []admin.Key{}, Next: next}
	for _, k := range some {
		page.Items = append(page.Items, showKey(k))
	}
	return api.Reads(page), nil
}

func (a *API) rotateKey(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[admin.RotateKey](c)
	if err != nil {
		return api.Plan{}, err
	}
	alg, err := jose.ParseAlgorithm(body.Algorithm)
	if err != nil || alg != jose.ES256 && alg != jose.RS256 && alg != jose.EdDSA {
		return api.Plan{}, api.Invalid("alg must be ES256, RS256 or EdDSA")
	}
	if !slices.ContainsFunc(a.Keys(), func(k authority.Key) bool { return k.Algorithm == body.Algorithm }) {
		return api.Plan{}, api.Invalid("this service does not sign with %s: add it to keys.algorithms in the configuration file", body.Algorithm)
	}
	reason := "rotation asked for"
	if body.Emergency {
		reason += ", in an emergency"
	}
	return api.Plan{
		Events: []authority.Event{{Target: body.Algorithm, Reason: reason}},
		Apply: func(ctx context.Context) (any, error) {
			if err := a.RotateKey(ctx, alg, body.Emergency, c.Actor()); err != nil {
				return nil, tooEarly(err)
			}
			for _, k := range a.Keys() {
				if k.Algorithm == body.Algorithm && k.State == authority.KeyCurrent {
					return showKey(k), nil
				}
			}
			return nil, api.Unavailable("the key was rotated, but cannot be read back")
		},
	}, nil
}

// removeKey ends every token of a key first, on every node, and takes the key
// away then: a node that reads keys late must not trust it any longer.
func (a *API) removeKey(ctx context.Context, c *api.Call) (api.Plan, error) {
	if !slices.ContainsFunc(a.Keys(), func(k authority.Key) bool { return k.ID == c.ID }) {
		return api.Plan{}, api.NotFound("there is no key %q", api.Clip(c.ID))
	}
	return api.Plan{
		Events: []authority.Event{{Target: c.ID, Reason: "removed in an emergency"}},
		End: func(ctx context.Context, events []authority.Event) error {
			if err := a.Endings.EndKey(ctx, c.ID, events[0]); err != nil {
				return err
			}
			return a.RemoveKey(ctx, c.ID, c.Actor())
		},
	}, nil
}

// tooEarly says when to come back: rotating before everybody knows the next
// key would fail verifications.
func tooEarly(err error) error {
	var early *keys.TooEarlyError
	if errors.As(err, &early) {
		return api.Conflict("conflict", "%v", early)
	}
	return err
}

func showKey(k authority.Key) admin.Key {
	return admin.Key{
		KeyID: k.ID, Algorithm: k.Algorithm, State: string(k.State), Public: k.Public,
		CreatedAt: shownTime(k.CreatedAt), PromotedAt: shownTime(k.PromotedAt), RetiredAt: shownTime(k.RetiredAt),
	}
}
