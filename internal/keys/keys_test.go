package keys

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

var ctx = context.Background()

// memory keeps the contract of authority.KeyStore.
type memory struct {
	mu     sync.Mutex
	rows   map[string]authority.Key
	broken error
	before func(transition string) // called before each transition, without the lock
}

func (m *memory) Keys(context.Context) ([]authority.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []authority.Key
	for _, row := range m.rows {
		rows = append(rows, row)
	}
	return rows, m.broken
}

func (m *memory) enter(transition string) error {
	if m.before != nil {
		m.before(transition)
	}
	m.mu.Lock()
	return m.broken
}

func (m *memory) AddKey(_ context.Context, k authority.Key) error {
	err := m.enter("add " + string(k.State))
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	for _, row := range m.rows {
		if row.Algorithm == k.Algorithm && row.State == k.State {
			return authority.ErrConflict
		}
	}
	if m.rows == nil {
		m.rows = map[string]authority.Key{}
	}
	m.rows[k.ID] = k
	return nil
}

func (m *memory) PromoteKey(_ context.Context, nextID, currentID string, at time.Time) error {
	err := m.enter("promote")
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	next := m.rows[nextID]
	if next.State != authority.KeyNext {
		return authority.ErrConflict
	}
	if currentID != "" {
		current := m.rows[currentID]
		if current.State != authority.KeyCurrent {
			return authority.ErrConflict
		}
		current.State, current.RetiredAt = authority.KeyRetired, at
		m.rows[currentID] = current
	}
	next.State, next.PromotedAt = authority.KeyCurrent, at
	m.rows[nextID] = next
	return nil
}

func (m *memory) RemoveKey(_ context.Context, id string) error {
	err := m.enter("remove")
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	if _, ok := m.rows[id]; !ok {
		return authority.ErrNotFound
	}
	delete(m.rows, id)
	return nil
}

// clock is moved by the test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bench is a store, a clock, a master key and the journal of all nodes.
type bench struct {
	store    *memory
	clock    *clock
	master   MasterKey
	settings Settings
	mu       sync.Mutex
	events   []authority.Event
	journal  error
}

func newBench(algs ...jose.Algorithm) *bench {
	return &bench{
		store: &memory{}, clock: &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, master: GenerateMasterKey(),
		settings: Settings{Algorithms: algs, RotateEvery: 24 * time.Hour},
	}
}

func (b *bench) ring() *Ring {
	return &Ring{
		Store: b.store, Now: b.clock.Now, Log: slog.New(slog.DiscardHandler),
		Settings: func() Settings { return b.settings },
		Record: func(_ context.Context, e authority.Event) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.events = append(b.events, e)
			return b.journal
		},
	}
}

func (b *bench) node(t fataler) *Ring {
	t.Helper()
	ring := b.ring()
	if err := ring.Open(ctx, b.master); err != nil {
		t.Fatal(err)
	}
	return ring
}

type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func tick(t fataler, r *Ring) {
	t.Helper()
	if err := r.Tick(ctx); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) state(alg jose.Algorithm, state authority.KeyState) []string {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	var ids []string
	for id, row := range b.store.rows {
		if row.State == state && row.Algorithm == string(alg) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (b *bench) only(t fataler, alg jose.Algorithm, state authority.KeyState) string {
	t.Helper()
	ids := b.state(alg, state)
	if len(ids) != 1 {
		t.Fatalf("%d %s keys for %s", len(ids), state, alg)
	}
	return ids[0]
}

var expect = jose.Expect{Algorithms: jose.Algorithms(), Types: []string{"at+jwt"}}

func sign(t fataler, r *Ring, alg jose.Algorithm) string {
	t.Helper()
	signer, err := r.Signer(alg, "at+jwt")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signer.Sign([]byte(`{"sub":"ada"}`))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func verifies(r *Ring, raw string) error {
	_, err := jose.Verify(raw, expect, r.Find)
	return err
}

func TestFirstStart(t *testing.T) {
	b := newBench(jose.ES256, jose.RS256, jose.EdDSA)
	ring := b.node(t)
	for _, alg := range b.settings.Algorithms {
		b.only(t, alg, authority.KeyCurrent)
		if err := verifies(ring, sign(t, ring, alg)); err != nil {
			t.Error(alg, err)
		}
	}
	tick(t, ring)
	for _, alg := range b.settings.Algorithms {
		b.only(t, alg, authority.KeyNext)
	}
	if signer, err := ring.Signer("", "JWT"); err != nil || signer.Algorithm() != jose.ES256 || signer.Type() != "JWT" {
		t.Error("the default is the first algorithm:", signer, err)
	}
	if again, _ := ring.Signer("", "JWT"); again != first(ring.Signer("", "JWT")) {
		t.Error("a signer is made again for every token")
	}
	if _, err := ring.Signer(jose.ES384, "JWT"); err == nil {
		t.Error("a signer for an algorithm that is not configured")
	}
	body, etag, _ := ring.JWKS()
	set, err := jose.ParseKeySet(body)
	if err != nil || len(set) != 6 || len(etag) < 20 {
		t.Error(len(set), etag, err)
	}
	if other := b.node(t); string(jwks(other)) != string(body) {
		t.Error("two nodes publish different key sets")
	}
	if len(b.events) != 6 || b.events[0].Type != authority.EventKeyChanged || b.events[0].Target == "" || b.events[0].Actor != "service" {
		t.Errorf("%+v", b.events)
	}
}

func first[A, B any](a A, _ B) A { return a }

func jwks(r *Ring) []byte {
	body, _, _ := r.JWKS()
	return body
}

func TestNodesStartingTogetherMakeOneKey(t *testing.T) {
	b := newBench(jose.ES256)
	var wait sync.WaitGroup
	rings := make([]*Ring, 8)
	for i := range rings {
		rings[i] = b.ring()
		wait.Go(func() {
			if err := rings[i].Open(ctx, b.master); err != nil {
				t.Error(err)
			}
			if err := rings[i].Tick(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	b.only(t, jose.ES256, authority.KeyCurrent)
	b.only(t, jose.ES256, authority.KeyNext)
	for _, signing := range rings {
		raw := sign(t, signing, "")
		for _, ring := range rings {
			if err := verifies(ring, raw); err != nil {
				t.Error(err)
			}
		}
	}
	if len(b.events) != 2 {
		t.Errorf("%d events for two keys", len(b.events))
	}
}

func TestRotationOnSchedule(t *testing.T) {
	b := newBench(jose.ES256)
	b.settings.RotateEvery = 2 * keepRetired // so that one key at a time is retired
	ring := b.node(t)
	tick(t, ring)
	old, next := b.only(t, jose.ES256, authority.KeyCurrent), b.only(t, jose.ES256, authority.KeyNext)
	raw := sign(t, ring, "")

	b.clock.advance(b.settings.RotateEvery - time.Second)
	tick(t, ring)
	if b.only(t, jose.ES256, authority.KeyCurrent) != old {
		t.Fatal("rotated before it was due")
	}
	b.clock.advance(time.Second)
	tick(t, ring)
	if b.only(t, jose.ES256, authority.KeyCurrent) != next || b.only(t, jose.ES256, authority.KeyRetired) != old {
		t.Fatal("not rotated when it was due")
	}
	b.only(t, jose.ES256, authority.KeyNext) // a new one
	if err := verifies(ring, raw); err != nil {
		t.Fatal("a token of the retired key:", err)
	}
	if ring.view.Load().keys[old].private != nil {
		t.Error("the private part of a retired key is kept")
	}

	b.clock.advance(keepRetired - time.Second)
	tick(t, ring)
	b.only(t, jose.ES256, authority.KeyRetired)
	b.clock.advance(time.Second)
	tick(t, ring)
	if len(b.state(jose.ES256, authority.KeyRetired)) != 0 {
		t.Fatal("a retired key is kept forever")
	}
	if err := verifies(ring, raw); !errors.Is(err, jose.ErrKey) {
		t.Fatal("a removed key still verifies:", err)
	}
	var reasons []string
	for _, e := range b.events {
		reasons = append(reasons, e.Reason)
	}
	want := []string{
		"ES256 key created as next", "ES256 key created as current", "ES256 key retired on schedule", "ES256 key promoted to current on schedule",
		"ES256 key created as next", "ES256 key in state retired removed: every token that it signed has expired",
	}
	if !slices.Equal(reasons, want) {
		t.Errorf("%q", reasons)
	}
}

func TestRotateByCommand(t *testing.T) {
	b := newBench(jose.ES256)
	ring := b.node(t)
	made := b.clock.Now()

	var early *TooEarlyError
	if err := ring.Rotate(ctx, jose.ES256, false, "admin"); !errors.As(err, &early) || !early.Until.Equal(made.Add(Lead)) {
		t.Fatal("without a next key:", err)
	}
	b.clock.advance(Lead - time.Second)
	if err := ring.Rotate(ctx, jose.ES256, false, "admin"); !errors.As(err, &early) || !early.Until.Equal(made.Add(Lead)) {
		t.Fatal("before the lead has passed:", err)
	}
	b.clock.advance(time.Second)
	if err := ring.Rotate(ctx, jose.ES256, false, "admin"); err != nil {
		t.Fatal(err)
	}
	if err := ring.Rotate(ctx, jose.ES256, false, "admin"); !errors.As(err, &early) {
		t.Fatal("twice in a row:", err)
	}
	if err := ring.Rotate(ctx, jose.ES384, false, "admin"); !errors.Is(err, authority.ErrNotFound) {
		t.Fatal("an algorithm without keys:", err)
	}
	if !slices.ContainsFunc(b.events, func(e authority.Event) bool { return e.Actor == "admin" && strings.Contains(e.Reason, "promoted") }) {
		t.Errorf("%+v", b.events)
	}
}

// Who hurries loses tokens at verifiers that do not have the key yet: that takes one more word, and is on record.
func TestAnEmergencyDoesNotWaitForTheLead(t *testing.T) {
	b := newBench(jose.ES256)
	ring := b.node(t)
	if err := ring.Rotate(ctx, jose.ES256, true, "admin"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		before := b.only(t, jose.ES256, authority.KeyCurrent)
		var early *TooEarlyError
		if err := ring.Rotate(ctx, jose.ES256, false, "admin"); !errors.As(err, &early) {
			t.Fatal("without an emergency:", err)
		}
		if err := ring.Rotate(ctx, jose.ES256, true, "admin"); err != nil {
			t.Fatal(err)
		}
		if now := b.only(t, jose.ES256, authority.KeyCurrent); now == before || keyOf(t, sign(t, ring, "")) != now {
			t.Fatal("the old key signs")
		}
	}
	if !slices.ContainsFunc(b.events, func(e authority.Event) bool {
		return e.Actor == "admin" && strings.HasSuffix(e.Reason, "promoted to current by command, in an emergency")
	}) {
		t.Errorf("%+v", b.events)
	}
	for range maxPublished {
		_ = ring.Rotate(ctx, jose.ES256, true, "admin")
	}
	if published := len(ring.Keys()); published > maxPublished {
		t.Errorf("emergencies have published %d keys", published)
	}
}

// A key is published at least two max-ages before it signs, by every node.
func TestAKeyIsPublishedTwoMaxAgesBeforeItSigns(t *testing.T) {
	if Lead < 2*MaxAge || ReloadEvery > MaxAge/2 {
		t.Fatal("the numbers do not fit", Lead, MaxAge, ReloadEvery)
	}
	b := newBench(jose.ES256)
	ring := b.node(t)
	tick(t, ring)
	if err := ring.Rotate(ctx, jose.ES256, true, "admin"); err != nil {
		t.Fatal(err)
	}
	next := b.only(t, jose.ES256, authority.KeyNext)
	for range int(Lead/time.Second) - 1 {
		b.clock.advance(time.Second)
		tick(t, ring)
		if !bytes.Contains(jwks(ring), []byte(next)) {
			t.Fatal("the next key is not published")
		}
		if err := ring.Rotate(ctx, jose.ES256, false, "admin"); err == nil {
			t.Fatal("it signs already")
		}
	}
	b.clock.advance(time.Second)
	if err := ring.Rotate(ctx, jose.ES256, false, "admin"); err != nil {
		t.Fatal(err)
	}
}

// A node that cannot read the store may lack a key that signs soon: no copy of its key set outlives that key's first token.
func TestCopiesOfAnOldViewLiveShorter(t *testing.T) {
	b := newBench(jose.ES256)
	ring := b.node(t)
	for _, row := range []struct{ silent, want time.Duration }{
		{0, MaxAge}, {ReloadEvery, MaxAge}, {MaxAge / 2, MaxAge}, {MaxAge, Lead - authority.Leeway - MaxAge}, {Lead - authority.Leeway, 0}, {time.Hour, 0},
	} {
		tick(t, ring)
		b.clock.advance(row.silent)
		if _, _, got := ring.JWKS(); got != row.want {
			t.Errorf("silent for %v: %v, want %v", row.silent, got, row.want)
		}
	}
}

// Whatever a silent node hands out, it is over when a key that it lacks begins to sign.
func TestACopyFromASilentNodeIsOverBeforeAnUnknownKeySigns(t *testing.T) {
	b := newBench(jose.ES256)
	busy, silent := b.node(t), b.node(t)
	tick(t, busy)
	tick(t, silent)
	b.clock.advance(time.Millisecond)
	if err := busy.Rotate(ctx, jose.ES256, true, "admin"); err != nil {
		t.Fatal(err)
	}
	signs := b.clock.Now().Add(Lead)
	for b.clock.Now().Before(signs) {
		if _, _, maxAge := silent.JWKS(); b.clock.Now().Add(maxAge).After(signs) {
			t.Fatalf("%v before the key signs, a copy without it is good for %v", signs.Sub(b.clock.Now()), maxAge)
		}
		b.clock.advance(time.Second)
	}
}

func TestClusterSignerIsTheFirstThatAKubeAPIServerVerifies(t *testing.T) {
	b := newBench(jose.EdDSA, jose.RS256, jose.ES256)
	ring := b.node(t)
	alg := func() jose.Algorithm {
		t.Helper()
		signer, err := ring.ClusterSigner("at+jwt")
		if err != nil {
			t.Fatal(err)
		}
		return signer.Algorithm()
	}
	if got := alg(); got != jose.RS256 {
		t.Errorf("%s", got)
	}
	b.settings.Algorithms = []jose.Algorithm{jose.EdDSA} // a reload while keys of the old list are there
	if got := alg(); got == jose.EdDSA {
		t.Errorf("%s", got)
	}
	if _, err := newBench(jose.EdDSA).node(t).ClusterSigner("at+jwt"); err == nil {
		t.Error("EdDSA signs for clusters")
	}
}

func TestTheKeySetStaysSmallHoweverOftenOneRotates(t *testing.T) {
	b := newBench(jose.ES256)
	b.settings.RotateEvery = 30 * 24 * time.Hour
	ring := b.node(t)
	var early *TooEarlyError
	for range 2 * maxPublished {
		tick(t, ring)
		b.clock.advance(Lead)
		if err := ring.Rotate(ctx, jose.ES256, false, "admin"); err != nil && !errors.As(err, &early) {
			t.Fatal(err)
		}
	}
	if published := len(ring.Keys()); published != maxPublished {
		t.Fatalf("%d keys are published", published)
	}
	if early == nil || !strings.Contains(early.Error(), "too many retired keys") {
		t.Fatal(early)
	}
	b.clock.advance(early.Until.Sub(b.clock.Now()))
	tick(t, ring)
	if err := ring.Rotate(ctx, jose.ES256, false, "admin"); err != nil {
		t.Fatal("when the error said that it could:", err)
	}
}

func TestRotateLosesToAnotherNode(t *testing.T) {
	b := newBench(jose.ES256)
	one, two := b.node(t), b.node(t)
	tick(t, one)
	b.clock.advance(Lead)
	once := sync.OnceFunc(func() {
		if err := two.Rotate(ctx, jose.ES256, false, "two"); err != nil {
			t.Error(err)
		}
	})
	// Node two rotates after node one has read and before it writes. It takes the turn of "one", so the count of calls is guarded.
	inside := false
	b.store.before = func(transition string) {
		if transition == "promote" && !inside {
			inside = true
			once()
		}
	}
	tick(t, two)
	// Node two promoted the key that node one wanted to promote: what node one asked for is done, and there is one successor.
	if err := one.Rotate(ctx, jose.ES256, false, "one"); err != nil && !errors.Is(err, authority.ErrConflict) {
		t.Fatal(err)
	}
	b.store.before = nil
	b.only(t, jose.ES256, authority.KeyCurrent)
	b.only(t, jose.ES256, authority.KeyRetired)
	tick(t, one)
	b.only(t, jose.ES256, authority.KeyNext)
	if err := verifies(two, sign(t, one, "")); err != nil {
		t.Fatal(err)
	}
}

func TestEmergencyRemoval(t *testing.T) {
	for _, row := range []struct {
		name  string
		ticks int // what has been made before
		state authority.KeyState
	}{
		{"the current key", 0, authority.KeyCurrent},
		{"the next key", 0, authority.KeyNext},
		{"a retired key", 1, authority.KeyRetired},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(jose.ES256)
			ring, other := b.node(t), b.node(t)
			raw := sign(t, ring, "")
			for range row.ticks {
				b.clock.advance(b.settings.RotateEvery)
				tick(t, ring)
			}
			b.events = nil
			kid := b.only(t, jose.ES256, row.state)
			if err := ring.Remove(ctx, kid, "admin"); err != nil {
				t.Fatal(err)
			}
			if _, ok := ring.Find(kid, jose.ES256); ok || bytes.Contains(jwks(ring), []byte(kid)) {
				t.Error("still published")
			}
			if signer, err := ring.Signer("", "at+jwt"); err != nil || signer.KeyID() == kid {
				t.Error("no other key has taken over:", err)
			}
			b.only(t, jose.ES256, authority.KeyCurrent)
			b.only(t, jose.ES256, authority.KeyNext)
			if row.state != authority.KeyNext {
				if err := verifies(ring, raw); !errors.Is(err, jose.ErrKey) {
					t.Error("a token of the removed key:", err)
				}
			}
			if err := other.Reload(ctx); err != nil {
				t.Fatal(err)
			}
			if _, ok := other.Find(kid, jose.ES256); ok {
				t.Error("still known on the other node after a reload")
			}
			if !slices.ContainsFunc(b.events, func(e authority.Event) bool {
				return e.Actor == "admin" && e.Target == kid && strings.Contains(e.Reason, "emergency removal")
			}) {
				t.Errorf("%+v", b.events)
			}
			if err := ring.Remove(ctx, kid, "admin"); !errors.Is(err, authority.ErrNotFound) {
				t.Error("a second time:", err)
			}
		})
	}
}

func TestRemovalCanBeRepeatedAfterEveryFailure(t *testing.T) {
	down := errors.New("database is away")
	for steps := range 4 {
		t.Run(fmt.Sprint("failure at step ", steps), func(t *testing.T) {
			b := newBench(jose.ES256)
			ring := b.node(t)
			tick(t, ring)
			kid := b.only(t, jose.ES256, authority.KeyCurrent)
			seen := 0
			b.store.before = func(string) {
				if seen++; seen == steps {
					b.store.mu.Lock()
					b.store.broken = down
					b.store.mu.Unlock()
				}
			}
			err := ring.Remove(ctx, kid, "admin")
			if (steps > 0) != errors.Is(err, down) {
				t.Fatal(err)
			}
			if _, err := ring.Signer("", "at+jwt"); err != nil {
				t.Error("nothing signs in between:", err)
			}
			b.store.before, b.store.broken = nil, nil
			if err := ring.Remove(ctx, kid, "admin"); err != nil && !errors.Is(err, authority.ErrNotFound) {
				t.Fatal(err)
			}
			tick(t, ring)
			if _, ok := ring.Find(kid, jose.ES256); ok {
				t.Error("still there")
			}
			b.only(t, jose.ES256, authority.KeyCurrent)
			b.only(t, jose.ES256, authority.KeyNext)
		})
	}
}

func TestAJournalThatFailsIsReportedAndKeepsNothingAlive(t *testing.T) {
	b := newBench(jose.ES256)
	ring := b.node(t)
	tick(t, ring)
	kid := b.only(t, jose.ES256, authority.KeyCurrent)
	b.journal = errors.New("disk full")
	if err := ring.Remove(ctx, kid, "admin"); !errors.Is(err, b.journal) {
		t.Fatal(err)
	}
	b.journal = nil
	if err := ring.Remove(ctx, kid, "admin"); err != nil {
		t.Fatal(err)
	}
	if _, ok := ring.Find(kid, jose.ES256); ok {
		t.Error("still there")
	}
}

func TestAddedAlgorithmWaitsForItsLead(t *testing.T) {
	b := newBench(jose.ES256)
	ring := b.node(t)
	tick(t, ring)
	b.clock.advance(Lead)
	b.settings.Algorithms = []jose.Algorithm{jose.EdDSA} // and the old one is gone from the list
	ring = b.node(t)
	tick(t, ring)
	if signer, err := ring.Signer("", "at+jwt"); err != nil || signer.Algorithm() != jose.ES256 {
		t.Fatal("the old key signs until the new one is known:", err)
	}
	if _, err := ring.Signer(jose.EdDSA, "at+jwt"); err == nil || !strings.Contains(err.Error(), "signs from") {
		t.Fatal(err)
	}
	b.clock.advance(Lead)
	tick(t, ring)
	if signer, err := ring.Signer("", "at+jwt"); err != nil || signer.Algorithm() != jose.EdDSA {
		t.Fatal(err)
	}
	b.only(t, jose.ES256, authority.KeyCurrent) // still published
}

func TestReloadFailureKeepsTheView(t *testing.T) {
	b := newBench(jose.ES256)
	ring := b.node(t)
	b.clock.advance(Lead / 2)
	_, _, before := ring.JWKS()
	raw := sign(t, ring, "")
	b.store.broken = errors.New("database is away")
	b.clock.advance(time.Second)
	if err := ring.Tick(ctx); !errors.Is(err, b.store.broken) {
		t.Fatal(err)
	}
	if err := verifies(ring, raw); err != nil {
		t.Fatal(err)
	}
	sign(t, ring, "")
	if _, _, after := ring.JWKS(); after >= before {
		t.Error("a failed reload counts as one")
	}
}

func TestRunWorksAtOnceAndEnds(t *testing.T) {
	b := newBench(jose.ES256)
	ring := b.node(t)
	b.settings.Algorithms = append(b.settings.Algorithms, jose.EdDSA)
	running, cancel := context.WithCancel(ctx)
	added := make(chan struct{})
	b.store.before = func(string) { close(added) }
	done := make(chan struct{})
	go func() { ring.Run(running); close(done) }()
	<-added
	cancel()
	<-done
	b.only(t, jose.EdDSA, authority.KeyNext)
}

// The first next key was in every key set that was ever published; the second one was not.
func TestFirstRotationNeedsNoLead(t *testing.T) {
	b := newBench(jose.ES256)
	ring := b.ring()
	ring.Now = func() time.Time { b.clock.advance(time.Millisecond); return b.clock.Now() }
	if err := ring.Open(ctx, b.master); err != nil {
		t.Fatal(err)
	}
	published := string(jwks(ring))
	if err := ring.Rotate(ctx, jose.ES256, false, "admin"); err != nil {
		t.Fatal(err)
	}
	if kid := b.only(t, jose.ES256, authority.KeyCurrent); !strings.Contains(published, kid) {
		t.Fatal("the key set that was published first does not have the key that signs now")
	}
	var early *TooEarlyError
	if err := ring.Rotate(ctx, jose.ES256, false, "admin"); !errors.As(err, &early) {
		t.Fatal("the second rotation:", err)
	}
}

func TestSealing(t *testing.T) {
	b := newBench(jose.ES256, jose.RS256, jose.EdDSA, jose.ES384, jose.ES512, jose.PS256)
	ring := b.node(t)
	s := newSealer(b.master)
	row := func() authority.Key { return b.store.rows[b.only(t, jose.ES256, authority.KeyCurrent)] }

	for kid, stored := range b.store.rows {
		private, _, err := s.open(stored)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(stored)
		for i := 0; i+16 <= len(der); i++ {
			// PKCS #8 and the row hold the public half as well; what counts is the sealed column.
			if bytes.Contains(stored.Sealed, der[i:i+16]) {
				t.Fatal("sealed bytes hold bytes of the key")
			}
		}
		if ec, ok := private.(*ecdsa.PrivateKey); ok {
			secret, err := ec.Bytes()
			if err != nil || bytes.Contains(text, []byte(base64.RawURLEncoding.EncodeToString(secret))) || bytes.Contains(text, secret) {
				t.Fatal("the row holds the secret")
			}
		}
		if printed := fmt.Sprintf("%v %+v %#v", ring, ring.view.Load().keys[kid].signers.Load(), ring.view.Load().rows); strings.Contains(printed, hex.EncodeToString(stored.Sealed[:8])) {
			t.Fatal("a ring prints sealed bytes")
		}
	}

	other := func() authority.Key {
		key, err := s.generate(jose.ES256, authority.KeyNext, b.clock.Now)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	attacker, _ := jose.NewPublicKey("attacker", jose.ES256, private.Public())
	attackerJWK, _ := json.Marshal(attacker)
	for _, change := range []struct {
		name   string
		mutate func(*authority.Key)
	}{
		{"nothing", func(*authority.Key) {}},
		{"another kid", func(k *authority.Key) { k.ID = "other" }},
		{"another algorithm", func(k *authority.Key) { k.Algorithm = "ES384" }},
		{"an algorithm for the same key type", func(k *authority.Key) {
			*k = b.store.rows[b.only(t, jose.PS256, authority.KeyCurrent)]
			k.Algorithm = "RS256"
		}},
		{"an algorithm that does not exist", func(k *authority.Key) { k.Algorithm = "none" }},
		{"one bit of the sealed part", func(k *authority.Key) { k.Sealed[20] ^= 1 }},
		{"the version", func(k *authority.Key) { k.Sealed[0] = 2 }},
		{"a short sealed part", func(k *authority.Key) { k.Sealed = k.Sealed[:5] }},
		{"no sealed part", func(k *authority.Key) { k.Sealed = nil }},
		{"the sealed part of another row", func(k *authority.Key) { k.Sealed = other().Sealed }},
		{"the public part of another row", func(k *authority.Key) { k.Public = other().Public }},
		{"no public part", func(k *authority.Key) { k.Public = nil }},
		// The public part is renamed along with the row, so that only what is bound into the seal can tell.
		{"the kid, in the public part as well", func(k *authority.Key) {
			k.Public = bytes.Replace(k.Public, []byte(k.ID), []byte("other"), 1)
			k.ID = "other"
		}},
		{"the algorithm, in the public part as well", func(k *authority.Key) {
			*k = b.store.rows[b.only(t, jose.PS256, authority.KeyCurrent)]
			k.Public = bytes.Replace(k.Public, []byte("PS256"), []byte("RS256"), 1)
			k.Algorithm = "RS256"
		}},
		{"a retired row of somebody else's key", func(k *authority.Key) {
			*k = authority.Key{ID: "attacker", Algorithm: "ES256", Public: attackerJWK, Sealed: k.Sealed, State: authority.KeyRetired}
		}},
	} {
		t.Run("changed: "+change.name, func(t *testing.T) {
			changed := row()
			changed.Sealed = bytes.Clone(changed.Sealed)
			change.mutate(&changed)
			_, _, err := s.open(changed)
			if (err == nil) != (change.name == "nothing") {
				t.Fatal(err)
			}
			kept := b.store.rows
			defer func() { b.store.rows = kept }()
			b.store.rows = map[string]authority.Key{changed.ID: changed}
			if err := b.ring().Open(ctx, b.master); (err == nil) != (change.name == "nothing") {
				t.Fatal("a ring opens with it:", err)
			}
		})
	}

	t.Run("another master key", func(t *testing.T) {
		err := b.ring().Open(ctx, GenerateMasterKey())
		if !errors.Is(err, ErrMasterKey) || !strings.Contains(err.Error(), "the master key does not open the stored signing keys") {
			t.Fatal(err)
		}
	})
}

func TestMasterKey(t *testing.T) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	want := MasterKey{raw}.Derive("x")
	for name, text := range map[string]string{
		"raw":                         string(raw),
		"base64 as openssl writes it": base64.StdEncoding.EncodeToString(raw) + "\n",
		"base64url without padding":   base64.RawURLEncoding.EncodeToString(raw),
		"hex":                         hex.EncodeToString(raw) + "\r\n",
		"hex in capitals":             strings.ToUpper(hex.EncodeToString(raw)),
	} {
		key, err := ParseMasterKey([]byte(text))
		if err != nil || key.Derive("x") != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if key, err := ParseMasterKey([]byte(GenerateMasterKey().Encode())); err != nil || len(key.secret) != 32 {
		t.Error(err)
	}
	for name, text := range map[string]string{
		"empty": "", "short": "c2hvcnQ=", "a sentence": "correct horse battery staple and some more words",
		"16 bytes in base64": base64.StdEncoding.EncodeToString(raw[:16]), "31 bytes": string(raw[:31]),
		"zeros": string(make([]byte, 32)), "one letter": strings.Repeat("a", 32), "zeros in hex": strings.Repeat("0", 64),
		"4 KiB": strings.Repeat("abcd", 1024),
	} {
		_, err := ParseMasterKey([]byte(text))
		if err == nil {
			t.Errorf("%s is accepted", name)
		} else if len(text) > 0 && strings.Contains(err.Error(), text) {
			t.Errorf("the error holds %s", name)
		}
	}

	key := MasterKey{raw}
	if key.Derive("a") == key.Derive("b") {
		t.Error("two purposes, one key")
	}
	text, _ := json.Marshal(struct {
		Key MasterKey
		By  map[string]*MasterKey
	}{key, map[string]*MasterKey{"k": &key}})
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "key", key, "in", struct{ Key MasterKey }{key})
	for _, printed := range []string{
		fmt.Sprint(key), fmt.Sprintf("%+v", key), fmt.Sprintf("%#v", key), fmt.Sprintf("key %s", &key), fmt.Sprintf("%x", key),
		fmt.Sprintf("%v", struct{ Key MasterKey }{key}), string(text), logged.String(),
	} {
		for _, form := range []string{string(raw), hex.EncodeToString(raw), hex.EncodeToString(raw)[:16], base64.StdEncoding.EncodeToString(raw), fmt.Sprint(raw)} {
			if strings.Contains(printed, form) {
				t.Errorf("printed: %s", printed)
			}
		}
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the zero MasterKey derives a key")
			}
		}()
		MasterKey{}.Derive("x")
	}()
}

func FuzzParseMasterKey(f *testing.F) {
	f.Add([]byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := ParseMasterKey(data)
		if err != nil {
			return
		}
		again, err := ParseMasterKey([]byte(key.Encode()))
		if err != nil || again.Derive("x") != key.Derive("x") {
			t.Fatal(err)
		}
	})
}

func BenchmarkSigner(b *testing.B) {
	ring := newBench(jose.ES256).node(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ring.Signer("", "at+jwt"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReload(b *testing.B) {
	bench := newBench(jose.ES256, jose.RS256)
	ring := bench.node(b)
	tick(b, ring)
	b.ReportAllocs()
	for b.Loop() {
		if err := ring.Reload(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

func TestKidIsNeverTakenForAFlag(t *testing.T) {
	for range 1000 { // one thumbprint in 64 begins with a hyphen
		_, public, err := newKeyPair(jose.EdDSA)
		if err != nil {
			t.Fatal(err)
		}
		if kid := public.KeyID(); kid != public.Thumbprint() || strings.HasPrefix(kid, "-") {
			t.Fatalf("kid %q", kid)
		}
	}
}
