package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

const (
	anchorTimeout = 10 * time.Second
	anchorAgain   = 10 * time.Second // after a failure, unless a newer head comes before
	// Under load a checkpoint may come every second. A witness is shown at most one
	// head in this time.
	witnessEvery   = 10 * time.Second
	witnessTimeout = 5 * time.Second
)

// addCheckpoint adds a checkpoint of the last line, or nothing if that cannot be
// signed now. j.mu is held.
func (j *Journal) addCheckpoint() *format.Checkpoint {
	cp := format.Checkpoint{Node: j.node, Head: authority.JournalHead{Seq: j.seq, Hash: j.head, At: j.now().UTC().Truncate(time.Microsecond)}}
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

// newest hands heads to one who may be slow: of several that wait, only the last.
type newest chan authority.JournalHead

// offer never waits. Only one goroutine may offer.
func (n newest) offer(h authority.JournalHead) {
	select {
	case <-n:
	default:
	}
	n <- h
}

// keepAnchored moves the head that is kept outside of the folder, beginning at from.
// A move whose answer was lost may have happened, so it is asked for again before any
// other. A conflict says that another process or another copy of this folder moved the
// head, or that this node was retired: then two journals have one name, and this one
// ends.
func (j *Journal) keepAnchored(anchor func(ctx context.Context, node string, from, to authority.JournalHead) error, from authority.JournalHead) {
	defer close(j.anchored)
	var waiting []authority.JournalHead // at most two: the one whose answer was lost, and the newest
	for {
		var again <-chan time.Time
		if len(waiting) > 0 {
			again = j.after(anchorAgain)
		}
		select {
		case h, more := <-j.anchors:
			if !more {
				return
			}
			waiting = append(waiting[:min(len(waiting), 1)], h)
		case <-again:
		}
		for len(waiting) > 0 {
			ctx, cancel := context.WithTimeout(context.Background(), anchorTimeout)
			err := anchor(ctx, j.node, from, waiting[0])
			cancel()
			if errors.Is(err, authority.ErrConflict) {
				j.halt(fmt.Errorf("journal: the head that is remembered of node %s is not the one that this process has seen: another process writes under this name, or the node was retired", j.node))
				j.log.Error("the journal's head was refused: nothing is recorded or issued any more", "node", j.node)
				return
			}
			if err != nil {
				j.log.Warn("the journal's head could not be anchored; it is tried again", "node", j.node, "error", err)
				break
			}
			from, waiting = waiting[0], waiting[1:]
			j.anchoredSeq.Store(from.Seq)
		}
	}
}

// keepWitnessed shows heads to a witness. A witness that fails is asked again with the
// next head, which says more.
func (j *Journal) keepWitnessed(witness func(ctx context.Context, node string, head authority.JournalHead) error) {
	defer close(j.witnessed)
	for h := range j.shown {
		ctx, cancel := context.WithTimeout(context.Background(), witnessTimeout)
		err := witness(ctx, j.node, h)
		cancel()
		if err != nil {
			j.witnessFailures.Add(1)
			j.log.Warn("the journal's head could not be shown to the witness", "node", j.node, "error", err)
		} else {
			j.witnessedSeq.Store(h.Seq)
		}
		select {
		case <-j.after(witnessEvery):
		case <-j.quit: // the last head does not wait
		}
	}
}
