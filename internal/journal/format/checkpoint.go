package format

import (
	"encoding/hex"
	"strconv"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Checkpoint vouches for all lines of a node's journal up to Head.
type Checkpoint struct {
	Node string
	Head authority.JournalHead
	JWS  string // compact; empty where the journal has no signer
}

// Payload is what is signed.
func (c Checkpoint) Payload() []byte {
	b := AppendString([]byte(`{"node":`), c.Node)
	b = strconv.AppendUint(append(b, `,"seq":`...), c.Head.Seq, 10)
	b = append(hex.AppendEncode(append(b, `,"head":"`...), c.Head.Hash[:]), '"')
	b = append(AppendTime(append(b, `,"time":"`...), c.Head.At), '"')
	return append(b, '}')
}

// Body is the checkpoint as a record.
func (c Checkpoint) Body() []byte {
	b := append(AppendTime([]byte(`"time":"`), c.Head.At), `","type":"`...)
	b = append(b, authority.EventCheckpoint...)
	b = strconv.AppendUint(append(b, `","count":`...), c.Head.Seq, 10)
	b = append(hex.AppendEncode(append(b, `,"head":"`...), c.Head.Hash[:]), '"')
	if c.JWS != "" {
		b = AppendString(append(b, `,"jws":`...), c.JWS)
	}
	return b
}
