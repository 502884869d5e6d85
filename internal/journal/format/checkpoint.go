package format

import (
	"strconv"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Checkpoint vouches for all lines up to Seq: Head is the hash of that line.
type Checkpoint struct {
	Node string
	Seq  uint64
	Head string // hex SHA-256
	Time time.Time
	JWS  string // compact; empty where the journal has no signer
}

// Payload is what is signed.
func (c Checkpoint) Payload() []byte {
	b := AppendString([]byte(`{"node":`), c.Node)
	b = strconv.AppendUint(append(b, `,"seq":`...), c.Seq, 10)
	b = AppendString(append(b, `,"head":`...), c.Head)
	b = append(AppendTime(append(b, `,"time":"`...), c.Time), '"')
	return append(b, '}')
}

// Body is the checkpoint as a record.
func (c Checkpoint) Body() []byte {
	b := append(AppendTime([]byte(`"time":"`), c.Time), `","type":"`...)
	b = append(b, authority.EventCheckpoint...)
	b = strconv.AppendUint(append(b, `","count":`...), c.Seq, 10)
	b = AppendString(append(b, `,"head":`...), c.Head)
	if c.JWS != "" {
		b = AppendString(append(b, `,"jws":`...), c.JWS)
	}
	return b
}
