package authority

import "time"

// TicketKind keeps the spent secrets of different flows apart.
type TicketKind string

// TicketAssertion is the jti of a client assertion (RFC 7523 §3).
const TicketAssertion TicketKind = "assertion"

// Ticket is a secret that can be spent once.
type Ticket struct {
	Kind      TicketKind
	Hash      [32]byte // SHA-256 over everything that makes it unique
	ExpiresAt time.Time
}
