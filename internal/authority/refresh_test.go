package authority

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

var testRefreshKey = NewRefreshKey([32]byte{7})

const (
	testGrace = 10 * time.Second
	testIdle  = 100 * time.Second
)

// TestRefreshHistories plays random histories of presenting, waiting and
// losing answers against a model that keeps all that the row does not: every
// token that was ever handed out, and when it was rotated. docs/security/threats.md E 64, E 65.
func TestRefreshHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := testNow
		first := testRefreshKey.First(NewID(now))
		bound := rapid.Bool().Draw(t, "bound to a key")
		grant := Grant{ID: first.GrantID, State: GrantActive, ExpiresAt: now.Add(seconds(t, "life", 50, 1000)), Refresh: first.State(now, testIdle)}
		if bound {
			grant.Confirmation.JKT = "thumbprint"
		}
		tokens := []RefreshToken{first} // by generation, from 1
		rotatedAt := map[int]time.Time{}
		usedAt := now // when the current token was made

		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "wait") {
				now = now.Add(seconds(t, "seconds", 0, 40))
			}
			// The last two generations most of the time: that is where the rules are.
			i := max(0, len(tokens)-1-rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2, 5}).Draw(t, "generations back"))
			token := tokens[i]
			if rapid.Bool().Draw(t, "over the wire") {
				parsed, err := testRefreshKey.Parse(testRefreshKey.Reveal(token))
				if err != nil || parsed != token {
					t.Fatalf("%v", err)
				}
				token = parsed
			}
			current, previous := i == len(tokens)-1, i == len(tokens)-2
			inGrace := previous && (now.Before(rotatedAt[i].Add(testGrace)) || bound)
			var want Presentation
			switch {
			case !now.Before(grant.ExpiresAt):
				want = Refuse
			case current && !now.Before(usedAt.Add(testIdle)):
				want = Refuse
			case current:
				want = Rotate
			case inGrace:
				want = Replay
			default:
				want = Reuse
			}
			got := grant.Present(testRefreshKey, token, now, testGrace)
			if got != want {
				t.Fatalf("generation %d of %d at %v: %v, want %v", i+1, len(tokens), now.Sub(testNow), got, want)
			}
			switch got {
			case Rotate:
				successor := testRefreshKey.Successor(token)
				grant.Refresh = successor.State(now, testIdle)
				rotatedAt[i], usedAt = now, now
				tokens = append(tokens, successor)
			case Replay:
				if successor := testRefreshKey.Successor(token); successor != tokens[i+1] {
					t.Fatalf("a second successor of generation %d", i+1)
				}
			case Reuse:
				grant.State = GrantEnded
				for _, every := range tokens {
					if p := grant.Present(testRefreshKey, every, now, testGrace); p != Refuse {
						t.Fatalf("the grant has ended, and a token means %v", p)
					}
				}
				return
			}
		}
	})
}

func TestPresent(t *testing.T) {
	first := testRefreshKey.First(NewID(testNow))
	second := testRefreshKey.Successor(first)
	third := testRefreshKey.Successor(second)
	grant := Grant{ID: first.GrantID, State: GrantActive, ExpiresAt: testNow.Add(time.Hour), Refresh: second.State(testNow, testIdle)}
	change := func(c func(*Grant)) Grant { g := grant; c(&g); return g }
	for _, row := range []struct {
		name  string
		grant Grant
		token RefreshToken
		after time.Duration
		want  Presentation
	}{
		{"the current token", grant, second, 0, Rotate},
		{"the current token, just before its idle time is over", grant, second, testIdle - 1, Rotate},
		{"the current token, idle for too long", grant, second, testIdle, Refuse},
		{"64: the previous token, at once", grant, first, 0, Replay},
		{"64: the previous token, in the last moment of grace", grant, first, testGrace - 1, Replay},
		{"64: the previous token, when grace is over", grant, first, testGrace, Reuse},
		{"the previous token of a bound grant, long after", change(func(g *Grant) { g.Confirmation.JKT = "k" }), first, time.Minute, Replay},
		{"the token before the previous one of a bound grant", change(func(g *Grant) { g.Confirmation.JKT, g.Refresh = "k", third.State(testNow, testIdle) }), first, 0, Reuse},
		{"the token before the previous one, within grace", change(func(g *Grant) { g.Refresh = third.State(testNow, testIdle) }), first, 0, Reuse},
		{"a token from the future of the row: a restored database", grant, third, 0, Reuse},
		{"the first token of the same grant, made twice", grant, testRefreshKey.First(first.GrantID), 0, Reuse},
		{"a grant that has ended", change(func(g *Grant) { g.State = GrantEnded }), second, 0, Refuse},
		{"a grant that has expired", change(func(g *Grant) { g.ExpiresAt = testNow }), second, 0, Refuse},
		{"a grant whose code is not redeemed", change(func(g *Grant) { g.State = GrantPending }), second, 0, Refuse},
		{"a grant without a refresh token", change(func(g *Grant) { g.Refresh = Refresh{} }), second, 0, Refuse},
	} {
		if got := row.grant.Present(testRefreshKey, row.token, testNow.Add(row.after), testGrace); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}

func TestRefreshTokensOfOthers(t *testing.T) {
	token := testRefreshKey.First(NewID(testNow))
	if again := testRefreshKey.Successor(token); again != testRefreshKey.Successor(token) || again.Generation != 2 || again.GrantID != token.GrantID || again.seed == token.seed {
		t.Error("67: the successor is not the one that follows")
	}
	stranger := NewRefreshKey([32]byte{8})
	if _, err := testRefreshKey.Parse(stranger.Reveal(token)); err == nil {
		t.Error("a token of another service is accepted")
	}
	if stranger.Successor(token) == testRefreshKey.Successor(token) {
		t.Error("who knows a token can compute its successor")
	}
	other := testRefreshKey.First(token.GrantID)
	if testRefreshKey.Successor(other).seed == testRefreshKey.Successor(token).seed || other == token {
		t.Error("two seeds are the same")
	}
	row := token.State(testNow, testIdle)
	if strings.Contains(fmt.Sprint(row), fmt.Sprint(token.seed[:8])) {
		t.Error("72: the row holds the seed")
	}
	for _, printed := range []string{fmt.Sprintf("%v %+v %#v %s", token, token, token, token), fmt.Sprintf("%v %+v %#v", testRefreshKey, testRefreshKey, testRefreshKey)} {
		if strings.ReplaceAll(strings.ReplaceAll(printed, "[redacted]", ""), " ", "") != "" {
			t.Errorf("114: %s", printed)
		}
	}
}

// FuzzRefreshToken: nothing but our own values is accepted, in their one
// spelling, whoever computes the checksum; and no bit of one may be changed.
func FuzzRefreshToken(f *testing.F) {
	// Nothing random: every process that fuzzes must take the same value for ours.
	key := NewRefreshKey([32]byte{9})
	id, err := ParseID("019ca946-8d2c-7000-8000-000000000001")
	if err != nil {
		f.Fatal(err)
	}
	token := RefreshToken{GrantID: id, Generation: 5, seed: [32]byte{1, 2, 3}}
	ours := key.Reveal(token)
	body := token.body()
	f.Add(ours, []byte{}, uint16(0))
	f.Add(ours[:40], append(body, make([]byte, macLength)...), uint16(3))
	f.Add("", body, uint16(543))
	f.Fuzz(func(t *testing.T, value string, payload []byte, bit uint16) {
		whole, err := oauth.DecodeOpaque(oauth.PrefixRefreshToken, ours, refreshLength)
		if err != nil || len(whole) != refreshLength {
			t.Fatal(err)
		}
		flipped := append([]byte(nil), whole...)
		flipped[int(bit/8)%len(flipped)] ^= 1 << (bit % 8)
		for _, s := range []string{value, oauth.EncodeOpaque(oauth.PrefixRefreshToken, payload), oauth.EncodeOpaque(oauth.PrefixRefreshToken, flipped)} {
			got, err := key.Parse(s)
			if err != nil {
				if got != (RefreshToken{}) {
					t.Fatal("refused, and yet a token")
				}
				continue
			}
			if s != ours || got != token {
				t.Fatalf("%q was not made here", s)
			}
		}
	})
}
