package journal

import (
	"encoding/hex"
	"time"

	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

// addCheckpoint adds a checkpoint of the last line, or nothing if that cannot be
// signed now. j.mu is held.
func (j *Journal) addCheckpoint() *format.Checkpoint {
	cp := format.Checkpoint{Node: j.node, Seq: j.seq, Head: hex.EncodeToString(j.head[:]), Time: j.now().UTC().Truncate(time.Microsecond)}
	if j.sign != nil {
		jws, err := j.sign(cp.Payload())
		if err != nil || jws == "" || len(jws) > format.MaxJWS {
			return nil
		}
		cp.JWS = jws
	}
	j.addLine(cp.Body())
	j.unsigned = 0
	return &cp
}

// tellLatest hands c over without waiting; an older one that still waits is
// dropped, since the newer says more.
func (j *Journal) tellLatest(c format.Checkpoint) {
	select {
	case <-j.anchors:
	default:
	}
	j.anchors <- c
}

func (j *Journal) tellAnchors(anchor func(format.Checkpoint)) {
	defer close(j.anchored)
	for c := range j.anchors {
		if anchor != nil {
			anchor(c)
		}
	}
}
