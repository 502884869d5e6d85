package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
)

// Prefix marks an opaque value of ours, so that secret scanners find it.
type Prefix string

// The prefixes of everything secret that leaves Signalbox and is not a JWT.
const (
	PrefixAccessToken       Prefix = "sbx_at_"
	PrefixRefreshToken      Prefix = "sbx_rt_"
	PrefixClientSecret      Prefix = "sbx_cs_"
	PrefixAuthorizationCode Prefix = "sbx_ac_"
)

// ErrTypo is a value whose checksum is wrong: it was mistyped or cut off. A
// forger would have made the checksum right.
var ErrTypo = errors.New("the checksum does not match: the value is cut off or mistyped")

var errOpaque = errors.New("not a value of this kind")

const checksumLength = 4

var opaqueEncoding = base64.RawURLEncoding.Strict()

// EncodeOpaque writes `prefix base64url(payload || CRC-32 of prefix and payload)`.
func EncodeOpaque(prefix Prefix, payload []byte) string {
	buf := make([]byte, 0, len(payload)+checksumLength)
	buf = append(buf, payload...)
	buf = binary.BigEndian.AppendUint32(buf, checksum(prefix, payload))
	return string(prefix) + opaqueEncoding.EncodeToString(buf)
}

// DecodeOpaque reads what EncodeOpaque wrote. It accepts one spelling only:
// a longer, shorter or differently cased value fails.
func DecodeOpaque(prefix Prefix, value string, maxPayload int) ([]byte, error) {
	body, ok := strings.CutPrefix(value, string(prefix))
	if !ok || len(body) > opaqueEncoding.EncodedLen(maxPayload+checksumLength) || strings.ContainsAny(body, "\r\n") {
		return nil, errOpaque
	}
	buf, err := opaqueEncoding.DecodeString(body)
	if err != nil || len(buf) < checksumLength {
		return nil, ErrTypo
	}
	payload, sum := buf[:len(buf)-checksumLength], buf[len(buf)-checksumLength:]
	if binary.BigEndian.Uint32(sum) != checksum(prefix, payload) {
		return nil, ErrTypo
	}
	return payload, nil
}

func checksum(prefix Prefix, payload []byte) uint32 {
	sum := crc32.ChecksumIEEE([]byte(prefix))
	return crc32.Update(sum, crc32.IEEETable, payload)
}

// Secret is a value that only its holder may know. It prints as [redacted].
type Secret struct{ value string }

// NewSecret makes a secret of 256 random bits.
func NewSecret(prefix Prefix) Secret {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // crypto/rand.Read never fails
	return Secret{EncodeOpaque(prefix, random)}
}

// SecretOf wraps a value that came from outside.
func SecretOf(value string) Secret { return Secret{value} }

// Reveal returns the value. A caller gives it to its holder, once.
func (s Secret) Reveal() string { return s.value }

// Hash is what may be stored. A secret made by a machine has enough entropy for
// a fast hash; people's passwords never come here.
func (s Secret) Hash() [sha256.Size]byte { return sha256.Sum256([]byte(s.value)) }

// IsZero says that there is no secret.
func (s Secret) IsZero() bool { return s.value == "" }

func (s Secret) String() string               { return "[redacted]" }
func (s Secret) GoString() string             { return "[redacted]" }
func (s Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }
