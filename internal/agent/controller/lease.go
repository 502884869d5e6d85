package controller

import (
	"context"
	"log/slog"
	"time"

	"github.com/signalbox-sts/signalbox/internal/kube"
)

const (
	leaseFor   = 15 * time.Second
	leaseRenew = 4 * time.Second
	leaseAsk   = 2 * time.Second
)

// Lease lets one of several controllers work at a time (coordination.k8s.io/v1).
//
// It saves work, no more: two at once would write Secrets that are both good. So a
// holder that cannot renew stops a little before others may begin, by the clock of
// each alone, and nothing is fenced.
type Lease struct {
	Client          *kube.Client
	Namespace, Name string
	Holder          string // who we are, nobody else's
	Log             *slog.Logger
}

// lease is the object, as much of it as we read.
type lease struct {
	Metadata kube.Metadata `json:"metadata"`
	Spec     struct {
		Holder  string `json:"holderIdentity"`
		Renewed string `json:"renewTime"`
		For     int    `json:"leaseDurationSeconds"`
	} `json:"spec"`
}

func (l *Lease) object() kube.Object {
	return kube.Object{Resource: kube.Leases, Namespace: l.Namespace, Name: l.Name}
}

// Run calls lead while we hold the lease, each time with a context that ends with it.
func (l *Lease) Run(ctx context.Context, lead func(context.Context)) {
	var (
		last    lease     // as we saw it last
		since   time.Time // from when on it is so
		renewed time.Time // by us
		stop    = func() {}
	)
	defer func() {
		if !renewed.IsZero() {
			stop()
			l.release(last)
		}
	}()
	for {
		began := time.Now()
		now, err := l.take(ctx, last, since)
		switch {
		case err != nil && ctx.Err() == nil:
			l.Log.Warn("the lease could not be asked for", "lease", l.Namespace+"/"+l.Name, "error", err)
		case err == nil:
			if now.Metadata.Version != last.Metadata.Version {
				last, since = now, began
			}
			mine := now.Spec.Holder == l.Holder
			switch {
			case mine && renewed.IsZero():
				l.Log.Info("this agent serves SignalboxTokens now", "lease", l.Namespace+"/"+l.Name)
				stop = started(ctx, lead)
			case !mine && !renewed.IsZero():
				l.Log.Warn("another agent serves SignalboxTokens now", "lease", l.Namespace+"/"+l.Name, "holder", now.Spec.Holder)
				stop()
				renewed = time.Time{}
			}
			if mine {
				renewed = began
			}
		}
		if !renewed.IsZero() && time.Since(renewed) > leaseFor-leaseRenew-leaseAsk {
			l.Log.Warn("the lease could not be renewed in time", "lease", l.Namespace+"/"+l.Name)
			stop()
			renewed = time.Time{}
		}
		timer := time.NewTimer(leaseRenew)
		if err != nil {
			timer.Reset(leaseAsk)
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// started runs lead, and gives what ends it and waits for that.
func started(ctx context.Context, lead func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		lead(ctx)
	}()
	return func() { cancel(); <-done }
}

// take renews the lease, takes one that nobody holds any more, or reads who holds it.
func (l *Lease) take(ctx context.Context, last lease, since time.Time) (now lease, err error) {
	ctx, cancel := context.WithTimeout(ctx, leaseAsk)
	defer cancel()
	err = l.Client.Get(ctx, l.object(), &now)
	if kube.IsNotFound(err) {
		err = l.Client.Create(ctx, l.object(), map[string]any{
			"apiVersion": kube.Leases.APIVersion(), "kind": "Lease",
			"metadata": map[string]any{"name": l.Name}, "spec": l.spec(),
		})
		if err == nil || kube.IsConflict(err) {
			err = l.Client.Get(ctx, l.object(), &now)
		}
		return now, err
	}
	if err != nil {
		return now, err
	}
	// How old it is is judged by our own clock: for as long as we have seen it unchanged.
	expired := now.Metadata.Version == last.Metadata.Version && time.Since(since) > leaseFor
	if now.Spec.Holder != l.Holder && now.Spec.Holder != "" && !expired {
		return now, nil
	}
	if err := l.set(ctx, now, l.spec()); err != nil && !kube.IsConflict(err) {
		return now, err
	}
	now = lease{}
	err = l.Client.Get(ctx, l.object(), &now)
	return now, err
}

func (l *Lease) spec() map[string]any {
	return map[string]any{
		"holderIdentity": l.Holder, "leaseDurationSeconds": int(leaseFor / time.Second),
		"renewTime": time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"),
	}
}

func (l *Lease) set(ctx context.Context, now lease, spec map[string]any) error {
	return l.Client.Patch(ctx, l.object(), map[string]any{"metadata": map[string]any{"resourceVersion": now.Metadata.Version}, "spec": spec})
}

// release lets the next one begin at once.
func (l *Lease) release(last lease) {
	ctx, cancel := context.WithTimeout(context.Background(), leaseAsk)
	defer cancel()
	if err := l.set(ctx, last, map[string]any{"holderIdentity": ""}); err != nil {
		l.Log.Warn("the lease was not given back: the next agent waits until it has expired", "error", err)
	}
}
