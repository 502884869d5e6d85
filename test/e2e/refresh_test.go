package e2e

import (
	"net/http"
	"sync"
	"testing"
)

// Threats E64, E65, E67: refresh never branches and never logs an honest client out.

// refreshAtOnce presents one token many times at once, in turn to each node.
func refreshAtOnce(t *testing.T, nodes []*server, c client, token string) []reply {
	t.Helper()
	const parallel = 64
	answers := make([]reply, parallel)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			<-begin
			answers[i] = nodes[i%len(nodes)].refresh(t, c, token)
		})
	}
	close(begin)
	wg.Wait()
	return answers
}

// oneSuccessor checks that all answers have the same next token.
func oneSuccessor(t *testing.T, answers []reply) string {
	t.Helper()
	successors, access := map[string]int{}, map[string]int{}
	for _, a := range answers {
		if a.Status != http.StatusOK {
			t.Fatalf("E65: a refresh at the same time as others failed: %s", a)
		}
		successors[a.str("refresh_token")]++
		access[a.str("access_token")]++
	}
	if len(successors) != 1 {
		t.Fatalf("E65: %d different successors", len(successors))
	}
	if len(access) != len(answers) {
		t.Errorf("%d answers share %d access tokens: each should be a token of its own", len(answers), len(access))
	}
	return answers[0].str("refresh_token")
}

func TestRefreshInParallel(t *testing.T) {
	test := func(t *testing.T, w *world, nodes []*server) {
		first := w.signedIn(t, webTwo, ada).str("refresh_token")
		w.allKeys(t)
		before := w.rows(t)
		token := first
		for range 5 {
			next := oneSuccessor(t, refreshAtOnce(t, nodes, webTwo, token))
			if next == token {
				t.Fatal("the successor is the token itself")
			}
			token = next
		}
		after := w.rows(t)
		if after["grants"] != before["grants"] || after["grants"] != 1 {
			t.Errorf("grants had %d rows and have %d after 320 refreshes", before["grants"], after["grants"])
		}
		for table, n := range after {
			if n != before[table] && table != "journals" { // one row a node
				t.Errorf("table %s grew from %d to %d", table, before[table], n)
			}
		}
		if got := w.number(t, "SELECT refresh_generation FROM grants"); got != 6 {
			t.Errorf("5 rotations led to generation %d, want 6", got)
		}
		// Each of the 320 access tokens is good, and the chain continues.
		r := w.refresh(t, webTwo, token)
		checkTokenAnswer(t, r, "")
		for _, n := range nodes {
			if !n.active(t, r.str("access_token")) {
				t.Error("the newest access token is not active")
			}
		}
		// E64: the first token is six generations old, so a thief must have it.
		checkTokenAnswer(t, w.refresh(t, webTwo, first), "invalid_grant")
		checkTokenAnswer(t, w.refresh(t, webTwo, r.str("refresh_token")), "invalid_grant")
		if w.active(t, r.str("access_token")) {
			t.Error("E64: reuse of an old refresh token left the access token alive")
		}
	}
	onEachEngine(t, "", func(t *testing.T, w *world) { test(t, w, []*server{w.server}) })
	t.Run("two nodes on one PostgreSQL", func(t *testing.T) {
		w := newPostgres(t, "")
		test(t, w, []*server{w.server, w.node(t)})
	})
}

// TestRefreshGrace: the same token twice is a retry within the grace period and a theft
// after it, and a restart between the two changes nothing.
func TestRefreshGrace(t *testing.T) {
	onEachEngine(t, "", func(t *testing.T, w *world) {
		for _, row := range []struct {
			sentence string
			between  func()
			inTime   bool
		}{
			{"at once", func() {}, true},
			{"after a restart", func() { w.restart(t) }, true},
			{"after a crash", func() { w.kill(); w.serve(t) }, true},
			{"after the grace period", func() { w.shiftRefresh(t, 11) }, false},
			{"after the grace period and a restart", func() { w.shiftRefresh(t, 11); w.restart(t) }, false},
			{"after the grace period and a crash", func() { w.kill(); w.shiftRefresh(t, 11); w.serve(t) }, false},
		} {
			t.Run(row.sentence, func(t *testing.T) {
				first := w.signedIn(t, webTwo, ada)
				second := w.refresh(t, webTwo, first.str("refresh_token"))
				checkTokenAnswer(t, second, "")
				row.between()
				again := w.refresh(t, webTwo, first.str("refresh_token"))
				if row.inTime {
					checkTokenAnswer(t, again, "")
					if again.str("refresh_token") != second.str("refresh_token") {
						t.Error("E64: the retry got another successor: the chain has branched")
					}
					checkTokenAnswer(t, w.refresh(t, webTwo, second.str("refresh_token")), "")
					return
				}
				checkTokenAnswer(t, again, "invalid_grant")
				checkTokenAnswer(t, w.refresh(t, webTwo, second.str("refresh_token")), "invalid_grant")
				if w.active(t, second.str("access_token")) || w.active(t, first.str("access_token")) {
					t.Error("E64: an access token outlived the reuse of its refresh token")
				}
			})
		}
		if n := w.number(t, "SELECT count(*) FROM grants"); n != 6 {
			t.Errorf("6 sign-ins left %d grants", n)
		}
	})
}
