package authority

import "time"

// Issuer is one issuer URL with its lifetimes.
type Issuer struct {
	URL string // the `iss` of every token, exactly; never derived from a request

	AccessTTL      time.Duration
	IDTTL          time.Duration
	RefreshTTL     time.Duration // from consent to the end of the grant
	RefreshIdleTTL time.Duration // from one refresh to the next
	RefreshGrace   time.Duration // how long the same old refresh token gives the same successor
	CodeTTL        time.Duration
}

// AdminResource is the built-in resource of the admin API.
const AdminResource = "urn:signalbox:admin"

// MaxTokenTTL is the longest life of any access or ID token. What is revoked
// need not be remembered for longer than this. Configured lifetimes are far
// shorter; the token of `signalbox dev` for its admin API lives for a day.
const MaxTokenTTL = 24 * time.Hour

// Leeway is how far clocks may differ.
const Leeway = 30 * time.Second

// MaxGrantTTL is the longest life that a configuration can give a grant. An
// epoch is remembered for as long, whatever the configuration says today.
const MaxGrantTTL = 8760 * time.Hour
