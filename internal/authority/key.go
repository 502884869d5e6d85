package authority

import "time"

// KeyState is where a signing key is in its life.
type KeyState string

// A key goes next -> current -> retired and is then removed.
const (
	KeyNext    KeyState = "next"    // published, not yet signing
	KeyCurrent KeyState = "current" // signing; one per algorithm
	KeyRetired KeyState = "retired" // published until the last token that it signed has expired
)

// Key is a signing key as it is stored.
type Key struct {
	ID         string // `kid`
	Algorithm  string // JWS `alg`
	Public     []byte // JWK, JSON
	Sealed     []byte // the private part, readable only with the master key
	State      KeyState
	CreatedAt  time.Time
	PromotedAt time.Time // when it became current
	RetiredAt  time.Time
}
