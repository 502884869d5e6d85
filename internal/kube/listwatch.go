// List and watch, as Kubernetes has them: all objects of a resource a page at a time,
// and then what happens to them from the version of that list on.
package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	pageSize = 500
	maxPages = 4 * maxPods / pageSize
	// pageTimeout is for a page of 500 objects: the API server may be busy.
	pageTimeout = 20 * time.Second
	// watchFor is how long the API server keeps one watch open.
	watchFor = 10 * time.Minute
	// againSoonest is the wait after the first failure.
	againSoonest = 50 * time.Millisecond
	// steady is how long a try must have gone well for the next wait to be short again.
	steady = time.Second
)

// What is asked for: whole objects, or their metadata.
const (
	acceptJSON   = "application/json"
	metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	metadataList = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
)

var errGone = errors.New("the API server does not know that version any more")

// again tries until ctx ends. Between two tries it waits, longer each time they fail
// at once, and at most until latest.
func again(ctx context.Context, latest time.Duration, now func() time.Time, try func()) {
	for wait := againSoonest; ctx.Err() == nil; wait = min(2*wait, latest) {
		began := now()
		try()
		if now().Sub(began) > steady {
			wait = againSoonest
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// items lists all objects of a resource. It returns the version of the first page,
// from which a watch misses nothing. each takes one object from the decoder.
func (c *Client) items(ctx context.Context, resource Resource, namespace string, query url.Values, accept string, each func(*json.Decoder) error) (version string, err error) {
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
			failed = each(d)
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

// page asks for one page. It returns the version of the list and where the next page begins.
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

// parseItems reads a list one item at a time, so that a page is never in memory as a
// whole. each takes one item from the decoder.
func parseItems(r io.Reader, each func(*json.Decoder) error) (version, next string, err error) {
	broken := errors.New("the API server's answer is not a list")
	d := json.NewDecoder(r)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", "", broken
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "", "", broken
		}
		switch name {
		case "metadata":
			var m struct {
				Version  string `json:"resourceVersion"`
				Continue string `json:"continue"`
			}
			if err := d.Decode(&m); err != nil {
				return "", "", broken
			}
			version, next = m.Version, m.Continue
		case "items":
			t, err := d.Token()
			if err != nil || t != nil && t != json.Delim('[') {
				return "", "", broken
			}
			for t != nil && d.More() {
				if each(d) != nil {
					return "", "", broken
				}
			}
			if t != nil {
				if _, err := d.Token(); err != nil {
					return "", "", broken
				}
			}
		default:
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return "", "", broken
			}
		}
	}
	// The last brace: a list that was cut off must not look like a short one.
	if _, err := d.Token(); err != nil || version == "" {
		return "", "", broken
	}
	return version, next, nil
}

// watch asks for what happens to the objects of a resource from a version on. It is
// errGone if the API server has forgotten what came then. Close the answer's body.
func (c *Client) watch(ctx context.Context, resource Resource, namespace, accept, version string) (*http.Response, error) {
	answer, err := c.send(ctx, request{method: http.MethodGet, path: resource.path(namespace), accept: accept, query: url.Values{
		"watch": {"1"}, "allowWatchBookmarks": {"true"}, "resourceVersion": {version},
		"timeoutSeconds": {strconv.Itoa(int(watchFor / time.Second))},
	}})
	if hasCode(err, http.StatusGone) {
		return nil, errGone
	}
	return answer, err
}

// The types of events. A bookmark only says how far the watch has come.
const (
	added    = "ADDED"
	modified = "MODIFIED"
	deleted  = "DELETED"
	bookmark = "BOOKMARK"
)

// event is one event of a watch.
type event struct {
	kind    string
	object  json.RawMessage
	version string
}

// events reads the events of a watch. None may be longer than an object can be.
type events struct {
	budget io.LimitedReader
	json   *json.Decoder
}

func newEvents(r io.Reader) *events {
	e := &events{budget: io.LimitedReader{R: r}}
	e.json = json.NewDecoder(&e.budget)
	return e
}

// next is the next event. What the API server says went wrong is an error, errGone
// where only a list helps.
func (e *events) next() (event, error) {
	var read struct {
		Type   string          `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	e.budget.N = maxObject
	if err := e.json.Decode(&read); err != nil {
		if e.budget.N <= 0 {
			err = errors.New("an event has no end")
		}
		return event{}, err
	}
	var object struct {
		Metadata struct {
			Version string `json:"resourceVersion"`
		} `json:"metadata"`
		status // of an ERROR
	}
	if json.Unmarshal(read.Object, &object) != nil {
		return event{}, errors.New("the API server sent an event without an object")
	}
	switch read.Type {
	case added, modified, deleted, bookmark:
	case "ERROR":
		if object.Code == http.StatusGone {
			return event{}, errGone
		}
		return event{}, object.status.err()
	default:
		return event{}, errors.New("the API server sent an event of a type that does not exist")
	}
	if object.Metadata.Version == "" {
		return event{}, errors.New("the API server sent an event without resourceVersion")
	}
	return event{read.Type, read.Object, object.Metadata.Version}, nil
}
