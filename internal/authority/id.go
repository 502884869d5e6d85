// Package authority is the domain of Signalbox: issuer, clients, subjects,
// grants, sessions, tickets, keys and what ends them, their rules, and the
// small store interfaces that they need. Rules are methods on values and need
// no database; a rule that must hold under concurrency is a store transition
// whose contract is in store.go.
package authority

import (
	"errors"
	"time"

	"github.com/google/uuid"
)

// ID names a grant, a token or a session. It is a UUIDv7 (RFC 9562 §5.7): it
// sorts by time, and it carries the millisecond of its making, which is finer
// than the seconds of `iat` and decides whether a token is older than an epoch.
type ID struct{ uuid uuid.UUID }

// NewID makes an ID that carries at.
func NewID(at time.Time) ID {
	id := uuid.New() // version 4: random; the first 48 bits and the version are set below
	ms := uint64(at.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = 0x70 | id[6]&0x0f
	return ID{id}
}

// ParseID reads the one canonical spelling of an ID.
func ParseID(s string) (ID, error) {
	if len(s) != 36 {
		return ID{}, errors.New("not an id")
	}
	id, err := uuid.Parse(s)
	if err != nil || id.Version() != 7 || id.String() != s {
		return ID{}, errors.New("not an id")
	}
	return ID{id}, nil
}

// IDFromBytes reads the 16 bytes that Bytes gave.
func IDFromBytes(b []byte) (ID, error) {
	id, err := uuid.FromBytes(b)
	if err != nil || id.Version() != 7 {
		return ID{}, errors.New("not an id")
	}
	return ID{id}, nil
}

// Time is the millisecond at which the ID was made.
func (id ID) Time() time.Time {
	var ms uint64
	for i := range 6 {
		ms = ms<<8 | uint64(id.uuid[i])
	}
	return time.UnixMilli(int64(ms)).UTC()
}

// IsZero says that there is no ID.
func (id ID) IsZero() bool { return id.uuid == uuid.Nil }

// Bytes is the binary form, 16 bytes.
func (id ID) Bytes() []byte { return id.uuid[:] }

// String is the canonical form, 36 lower-case characters; empty for no ID.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return id.uuid.String()
}
