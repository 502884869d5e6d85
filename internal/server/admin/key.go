package admin

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/keys"
)

// Key is a signing key as the API shows it: its public part alone.
type Key struct {
	KeyID      string          `json:"kid"`
	Algorithm  string          `json:"alg"`
	State      string          `json:"state" enum:"next,current,retired"`
	Public     json.RawMessage `json:"public" doc:"The public key as a JWK."`
	CreatedAt  *time.Time      `json:"created_at,omitempty"`
	PromotedAt *time.Time      `json:"promoted_at,omitempty" doc:"When it began to sign."`
	RetiredAt  *time.Time      `json:"retired_at,omitempty" doc:"When it ceased to sign."`
}

// RotateKey is the body that rotates a key.
type RotateKey struct {
	Algorithm string `json:"alg" enum:"ES256,RS256,EdDSA"`
}

func (a *API) listKeys(_ context.Context, c *call) (plan, error) {
	id := func(k authority.Key) string { return k.ID }
	sorted := slices.SortedFunc(slices.Values(a.Keys()), func(x, y authority.Key) int { return strings.Compare(x.ID, y.ID) })
	none := func(authority.Page) ([]authority.Key, error) { return nil, nil }
	some, next, err := list(sorted, id, none, c.page)
	if err != nil {
		return plan{}, err
	}
	page := Page[Key]{Items: []Key{}, Next: next}
	for _, k := range some {
		page.Items = append(page.Items, showKey(k))
	}
	return reads(page), nil
}

func (a *API) rotateKey(ctx context.Context, c *call) (plan, error) {
	body, err := decode[RotateKey](c)
	if err != nil {
		return plan{}, err
	}
	alg, err := jose.ParseAlgorithm(body.Algorithm)
	if err != nil || alg != jose.ES256 && alg != jose.RS256 && alg != jose.EdDSA {
		return plan{}, invalid("alg must be ES256, RS256 or EdDSA")
	}
	if !slices.ContainsFunc(a.Keys(), func(k authority.Key) bool { return k.Algorithm == body.Algorithm }) {
		return plan{}, invalid("this service does not sign with %s: add it to keys.algorithms in the configuration file", body.Algorithm)
	}
	return plan{
		events: []authority.Event{{Target: body.Algorithm, Reason: "rotation asked for"}},
		apply: func(ctx context.Context) (any, error) {
			if err := a.RotateKey(ctx, alg, c.actor()); err != nil {
				return nil, tooEarly(err)
			}
			for _, k := range a.Keys() {
				if k.Algorithm == body.Algorithm && k.State == authority.KeyCurrent {
					return showKey(k), nil
				}
			}
			return nil, unavailable("the key was rotated, but cannot be read back")
		},
	}, nil
}

// removeKey ends every token of a key first, on every node, and takes the key
// away then: a node that reads keys late must not go on trusting it.
func (a *API) removeKey(ctx context.Context, c *call) (plan, error) {
	if !slices.ContainsFunc(a.Keys(), func(k authority.Key) bool { return k.ID == c.id }) {
		return plan{}, notFound("there is no key %q", clip(c.id))
	}
	return plan{
		events: []authority.Event{{Target: c.id, Reason: "removed in an emergency"}},
		end: func(ctx context.Context, events []authority.Event) error {
			if err := a.Endings.EndKey(ctx, c.id, events[0]); err != nil {
				return err
			}
			return a.RemoveKey(ctx, c.id, c.actor())
		},
	}, nil
}

// tooEarly says when to come back: rotating before everybody knows the next
// key would fail verifications.
func tooEarly(err error) error {
	var early *keys.TooEarlyError
	if errors.As(err, &early) {
		return conflict("conflict", "%v", early)
	}
	return err
}

func showKey(k authority.Key) Key {
	return Key{
		KeyID: k.ID, Algorithm: k.Algorithm, State: string(k.State), Public: k.Public,
		CreatedAt: shownTime(k.CreatedAt), PromotedAt: shownTime(k.PromotedAt), RetiredAt: shownTime(k.RetiredAt),
	}
}
