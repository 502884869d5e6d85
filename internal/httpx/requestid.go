package httpx

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"
)

// NodeTag stands for a node in the ids of the requests that it answers.
type NodeTag [2]byte

// TagOf is the tag of the node with a name. Different nodes may have the same
// one, though hardly two of a few.
func TagOf(node string) NodeTag {
	sum := sha256.Sum256([]byte(node))
	return NodeTag(sum[:2])
}

const requestIDLength = 12

// NewRequestID makes the id of a request: who answers it, when, and 48 random
// bits. So an id from an error page says where to look even when it is known
// nowhere any more.
func NewRequestID(tag NodeTag, at time.Time) string {
	var id [requestIDLength]byte
	_, _ = rand.Read(id[6:]) // never fails
	copy(id[:], tag[:])
	binary.BigEndian.PutUint32(id[2:], uint32(at.Unix()))
	return hex.EncodeToString(id[:])
}

// ParseRequestID reads what NewRequestID made. The time has whole seconds.
func ParseRequestID(s string) (tag NodeTag, at time.Time, ok bool) {
	id, err := hex.DecodeString(s)
	if err != nil || len(id) != requestIDLength || strings.ToLower(s) != s {
		return tag, at, false
	}
	return NodeTag(id[:2]), time.Unix(int64(binary.BigEndian.Uint32(id[2:])), 0).UTC(), true
}
