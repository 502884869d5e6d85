package seal

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 300e6, time.UTC)

func TestSealed(t *testing.T) {
	box := NewBox([32]byte{1}, "login")
	sealed := box.Seal([]byte("the payload"), now.Add(time.Minute))
	flip := func(i int) []byte { b := bytes.Clone(sealed); b[(i+len(b))%len(b)] ^= 1; return b }
	for _, row := range []struct {
		name   string
		box    *Box
		sealed []byte
		after  time.Duration
		ok     bool
	}{
		{"what was sealed", box, sealed, 0, true},
		{"by another node with the same key", NewBox([32]byte{1}, "login"), sealed, 0, true},
		{"in its last second", box, sealed, 59*time.Second + 600*time.Millisecond, true},
		{"22: when it is over", box, sealed, time.Minute, false},
		{"22: a day later", box, sealed, 24 * time.Hour, false},
		{"22: for another purpose", NewBox([32]byte{1}, "consent"), sealed, 0, false},
		{"for no purpose", NewBox([32]byte{1}, ""), sealed, 0, false},
		{"with another key", NewBox([32]byte{2}, "login"), sealed, 0, false},
		{"the nonce changed", box, flip(0), 0, false},
		{"the expiry changed", box, flip(24), 0, false},
		{"the payload changed", box, flip(33), 0, false},
		{"the tag changed", box, flip(-1), 0, false},
		{"cut off", box, sealed[:len(sealed)-1], 0, false},
		{"with more", box, append(bytes.Clone(sealed), 0), 0, false},
		{"nothing", box, nil, 0, false},
		{"zeros", box, make([]byte, 48), 0, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			payload, err := row.box.Open(row.sealed, now.Add(row.after))
			if (err == nil) != row.ok || row.ok && string(payload) != "the payload" || !row.ok && (payload != nil || err != ErrOpen) {
				t.Fatalf("%q %v", payload, err)
			}
		})
	}
	if bytes.Contains(sealed, []byte("payload")) || bytes.Equal(sealed, box.Seal([]byte("the payload"), now.Add(time.Minute))) {
		t.Error("what is sealed can be read or recognized")
	}
}

func TestSealedRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload := rapid.SliceOf(rapid.Byte()).Draw(t, "payload")
		life := time.Duration(rapid.Int64Range(1, 1e6).Draw(t, "seconds")) * time.Second
		box := NewBox([32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key")), rapid.String().Draw(t, "purpose"))
		sealed := box.Seal(payload, now.Add(life))
		got, err := box.Open(sealed, now)
		if err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("%x %v", got, err)
		}
		if _, err := box.Open(sealed, now.Add(life)); err == nil {
			t.Fatal("it has no end")
		}
		sealed[rapid.IntRange(0, len(sealed)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := box.Open(sealed, now); err == nil {
			t.Fatal("a changed bit is not seen")
		}
	})
}
