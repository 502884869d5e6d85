// Package journaltest has what the tests of the journal share: events, a signer, and
// damage to plant in the files.
package journaltest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

var testKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// Sign takes the place of the signer: all that matters is that the payload arrives.
func Sign(payload []byte) (string, error) {
	return base64.RawURLEncoding.EncodeToString(payload) + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(testKey, payload)), nil
}

// Check verifies what Sign signed.
func Check(jws string) ([]byte, error) {
	p, s, _ := strings.Cut(jws, ".")
	payload, err1 := base64.RawURLEncoding.DecodeString(p)
	sig, err2 := base64.RawURLEncoding.DecodeString(s)
	if err1 != nil || err2 != nil || !ed25519.Verify(testKey.Public().(ed25519.PublicKey), payload, sig) {
		return nil, errors.New("no good signature")
	}
	return payload, nil
}

// Day is when the events happen.
var Day = time.Date(2026, 3, 4, 5, 6, 7, 891234567, time.UTC)

// Event is the ith of a series, each a second after the one before.
func Event(i int) authority.Event {
	at := Day.Add(time.Duration(i) * time.Second)
	return authority.Event{
		Type: authority.EventTokenIssued, At: at, RequestID: fmt.Sprintf("req-%d", i), Remote: "192.0.2.7",
		ClientID: fmt.Sprintf("client-%d", i%3), Subject: authority.Subject{Issuer: "https://sts.example.com", ID: fmt.Sprintf("user-%d", i%5), Kind: authority.SubjectUser},
		GrantType: "client_credentials", GrantID: authority.NewID(at), TokenID: authority.NewID(at), TokenHash: "00112233445566778899aabbccddeeff",
		Audience: []string{"https://api.example.com"}, Scope: "orders:read orders:write", ExpiresAt: at.Add(5 * time.Minute),
	}
}

// Journal is a journal.Journal, whose own tests use this package too.
type Journal interface {
	Append(context.Context, authority.Event) error
	Close() error
}

// Opened is j, which Open has given, until the test ends.
func Opened[J Journal](t testing.TB, j J, err error) J {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// AppendN appends n events, from the one with this number on.
func AppendN(t testing.TB, j Journal, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		if err := j.Append(context.Background(), Event(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// Closed closes a journal that has no reason to fail.
func Closed(t testing.TB, j Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// Files are the segments in dir, in order.
func Files(t testing.TB, dir string) []string {
	t.Helper()
	f, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(f) == 0 {
		t.Fatal(err, "no files")
	}
	return f
}

// Plant changes a file behind the journal's back.
func Plant(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	after := change(bytes.Clone(b))
	if bytes.Equal(after, b) {
		t.Fatal("nothing was planted")
	}
	if err := os.WriteFile(path, after, 0o600); err != nil {
		t.Fatal(err)
	}
}

// OnLines is a change of a file, as one of its lines; so are those below, which count
// lines from 1.
func OnLines(change func([][]byte) [][]byte) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.Join(change(bytes.SplitAfter(b, []byte("\n"))), nil) }
}

func Replace(line int, old, new string) func([]byte) []byte {
	return OnLines(func(l [][]byte) [][]byte {
		l[line-1] = bytes.Replace(l[line-1], []byte(old), []byte(new), 1)
		return l
	})
}

func DropLine(line int) func([]byte) []byte {
	return OnLines(func(l [][]byte) [][]byte { return append(l[:line-1], l[line:]...) })
}

func SwapLines(a, b int) func([]byte) []byte {
	return OnLines(func(l [][]byte) [][]byte { l[a-1], l[b-1] = l[b-1], l[a-1]; return l })
}

func CopyLine(from, to int) func([]byte) []byte {
	return OnLines(func(l [][]byte) [][]byte {
		all := append([][]byte{}, l[:to-1]...)
		return append(append(all, l[from-1]), l[to-1:]...)
	})
}

func CutAfter(line int) func([]byte) []byte {
	return OnLines(func(l [][]byte) [][]byte { return l[:line] })
}
