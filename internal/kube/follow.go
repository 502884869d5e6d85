package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// refollowLatest bounds the wait after a list or a watch failed.
const refollowLatest = 10 * time.Second

// Follow tells of all objects of a resource, and of every change of one, until its
// context ends: it lists them, watches from there, and lists again where the API
// server has forgotten what came between. It remembers none of them.
//
// It calls its functions one at a time. What it tells may be said twice.
type Follow struct {
	Client    *Client
	Resource  Resource
	Namespace string // empty: all
	Metadata  bool   // metadata is enough
	// Begin starts a list, and End says that all there is has been Seen since.
	Begin, End func()
	// Seen takes in an object as it is. Its bytes are not used afterwards.
	Seen func(json.RawMessage)
	// Gone takes in the last state of an object that is not there any more.
	Gone func(json.RawMessage)
	Log  *slog.Logger

	mu      sync.Mutex
	up      bool
	failure error
}

// Up says whether it hears of changes now, and if not why.
func (f *Follow) Up() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.up, f.failure
}

func (f *Follow) set(up bool, failure error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up, f.failure = up, failure
}

// Run follows until ctx ends.
func (f *Follow) Run(ctx context.Context) {
	version := ""
	again(ctx, refollowLatest, time.Now, func() {
		var err error
		if version == "" {
			version, err = f.list(ctx)
		}
		if err == nil {
			version, err = f.watch(ctx, version)
		}
		if errors.Is(err, errGone) {
			version = ""
		}
		if ordinary := errors.Is(err, io.EOF) || errors.Is(err, errGone); !ordinary && ctx.Err() == nil {
			if _, before := f.Up(); before == nil || before.Error() != err.Error() {
				f.Log.Warn("changes are not heard of", "resource", f.Resource.Plural, "namespace", f.Namespace, "error", err)
			}
			f.set(false, err)
		}
	})
}

func (f *Follow) accept() string {
	if f.Metadata {
		return metadataOnly
	}
	return acceptJSON
}

func (f *Follow) list(ctx context.Context) (version string, err error) {
	f.Begin()
	version, err = f.Client.items(ctx, f.Resource, f.Namespace, nil, f.accept(), eachRaw(func(raw json.RawMessage) error {
		f.Seen(raw)
		return nil
	}))
	if err != nil {
		return "", err
	}
	f.End()
	return version, nil
}

func (f *Follow) watch(ctx context.Context, version string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answer, err := f.Client.watch(ctx, f.Resource, f.Namespace, f.accept(), version)
	if err != nil {
		return version, fmt.Errorf("watch %s: %w", f.Resource.Plural, err)
	}
	defer answer.Body.Close()
	f.set(true, nil)
	events := newEvents(answer.Body)
	for {
		e, err := events.next()
		if err != nil {
			return version, fmt.Errorf("watch %s: %w", f.Resource.Plural, err)
		}
		switch e.kind {
		case added, modified:
			f.Seen(e.object)
		case deleted:
			f.Gone(e.object)
		}
		version = e.version
	}
}

// eachRaw reads one object of a list.
func eachRaw(each func(json.RawMessage) error) func(*json.Decoder) error {
	return func(d *json.Decoder) error {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return err
		}
		return each(raw)
	}
}
