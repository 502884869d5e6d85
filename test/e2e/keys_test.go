package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Promise 5: keys rotate with zero failed verifications, on schedule and in an emergency.

// verifier is a resource server that verifies offline, with the key set that it fetched.
type verifier struct {
	mu   sync.Mutex
	keys jose.JSONWebKeySet
}

func (v *verifier) fetch(t *testing.T, s *server) []string {
	t.Helper()
	r := s.get(t, "/jwks")
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(r.Body, &set); err != nil || len(set.Keys) == 0 {
		t.Fatalf("JWKS: %v in %s", err, r)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys = set
	var ids []string
	for _, k := range set.Keys {
		if !k.IsPublic() {
			t.Errorf("JWKS holds the private key %s", k.KeyID)
		}
		ids = append(ids, k.KeyID)
	}
	return ids
}

func (v *verifier) check(token string) error {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return parsed.Claims(v.keys, &map[string]any{})
}

// command runs an administration command against the server.
func (s *server) command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(s.adminToken(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, "", append(args, "--admin-url", s.AdminURL, "--admin-token-file", file)...)
}

func TestKeyRotation(t *testing.T) {
	onEachEngine(t, "keys: {rotate_every: 1h}\n", func(t *testing.T, w *world) {
		w.allKeys(t)
		nodes := []*server{w.server}
		if w.engine == "PostgreSQL" {
			nodes = append(nodes, w.node(t))
		}
		v := &verifier{}
		v.fetch(t, w.server)

		// Tokens are issued and verified all the time, with a key set that was fetched
		// before the rotation: the oldest that a verifier may have.
		var mu sync.Mutex
		var last []string
		signers := map[string]int{}
		count := func() (tokens, keys int) {
			mu.Lock()
			defer mu.Unlock()
			return len(last), len(signers)
		}
		underLoad := func(during func(until func(what string, reached func() bool))) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			var load sync.WaitGroup
			for _, n := range nodes {
				load.Go(func() {
					for ctx.Err() == nil && !t.Failed() {
						r, err := quiet(context.WithoutCancel(ctx), n, "/token", params("grant_type", "client_credentials", "resource", api), basic(machine))
						if err != nil || r.Status != http.StatusOK {
							t.Errorf("no token: %v %s", err, r)
							return
						}
						token := r.str("access_token")
						if err := v.check(token); err != nil {
							t.Errorf("a token fails verification offline: %v", err)
						}
						for _, n := range nodes {
							if !n.active(t, token) {
								t.Error("a token fails verification by introspection")
							}
						}
						head, _ := claimsOf(t, token)
						mu.Lock()
						last = append(last, token)
						signers[head["kid"].(string)]++
						mu.Unlock()
					}
				})
			}
			during(func(what string, reached func() bool) {
				t.Helper()
				w.proc.wait(t, what, func() bool { return t.Failed() || reached() })
			})
			cancel()
			load.Wait()
			if t.Failed() {
				t.FailNow()
			}
		}
		rotate := func(want int) {
			t.Helper()
			if out, errOut, code := w.command(t, "key", "rotate", "ES256"); code != want {
				t.Fatalf("key rotate: code %d, want %d\n%s%s", code, want, out, errOut)
			}
		}
		underLoad(func(until func(string, func() bool)) {
			n, _ := count()
			until("tokens before a rotation", func() bool { m, _ := count(); return m > n+50 })
			rotate(0)
			until("tokens of a second key", func() bool { _, k := count(); return k == 2 })
			rotate(1) // the next key is a moment old: no verifier can have it yet
			n, _ = count()
			until("tokens after a rotation", func() bool { m, _ := count(); return m > n+50 })
		})
		// Ten minutes later the next key has been published for long enough. Every node and
		// every verifier has fetched it by then.
		w.age(t, 11*time.Minute)
		for _, n := range nodes {
			n.restart(t)
		}
		v.fetch(t, w.server)
		underLoad(func(until func(string, func() bool)) {
			rotate(0)
			until("tokens of a third key", func() bool { _, k := count(); return k == 3 })
		})

		// On schedule: an hour later the service rotates by itself.
		w.age(t, 70*time.Minute)
		published := v.fetch(t, w.server)
		if len(published) != 6 {
			t.Errorf("%d keys are published, want the next and the current of both algorithms, and two retired", len(published))
		}
		w.restart(t)
		w.proc.wait(t, "the fourth key", func() bool {
			token := w.machineToken(t)
			if err := v.check(token); err != nil {
				t.Errorf("a token after the rotation on schedule fails verification: %v", err)
			}
			head, _ := claimsOf(t, token)
			return t.Failed() || signers[head["kid"].(string)] == 0
		})
		v2 := &verifier{}
		v2.fetch(t, w.server)
		for _, token := range last {
			if err := v2.check(token); err != nil {
				t.Fatalf("a token from before the rotations fails with the newest key set: %v", err)
			}
			// All of them are younger than five minutes.
			if !w.active(t, token) {
				t.Fatal("a token from before the rotations is not active")
			}
		}

		// Two days later no token of a retired key can be alive, and the key is removed.
		w.age(t, 48*time.Hour)
		w.restart(t)
		w.proc.wait(t, "the end of the retired keys", func() bool {
			ids := (&verifier{}).fetch(t, w.server)
			return !slices.ContainsFunc(ids, func(id string) bool { return signers[id] > 0 })
		})
		verifyJournal(t, w.server)
	})
}

// age makes every key older, as if time had passed.
func (w *world) age(t *testing.T, by time.Duration) {
	t.Helper()
	w.exec(t, `UPDATE signing_keys SET created_at = created_at - $1,
		promoted_at = CASE WHEN promoted_at > 0 THEN promoted_at - $1 ELSE 0 END,
		retired_at = CASE WHEN retired_at > 0 THEN retired_at - $1 ELSE 0 END`, by.Microseconds())
}

func TestKeyEmergency(t *testing.T) {
	onEachEngine(t, "", func(t *testing.T, w *world) {
		w.allKeys(t)
		other := w.server
		if w.engine == "PostgreSQL" {
			other = w.node(t)
		}
		people := w.signedIn(t, webTwo, ada)
		tokens := []string{w.machineToken(t), people.str("access_token"), other.machineToken(t)}
		head, _ := claimsOf(t, tokens[0])
		leaked := head["kid"].(string)
		for _, token := range tokens {
			if !w.active(t, token) || !other.active(t, token) {
				t.Fatal("a good token is not active")
			}
		}

		out, errOut, code := w.command(t, "key", "remove", leaked, "--yes")
		if code != 0 {
			t.Fatalf("key remove: %d\n%s%s", code, out, errOut)
		}
		since := time.Now()
		for _, token := range tokens {
			if w.active(t, token) {
				t.Error("a token of a removed key is active")
			}
			for other.active(t, token) {
				if time.Since(since) > within {
					t.Fatalf("a token of a removed key is active on another node after %v", within)
				}
				time.Sleep(5 * time.Millisecond)
			}
		}
		if r := w.get(t, "/userinfo", bearer(people.str("access_token"))); r.Status != http.StatusUnauthorized {
			t.Errorf("UserInfo takes a token of a removed key: %s", r)
		}
		for _, n := range []*server{w.server, other} {
			for slices.Contains((&verifier{}).fetch(t, n), leaked) {
				if time.Since(since) > within {
					t.Fatalf("a node publishes the key, and signs with it, %v after it was removed", within)
				}
				time.Sleep(5 * time.Millisecond)
			}
			v := &verifier{}
			v.fetch(t, n)
			token := n.machineToken(t)
			if err := v.check(token); err != nil || !w.active(t, token) || !other.active(t, token) {
				t.Errorf("after the emergency a new token is not good: %v", err)
			}
			if head, _ := claimsOf(t, token); head["kid"] == leaked {
				t.Error("the removed key still signs")
			}
		}
		// The grants have not leaked: whoever holds one gets new tokens.
		again := other.refresh(t, webTwo, people.str("refresh_token"))
		checkTokenAnswer(t, again, "")
		if !w.active(t, again.str("access_token")) {
			t.Error("a refreshed token is not active")
		}
		w.restart(t)
		if w.active(t, tokens[0]) || !w.active(t, again.str("access_token")) {
			t.Error("a restart brought the removed key back, or lost the new one")
		}
		verifyJournal(t, w.server)
	})
}

// The private keys are sealed: with another master key the service does not start, and says why.
func TestKeySealed(t *testing.T) {
	w := newSQLite(t, "")
	w.machineToken(t)
	w.stop()
	if err := os.WriteFile(filepath.Join(w.dir, "master.key"), []byte("another1another2another3another4"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, w.dir, nil, "serve", "--config", filepath.Join(w.dir, "signalbox.yaml"))
	select {
	case <-p.done:
	case <-time.After(startLimit):
		p.stop(os.Kill)
		t.Fatal("it started with another master key")
	}
	if p.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("ended with %v:\n%s", p.err, p.out)
	}
}
