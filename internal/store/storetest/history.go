package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

var historyChecks = []check{
	{"random histories end like those of a simple model", func(t testing.TB, e Engine) {
		s := e.Open(t)
		round := 0
		rapid.Check(t, func(r *rapid.T) {
			round++
			h := newHistory(t.Context(), r, s, fmt.Sprint("round ", round, " "))
			for range rapid.IntRange(5, 50).Draw(r, "steps") {
				h.step()
			}
			h.compare()
		})
	}},
}

// history runs the same random transitions on a store and on the model. All
// histories share one store, so each has ids and names of its own.
type history struct {
	ctx      context.Context
	r        *rapid.T
	real     Store
	model    *model
	tag      string
	ids      []authority.ID // of grants; few, so that transitions meet
	sessions []authority.ID
	evidence []authority.Evidence
}

func newHistory(ctx context.Context, r *rapid.T, s Store, tag string) *history {
	h := &history{ctx: ctx, r: r, real: s, model: newModel(), tag: tag}
	for i := range 8 {
		h.ids = append(h.ids, authority.NewID(start.Add(time.Duration(i%3)*time.Millisecond)))
	}
	h.sessions = []authority.ID{authority.NewID(start), authority.NewID(start)}
	h.evidence = []authority.Evidence{
		{Kind: authority.EvidencePod, Key: tag + "a"}, {Kind: authority.EvidencePod, Key: tag + "b"}, // workloads first: see grant
		authority.SessionEvidence(h.sessions[0]), authority.SessionEvidence(h.sessions[1]),
	}
	return h
}

func pick[T any](h *history, what string, values ...T) T {
	return values[rapid.IntRange(0, len(values)-1).Draw(h.r, what)]
}

func (h *history) time() time.Time {
	return start.Add(time.Duration(rapid.IntRange(0, 5).Draw(h.r, "minutes")) * time.Minute)
}

func (h *history) refresh() authority.Refresh {
	return refresh(uint32(rapid.IntRange(1, 3).Draw(h.r, "generation")), rapid.IntRange(1, 2).Draw(h.r, "seed"), h.time())
}

func (h *history) grant() authority.Grant {
	g := pick(h, "kind of grant", activeGrant, pendingGrant)()
	g.ID = pick(h, "id", h.ids...)
	for range pick(h, "height", 0, 0, 0, 1, 2) {
		g.Lineage = append(g.Lineage, authority.Ancestor{GrantID: pick(h, "ancestor", h.ids...), ClientID: "web"})
	}
	evidence := h.evidence
	if g.State == authority.GrantPending {
		evidence = evidence[2:] // a code is given to a person in a session, never to a workload
	}
	g.Evidence = pick(h, "evidence", append([]authority.Evidence{{}, {}, {}}, evidence...)...)
	g.SessionID = pick(h, "session", append([]authority.ID{{}}, h.sessions...)...)
	g.ClientID = h.tag + pick(h, "client", "web", "cli")
	g.RedirectDigest = pick(h, "redirect digest", hash(7), hash(7), hash(8), [32]byte{})
	g.Scopes = pick(h, "scopes", oauth.MustScopes("openid"), oauth.MustScopes("openid", "email"), oauth.Scopes{})
	if g.State == authority.GrantActive {
		g.Refresh = h.refresh()
		g.ExpiresAt = h.time()
	}
	return g
}

// both runs one transition on the store and on the model, and wants one answer.
func (h *history) both(what string, fn func(s Store) (any, error)) {
	got, err := fn(h.real)
	want, wantErr := fn(Store(h.model))
	if !errors.Is(err, wantErr) {
		h.r.Fatalf("%s: the store says %v, the model %v", what, err, wantErr)
	}
	if err == nil && !reflect.DeepEqual(got, want) {
		h.r.Fatalf("%s: the store gives\n%+v\nthe model\n%+v", what, got, want)
	}
}

func (h *history) step() {
	id, at := pick(h, "id", h.ids...), h.time()
	end := authority.Ending{Reason: "history", At: at, Remember: time.Hour}
	switch pick(h, "transition", "create", "create", "create", "redeem", "rotate", "rotate", "end", "end evidence", "revoke", "epoch", "ticket",
		"start session", "end session", "consented") {
	case "create":
		g := h.grant()
		h.both("CreateGrant", func(s Store) (any, error) { return nil, s.CreateGrant(h.ctx, g) })
	case "redeem":
		code, state, until := pick(h, "code", hash(100), hash(101), [32]byte{}), h.refresh(), h.time()
		h.both("RedeemCode", func(s Store) (any, error) { return nil, s.RedeemCode(h.ctx, id, code, state, until, at) })
	case "rotate":
		from, to := h.refresh(), h.refresh()
		h.both("RotateRefresh", func(s Store) (any, error) { return nil, s.RotateRefresh(h.ctx, id, from, to) })
	case "end":
		h.both("EndGrant", func(s Store) (any, error) {
			written, err := s.EndGrant(h.ctx, id, end)
			return withoutSeq(written), err
		})
	case "end evidence":
		evidence, proofUntil := pick(h, "evidence", h.evidence...), h.time()
		h.both("EndEvidence", func(s Store) (any, error) {
			written, err := s.EndEvidence(h.ctx, evidence, proofUntil, end)
			return withoutSeq(written), err
		})
	case "revoke":
		r := revocation(authority.RevokeToken, h.tag+pick(h, "jti", "a", "b"), at)
		h.both("Revoke", func(s Store) (any, error) {
			written, err := s.Revoke(h.ctx, r)
			return withoutSeq([]authority.Revocation{written}), err
		})
	case "epoch":
		r := revocation(authority.EpochUser, h.tag+pick(h, "user", "a", "b"), at)
		h.both("Revoke of an epoch", func(s Store) (any, error) {
			written, err := s.Revoke(h.ctx, r)
			return withoutSeq([]authority.Revocation{written}), err
		})
	case "ticket":
		t := authority.Ticket{Kind: authority.TicketKind(h.tag), Hash: pick(h, "ticket", hash(1), hash(2), hash(3)), ExpiresAt: at}
		h.both("TakeTicket", func(s Store) (any, error) { return nil, s.TakeTicket(h.ctx, t) })
	case "start session":
		v := authority.Session{ID: pick(h, "session", h.sessions...), Hash: h.cookie(), Subject: ada, ExpiresAt: at}
		h.both("StartSession", func(s Store) (any, error) { return nil, s.StartSession(h.ctx, v) })
	case "end session":
		session := pick(h, "session", h.sessions...)
		h.both("EndSession", func(s Store) (any, error) {
			written, err := s.EndSession(h.ctx, session, end)
			return withoutSeq(written), err
		})
	case "consented":
		g := h.grant()
		since := pick(h, "since", time.Time{}, g.CreatedAt.Add(-time.Hour), g.CreatedAt, g.CreatedAt.Add(time.Hour))
		h.both("Consented", func(s Store) (any, error) { return s.Consented(h.ctx, g, since, at) })
	}
}

// cookie is one of two hashes of this history.
func (h *history) cookie() (c [32]byte) {
	c = hash(rapid.IntRange(1, 2).Draw(h.r, "cookie"))
	copy(c[:], h.ids[0].Bytes())
	return c
}

// compare wants both to hold the same in the end.
func (h *history) compare() {
	for _, id := range h.ids {
		h.both("Grant", func(s Store) (any, error) { return s.Grant(h.ctx, id) })
	}
	for _, client := range []string{h.tag + "web", h.tag + "cli"} {
		for _, active := range []bool{false, true} {
			f := authority.GrantFilter{ClientID: client, ActiveOnly: active, AliveAt: start.Add(2 * time.Minute)}
			h.both("Grants", func(s Store) (any, error) { return s.Grants(h.ctx, f, authority.Page{Limit: 100}) })
			h.both("CountGrants", func(s Store) (any, error) { return s.CountGrants(h.ctx, f) })
		}
	}
	mine := func(r authority.Revocation) bool {
		return strings.HasPrefix(r.Key, h.tag) ||
			slices.ContainsFunc(append(h.ids, h.sessions...), func(id authority.ID) bool { return id.String() == r.Key })
	}
	h.both("Revocations", func(s Store) (any, error) {
		var list []authority.Revocation
		for after := int64(-1); ; {
			page, err := s.Revocations(h.ctx, after, 500)
			if err != nil || len(page) == 0 {
				return withoutSeq(list), err
			}
			for _, r := range page {
				if mine(r) {
					list = append(list, r)
				}
			}
			after = page[len(page)-1].Seq
		}
	})
	for _, id := range h.sessions {
		h.both("Session", func(s Store) (any, error) { return s.Session(h.ctx, id) })
	}
	// A grant that outlives its evidence would be the worst that can happen.
	gone := map[authority.Link]bool{}
	for _, r := range h.model.revocations {
		gone[authority.Link{Kind: r.Kind, Key: r.Key}] = true
	}
	for _, id := range h.ids {
		g, err := h.real.Grant(h.ctx, id)
		if err == nil && g.State != authority.GrantEnded && (gone[g.Evidence.Link()] || gone[authority.Link{Kind: authority.RevokeGrant, Key: id.String()}]) {
			h.r.Fatalf("%s is %s, and it or its evidence has ended", id, g.State)
		}
	}
}

// withoutSeq makes lists of two stores comparable: sorted by what was ended.
func withoutSeq(list []authority.Revocation) []authority.Revocation {
	bare := make([]authority.Revocation, 0, len(list))
	for _, r := range list {
		r.Seq = 0
		bare = append(bare, r)
	}
	slices.SortFunc(bare, func(a, b authority.Revocation) int {
		return strings.Compare(string(a.Kind)+a.Key, string(b.Kind)+b.Key)
	})
	return bare
}
