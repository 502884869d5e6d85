package admin

import (
	"context"
	"encoding/json"
	"time"

	"github.com/signalbox-sts/signalbox/internal/operation"
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
	Emergency bool   `json:"emergency,omitempty" doc:"Also if verifiers may not have the next key yet: they refuse its tokens until they have."`
}

// ListKeys lists signing keys.
func (a *API) ListKeys(ctx context.Context, p Paging) (Page[Key], error) {
	return call[Page[Key]](ctx, a, operation.ListKeys, "", nil, p)
}

// RotateKey signs with a new key from now on. The old one is published until its last token has expired.
func (a *API) RotateKey(ctx context.Context, r RotateKey) (Key, error) {
	return call[Key](ctx, a, operation.RotateKey, "", r)
}

// RemoveKey removes a key in an emergency: every token that it signed is dead.
func (a *API) RemoveKey(ctx context.Context, keyID string) error {
	return a.run(ctx, operation.RemoveKey, keyID)
}
