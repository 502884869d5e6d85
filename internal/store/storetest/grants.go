package storetest

import (
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

var grantChecks = []check{
	{"a grant comes back as it was stored", func(t testing.TB, e Engine) {
		s := e.Open(t)
		full := activeGrant(func(g *authority.Grant) {
			g.Confirmation.JKT, g.Evidence = "thumbprint", authority.Evidence{Kind: "any kind", Key: `any "key"`}
			g.SessionID, g.AuthTime, g.AMR = authority.NewID(start), start.Add(-time.Minute), []string{"pwd", "otp"}
			g.Resources = []string{"https://api.example.com/a b", `urn:x:"quoted"`}
		})
		pending := pendingGrant(func(g *authority.Grant) { g.Nonce = "any \x00 bytes \xff" })
		bare := authority.Grant{ID: authority.NewID(start), State: authority.GrantActive}
		named := activeGrant(func(g *authority.Grant) { g.ClientID = `https://client.example.com/<"&'ü>` })
		grants := append(line(childOf(named)), full, pending, bare, named)
		create(t, s, grants...)
		for _, g := range grants {
			equal(t, grantOf(t, s, g.ID), g)
		}
	}},
	{"times are kept to the microsecond, in UTC", func(t testing.TB, e Engine) {
		s := e.Open(t)
		elsewhere := start.In(time.FixedZone("elsewhere", 3600)).Add(789 * time.Nanosecond)
		g := activeGrant(func(g *authority.Grant) { g.CreatedAt = elsewhere })
		create(t, s, g)
		equal(t, grantOf(t, s, g.ID).CreatedAt, start)
	}},
	{"an unknown grant is not found", func(t testing.TB, e Engine) {
		_, err := e.Open(t).Grant(t.Context(), authority.NewID(start))
		wantError(t, err, authority.ErrNotFound)
	}},
	{"an id is taken once", func(t testing.TB, e Engine) {
		s := e.Open(t)
		parent := activeGrant()
		g := activeGrant(childOf(parent))
		create(t, s, parent, g)
		wantError(t, s.CreateGrant(t.Context(), parent), authority.ErrExists)
		wantError(t, s.CreateGrant(t.Context(), g), authority.ErrExists)
	}},
	{"a code is redeemed once and gives refresh state and expiry", func(t testing.TB, e Engine) {
		s := e.Open(t)
		g := pendingGrant()
		create(t, s, g)
		now, until := start.Add(time.Second), start.Add(time.Hour)
		noError(t, s.RedeemCode(t.Context(), g.ID, g.Code.Hash, refresh(1, 7, now), until, now))
		want := g
		want.State, want.Refresh, want.ExpiresAt = authority.GrantActive, refresh(1, 7, now), until
		equal(t, grantOf(t, s, g.ID), want)
		wantError(t, s.RedeemCode(t.Context(), g.ID, g.Code.Hash, refresh(1, 8, now), until, now), authority.ErrSpent)
		equal(t, grantOf(t, s, g.ID), want)
	}},
	{"a code may come without refresh state", func(t testing.TB, e Engine) {
		s := e.Open(t)
		g := pendingGrant()
		create(t, s, g)
		noError(t, s.RedeemCode(t.Context(), g.ID, g.Code.Hash, authority.Refresh{}, start.Add(time.Hour), start))
		equal(t, grantOf(t, s, g.ID).Refresh, authority.Refresh{})
	}},
	{"a wrong, expired, ended or unknown code is spent and changes nothing", func(t testing.TB, e Engine) {
		s := e.Open(t)
		pending, ended, active := pendingGrant(), pendingGrant(), activeGrant()
		create(t, s, pending, ended, active)
		_, err := s.EndGrant(t.Context(), ended.ID, ending)
		noError(t, err)
		redeem := func(id authority.ID, hash [32]byte, now time.Time) {
			t.Helper()
			before, _ := s.Grant(t.Context(), id)
			wantError(t, s.RedeemCode(t.Context(), id, hash, refresh(1, 7, now), start.Add(time.Hour), now), authority.ErrSpent)
			after, _ := s.Grant(t.Context(), id)
			equal(t, after, before)
		}
		redeem(pending.ID, hash(101), start)
		redeem(pending.ID, [32]byte{}, start)
		redeem(pending.ID, pending.Code.Hash, pending.Code.ExpiresAt)
		redeem(pending.ID, pending.Code.Hash, pending.Code.ExpiresAt.Add(time.Hour))
		redeem(ended.ID, ended.Code.Hash, start)
		redeem(active.ID, [32]byte{}, start)
		redeem(authority.NewID(start), hash(100), start)
		noError(t, s.RedeemCode(t.Context(), pending.ID, pending.Code.Hash, refresh(1, 7, start), start.Add(time.Hour), pending.Code.ExpiresAt.Add(-time.Microsecond)))
	}},
	{"64 redeem one code on two nodes: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		for range 5 {
			g := pendingGrant()
			create(t, s, g)
			winner := contend(t, authority.ErrSpent, func(i int) error {
				return nodes[i%2].RedeemCode(t.Context(), g.ID, g.Code.Hash, refresh(1, i, start), start.Add(time.Hour), start)
			})
			equal(t, grantOf(t, s, g.ID).Refresh, refresh(1, winner, start))
		}
	}},
	{"rotation replaces the state that it names, and no other", func(t testing.TB, e Engine) {
		s := e.Open(t)
		g := activeGrant()
		create(t, s, g)
		later := start.Add(time.Minute)
		conflict := func(id authority.ID, from authority.Refresh) {
			t.Helper()
			before, _ := s.Grant(t.Context(), id)
			wantError(t, s.RotateRefresh(t.Context(), id, from, refresh(9, 9, later)), authority.ErrConflict)
			after, _ := s.Grant(t.Context(), id)
			equal(t, after, before)
		}
		conflict(g.ID, refresh(1, 2, start)) // another hash
		conflict(g.ID, refresh(2, 1, start)) // another generation
		conflict(g.ID, authority.Refresh{})
		conflict(authority.NewID(start), g.Refresh)

		noError(t, s.RotateRefresh(t.Context(), g.ID, g.Refresh, refresh(2, 2, later)))
		want := g
		want.Refresh = refresh(2, 2, later)
		equal(t, grantOf(t, s, g.ID), want)
		conflict(g.ID, g.Refresh)
	}},
	{"only an active grant rotates", func(t testing.TB, e Engine) {
		s := e.Open(t)
		pending := pendingGrant(func(g *authority.Grant) { g.Refresh = refresh(1, 1, start) })
		ended := activeGrant()
		none := activeGrant(func(g *authority.Grant) { g.Refresh = authority.Refresh{} })
		create(t, s, pending, ended, none)
		_, err := s.EndGrant(t.Context(), ended.ID, ending)
		noError(t, err)
		for _, g := range []authority.Grant{pending, ended, none} {
			wantError(t, s.RotateRefresh(t.Context(), g.ID, g.Refresh, refresh(2, 2, start)), authority.ErrConflict)
		}
	}},
	{"64 rotate one token on two nodes: one succeeds", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		g := activeGrant()
		create(t, s, g)
		for generation := uint32(1); generation <= 10; generation++ {
			from := grantOf(t, s, g.ID).Refresh
			winner := contend(t, authority.ErrConflict, func(i int) error {
				return nodes[i%2].RotateRefresh(t.Context(), g.ID, from, refresh(generation+1, 1000+i, start))
			})
			equal(t, grantOf(t, nodes[1], g.ID).Refresh, refresh(generation+1, 1000+winner, start))
		}
	}},
	{"many rotate many grants on two nodes, and all succeed", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		grants := make([]authority.Grant, many)
		for i := range grants {
			grants[i] = activeGrant()
		}
		create(t, s, grants...)
		for i, err := range atOnce(many, func(i int) error {
			for generation := uint32(1); generation <= 20; generation++ {
				from, to := refresh(generation, int(generation), start), refresh(generation+1, int(generation)+1, start)
				if err := nodes[(i+int(generation))%2].RotateRefresh(t.Context(), grants[i].ID, from, to); err != nil {
					return err
				}
			}
			return nil
		}) {
			if err != nil {
				t.Fatalf("grant %d: %v", i, err)
			}
		}
		for _, g := range grants {
			equal(t, grantOf(t, s, g.ID).Refresh, refresh(21, 21, start))
		}
	}},
	{"lists are filtered, sorted and paged", checkLists},
	{"consent is an active grant that covers what is asked", checkConsent},
}

func checkLists(t testing.TB, e Engine) {
	s := e.Open(t)
	session := authority.NewID(start)
	var all []authority.Grant
	for i := range 40 {
		g := activeGrant(func(g *authority.Grant) {
			at := start.Add(time.Duration(i) * time.Second)
			g.ID, g.CreatedAt, g.ExpiresAt = authority.NewID(at), at, start.Add(time.Duration(i)*time.Minute)
			if i%2 == 0 {
				g.ClientID = "cli"
			}
			if i%4 == 1 {
				g.Subject = bob
			}
			if i%5 == 0 {
				g.SessionID = session
			}
			if i%7 == 3 {
				id := [...]string{"cluster:hub:ns:shop:sa:web", "cluster:hub:ns:shop-b:sa:web", "cluster:hub-b:ns:shop:sa:web", "cluster:HUB:ns:shop:sa:web", "cluster:hub:ns:shop:sa:api", "cluster:hub"}[i/7]
				g.Subject = authority.Subject{Issuer: bob.Issuer, ID: id, Kind: authority.SubjectWorkload}
			}
		})
		all = append(all, g)
	}
	for i := range all { // stored out of order
		create(t, s, all[(i*7)%len(all)])
	}
	for i := 0; i < len(all); i += 8 {
		_, err := s.EndGrant(t.Context(), all[i].ID, ending)
		noError(t, err)
		all[i] = grantOf(t, s, all[i].ID)
	}
	alive := start.Add(20 * time.Minute)
	filters := []struct {
		name string
		f    authority.GrantFilter
		in   func(g authority.Grant) bool
	}{
		{"all", authority.GrantFilter{}, func(authority.Grant) bool { return true }},
		{"client", authority.GrantFilter{ClientID: "cli"}, func(g authority.Grant) bool { return g.ClientID == "cli" }},
		{"subject", authority.GrantFilter{SubjectID: "bob"}, func(g authority.Grant) bool { return g.Subject == bob }},
		{"workloads of a cluster", authority.GrantFilter{SubjectPrefix: "cluster:hub:"}, func(g authority.Grant) bool { return strings.HasPrefix(g.Subject.ID, "cluster:hub:") }},
		{"workloads of a namespace", authority.GrantFilter{SubjectPrefix: "cluster:hub:ns:shop:", ActiveOnly: true},
			func(g authority.Grant) bool {
				return strings.HasPrefix(g.Subject.ID, "cluster:hub:ns:shop:") && g.State == authority.GrantActive
			}},
		{"a prefix of nobody", authority.GrantFilter{SubjectPrefix: "cluster:hub:ns:shop\x00"}, func(authority.Grant) bool { return false }},
		{"a prefix that is a pattern elsewhere", authority.GrantFilter{SubjectPrefix: "cluster:%"}, func(authority.Grant) bool { return false }},
		{"session", authority.GrantFilter{SessionID: session}, func(g authority.Grant) bool { return g.SessionID == session }},
		{"active", authority.GrantFilter{ActiveOnly: true}, func(g authority.Grant) bool { return g.State == authority.GrantActive }},
		{"alive", authority.GrantFilter{ActiveOnly: true, AliveAt: alive}, func(g authority.Grant) bool { return g.Alive(alive) }},
		{"everything", authority.GrantFilter{ClientID: "web", SubjectID: "ada", SessionID: session, ActiveOnly: true, AliveAt: alive},
			func(g authority.Grant) bool {
				return g.ClientID == "web" && g.Subject == ada && g.SessionID == session && g.Alive(alive)
			}},
		{"nobody", authority.GrantFilter{ClientID: "cli\x00"}, func(authority.Grant) bool { return false }},
	}
	for _, f := range filters {
		var want []authority.Grant
		for _, g := range all {
			if f.in(g) {
				want = append(want, g)
			}
		}
		var got []authority.Grant
		for after := ""; ; {
			page, err := s.Grants(t.Context(), f.f, authority.Page{After: after, Limit: 7})
			noError(t, err)
			if len(page) == 0 {
				break
			}
			if len(page) > 7 {
				t.Fatalf("%s: a page of %d", f.name, len(page))
			}
			got = append(got, page...)
			after = page[len(page)-1].ID.String()
		}
		equal(t, got, want)
		n, err := s.CountGrants(t.Context(), f.f)
		noError(t, err)
		equal(t, n, len(want))
	}
	for _, limit := range []int{-1, 0} {
		page, err := s.Grants(t.Context(), authority.GrantFilter{}, authority.Page{Limit: limit})
		noError(t, err)
		equal(t, len(page), 1)
	}
}

func checkConsent(t testing.TB, e Engine) {
	s := e.Open(t)
	now := start.Add(time.Minute)
	granted := activeGrant(func(g *authority.Grant) {
		g.Scopes = oauth.MustScopes("openid", "email", "orders:read")
		g.Resources = []string{"https://api.example.com", "https://other.example.com"}
		g.Claims = authority.RequestedClaims{UserInfo: []string{"name"}, IDToken: []string{"phone_number"}}
	})
	ended := activeGrant(func(g *authority.Grant) { g.Scopes = oauth.MustScopes("admin") })
	pending := pendingGrant(func(g *authority.Grant) { g.Scopes = oauth.MustScopes("pending") })
	expired := activeGrant(func(g *authority.Grant) { g.Scopes, g.ExpiresAt = oauth.MustScopes("old"), now })
	unasked := activeGrant(func(g *authority.Grant) { g.Scopes, g.RedirectDigest = oauth.MustScopes("unasked"), [32]byte{} })
	create(t, s, granted, ended, pending, expired, unasked)
	_, err := s.EndGrant(t.Context(), ended.ID, ending)
	noError(t, err)
	rows := []struct {
		name   string
		change func(*authority.Grant)
		want   bool
	}{
		{"the same", func(*authority.Grant) {}, true},
		{"fewer scopes", func(g *authority.Grant) { g.Scopes = oauth.MustScopes("email") }, true},
		{"no scopes and resources", func(g *authority.Grant) { g.Scopes, g.Resources = oauth.Scopes{}, nil }, true},
		{"one scope more", func(g *authority.Grant) { g.Scopes = oauth.MustScopes("openid", "orders:write") }, false},
		{"one resource more", func(g *authority.Grant) { g.Resources = []string{"https://third.example.com"} }, false},
		{"claims in the other place", func(g *authority.Grant) {
			g.Claims = authority.RequestedClaims{UserInfo: []string{"phone_number"}, IDToken: []string{"name"}}
		}, true},
		{"a claim that a scope opens", func(g *authority.Grant) { g.Claims = authority.RequestedClaims{IDToken: []string{"email"}} }, true},
		{"one claim more", func(g *authority.Grant) { g.Claims = authority.RequestedClaims{UserInfo: []string{"name", "nickname"}} }, false},
		{"another client", func(g *authority.Grant) { g.ClientID = "cli" }, false},
		{"other redirect URIs", func(g *authority.Grant) { g.RedirectDigest = hash(8) }, false},
		{"no redirect URIs, where nobody was asked", func(g *authority.Grant) { g.Scopes, g.RedirectDigest = oauth.MustScopes("unasked"), [32]byte{} }, false},
		{"another subject", func(g *authority.Grant) { g.Subject = bob }, false},
		{"a namesake of another issuer", func(g *authority.Grant) { g.Subject.Issuer = "https://evil.example.com" }, false},
		{"a client of the same name as the user", func(g *authority.Grant) { g.Subject.Kind = authority.SubjectClient }, false},
		{"an ended grant", func(g *authority.Grant) { g.Scopes = oauth.MustScopes("admin") }, false},
		{"a pending grant", func(g *authority.Grant) { g.Scopes = oauth.MustScopes("pending") }, false},
		{"an expired grant", func(g *authority.Grant) { g.Scopes = oauth.MustScopes("old") }, false},
	}
	for _, r := range rows {
		asked := granted
		asked.ID = authority.NewID(now)
		r.change(&asked)
		got, err := s.Consented(t.Context(), asked, time.Time{}, now)
		noError(t, err)
		if got != r.want {
			t.Errorf("%s: consented is %v", r.name, got)
		}
	}

	shownBefore := activeGrant(func(g *authority.Grant) {
		g.ID, g.ClientID = authority.NewID(start.Add(-time.Minute)), "slow"
	})
	create(t, s, shownBefore)
	for _, r := range []struct {
		name  string
		asked authority.Grant
		since time.Time
		want  bool
	}{
		{"made after the mark", granted, start.Add(-time.Millisecond), true},
		{"made in the moment of the mark", granted, start, false},
		{"made before the mark", granted, start.Add(time.Second), false},
		{"its page shown and answered after the mark", shownBefore, start.Add(-time.Hour), true},
		{"its page shown before the mark, answered after it", shownBefore, start.Add(-time.Second), false},
	} {
		got, err := s.Consented(t.Context(), r.asked, r.since, now)
		noError(t, err)
		if got != r.want {
			t.Errorf("%s: consented is %v", r.name, got)
		}
	}
}
