package journal

import (
	"strconv"
	"time"
)

// Checkpoint vouches for all lines up to Seq: Head is the hash of that line.
type Checkpoint struct {
	Node string
	Seq  uint64
	Head string // hex SHA-256
	Time time.Time
	JWS  string // compact; empty where the journal has no signer
}

// payload is what is signed.
func (c Checkpoint) payload() []byte {
	b := appendString([]byte(`{"node":`), c.Node)
	b = strconv.AppendUint(append(b, `,"seq":`...), c.Seq, 10)
	b = appendString(append(b, `,"head":`...), c.Head)
	b = append(appendTime(append(b, `,"time":"`...), c.Time), '"')
	return append(b, '}')
}

// body is the checkpoint as a record.
func (c Checkpoint) body() []byte {
	b := append(appendTime([]byte(`"time":"`), c.Time), `","type":"`...)
	b = append(b, TypeCheckpoint...)
	b = strconv.AppendUint(append(b, `","count":`...), c.Seq, 10)
	b = appendString(append(b, `,"head":`...), c.Head)
	if c.JWS != "" {
		b = appendString(append(b, `,"jws":`...), c.JWS)
	}
	return b
}

// tellLatest hands c over without waiting; an older one that still waits is
// dropped, since the newer says more.
func (j *Journal) tellLatest(c Checkpoint) {
	select {
	case <-j.anchors:
	default:
	}
	j.anchors <- c
}

func (j *Journal) tellAnchors(anchor func(Checkpoint)) {
	defer close(j.anchored)
	for c := range j.anchors {
		if anchor != nil {
			anchor(c)
		}
	}
}
