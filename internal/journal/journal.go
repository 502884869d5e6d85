package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// The types of the journal's own records. Append refuses them.
const (
	TypeCheckpoint authority.EventType = "journal.checkpoint"
	TypeRecovered  authority.EventType = "journal.recovered"
	TypeOmitted    authority.EventType = "journal.omitted"
)

const (
	defaultMaxSegment = 64 << 20
	checkpointEvery   = 10_000           // records
	checkpointAfter   = 10 * time.Second // when there were new ones
	// maxPending bounds what may wait for a disk that hangs. Callers whose context
	// ended no longer wait, but their records do.
	maxPending = 16 << 20
	maxIdle    = 1 << 20   // the buffer that is kept between batches
	maxWrite   = 256 << 10 // in one write and sync
)

// ErrClosed is what Append returns after Close.
var ErrClosed = errors.New("the journal is closed")

// ErrBehind is what Append returns while too much waits for the disk.
var ErrBehind = errors.New("the journal waits for its disk")

// Options of a Journal.
type Options struct {
	// Now is the clock for the journal's own records and for events without a
	// time. Nil means time.Now.
	Now func() time.Time
	// Sign makes the compact JWS of a checkpoint. It must be quick, local, and must
	// not append to the journal: appenders wait for it. When it fails, the
	// checkpoint is tried again later. Nil means checkpoints without a signature.
	Sign func(payload []byte) (string, error)
	// MaxSegment is the size in bytes at which a segment is closed. Zero means 64 MiB.
	MaxSegment int64
	// Anchor, if not nil, is told of every checkpoint once it is on disk, one at a
	// time and outside the way of appenders; of several that wait, only the latest.
	Anchor func(Checkpoint)

	tick  <-chan time.Time                     // instead of a ticker, for tests
	after func(time.Duration) <-chan time.Time // instead of time.After, for tests
	disk  *disk                                // instead of a real disk, for tests
}

// disk is the part of a file that can fail.
type disk struct {
	write func(f *os.File, b []byte, off int64) (int, error)
	sync  func(*os.File) error
}

var zeros = make([]byte, 1<<20)

var realDisk = disk{
	write: (*os.File).WriteAt,
	sync:  syncData,
}

// Journal is the audit record of one node.
//
// One goroutine writes. While one write and sync runs, the lines of the next
// batch gather in a buffer: the more callers wait, the more records share a sync.
type Journal struct {
	dir, node  string
	now        func() time.Time
	sign       func([]byte) (string, error)
	maxSegment int64
	disk       disk
	lock       *os.File
	file       *os.File      // only the flusher touches it
	size       int64         // of the lines in file; only the flusher touches it
	padded     int64         // size with the zeros behind; only the flusher touches it
	idle       []byte        // the buffer for the next batch; only the flusher touches it
	took       time.Duration // the last write; only the flusher touches it
	after      func(time.Duration) <-chan time.Time

	wake     chan struct{}
	full     chan struct{} // the batch has reached fullAt
	quit     chan struct{}
	stopped  chan struct{} // closed when the flusher has ended
	anchors  chan Checkpoint
	anchored chan struct{} // closed when the last anchor is told

	fault   fault // for the tests of those who append
	later   later
	writing atomic.Pointer[time.Time] // since when the flusher has been waiting for the disk; nil for not

	mu       sync.Mutex
	err      error // why nothing can be appended any more
	closing  bool
	buf      []byte // the lines of the batch that gathers
	batch    *batch
	seq      uint64   // of the last line, written or gathered
	head     [32]byte // its hash
	unsigned uint64   // lines since the last checkpoint
	durable  uint64   // the last seq that is on disk
	busy     uint64   // how many callers there seem to be, up to enough
	fullAt   uint64   // the seq that gather waits for; zero while it does not wait
	waiters  chan struct{}
}

// batch is the fate that the lines of one write share.
type batch struct {
	done chan struct{} // closed when err is final
	err  error
}

func newBatch() *batch { return &batch{done: make(chan struct{})} }

// Open opens the journal of node in dir for writing, and makes both if needed.
// It checks the last segment and cuts off a torn last line; it refuses a
// directory that another process writes to, and a journal that is broken.
func Open(dir, node string, opts Options) (_ *Journal, err error) {
	if !nodeName.MatchString(node) {
		return nil, fmt.Errorf("journal: %q cannot be a node's name: letters, digits, dot, dash and underscore, at most 128", node)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	// The directory's own name must outlive a power cut too.
	if err := syncDir(filepath.Dir(dir)); err != nil {
		lock.Close()
		return nil, fmt.Errorf("journal: %w", err)
	}
	end, err := recoverEnd(dir, node)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{
		dir: dir, node: node,
		now: opts.Now, sign: opts.Sign, maxSegment: opts.MaxSegment, disk: realDisk,
		lock: lock, file: end.file, size: end.size, padded: end.size,
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), quit: make(chan struct{}), stopped: make(chan struct{}),
		anchors: make(chan Checkpoint, 1), anchored: make(chan struct{}),
		later: later{types: map[authority.EventType]*refusals{}},
		batch: newBatch(), seq: end.seq, head: end.head, durable: end.seq, unsigned: end.unsigned,
		waiters: make(chan struct{}),
	}
	if j.now == nil {
		j.now = time.Now
	}
	if j.maxSegment <= 0 {
		j.maxSegment = defaultMaxSegment
	}
	if opts.disk != nil {
		j.disk = *opts.disk
	}
	if j.after = opts.after; j.after == nil {
		j.after = time.After
	}
	tick, stopTick := opts.tick, func() {}
	if tick == nil {
		t := time.NewTicker(checkpointAfter)
		tick, stopTick = t.C, t.Stop
	}
	go j.tellAnchors(opts.Anchor)
	go func() {
		defer stopTick()
		j.run(tick)
	}()
	if end.cut > 0 {
		e := authority.Event{Type: TypeRecovered, Reason: fmt.Sprintf("cut off a torn last line of %d bytes, never acknowledged", end.cut)}
		if err := j.append(context.Background(), &e, 1); err != nil {
			return nil, errors.Join(err, j.Close())
		}
	}
	return j, nil
}

// Append records e. When it returns nil the record is on disk; on any error the
// caller must hand out nothing, and answer that the service is unavailable. After
// a context's end the record may still be written: a record without a token is
// harmless, a token without a record is not.
func (j *Journal) Append(ctx context.Context, e authority.Event) error {
	if e.Type == "" || strings.HasPrefix(string(e.Type), "journal.") {
		return fmt.Errorf("journal: %q is not an event type", e.Type)
	}
	return j.append(ctx, &e, 1)
}

func (j *Journal) append(ctx context.Context, e *authority.Event, count uint64) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	b, err := j.enqueue(e, count)
	if err != nil {
		return err
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("journal: %w", ctx.Err())
	}
}

var bodies = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// enqueue puts e's line into the batch that gathers.
func (j *Journal) enqueue(e *authority.Event, count uint64) (*batch, error) {
	at := e.At
	if at.IsZero() || !writable(at) {
		at = j.now()
	}
	body := bodies.Get().(*[]byte)
	*body = appendBody((*body)[:0], e, at, count)
	defer bodies.Put(body)

	j.mu.Lock()
	switch {
	case j.err != nil:
		defer j.mu.Unlock()
		return nil, j.err
	case j.closing:
		j.mu.Unlock()
		return nil, ErrClosed
	case len(j.buf) > maxPending:
		j.mu.Unlock()
		return nil, ErrBehind
	}
	first := len(j.buf) == 0
	j.addLine(*body)
	b := j.batch
	if j.seq == j.fullAt {
		select {
		case j.full <- struct{}{}:
		default:
		}
	}
	j.mu.Unlock()
	if first {
		select {
		case j.wake <- struct{}{}:
		default: // it is awake already
		}
	}
	return b, nil
}

// addLine links body into the chain. j.mu is held.
func (j *Journal) addLine(body []byte) {
	start := len(j.buf)
	j.seq++
	j.buf = appendLine(j.buf, j.seq, body, j.head)
	j.head = sha256.Sum256(j.buf[start:])
	j.unsigned++
}

// slow is how long a write may take before the disk counts as hanging.
const slow = 2 * time.Second

// Ready says why nothing can be recorded now: the journal is broken or closed,
// or its disk has not answered for a while. Who asks before he changes
// anything else need not take it back.
func (j *Journal) Ready() error {
	if began := j.writing.Load(); began != nil && time.Since(*began) > slow {
		return ErrBehind
	}
	return j.Err()
}

// Err says why the journal takes no more records; nil while it does.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// Head is the last record that is on disk; zero for an empty journal.
func (j *Journal) Head() (seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.durable
}

// Close writes what waits, a last checkpoint, and gives the directory free.
func (j *Journal) Close() error {
	j.flushLater(true)
	j.mu.Lock()
	if j.closing {
		j.mu.Unlock()
		<-j.stopped
		return nil
	}
	j.closing = true
	j.mu.Unlock()
	close(j.quit)
	<-j.stopped
	<-j.anchored
	err := j.Err()
	if err != nil {
		_ = j.file.Close() // as it is: the next start looks at it
	} else {
		err = j.finish()
	}
	return errors.Join(err, j.lock.Close())
}

// run is the flusher.
func (j *Journal) run(tick <-chan time.Time) {
	defer close(j.stopped)
	defer close(j.anchors)
	for {
		select {
		case <-j.wake:
			j.gather()
			j.flush(false)
		case <-tick:
			j.flushLater(false)
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
	var cp *Checkpoint
	if j.unsigned >= checkpointEvery || j.unsigned > 0 && (checkpoint || full) {
		cp = j.addCheckpoint()
	}
	// A segment is closed only behind a checkpoint, so that Verify can tell a
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
		j.tellLatest(*cp)
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
			if err := j.fault.strike(); err != nil {
				return err
			}
			n, err := j.disk.write(j.file, zeros[:min(len(zeros), int(max(j.maxSegment, 4096)))], j.padded)
			if err != nil {
				return err
			}
			j.padded += int64(n)
		}
		if err := j.fault.strike(); err != nil {
			return err
		}
		if _, err := j.disk.write(j.file, piece, j.size); err != nil {
			return err
		}
		if err := j.fault.strike(); err != nil {
			return err
		}
		if err := j.disk.sync(j.file); err != nil {
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

// poison ends the journal: what a failed write or sync left on disk is known
// only after a new start has read it.
func (j *Journal) poison(b *batch, cause error) {
	err := fmt.Errorf("journal: not recorded: %w", cause)
	j.mu.Lock()
	j.err = err
	gathered := j.batch
	j.buf = nil
	j.mu.Unlock()
	b.err = err
	close(b.done)
	gathered.err = err
	close(gathered.done)
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

// addCheckpoint adds a checkpoint of the last line, or nothing if that cannot be
// signed now. j.mu is held.
func (j *Journal) addCheckpoint() *Checkpoint {
	cp := Checkpoint{Node: j.node, Seq: j.seq, Head: hex.EncodeToString(j.head[:]), Time: j.now().UTC().Truncate(time.Microsecond)}
	if j.sign != nil {
		jws, err := j.sign(cp.payload())
		if err != nil || jws == "" || len(jws) > maxJWS {
			return nil
		}
		cp.JWS = jws
	}
	j.addLine(cp.body())
	j.unsigned = 0
	return &cp
}
