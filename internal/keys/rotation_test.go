package keys

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

// copyOfSet is what a resource server has fetched.
type copyOfSet struct {
	body  []byte
	until time.Time
}

type liveToken struct {
	raw     string
	expires time.Time
}

// Promise 5: keys rotate with zero failed verifications. However often keys are rotated, by schedule and by command, on whichever
// node, even while nodes can't read the store for nearly as long as a key is published before it signs: every token verifies on every node, and
// under every copy of the key set that a verifier may still hold, until it expires.
func TestKeysRotateWithZeroFailedVerifications(t *testing.T) {
	const longestSilence = Lead - ReloadEvery
	ended, rotations, removed := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(jose.ES256)
		b.settings.RotateEvery = time.Duration(rapid.IntRange(60, 7200).Draw(t, "rotate every")) * time.Second
		tokenTTL := time.Duration(rapid.IntRange(1, int(authority.MaxTokenTTL/time.Second)).Draw(t, "token ttl")) * time.Second
		longestStep := rapid.SampledFrom([]time.Duration{10 * time.Second, 30 * time.Second, longestSilence}).Draw(t, "longest step")
		lazy := rapid.SampledFrom([]int{1, 20}).Draw(t, "lazy")
		nodes := []*Ring{b.node(t), b.node(t), b.node(t)}
		heard := make([]time.Time, len(nodes))
		for i := range nodes {
			heard[i] = b.clock.Now()
		}
		pauses := 0
		var copies []copyOfSet
		var tokens []liveToken

		steps := rapid.IntRange(50, 150).Draw(t, "steps")
		for step := range steps {
			b.clock.advance(time.Duration(rapid.Int64Range(1, int64(longestStep/time.Second)).Draw(t, "pass")) * time.Second)
			pause := 0
			if step == steps/2 {
				pause = 80 // longer than any token lives and any key is kept
			} else if pauses < 3 && rapid.IntRange(0, 49).Draw(t, "pause") == 0 {
				pauses++ // few, since each is hundreds of ticks
				pause = rapid.IntRange(1, 80).Draw(t, "pause in twenty minutes")
			}
			if pause > 0 {
				// Hours in which nobody asks for anything: the nodes do their work, and retired keys come to their end.
				before := len(b.events)
				for range pause {
					b.clock.advance(20 * time.Minute)
					for i, node := range nodes {
						tick(t, node)
						heard[i] = b.clock.Now()
					}
				}
				for _, e := range b.events[before:] {
					if strings.Contains(e.Reason, "removed") {
						removed++
					}
				}
			}
			now := b.clock.Now()
			for i, node := range nodes {
				if now.Sub(heard[i])+longestStep > longestSilence || rapid.IntRange(0, lazy).Draw(t, "tick") == 0 {
					tick(t, node)
					heard[i] = now
				}
			}
			node := rapid.IntRange(0, len(nodes)-1).Draw(t, "node")
			if rapid.IntRange(0, 9).Draw(t, "rotate") == 0 {
				err := nodes[node].Rotate(ctx, jose.ES256, false, "admin")
				var early *TooEarlyError
				switch {
				case err == nil:
					rotations++
				case errors.As(err, &early):
				default:
					t.Fatal(err)
				}
				heard[node] = now
			}

			tokens = append(tokens, liveToken{sign(t, nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "signing")], ""), now.Add(tokenTTL)})
			body, _, maxAge := nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "publishing")].JWKS()
			copies = append(slices.DeleteFunc(copies, func(c copyOfSet) bool { return now.After(c.until) }), copyOfSet{body, now.Add(maxAge)})

			alive := tokens[:0]
			for _, token := range tokens {
				if now.After(token.expires.Add(authority.Leeway)) {
					ended++
					continue
				}
				alive = append(alive, token)
			}
			tokens = alive
			// The youngest tokens against all copies, the oldest against all nodes: these are what breaks first.
			for _, token := range []liveToken{tokens[0], tokens[len(tokens)-1]} {
				kid := keyOf(t, token.raw)
				for i, node := range nodes {
					if _, ok := node.Find(kid, jose.ES256); !ok {
						t.Fatalf("node %d does not know the key of a live token", i)
					}
				}
				for _, copy := range copies {
					if !bytes.Contains(copy.body, []byte(kid)) {
						t.Fatalf("a copy of the key set, good for %v more, does not hold the key of a live token", copy.until.Sub(now))
					}
				}
			}
			if err := verifies(nodes[node], tokens[0].raw); err != nil {
				t.Fatal(err)
			}
		}
	})
	if ended == 0 || rotations == 0 || removed == 0 {
		t.Fatalf("the test has seen %d rotations by command, %d keys and %d tokens to their end", rotations, removed, ended)
	}
}

func keyOf(t fataler, raw string) string {
	t.Helper()
	header, _, err := jose.InspectUnverified(raw)
	if err != nil {
		t.Fatal(err)
	}
	return header.KeyID
}
