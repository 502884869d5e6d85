package keys

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
)

// MasterKey is the one secret of an installation. It never encrypts anything itself: every use derives its own key from it.
// It never prints. Only ParseMasterKey and GenerateMasterKey make one; the zero value derives nothing and panics.
type MasterKey struct{ secret []byte }

const masterKeySize = 32

var errMasterKey = errors.New("the master key must be 32 random bytes, as they are, in base64 or in hex: make one with `openssl rand -base64 32`")

// GenerateMasterKey makes a new one.
func GenerateMasterKey() MasterKey {
	secret := make([]byte, masterKeySize)
	_, _ = rand.Read(secret) // never fails
	return MasterKey{secret}
}

// ParseMasterKey reads 32 raw bytes, 64 hex digits, or base64 of 32 to 64 bytes in either alphabet, with or without padding. White space around the
// text is ignored, since editors and secret stores add a newline.
func ParseMasterKey(data []byte) (MasterKey, error) {
	if len(data) > 1024 {
		return MasterKey{}, errMasterKey
	}
	secret := bytes.Clone(data)
	if len(data) != masterKeySize {
		text := strings.TrimSpace(string(data))
		var err error
		switch len(text) {
		case masterKeySize:
			secret = []byte(text)
		case hex.EncodedLen(masterKeySize):
			if secret, err = hex.DecodeString(text); err == nil {
				break
			}
			fallthrough
		default:
			text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
			if secret, err = base64.RawURLEncoding.DecodeString(text); err != nil {
				return MasterKey{}, errMasterKey // not err: it reveals positions in the secret
			}
		}
	}
	if len(secret) < masterKeySize || len(secret) > 2*masterKeySize {
		return MasterKey{}, errMasterKey
	}
	// 32 random bytes hold about 30 different ones. This catches zeros and keys typed by hand, not a bad generator.
	var seen [256]bool
	different := 0
	for _, b := range secret {
		if !seen[b] {
			seen[b] = true
			different++
		}
	}
	if different < 12 {
		return MasterKey{}, errors.New("the master key is not random: make one with `openssl rand -base64 32`")
	}
	return MasterKey{secret}, nil
}

// Derive gives the key for one purpose (HKDF-SHA256, RFC 5869). A derived key reveals nothing about the others or about the master key.
func (m MasterKey) Derive(purpose string) [32]byte {
	if len(m.secret) < masterKeySize {
		panic("keys: a MasterKey that was not parsed")
	}
	key, err := hkdf.Key(sha256.New, m.secret, nil, "signalbox "+purpose, 32)
	if err != nil {
		panic(err) // only for a length that HKDF cannot give
	}
	return [32]byte(key)
}

// Encode is the master key in base64, for the file that `init` writes. There is no other way to read it.
func (m MasterKey) Encode() string { return base64.StdEncoding.EncodeToString(m.secret) }

const redacted = "[redacted]"

func (MasterKey) String() string               { return redacted }
func (MasterKey) GoString() string             { return redacted }
func (MasterKey) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (MasterKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (MasterKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }
