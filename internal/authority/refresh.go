// RFC 9700 §4.14: refresh token rotation with reuse detection, in one row.
package authority

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Refresh is the state of a grant's refresh token, as its row holds it. The
// zero value means that the grant has none.
type Refresh struct {
	Generation    uint32
	Hash          [32]byte // of the current seed
	RotatedAt     time.Time
	IdleExpiresAt time.Time
}

const (
	seedLength    = 32
	macLength     = 16
	refreshLength = 16 + 4 + seedLength + macLength
)

// RefreshToken is an authentic refresh token: it carries the grant's id, a
// generation, a seed, and a MAC that only this service can make. What fails
// the MAC is nobody's token and touches nothing.
type RefreshToken struct {
	GrantID    ID
	Generation uint32
	seed       [seedLength]byte
}

// RefreshKey makes and checks refresh tokens. It is derived from the master
// key, so every node has the same one.
type RefreshKey struct{ mac, next [32]byte }

// NewRefreshKey splits one derived key into the two that are needed.
func NewRefreshKey(derived [32]byte) RefreshKey {
	var k RefreshKey
	copy(k.mac[:], keyed(derived[:], []byte("mac")))
	copy(k.next[:], keyed(derived[:], []byte("next")))
	return k
}

func (k RefreshKey) String() string   { return "[redacted]" }
func (k RefreshKey) GoString() string { return "[redacted]" }

// First makes the first refresh token of a grant.
func (k RefreshKey) First(grantID ID) RefreshToken {
	t := RefreshToken{GrantID: grantID, Generation: 1}
	_, _ = rand.Read(t.seed[:]) // never fails
	return t
}

// Successor computes the one token that follows t. It is derived from t and
// the key, so a retry gets the same successor and nothing need be stored.
func (k RefreshKey) Successor(t RefreshToken) RefreshToken {
	next := RefreshToken{GrantID: t.GrantID, Generation: t.Generation + 1}
	copy(next.seed[:], keyed(k.next[:], t.body()))
	return next
}

// Parse reads a presented token. An error means that the value was never
// made here, or is damaged: it must change nothing.
func (k RefreshKey) Parse(s string) (RefreshToken, error) {
	payload, err := oauth.DecodeOpaque(oauth.PrefixRefreshToken, s, refreshLength)
	if err != nil {
		return RefreshToken{}, err
	}
	if len(payload) != refreshLength {
		return RefreshToken{}, errors.New("not a refresh token")
	}
	body, mac := payload[:refreshLength-macLength], payload[refreshLength-macLength:]
	if subtle.ConstantTimeCompare(mac, keyed(k.mac[:], body)[:macLength]) != 1 {
		return RefreshToken{}, errors.New("the refresh token was not made by this issuer")
	}
	t := RefreshToken{Generation: binary.BigEndian.Uint32(body[16:20])}
	if t.GrantID, err = IDFromBytes(body[:16]); err != nil {
		return RefreshToken{}, err
	}
	copy(t.seed[:], body[20:])
	return t, nil
}

// Reveal is the value that goes to the client.
func (k RefreshKey) Reveal(t RefreshToken) string {
	body := t.body()
	return oauth.EncodeOpaque(oauth.PrefixRefreshToken, append(body, keyed(k.mac[:], body)[:macLength]...))
}

// State is what the grant's row holds while t is the current token.
func (t RefreshToken) State(now time.Time, idle time.Duration) Refresh {
	return Refresh{Generation: t.Generation, Hash: t.hash(), RotatedAt: now, IdleExpiresAt: now.Add(idle)}
}

func (t RefreshToken) String() string   { return "[redacted]" }
func (t RefreshToken) GoString() string { return "[redacted]" }

func (t RefreshToken) hash() [32]byte {
	return sha256.Sum256(append([]byte("signalbox refresh\x00"), t.body()...))
}

func (t RefreshToken) body() []byte {
	body := make([]byte, 0, refreshLength)
	body = append(body, t.GrantID.Bytes()...)
	body = binary.BigEndian.AppendUint32(body, t.Generation)
	return append(body, t.seed[:]...)
}

func keyed(key, message []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(message)
	return mac.Sum(nil)
}

// Presentation is what presenting a refresh token means for its grant.
type Presentation int

// The four cases.
const (
	Refuse Presentation = iota // the grant is over: refuse and change nothing
	Rotate                     // the current token: move on to its successor
	Replay                     // the previous token, again, in time: the same successor, nothing to store
	Reuse                      // an authentic token whose time has passed: somebody else has it too
)

// Present decides what an authentic refresh token means. A grant that is bound
// to a key takes a retry for as long as the successor is unused, since only
// the key's holder can make one; a bearer token gets the grace period.
func (g Grant) Present(k RefreshKey, t RefreshToken, now time.Time, grace time.Duration) Presentation {
	if !g.Alive(now) || g.Refresh.Generation == 0 {
		return Refuse
	}
	if t.Generation == g.Refresh.Generation && sameHash(t.hash(), g.Refresh.Hash) {
		if !now.Before(g.Refresh.IdleExpiresAt) {
			return Refuse
		}
		return Rotate
	}
	isPrevious := t.Generation+1 == g.Refresh.Generation && sameHash(k.Successor(t).hash(), g.Refresh.Hash)
	inTime := now.Before(g.Refresh.RotatedAt.Add(grace)) || !g.Confirmation.IsZero()
	if isPrevious && inTime {
		return Replay
	}
	return Reuse
}

func sameHash(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
