package revocation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// ends is a store of which only the endings are known. It writes down what it
// was asked.
type ends struct {
	EndingStore
	steps *[]string
	how   authority.Ending
	until time.Time
	wrote []authority.Revocation
	was   time.Time // when what Revoke is asked for had ended before; zero if it had not
	err   error
}

// isOver says that all has ended before.
func (s *ends) isOver() { s.wrote, s.was = nil, start.Add(-time.Minute) }

func (s *ends) end(step string, how authority.Ending) ([]authority.Revocation, error) {
	*s.steps, s.how = append(*s.steps, step), how
	return s.wrote, s.err
}

func (s *ends) EndGrant(_ context.Context, _ authority.ID, how authority.Ending) ([]authority.Revocation, error) {
	return s.end("end grant", how)
}

func (s *ends) EndSession(_ context.Context, _ authority.ID, how authority.Ending) ([]authority.Revocation, error) {
	return s.end("end session", how)
}

func (s *ends) EndEvidence(_ context.Context, _ authority.Evidence, until time.Time, how authority.Ending) ([]authority.Revocation, error) {
	s.until = until
	return s.end("end evidence", how)
}

func (s *ends) Revoke(_ context.Context, r authority.Revocation) (authority.Revocation, error) {
	*s.steps = append(*s.steps, "revoke")
	if !s.was.IsZero() && !r.Kind.IsEpoch() {
		r.NotBefore = s.was
	}
	s.wrote = []authority.Revocation{r}
	return r, s.err
}

type endingsBench struct {
	*Endings
	store     *ends
	steps     []string
	events    []authority.Event
	recordErr error
}

func newEndings() *endingsBench {
	b := &endingsBench{}
	b.store = &ends{steps: &b.steps, wrote: []authority.Revocation{{Kind: authority.RevokeGrant, Key: "g"}, {Kind: authority.RevokeSession, Key: "s"}}}
	follower := &Follower{View: NewView(), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	follower.Applied = func([]authority.Revocation) { b.steps = append(b.steps, "view") }
	b.Endings = &Endings{
		Store: b.store, Follower: follower, Now: func() time.Time { return start },
		Record: func(ctx context.Context, e authority.Event) error {
			if ctx.Err() != nil {
				b.steps = append(b.steps, "record for a caller who is gone")
			}
			b.steps, b.events = append(b.steps, "record"), append(b.events, e)
			return b.recordErr
		},
	}
	return b
}

// every way to end something.
var every = map[string]func(e *Endings, ctx context.Context) error{
	"end grant": func(e *Endings, ctx context.Context) error {
		_, err := e.EndGrant(ctx, ids[0], authority.Event{Type: authority.EventGrantEnded, Reason: "why"})
		return err
	},
	"end session": func(e *Endings, ctx context.Context) error {
		_, err := e.EndSession(ctx, ids[0], authority.Event{Type: authority.EventSignedOut, Reason: "why"})
		return err
	},
	"end evidence": func(e *Endings, ctx context.Context) error {
		_, err := e.EndEvidence(ctx, authority.SessionEvidence(ids[0]), start.Add(time.Hour), authority.Event{Type: authority.EventGrantEnded, Reason: "why"})
		return err
	},
	"end token": func(e *Endings, ctx context.Context) error {
		return e.EndToken(ctx, ids[0], start.Add(time.Minute), authority.Event{Type: authority.EventTokenRevoked, Reason: "why"})
	},
	"end key": func(e *Endings, ctx context.Context) error {
		return e.EndKey(ctx, "kid", authority.Event{Type: authority.EventKeyChanged, Reason: "why"})
	},
	"epoch": func(e *Endings, ctx context.Context) error {
		return e.SetEpoch(ctx, authority.EpochUser, "ada", authority.Event{Reason: "why"})
	},
}

func TestEndingsInOrder(t *testing.T) {
	for name, end := range every {
		b := newEndings()
		ctx, hangUp := context.WithCancel(t.Context())
		hangUp() // a caller who is gone does not stop it half-way
		if err := end(b.Endings, ctx); err != nil {
			t.Fatal(name, err)
		}
		if len(b.steps) != 3 || b.steps[1] != "view" || b.steps[2] != "record" {
			t.Errorf("%s: %q", name, b.steps)
		}
		if len(b.events) != 1 || b.events[0].Type == "" || b.events[0].Reason != "why" {
			t.Errorf("%s: %+v", name, b.events)
		}
		for _, r := range b.store.wrote {
			if !b.Follower.View.Revoked([]authority.Link{{Kind: r.Kind, Key: r.Key, Born: start}}) {
				t.Errorf("%s: %s %s is alive here", name, r.Kind, r.Key)
			}
		}
	}
}

// What a retry finds ended may not be on record: the first record failed, or the
// store's answer was lost, or it was another node's. So it is recorded once more.
func TestARetryIsRecordedAsARepeat(t *testing.T) {
	for name, end := range every {
		for how, first := range map[string]func(b *endingsBench){
			"the record failed":     func(b *endingsBench) { b.recordErr = errDown },
			"the answer was lost":   func(b *endingsBench) { b.store.err = errDown },
			"this node did nothing": func(*endingsBench) {},
		} {
			b := newEndings()
			first(b)
			if how != "this node did nothing" {
				if err := end(b.Endings, t.Context()); !errors.Is(err, errDown) {
					t.Fatal(name, how, err)
				}
			}
			b.recordErr, b.store.err, b.events = nil, nil, nil
			b.store.isOver()
			for range 3 {
				if err := end(b.Endings, t.Context()); err != nil {
					t.Fatal(name, how, err)
				}
			}
			if name == "epoch" { // each is another one
				if len(b.events) != 3 || b.events[2].Reason != "why" {
					t.Errorf("%s, %s: %+v", name, how, b.events)
				}
			} else if len(b.events) != 1 || b.events[0].Type == "" || b.events[0].Reason != "why"+repeated {
				t.Errorf("%s, %s: three retries put on record %+v", name, how, b.events)
			}
		}
	}
}

func TestWhatThisNodeHasRecordedIsNotRecordedAgain(t *testing.T) {
	for name, end := range every {
		b := newEndings()
		_ = end(b.Endings, t.Context())
		b.store.isOver()
		if err := end(b.Endings, t.Context()); err != nil || len(b.events) != 1 && name != "epoch" {
			t.Errorf("%s: %v %+v", name, err, b.events)
		}
	}
	b := newEndings()
	for i := range 3 * maxRecorded {
		b.recorded.add(nameOf(i))
	}
	if len(b.recorded.ends) > maxRecorded {
		t.Errorf("%d are remembered", len(b.recorded.ends))
	}
}

func nameOf(i int) name { return name{authority.RevokeToken, fmt.Sprint(i)} }

func TestEndingsThatFail(t *testing.T) {
	for name, end := range every {
		b := newEndings()
		b.store.err, b.store.wrote = errDown, nil
		if err := end(b.Endings, t.Context()); !errors.Is(err, errDown) || errors.Is(err, ErrUnrecorded) {
			t.Errorf("%s: %v", name, err)
		}
		if len(b.events) != 0 || slices.Contains(b.steps, "view") {
			t.Errorf("%s: a failed end is on record, or in the view: %+v %q", name, b.events, b.steps)
		}
		b = newEndings()
		b.recordErr = errDown
		if err := end(b.Endings, t.Context()); !errors.Is(err, ErrUnrecorded) || !slices.Contains(b.steps, "view") {
			t.Errorf("%s: access that has ended lives, or nobody is told: %v %q", name, err, b.steps)
		}
	}
}

// How long an end is remembered must cover the last token that it ends.
func TestEndsAreRememberedLongEnough(t *testing.T) {
	b := newEndings()
	_, _ = b.EndEvidence(t.Context(), authority.SessionEvidence(ids[0]), start.Add(time.Hour), authority.Event{Reason: "why"})
	if want := (authority.Ending{Reason: "why", At: start, Remember: authority.MaxTokenTTL + authority.Leeway}); b.store.how != want || !b.store.until.Equal(start.Add(time.Hour)) {
		t.Errorf("%+v until %v", b.store.how, b.store.until)
	}
	_, _ = b.EndEvidence(t.Context(), authority.PodEvidence("hub", "uid"), start.Add(time.Hour), authority.Event{Reason: "why"})
	if want := (authority.Ending{Reason: "why", At: start, Remember: authority.MaxAccessTTL + authority.Leeway}); b.store.how != want {
		t.Errorf("a pod: %+v", b.store.how)
	}
	for name, want := range map[string]time.Time{
		"end token": start.Add(time.Minute + authority.Leeway),
		"end key":   start.Add(authority.MaxTokenTTL + authority.Leeway),
		"epoch":     start.Add(authority.MaxGrantTTL + authority.Leeway),
	} {
		b := newEndings()
		if err := every[name](b.Endings, t.Context()); err != nil || !b.store.wrote[0].ExpiresAt.Equal(want) || !b.store.wrote[0].NotBefore.Equal(start) {
			t.Errorf("%s: %+v %v", name, b.store.wrote, err)
		}
	}
}

// Pods come and go; only those that somebody got a token from are on record.
func TestEvidenceThatNothingDependsOnEndsWithoutARecord(t *testing.T) {
	b := newEndings()
	pod := authority.PodEvidence("hub", "uid")
	b.store.wrote = []authority.Revocation{{Kind: pod.Link().Kind, Key: pod.Key, ExpiresAt: start.Add(time.Hour)}}
	for range 2 { // the second time it has ended
		ended, err := b.EndEvidence(t.Context(), pod, start.Add(time.Hour), authority.Event{Type: authority.EventEvidenceEnded, Reason: "gone"})
		if ended || err != nil || len(b.events) != 0 {
			t.Errorf("%v %v, on record %+v", ended, err, b.events)
		}
		if !b.Follower.View.Revoked([]authority.Link{pod.Link()}) {
			t.Error("it is not in the view")
		}
		b.store.isOver()
	}
}
