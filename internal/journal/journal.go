// Package journal writes the audit record of one node: what was handed out, refused,
// changed and ended, on disk before anybody is told, in a chain that shows every later
// change. Package format is the files and lines; query reads them, verify proves them.
package journal

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
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
	// Anchored is the head that is kept outside of the folder. Open refuses a folder
	// that does not contain it.
	Anchored authority.JournalHead
	// Anchor moves that head on, as authority.JournalStore.SaveJournalHead does. It is
	// called with every checkpoint once it is on disk, one at a time and outside the way
	// of appenders; of several that wait, only the latest. Nil means that nobody
	// remembers the journal.
	Anchor func(ctx context.Context, node string, from, to authority.JournalHead) error
	// Witness shows a head to somebody whom this machine cannot change. It is called
	// like Anchor, every ten seconds at most, and what it returns is only logged and
	// counted. Nil means no witness.
	Witness func(ctx context.Context, node string, head authority.JournalHead) error
	// Synced, if not nil, is told how long each write and sync took. Appenders wait for
	// it, so it must be quick.
	Synced func(time.Duration)
	// Log is for what goes wrong outside the way of appenders. Nil means nowhere.
	Log *slog.Logger

	first []authority.Event // the first records of a journal without any

	tick  <-chan time.Time                     // instead of a ticker, for tests
	after func(time.Duration) <-chan time.Time // instead of time.After, for tests
	disk  *disk                                // instead of a real disk, for tests
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
	synced     func(time.Duration)
	after      func(time.Duration) <-chan time.Time

	wake    chan struct{}
	full    chan struct{} // the batch has reached fullAt
	quit    chan struct{}
	stopped chan struct{} // closed when the flusher has ended

	log             *slog.Logger
	anchors         newest        // for keepAnchored
	anchored        chan struct{} // closed when it has ended
	anchoredSeq     atomic.Uint64
	shown           newest        // for keepWitnessed
	witnessed       chan struct{} // closed when it has ended
	witnessedSeq    atomic.Uint64
	witnessFailures atomic.Uint64

	tally   tally
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

// Open opens the journal of node in dir for writing, and makes both if needed. It checks
// the end of the journal, from opts.Anchored on, and cuts off a torn last line. It
// refuses a directory that another process writes to; a journal that is broken or lacks
// opts.Anchored is a LostError. Start is for a folder that knows its node.
func Open(dir, node string, opts Options) (*Journal, error) {
	lock, err := claim(dir)
	if err != nil {
		return nil, err
	}
	return openLocked(lock, dir, node, opts)
}

// claim makes dir and locks it.
func claim(dir string) (*os.File, error) {
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
	return lock, nil
}

// openLocked gives lock back if it fails.
func openLocked(lock *os.File, dir, node string, opts Options) (*Journal, error) {
	if !format.IsNodeName(node) {
		lock.Close()
		return nil, fmt.Errorf("journal: %q cannot be a node's name: letters, digits, dot, dash and underscore, at most 128", node)
	}
	end, err := recoverEnd(dir, node, opts.Anchored)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{
		dir: dir, node: node,
		now: opts.Now, sign: opts.Sign, maxSegment: opts.MaxSegment, disk: realDisk, synced: opts.Synced,
		lock: lock, file: end.file, size: end.size, padded: end.size,
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), quit: make(chan struct{}), stopped: make(chan struct{}),
		log: opts.Log, anchors: make(newest, 1), anchored: make(chan struct{}), shown: make(newest, 1), witnessed: make(chan struct{}),
		tally: tally{types: map[authority.EventType]*refusals{}},
		batch: newBatch(), seq: end.seq, head: end.head, durable: end.seq, unsigned: end.unsigned,
		waiters: make(chan struct{}),
	}
	if j.now == nil {
		j.now = time.Now
	}
	if j.maxSegment <= 0 {
		j.maxSegment = defaultMaxSegment
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
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
	if opts.Anchor == nil {
		close(j.anchored)
	} else {
		j.anchoredSeq.Store(opts.Anchored.Seq)
		go j.keepAnchored(opts.Anchor, opts.Anchored)
	}
	if opts.Witness == nil {
		close(j.witnessed)
	} else {
		go j.keepWitnessed(opts.Witness)
	}
	go func() {
		defer stopTick()
		j.run(tick)
	}()
	if end.seq == 0 {
		for _, e := range opts.first {
			if err := j.append(context.Background(), &e, 1); err != nil {
				return nil, errors.Join(err, j.Close())
			}
		}
	}
	if end.cut > 0 {
		e := authority.Event{Type: authority.EventRecovered, Reason: fmt.Sprintf("cut off a torn last line of %d bytes, never acknowledged", end.cut)}
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
	if e.Type == "" || e.Type.IsJournals() {
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
	if at.IsZero() || !format.Writable(at) {
		at = j.now()
	}
	body := bodies.Get().(*[]byte)
	*body = format.AppendBody((*body)[:0], e, at, count)
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
	j.buf = format.AppendLine(j.buf, j.seq, body, j.head)
	j.head = sha256.Sum256(j.buf[start:])
	j.unsigned++
}

// slow is how long a write may take before the disk counts as hanging.
const slow = 2 * time.Second

// Ready says why nothing can be recorded now: the journal is broken or closed, or its
// disk has not answered for a while. Callers check Ready first, so nothing needs undoing.
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

// Dir is the folder and Node the name under which this journal is kept there.
func (j *Journal) Dir() string  { return j.dir }
func (j *Journal) Node() string { return j.node }

// Head is the last record that is on disk; zero for an empty journal.
func (j *Journal) Head() (seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.durable
}

// Anchored is the last record whose hash is kept outside of the folder.
func (j *Journal) Anchored() (seq uint64) { return j.anchoredSeq.Load() }

// Witnessed is the last record whose hash the witness has, and how often it could not
// be shown one.
func (j *Journal) Witnessed() (seq, failures uint64) {
	return j.witnessedSeq.Load(), j.witnessFailures.Load()
}

// Wait returns once record seq is on disk, and gives the last one that is.
func (j *Journal) Wait(ctx context.Context, seq uint64) (uint64, error) {
	for {
		j.mu.Lock()
		durable, changed := j.durable, j.waiters
		j.mu.Unlock()
		if durable >= seq {
			return durable, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-j.stopped:
			return 0, ErrClosed
		}
	}
}

// Close writes what waits, a last checkpoint, and gives the directory free.
func (j *Journal) Close() error {
	j.flushTallies(true)
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
	<-j.witnessed
	err := j.Err()
	if err != nil {
		_ = j.file.Close() // as it is: the next start looks at it
	} else {
		err = j.finish()
	}
	return errors.Join(err, j.lock.Close())
}
