package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

const (
	// beatEvery is how often the API server is asked whether the watch can be
	// believed; MaxSilence is after how long it cannot.
	beatEvery   = time.Second
	beatTimeout = 2500 * time.Millisecond
	// MaxSilence is how long a watch may be silent before it counts as down.
	MaxSilence = 5 * time.Second
	// auditEvery is how often the grants in the database are compared with the pods.
	auditEvery = 30 * time.Second
	// rewatchLatest bounds the wait after a watch broke.
	rewatchLatest = time.Second
)

// Watch follows the pods of one cluster and tells of their ends.
//
// It reads metadata only. What it knows when its stream breaks, it keeps: it resumes
// where it was, and where the API server cannot do that, it lists again, and what
// was known and is gone has ended.
//
// A node that takes a watch over does not know what the one before had seen. The
// database does: Evidence lists the pods that living grants depend on. Those that
// are read before a list begins and are not in it have ended. The same question is
// asked again every auditEvery, for grants that were born to a pod that was dead
// already; then a pod has ended if the watch has come past the moment of the question
// and still does not know it.
type Watch struct {
	Client  *Client
	Cluster authority.Cluster
	// End is told of every end until it succeeds, in the order of the ends, some of
	// them at once. To be told twice must do no harm.
	End func(ctx context.Context, uid string, proofUntil time.Time) error
	// Evidence is GrantStore.EvidenceKeys.
	Evidence func(ctx context.Context, kind authority.EvidenceKind, prefix string, p authority.Page) ([]string, error)
	Now      func() time.Time
	Log      *slog.Logger

	once sync.Once
	pods *pods
	ends *ends

	mu       sync.Mutex
	since    time.Time // the list and the stream are there; zero while they are not
	heard    time.Time // the last sign of life of the stream's connection
	event    time.Time
	lag      time.Duration
	audited  bool // what others had seen is accounted for
	failure  error
	suspects suspects
	conn     net.Conn // the stream's
}

// suspects are pods that grants depend on and that the watch does not know.
type suspects struct {
	uids []string
	// version is one of the cluster at which each of them existed, if it ever will.
	version uint64
}

// WatchStatus is what a watch knows of itself.
type WatchStatus struct {
	Since       time.Time     // zero: it is not established
	Heard       time.Time     // the last sign of life
	Event       time.Time     // the last event
	Lag         time.Duration // how late that was, to the second and by the cluster's clock
	Pods        int
	Terminating int
	Ended       int64 // ends that were told
	Waiting     int   // ends that were not yet told
	WaitingFor  time.Duration
	Failure     string // the last one, empty once it is over
}

func (w *Watch) start() {
	w.once.Do(func() {
		w.pods, w.ends = newPods(w.Cluster.Terminating == authority.TerminatingRefuse), newEnds()
	})
}

// Run watches until ctx ends. What was not told by then is for the next one, who
// finds it in the database.
func (w *Watch) Run(ctx context.Context) {
	w.start()
	var running sync.WaitGroup
	running.Go(func() {
		w.ends.work(ctx, func(ctx context.Context, e end) error {
			err := w.End(ctx, e.uid, e.proofUntil)
			if err == nil {
				w.pods.told(e.uid, w.Now())
			}
			return err
		})
	})
	running.Go(func() { w.passDeadlines(ctx) })
	version := ""
	again(ctx, rewatchLatest, w.Now, func() {
		var err error
		version, err = w.follow(ctx, version)
		w.lost(ctx, err)
	})
	running.Wait()
}

// Pod says what is known of a pod. Believe it only while the watch is not silent.
func (w *Watch) Pod(uid string) State {
	w.start()
	return w.pods.state(uid)
}

// Silent is for how long nothing was heard. Above MaxSilence the watch is down.
func (w *Watch) Silent() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.heard.IsZero() {
		return 1<<63 - 1
	}
	return w.Now().Sub(w.heard)
}

// Ready says that the watch is up, knows all pods, has told of all that the
// database had and the cluster has not, and is not behind with telling.
func (w *Watch) Ready() bool {
	w.start()
	_, _, oldest, _ := w.ends.look()
	behind := !oldest.IsZero() && w.Now().Sub(oldest) > 2*time.Second
	w.mu.Lock()
	defer w.mu.Unlock()
	return !behind && w.audited && !w.since.IsZero() && w.Now().Sub(w.heard) <= 2*beatEvery
}

// Status is for metrics and `cluster show`.
func (w *Watch) Status() WatchStatus {
	w.start()
	var s WatchStatus
	var oldest time.Time
	var failure error
	s.Pods, s.Terminating = w.pods.count()
	s.Ended, s.Waiting, oldest, failure = w.ends.look()
	if !oldest.IsZero() {
		s.WaitingFor = w.Now().Sub(oldest)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.Since, s.Heard, s.Event, s.Lag = w.since, w.heard, w.event, w.lag
	if err := errors.Join(w.failure, failure); err != nil {
		s.Failure = err.Error()
	}
	return s
}

// follow lists if version is empty, and then watches. It returns the version to go
// on from, empty if only a list helps.
func (w *Watch) follow(ctx context.Context, version string) (string, error) {
	if version == "" {
		var err error
		if version, err = w.reconcile(ctx); err != nil {
			return "", err
		}
	}
	version, err := w.stream(ctx, version)
	if errors.Is(err, errGone) {
		version = ""
	}
	return version, err
}

// reconcile lists all pods, and ends what is known, here or in the database, and is gone.
func (w *Watch) reconcile(ctx context.Context) (version string, err error) {
	w.mu.Lock()
	w.suspects = suspects{} // the list settles what they are, and more
	w.mu.Unlock()
	before, readErr := w.evidence(ctx) // before the list: what exists by now must be in it
	w.pods.begin()
	version, err = w.Client.items(ctx, Pods, "", nil, metadataOnly, eachPod(func(o object) error {
		ends, err := w.pods.saw(o, w.Now())
		w.ends.add(ends...)
		return err
	}))
	if err != nil {
		return "", err
	}
	now := w.Now()
	w.ends.add(w.pods.sweep(now)...)
	for _, uid := range w.pods.missing(before) {
		w.ends.add(w.pods.gone(uid, now)...)
	}
	w.mu.Lock()
	w.audited = readErr == nil
	w.mu.Unlock()
	if readErr != nil {
		w.note(readErr)
	}
	return version, nil
}

// evidence reads the uids of the pods that living grants depend on.
func (w *Watch) evidence(ctx context.Context) (uids []string, err error) {
	prefix := authority.PodEvidence(w.Cluster.Name, "").Key
	const page = 1000
	for after := ""; ; {
		keys, err := w.Evidence(ctx, authority.EvidencePod, prefix, authority.Page{After: after, Limit: page})
		if err != nil {
			return nil, fmt.Errorf("read which pods grants depend on: %w", err)
		}
		for _, key := range keys {
			uids = append(uids, strings.TrimPrefix(key, prefix))
		}
		if len(keys) < page {
			return uids, nil
		}
		after = keys[len(keys)-1]
	}
}

// stream watches from a version on until it breaks.
func (w *Watch) stream(ctx context.Context, version string) (string, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var conn net.Conn
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { conn = i.Conn }})
	answer, err := w.Client.watch(traced, Pods, "", metadataOnly, version)
	if err != nil {
		return version, fmt.Errorf("watch pods: %w", err)
	}
	defer answer.Body.Close()
	if answer.ProtoMajor < 2 && w.Client.server.Scheme == "https" {
		// A heartbeat on another connection says nothing about this one.
		return version, errors.New("watch pods: the API server, or what is in front of it, does not speak HTTP/2")
	}
	now := w.Now()
	w.mu.Lock()
	w.since, w.heard, w.failure = now, now, nil
	w.conn = nil
	if answer.ProtoMajor >= 2 {
		w.conn = conn
	}
	w.mu.Unlock()
	var beating sync.WaitGroup
	defer beating.Wait()
	defer stop(nil)
	beating.Go(func() { w.beat(ctx, stop) })

	events := newEvents(answer.Body)
	for {
		e, err := events.next()
		if err == nil {
			err = w.take(e)
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return version, fmt.Errorf("watch pods: %w", err)
		}
		version = e.version
	}
}

// take takes one event in.
func (w *Watch) take(e event) error {
	var item podItem
	if json.Unmarshal(e.object, &item) != nil {
		return errors.New("the API server sent an event without a pod")
	}
	o, now := item.Metadata, w.Now()
	var found []end
	lag := time.Duration(-1)
	switch e.kind {
	case added, modified:
		var err error
		if found, err = w.pods.saw(o, now); err != nil {
			return err
		}
		switch {
		case e.kind == added:
			lag = now.Sub(o.Created)
		case !o.Deletion.IsZero():
			lag = now.Sub(o.Deletion.Add(-time.Duration(o.Grace) * time.Second))
		}
	case deleted:
		found = w.pods.gone(o.UID, now)
	}
	w.ends.add(found...)
	w.mu.Lock()
	w.heard = now
	if e.kind != bookmark {
		w.event = now
	}
	if lag >= 0 && lag < time.Hour { // otherwise it is not about now
		w.lag = lag
	}
	settled := w.settled(e.version)
	w.mu.Unlock()
	for _, uid := range w.pods.missing(settled) {
		w.ends.add(w.pods.gone(uid, now)...)
	}
	return nil
}

// settled gives the suspects if the watch has come past their version. The caller
// holds the lock.
func (w *Watch) settled(version string) (uids []string) {
	at, err := strconv.ParseUint(version, 10, 64)
	if err != nil || w.suspects.version == 0 || at < w.suspects.version {
		return nil
	}
	uids, w.suspects, w.audited = w.suspects.uids, suspects{}, true
	return uids
}

// beat asks the API server for one pod, as it is now, again and again: it must be
// there, have its database, and still let us see pods. It is asked on the connection
// of the stream: if it answers on another one, the stream's is lost.
func (w *Watch) beat(ctx context.Context, stop context.CancelCauseFunc) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	lastAudit := time.Time{}
	for {
		if now := w.Now(); lastAudit.IsZero() || now.Sub(lastAudit) >= auditEvery {
			lastAudit = now
			w.audit(ctx, stop)
		}
		w.mu.Lock()
		asked := len(w.suspects.uids) > 0 && w.suspects.version == 0
		stream := w.conn
		w.mu.Unlock()

		var conn net.Conn
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { conn = i.Conn }})
		traced, cancel := context.WithTimeout(traced, beatTimeout)
		began := w.Now()
		version, err := w.Client.probe(traced)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.note(fmt.Errorf("heartbeat: %w", err))
		case stream != nil && conn != stream:
			stop(errors.New("its connection is lost"))
			return
		default:
			w.mu.Lock()
			w.heard, w.failure = later(w.heard, began), nil
			if at, err := strconv.ParseUint(version, 10, 64); err == nil && asked {
				w.suspects.version = at
			}
			w.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// audit reads again which pods grants depend on. Whoever is still not known since the
// last time can only be settled by a list.
func (w *Watch) audit(ctx context.Context, stop context.CancelCauseFunc) {
	w.mu.Lock()
	unsettled := len(w.suspects.uids) > 0
	w.mu.Unlock()
	if unsettled {
		stop(errGone)
		return
	}
	uids, err := w.evidence(ctx)
	if err != nil {
		w.note(err)
		return
	}
	missing := w.pods.missing(uids)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.suspects = suspects{uids: missing}
	w.audited = w.audited || len(missing) == 0
}

// passDeadlines ends pods at their deadlines, whether the watch is up or not.
func (w *Watch) passDeadlines(ctx context.Context) {
	for ctx.Err() == nil {
		ends, next := w.pods.pass(w.Now())
		w.ends.add(ends...)
		wait := time.Hour
		if !next.IsZero() {
			wait = next.Sub(w.Now())
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-w.pods.rearmed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (w *Watch) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failure = err
}

// lost notes that the stream is not there any more.
func (w *Watch) lost(ctx context.Context, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since, w.conn = time.Time{}, nil
	if ctx.Err() != nil || err == nil || errors.Is(err, io.EOF) || errors.Is(err, errGone) {
		return // the API server ends every watch after a while
	}
	if w.failure == nil || w.failure.Error() != err.Error() {
		w.Log.Warn("the watch on a cluster's pods broke", "cluster", w.Cluster.Name, "error", err)
	}
	w.failure = err
}
