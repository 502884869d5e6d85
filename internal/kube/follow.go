package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

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
	for wait := againSoonest; ctx.Err() == nil; {
		began := time.Now()
		var err error
		if version == "" {
			version, err = f.list(ctx)
		}
		if err == nil {
			version, err = f.watch(ctx, version)
		}
		if time.Since(began) > againLatest {
			wait = againSoonest
		}
		if ordinary := errors.Is(err, io.EOF) || errors.Is(err, errGone); !ordinary && ctx.Err() == nil {
			if _, before := f.Up(); before == nil || before.Error() != err.Error() {
				f.Log.Warn("changes are not heard of", "resource", f.Resource.Plural, "namespace", f.Namespace, "error", err)
			}
			f.set(false, err)
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, 10*againLatest)
	}
}

func (f *Follow) accept() string {
	if f.Metadata {
		return metadataOnly
	}
	return acceptJSON
}

func (f *Follow) list(ctx context.Context) (version string, err error) {
	f.Begin()
	version, err = f.Client.items(ctx, f.Resource, f.Namespace, nil, f.accept(), func(raw json.RawMessage) error {
		f.Seen(raw)
		return nil
	})
	if err != nil {
		return "", err
	}
	f.End()
	return version, nil
}

func (f *Follow) watch(ctx context.Context, version string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answer, err := f.Client.send(ctx, request{method: http.MethodGet, path: f.Resource.path(f.Namespace), accept: f.accept(), query: url.Values{
		"watch": {"1"}, "allowWatchBookmarks": {"true"}, "resourceVersion": {version},
		"timeoutSeconds": {strconv.Itoa(int(watchFor / time.Second))},
	}})
	if hasCode(err, http.StatusGone) {
		return "", errGone
	}
	if err != nil {
		return version, fmt.Errorf("watch %s: %w", f.Resource.Plural, err)
	}
	defer answer.Body.Close()
	f.set(true, nil)
	events := newEvents(answer.Body)
	for {
		var e struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := events.decode(&e); err != nil {
			return version, fmt.Errorf("watch %s: %w", f.Resource.Plural, err)
		}
		var o struct {
			Metadata struct {
				Version string `json:"resourceVersion"`
			} `json:"metadata"`
			status
		}
		if json.Unmarshal(e.Object, &o) != nil {
			return version, fmt.Errorf("watch %s: the API server sent an event without an object", f.Resource.Plural)
		}
		switch e.Type {
		case "ADDED", "MODIFIED":
			f.Seen(e.Object)
		case "DELETED":
			f.Gone(e.Object)
		case "BOOKMARK":
		case "ERROR":
			if o.Code == http.StatusGone {
				return "", errGone
			}
			return version, o.status.err()
		default:
			return version, errors.New("the API server sent an event of a type that does not exist")
		}
		if o.Metadata.Version == "" {
			return "", errors.New("the API server sent an event without resourceVersion")
		}
		version = o.Metadata.Version
	}
}

// items lists all objects of a resource, a page at a time. It returns the version of
// the first page, from which a watch misses nothing.
func (c *Client) items(ctx context.Context, resource Resource, namespace string, query url.Values, accept string, each func(json.RawMessage) error) (version string, err error) {
	if namespace != "" && !isName(namespace) {
		return "", fmt.Errorf("%s cannot be the name of a namespace", quoted(namespace))
	}
	q := url.Values{"limit": {strconv.Itoa(pageSize)}}
	for name, values := range query {
		q[name] = values
	}
	if accept == metadataOnly {
		accept = metadataList
	}
	var failed error
	for range maxPages {
		first, next, err := c.page(ctx, request{method: http.MethodGet, path: resource.path(namespace), query: q, accept: accept}, func(d *json.Decoder) error {
			var raw json.RawMessage
			if err := d.Decode(&raw); err != nil {
				return err
			}
			failed = each(raw)
			return failed
		})
		if failed != nil {
			err = failed
		}
		if err != nil {
			return "", fmt.Errorf("list %s: %w", resource.Plural, err)
		}
		if version == "" {
			version = first
		}
		if next == "" {
			return version, nil
		}
		q.Set("continue", next)
	}
	return "", fmt.Errorf("list %s: the list has no end", resource.Plural)
}

func (c *Client) page(ctx context.Context, r request, each func(*json.Decoder) error) (version, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	answer, err := c.send(ctx, r)
	if err != nil {
		return "", "", err
	}
	defer answer.Body.Close()
	return parseItems(io.LimitReader(answer.Body, maxPage), each)
}
