package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

func isAnswer(err error) bool {
	for _, answer := range []error{authority.ErrNotFound, authority.ErrExists, authority.ErrSpent, authority.ErrConflict, authority.ErrEnded, authority.ErrRetired} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return false
}

// world is a small database with something for every transition, and all of
// its content as one value.
type world struct {
	s       Store
	family  family
	pending authority.Grant
	signed  authority.Session
	pod     authority.Evidence

	client, resource authority.Object
	claims           string // an id that a file may claim
}

func newWorld(t testing.TB, s Store) *world {
	w := &world{s: s, family: newFamily(t, s), signed: session(), pod: pod()}
	w.pending = pendingGrant(inSession(w.signed.ID))
	signedIn := withEvidence(authority.SessionEvidence(w.signed.ID))
	create(t, s, w.pending, activeGrant(signedIn), activeGrant(signedIn), activeGrant(withEvidence(w.pod)), pendingGrant(withEvidence(w.pod)))
	noError(t, s.StartSession(t.Context(), w.signed))
	noError(t, s.AddKey(t.Context(), key("current", "ES256", authority.KeyCurrent)))
	noError(t, s.AddKey(t.Context(), key("next", "ES256", authority.KeyNext)))
	w.client, w.resource = object(authority.KindClient, fresh("c")), object(authority.KindResource, fresh("r"))
	noError(t, s.CreateObject(t.Context(), w.client))
	noError(t, s.CreateObject(t.Context(), w.resource))
	w.claims = fresh("f")
	revoke(t, s, revocation(authority.EpochUser, "ada", start))
	_, _, err := s.Declare(t.Context(), file(1, "web", "a", "gone", "b"), 0)
	noError(t, err)
	startJournal(t, s, w.node(), "/"+w.node())
	_, err = s.TakeLease(t.Context(), w.node(), "a", time.Hour, false)
	noError(t, err)
	return w
}

// node is a journal's, since journals are never removed.
func (w *world) node() string { return w.pending.ID.String() }

func (w *world) snapshot(t testing.TB) string {
	t.Helper()
	page := authority.Page{Limit: 1000}
	grants, err := w.s.Grants(t.Context(), authority.GrantFilter{}, page)
	noError(t, err)
	signed, err := w.s.SessionByHash(t.Context(), w.signed.Hash)
	if !errors.Is(err, authority.ErrNotFound) {
		noError(t, err)
	}
	keys, err := w.s.Keys(t.Context())
	noError(t, err)
	clients, err := w.s.Objects(t.Context(), authority.KindClient, page)
	noError(t, err)
	resources, err := w.s.Objects(t.Context(), authority.KindResource, page)
	noError(t, err)
	declared, err := w.s.Declaration(t.Context())
	if !errors.Is(err, authority.ErrNotFound) {
		noError(t, err)
	}
	journals, err := w.s.Journals(t.Context())
	noError(t, err)
	lease, err := w.s.Lease(t.Context(), w.node())
	noError(t, err)
	lease.Left = lease.Left.Round(time.Minute)
	return fmt.Sprintf("%+v\n%+v\n%+v\n%+v\n%+v\n%+v\n%+v\n%+v\n%+v", lease, declared, grants, signed, keys, feed(t, w.s), clients, resources, journals)
}

// transitions has every write of the store, each on a world of its own.
var transitions = []struct {
	name string
	run  func(ctx context.Context, w *world) error
}{
	{"CreateGrant", func(ctx context.Context, w *world) error { return w.s.CreateGrant(ctx, activeGrant()) }},
	{"CreateGrant of a child", func(ctx context.Context, w *world) error {
		return w.s.CreateGrant(ctx, activeGrant(childOf(w.family.leaf), withEvidence(w.pod)))
	}},
	{"CreateGrant in the place of another", func(ctx context.Context, w *world) error {
		return w.s.CreateGrant(ctx, pendingGrant(inSession(w.signed.ID), withEvidence(authority.SessionEvidence(w.signed.ID))))
	}},
	{"RedeemCode", func(ctx context.Context, w *world) error {
		return w.s.RedeemCode(ctx, w.pending.ID, w.pending.Code.Hash, refresh(1, 1, start), start.Add(time.Hour), start)
	}},
	{"RotateRefresh", func(ctx context.Context, w *world) error {
		return w.s.RotateRefresh(ctx, w.family.root.ID, w.family.root.Refresh, refresh(2, 2, start))
	}},
	{"EndGrant", func(ctx context.Context, w *world) error {
		_, err := w.s.EndGrant(ctx, w.family.root.ID, ending)
		return err
	}},
	{"EndGrant without a row", func(ctx context.Context, w *world) error {
		_, err := w.s.EndGrant(ctx, authority.NewID(start), ending)
		return err
	}},
	{"EndEvidence", func(ctx context.Context, w *world) error {
		_, err := w.s.EndEvidence(ctx, w.pod, start, ending)
		return err
	}},
	{"StartSession", func(ctx context.Context, w *world) error { return w.s.StartSession(ctx, session()) }},
	{"EndSession", func(ctx context.Context, w *world) error {
		_, err := w.s.EndSession(ctx, w.signed.ID, ending)
		return err
	}},
	{"AddKey", func(ctx context.Context, w *world) error {
		return w.s.AddKey(ctx, key("another", "RS256", authority.KeyNext))
	}},
	{"PromoteKey", func(ctx context.Context, w *world) error { return w.s.PromoteKey(ctx, "next", "current", start) }},
	{"RemoveKey", func(ctx context.Context, w *world) error { return w.s.RemoveKey(ctx, "next") }},
	{"Revoke", func(ctx context.Context, w *world) error {
		_, err := w.s.Revoke(ctx, revocation(authority.RevokeToken, "jti", start))
		return err
	}},
	{"Revoke of an epoch", func(ctx context.Context, w *world) error {
		_, err := w.s.Revoke(ctx, revocation(authority.EpochUser, "ada", start.Add(time.Hour)))
		return err
	}},
	{"CreateObject", func(ctx context.Context, w *world) error {
		return w.s.CreateObject(ctx, object(authority.KindClient, fresh("c")))
	}},
	{"UpdateObject", func(ctx context.Context, w *world) error {
		o := w.client
		o.Body = []byte(`{"changed":true}`)
		return w.s.UpdateObject(ctx, o)
	}},
	{"ClaimIDs", func(ctx context.Context, w *world) error {
		return w.s.ClaimIDs(ctx, map[string]authority.Kind{w.claims: authority.KindUser, w.claims + "-2": authority.KindClient}, start)
	}},
	{"DeleteObject of one whose id never returns", func(ctx context.Context, w *world) error {
		return w.s.DeleteObject(ctx, w.client.Kind, w.client.ID, 1, start)
	}},
	{"DeleteObject of one whose id may return", func(ctx context.Context, w *world) error {
		return w.s.DeleteObject(ctx, w.resource.Kind, w.resource.ID, 1, start)
	}},
	{"Declare", func(ctx context.Context, w *world) error {
		_, _, err := w.s.Declare(ctx, file(2, "web", "a"), 0)
		return err
	}},
	{"StartJournal", func(ctx context.Context, w *world) error {
		_, err := w.s.StartJournal(ctx, w.node()+"b", "/"+w.node()+"b", empty)
		return err
	}},
	{"StartJournal at another place", func(ctx context.Context, w *world) error {
		_, err := w.s.StartJournal(ctx, w.node(), "/"+w.node()+"c", empty)
		return err
	}},
	{"SaveJournalHead", func(ctx context.Context, w *world) error {
		return w.s.SaveJournalHead(ctx, w.node(), empty, head(1, 1))
	}},
	{"LoseJournal", func(ctx context.Context, w *world) error { return w.s.LoseJournal(ctx, w.node(), loss) }},
	{"RetireJournal", func(ctx context.Context, w *world) error { return w.s.RetireJournal(ctx, w.node(), start) }},
	{"TakeLease", func(ctx context.Context, w *world) error {
		_, err := w.s.TakeLease(ctx, w.node(), "a", time.Hour, true)
		return err
	}},
	{"ReleaseLease", func(ctx context.Context, w *world) error { return w.s.ReleaseLease(ctx, w.node(), "a") }},
	{"Sweep", func(ctx context.Context, w *world) error {
		_, err := w.s.Sweep(ctx, start.Add(10000*time.Hour), 1)
		return err
	}},
}

var failureChecks = []check{
	{"storage that fails in the middle of a transition leaves nothing of it", func(t testing.TB, e Engine) {
		s := e.Open(t)
		for _, transition := range transitions {
			w := newWorld(t, s)
			before := w.snapshot(t)
			failures := 0
			for n := 0; ; n++ {
				if n == 100 {
					t.Fatalf("%s: fails forever", transition.name)
				}
				e.FailAfter(s, n)
				err := transition.run(t.Context(), w)
				e.FailAfter(s, -1)
				if err == nil {
					break
				}
				if failures++; isAnswer(err) {
					t.Fatalf("%s: a failing storage answered %v", transition.name, err)
				}
				if after := w.snapshot(t); after != before {
					t.Fatalf("%s failed at statement %d and left something:\n%s\nbefore:\n%s", transition.name, n, after, before)
				}
			}
			if failures == 0 {
				t.Fatalf("%s never failed", transition.name)
			}
			if transition.name != "Sweep" && w.snapshot(t) == before && transition.name != "StartSession" && transition.name != "ClaimIDs" {
				t.Fatalf("%s did nothing", transition.name)
			}
			clear(t, s)
		}
	}},
	{"a failing read is a failure, never an answer", func(t testing.TB, e Engine) {
		s := e.Open(t)
		w := newWorld(t, s)
		reads := map[string]func(ctx context.Context) error{
			"Grant": func(ctx context.Context) error { _, err := s.Grant(ctx, w.pending.ID); return err },
			"Grants": func(ctx context.Context) error {
				_, err := s.Grants(ctx, authority.GrantFilter{}, authority.Page{})
				return err
			},
			"CountGrants": func(ctx context.Context) error { _, err := s.CountGrants(ctx, authority.GrantFilter{}); return err },
			"EvidenceKeys": func(ctx context.Context) error {
				_, err := s.EvidenceKeys(ctx, authority.EvidencePod, "", authority.Page{})
				return err
			},
			"Lease":         func(ctx context.Context) error { _, err := s.Lease(ctx, w.node()); return err },
			"Consented":     func(ctx context.Context) error { _, err := s.Consented(ctx, w.pending, time.Time{}, start); return err },
			"SessionByHash": func(ctx context.Context) error { _, err := s.SessionByHash(ctx, w.signed.Hash); return err },
			"Session":       func(ctx context.Context) error { _, err := s.Session(ctx, w.signed.ID); return err },
			"Keys":          func(ctx context.Context) error { _, err := s.Keys(ctx); return err },
			"Revocations":   func(ctx context.Context) error { _, err := s.Revocations(ctx, 0, 10); return err },
			"Declaration":   func(ctx context.Context) error { _, err := s.Declaration(ctx); return err },
			"Journals":      func(ctx context.Context) error { _, err := s.Journals(ctx); return err },
			"Object":        func(ctx context.Context) error { _, err := s.Object(ctx, w.client.Kind, w.client.ID); return err },
			"ObjectByName": func(ctx context.Context) error {
				_, err := s.ObjectByName(ctx, w.client.Kind, w.client.Name)
				return err
			},
			"Objects": func(ctx context.Context) error {
				_, err := s.Objects(ctx, authority.KindClient, authority.Page{})
				return err
			},
		}
		for name, read := range reads {
			noError(t, read(t.Context()))
			e.FailAfter(s, 0)
			err := read(t.Context())
			e.FailAfter(s, -1)
			if err == nil || isAnswer(err) {
				t.Fatalf("%s: a failing storage answered %v", name, err)
			}
		}
	}},
	{"a failure in a group fails no neighbour half-way", func(t testing.TB, e Engine) {
		s := e.Open(t)
		grants := make([]authority.Grant, many)
		for i := range grants {
			grants[i] = activeGrant()
		}
		create(t, s, grants...)
		for n := range 20 {
			generation := uint32(n + 1)
			before := make([]authority.Refresh, many)
			for i, g := range grants {
				before[i] = grantOf(t, s, g.ID).Refresh
			}
			e.FailAfter(s, n*3)
			errs := atOnce(many, func(i int) error {
				return s.RotateRefresh(t.Context(), grants[i].ID, before[i], refresh(before[i].Generation+1, int(generation)*100+i, start))
			})
			e.FailAfter(s, -1)
			for i, g := range grants {
				want := before[i]
				if errs[i] == nil {
					want = refresh(before[i].Generation+1, int(generation)*100+i, start)
				} else if isAnswer(errs[i]) {
					t.Fatalf("a failing storage answered %v", errs[i])
				}
				equal(t, grantOf(t, s, g.ID).Refresh, want)
			}
		}
	}},
	{"whoever has left before the start gets an error and changes nothing", func(t testing.TB, e Engine) {
		s := e.Open(t)
		w := newWorld(t, s)
		before := w.snapshot(t)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for _, transition := range transitions {
			if err := transition.run(gone, w); err == nil || isAnswer(err) {
				t.Fatalf("%s answered %v", transition.name, err)
			}
		}
		equal(t, w.snapshot(t), before)
	}},
}

// clear empties what the next world makes again.
func clear(t testing.TB, s Store) {
	t.Helper()
	for _, k := range keysOf(t, s) {
		noError(t, s.RemoveKey(t.Context(), k.ID))
	}
}
