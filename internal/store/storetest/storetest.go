// Package storetest is the promises of authority/store.go as one suite for
// every engine. A promise is tested here, once, and never in an engine.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Store is all that an engine must be.
type Store interface {
	authority.GrantStore
	authority.SessionStore
	authority.TicketStore
	authority.KeyStore
	authority.RevocationStore
	authority.ObjectStore
	authority.DeclarationStore
	authority.JournalStore
	authority.LeaseStore
	// Sweep removes at most limit rows that nothing can need any more.
	Sweep(ctx context.Context, now time.Time, limit int) (int, error)
	// Changes receives after revocations were written, until ctx ends.
	Changes(ctx context.Context) <-chan struct{}
	Close() error
}

// Engine says how the suite gets its stores.
type Engine struct {
	// Open makes an empty database and opens it.
	Open func(t testing.TB) Store
	// Again opens the database of s once more: the same after a restart, or
	// another node beside it.
	Again func(t testing.TB, s Store) Store
	// FailAfter makes the storage fail after n more statements, for good;
	// below 0 it heals.
	FailAfter func(s Store, n int)
}

type check struct {
	name string
	run  func(t testing.TB, e Engine)
}

// Run holds an engine to every promise.
func Run(t *testing.T, e Engine) {
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) { c.run(t, e) })
	}
}

func checks() []check {
	var list []check
	for _, part := range [][]check{grantChecks, pendingChecks, standingChecks, lineageChecks, evidenceChecks, sessionChecks, keyChecks, revocationChecks, objectChecks, claimChecks, declaredChecks, journalChecks, leaseChecks, sweepChecks, failureChecks, historyChecks} {
		list = append(list, part...)
	}
	return list
}

// many is how many goroutines contend for one thing.
const many = 64

var (
	start = time.Date(2026, 3, 4, 5, 6, 7, 891_234_000, time.UTC)
	ada   = authority.Subject{Issuer: "https://sts.example.com", ID: "ada", Kind: authority.SubjectUser}
	bob   = authority.Subject{Issuer: "https://sts.example.com", ID: "bob", Kind: authority.SubjectUser}
)

func hash(n int) (h [32]byte) {
	copy(h[:], fmt.Sprintf("hash %027d", n))
	return h
}

func refresh(generation uint32, seed int, at time.Time) authority.Refresh {
	return authority.Refresh{Generation: generation, Hash: hash(seed), RotatedAt: at, IdleExpiresAt: at.Add(24 * time.Hour)}
}

// activeGrant is a good grant; change changes what a test is about.
func activeGrant(change ...func(*authority.Grant)) authority.Grant {
	g := authority.Grant{
		ID: authority.NewID(start), ClientID: "web", Subject: ada,
		Scopes: oauth.MustScopes("openid", "orders:read"), Resources: []string{"https://api.example.com"},
		State: authority.GrantActive, CreatedAt: start, ExpiresAt: start.Add(720 * time.Hour),
		Refresh: refresh(1, 1, start), RedirectDigest: hash(7),
	}
	for _, c := range change {
		c(&g)
	}
	return g
}

func pendingGrant(change ...func(*authority.Grant)) authority.Grant {
	challenge, err := oauth.ParseChallenge("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "S256")
	if err != nil {
		panic(err)
	}
	pending := func(g *authority.Grant) {
		g.State, g.Refresh, g.ExpiresAt = authority.GrantPending, authority.Refresh{}, time.Time{}
		g.Claims = authority.RequestedClaims{UserInfo: []string{"name"}, IDToken: []string{"email", "phone_number"}}
		g.Code = authority.Code{Hash: hash(100), Challenge: challenge, RedirectURI: "https://app.example.com/callback", ExpiresAt: start.Add(time.Minute)}
	}
	return activeGrant(append([]func(*authority.Grant){pending}, change...)...)
}

func childOf(parent authority.Grant) func(*authority.Grant) {
	return func(g *authority.Grant) {
		g.Lineage = append(slices.Clone(parent.Lineage), authority.Ancestor{GrantID: parent.ID, ClientID: parent.ClientID})
	}
}

func withEvidence(e authority.Evidence) func(*authority.Grant) {
	return func(g *authority.Grant) {
		if g.Evidence = e; g.IsStanding() { // of which a client has one for each resource
			g.Resources = []string{"urn:resource:" + g.ID.String()}
		}
	}
}

// pod is evidence that no other test knows.
func pod() authority.Evidence {
	return authority.Evidence{Kind: authority.EvidencePod, Key: "cluster/" + authority.NewID(start).String()}
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func equal(t testing.TB, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func create(t testing.TB, s Store, grants ...authority.Grant) {
	t.Helper()
	for _, g := range grants {
		noError(t, s.CreateGrant(t.Context(), g))
	}
}

// createAtOnce is create for many, in any order.
func createAtOnce(t testing.TB, s Store, grants ...authority.Grant) {
	t.Helper()
	for _, err := range atOnce(min(many, len(grants)), func(first int) error {
		for i := first; i < len(grants); i += many {
			if err := s.CreateGrant(t.Context(), grants[i]); err != nil {
				return err
			}
		}
		return nil
	}) {
		noError(t, err)
	}
}

func grantOf(t testing.TB, s Store, id authority.ID) authority.Grant {
	t.Helper()
	g, err := s.Grant(t.Context(), id)
	noError(t, err)
	return g
}

// grantsOf lists all grants of a client, oldest first.
func grantsOf(ctx context.Context, s Store, clientID string) (all []authority.Grant, err error) {
	for after := ""; ; {
		page, err := s.Grants(ctx, authority.GrantFilter{ClientID: clientID}, authority.Page{After: after, Limit: 1000})
		if err != nil || len(page) == 0 {
			return all, err
		}
		all, after = append(all, page...), page[len(page)-1].ID.String()
	}
}

// contend runs fn in many goroutines at once, and wants exactly one success
// and the given error from all others. It returns who won.
func contend(t testing.TB, lost error, fn func(i int) error) int {
	t.Helper()
	results := atOnce(many, fn)
	winner := -1
	for i, err := range results {
		switch {
		case err == nil && winner < 0:
			winner = i
		case err == nil:
			t.Fatalf("callers %d and %d both succeeded", winner, i)
		case !errors.Is(err, lost):
			t.Fatalf("caller %d got %v, want %v", i, err, lost)
		}
	}
	if winner < 0 {
		t.Fatalf("nobody succeeded")
	}
	return winner
}

func atOnce(n int, fn func(i int) error) []error {
	results := make([]error, n)
	var ready, done sync.WaitGroup
	gate := make(chan struct{})
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			<-gate
			results[i] = fn(i)
		})
	}
	ready.Wait()
	close(gate)
	done.Wait()
	return results
}

// feed reads the whole feed, page by page.
func feed(t testing.TB, s Store) []authority.Revocation {
	t.Helper()
	var all []authority.Revocation
	after := int64(-1)
	for {
		page, err := s.Revocations(t.Context(), after, 100)
		noError(t, err)
		if len(page) == 0 {
			return all
		}
		for _, r := range page {
			if r.Seq <= after {
				t.Fatalf("the feed is not sorted: %d after %d", r.Seq, after)
			}
			after = r.Seq
		}
		all = append(all, page...)
	}
}

// feedHas says how often the feed names a thing.
func feedHas(t testing.TB, s Store, kind authority.RevocationKind, key string) int {
	t.Helper()
	n := 0
	for _, r := range feed(t, s) {
		if r.Kind == kind && r.Key == key {
			n++
		}
	}
	return n
}
