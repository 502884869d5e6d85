package journal

import (
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

// run is the flusher.
func (j *Journal) run(tick <-chan time.Time) {
	defer close(j.stopped)
	defer close(j.shown)
	defer close(j.anchors)
	for {
		select {
		case <-j.wake:
			j.gather()
			j.flush(false)
		case <-tick:
			j.flushTallies(false)
			j.flush(true)
		case <-j.quit:
			j.flush(true)
			return
		}
	}
}

const (
	enough    = 16               // sharers make a sync cheap for each of them
	patience  = 3                // syncs; with 16 busy callers and 2 cores it takes about as long until all are back
	maxLinger = time.Millisecond // however slow the disk is
)

// gather waits for callers who are about to come, so that they share this sync
// instead of paying for the next. The last batch tells how many that may be:
// those whom it released will come back, if they are as busy as before, to those
// who came while it was written. So a caller who is alone never waits here, and
// nobody waits longer than a few syncs take.
func (j *Journal) gather() {
	j.mu.Lock()
	if n := j.seq - j.durable; n == 0 || n >= j.busy { // a tick may have written them already
		j.mu.Unlock()
		return
	}
	select {
	case <-j.full: // of an earlier batch, after its time was up
	default:
	}
	j.fullAt = j.durable + j.busy
	j.mu.Unlock()
	select {
	case <-j.full:
	case <-j.after(min(patience*j.took, maxLinger)):
	}
	j.mu.Lock()
	j.fullAt = 0
	j.mu.Unlock()
}

// flush writes the batch that gathered, with a checkpoint if one is due, and
// tells all who wait for it.
func (j *Journal) flush(checkpoint bool) {
	j.mu.Lock()
	if j.err != nil {
		j.mu.Unlock()
		return
	}
	full := j.size+int64(len(j.buf)) >= j.maxSegment
	released := j.seq - j.durable
	var cp *format.Checkpoint
	if j.unsigned >= checkpointEvery || j.unsigned > 0 && (checkpoint || full) {
		cp = j.addCheckpoint()
	}
	// A segment is closed only behind a checkpoint, so that `audit verify` can tell a
	// whole one from one that was cut.
	full = full && cp != nil
	buf, b, seq := j.buf, j.batch, j.seq
	j.buf, j.batch = j.idle[:0], newBatch()
	j.mu.Unlock()

	began := time.Now()
	j.writing.Store(&began)
	err := j.write(buf)
	j.took = time.Since(began)
	j.writing.Store(nil)
	if j.synced != nil && len(buf) > 0 {
		j.synced(j.took)
	}
	if err != nil {
		j.poison(b, err)
		return
	}
	// Two buffers take turns. One that a burst made large is given back.
	if j.idle = buf; cap(buf) > maxIdle {
		j.idle = nil
	}
	j.mu.Lock()
	j.durable = seq
	j.busy = min(released+j.seq-seq, enough)
	close(j.waiters)
	j.waiters = make(chan struct{})
	j.mu.Unlock()
	close(b.done)
	if cp != nil {
		j.anchors.offer(cp.Head)
		j.shown.offer(cp.Head)
	}
	if full {
		j.roll(seq + 1)
	}
}

// write puts lines on disk. They go over zeros that were written before: a sync that
// need not make the file longer costs the disk half as much, and does not wait for
// the other files of the file system.
func (j *Journal) write(lines []byte) error {
	for len(lines) > 0 {
		// In pieces, so that a power cut can leave no more than one half written.
		piece := lines[:min(len(lines), maxWrite)]
		for j.padded < j.size+int64(len(piece)) {
			n, err := j.pad(zeros[:min(len(zeros), int(max(j.maxSegment, 4096)))], j.padded)
			if err != nil {
				return err
			}
			j.padded += int64(n)
		}
		if err := j.put(piece, j.size); err != nil {
			return err
		}
		j.size += int64(len(piece))
		lines = lines[len(piece):]
	}
	return nil
}

// finish leaves nothing but lines in the file, and closes it.
func (j *Journal) finish() error {
	if err := j.file.Truncate(j.size); err != nil {
		return errors.Join(err, j.file.Close())
	}
	return errors.Join(j.file.Sync(), j.file.Close())
}

// poison ends the journal with the batch that could not be written: what a failed write
// or sync left on disk is known only after a new start has read it.
func (j *Journal) poison(b *batch, cause error) {
	err := fmt.Errorf("journal: not recorded: %w", cause)
	b.err = err
	j.halt(err) // first: whoever is told asks Ready next
	close(b.done)
}

// halt makes the journal refuse all that is not yet being written, for good.
func (j *Journal) halt(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return
	}
	j.err = err
	j.buf = nil
	j.batch.err = err
	close(j.batch.done)
}

// roll starts a new segment.
func (j *Journal) roll(first uint64) {
	settled := newBatch() // what was written is on disk and told
	if err := j.finish(); err != nil {
		j.poison(settled, err)
		return
	}
	f, err := createSegment(j.dir, j.node, first)
	if err != nil {
		j.poison(settled, err)
		return
	}
	j.file, j.size, j.padded = f, 0, 0
}
