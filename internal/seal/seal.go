// Package seal keeps small state outside the server. Whoever carries a sealed
// value can neither read nor change it; it is good for one purpose and until
// its expiry. So a sign-in page or an opaque token needs no row.
package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// ErrOpen says that a sealed value is forged, damaged, for another purpose, or expired.
var ErrOpen = errors.New("not a valid sealed value")

// Box seals for one purpose. It uses XChaCha20-Poly1305, whose random nonces
// are safe for any number of values; those of AES-GCM are not.
type Box struct {
	aead    cipher.AEAD
	purpose []byte
}

// NewBox makes a box. The purpose is bound in: a value from another box under
// the same key does not open.
func NewBox(key [32]byte, purpose string) *Box {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic(err) // only for a key of the wrong length, which the type rules out
	}
	return &Box{aead, []byte(purpose)}
}

const expiryLength = 8

// Seal returns payload sealed until expiry: nonce, ciphertext, tag.
func (b *Box) Seal(payload []byte, expiry time.Time) []byte {
	nonceSize := b.aead.NonceSize()
	out := make([]byte, nonceSize, nonceSize+expiryLength+len(payload)+b.aead.Overhead())
	_, _ = rand.Read(out) // never fails
	plain := binary.BigEndian.AppendUint64(make([]byte, 0, expiryLength+len(payload)), uint64(expiry.Unix()))
	plain = append(plain, payload...)
	return b.aead.Seal(out, out, plain, b.purpose)
}

// Open returns the payload of what Seal gave, if it has not expired at now.
func (b *Box) Open(sealed []byte, now time.Time) ([]byte, error) {
	nonceSize := b.aead.NonceSize()
	if len(sealed) < nonceSize+expiryLength+b.aead.Overhead() {
		return nil, ErrOpen
	}
	plain, err := b.aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], b.purpose)
	if err != nil {
		return nil, ErrOpen
	}
	if now.Unix() >= int64(binary.BigEndian.Uint64(plain)) {
		return nil, ErrOpen
	}
	return plain[expiryLength:], nil
}
