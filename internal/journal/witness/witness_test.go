package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

var (
	key   = ed25519.NewKeyFromSeed(make([]byte, 32))
	other = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	ours  = NewSigner("https://sts.example.com/tenant", key)
)

func head(seq uint64) authority.JournalHead {
	return authority.JournalHead{Seq: seq, Hash: sha256.Sum256([]byte{byte(seq)})}
}

func noteOf(t testing.TB, s Signer, node string, seq uint64) string {
	t.Helper()
	b, err := s.Note(node, head(seq))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// By the words of c2sp.org/tlog-checkpoint and c2sp.org/signed-note, not by the library.
func TestTheNoteIsACheckpoint(t *testing.T) {
	lines := strings.Split(noteOf(t, ours, "n1", 42), "\n")
	hash := head(42).Hash
	name := "sts.example.com/tenant/journal/n1"
	if len(lines) != 6 || lines[0] != name || lines[1] != "42" || lines[2] != base64.StdEncoding.EncodeToString(hash[:]) || lines[3] != "" || lines[5] != "" {
		t.Fatalf("%q", lines)
	}
	signature, ok := strings.CutPrefix(lines[4], "— "+name+" ")
	raw, err := base64.StdEncoding.DecodeString(signature)
	if !ok || err != nil || len(raw) != 4+ed25519.SignatureSize {
		t.Fatalf("%q", lines[4])
	}
	id := sha256.Sum256(append([]byte(name+"\n\x01"), public(key)...))
	if binary.BigEndian.Uint32(raw) != binary.BigEndian.Uint32(id[:]) {
		t.Errorf("key id %x, want %x", raw[:4], id[:4])
	}
	if !ed25519.Verify(public(key), []byte(strings.Join(lines[:3], "\n")+"\n"), raw[4:]) {
		t.Error("the signature is not over the text")
	}
}

func TestNotesThatFollowOneAnotherAreRead(t *testing.T) {
	a, b, c := noteOf(t, ours, "n1", 1), noteOf(t, ours, "n2", 9), noteOf(t, ours, "n1", 7)
	cosigned := a + "— witness.example.com/w 1aFR/sgx7xqfOqBZJZ4qyHbZq2pQ\n"
	for name, text := range map[string]string{
		"with empty lines between":   a + "\n" + b + "\n\n\n" + c + "\n",
		"without":                    a + b + c,
		"without the last newline's": a + b + c + "",
		"cosigned by a witness":      cosigned + b + c,
		"after empty lines":          "\n\n" + a + b + c,
	} {
		heads, torn, err := Read(strings.NewReader(text), public(key))
		if err != nil || torn != 0 || len(heads) != 2 || !slices.Equal(heads["n1"], []authority.JournalHead{head(1), head(7)}) || !slices.Equal(heads["n2"], []authority.JournalHead{head(9)}) {
			t.Errorf("%s: %v, %v", name, heads, err)
		}
	}
	if heads, torn, err := Read(strings.NewReader(""), public(key)); err != nil || torn != 0 || len(heads) != 0 {
		t.Error(heads, err)
	}
}

func TestWhatWasNotSignedIsRefused(t *testing.T) {
	good := noteOf(t, ours, "n1", 5)
	signed := func(text string) string { // by our key, whatever it says
		b, err := sign(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct{ text, want string }{
		"another number":             {strings.Replace(good, "\n5\n", "\n4\n", 1), "line 1: not a note that this service has signed"},
		"another node":               {strings.Replace(good, "/n1\n", "/n2\n", 1), "line 1"},
		"another node in both lines": {strings.ReplaceAll(good, "/n1", "/n2"), "line 1"},
		"another hash":               {strings.Replace(good, good[strings.Index(good, "\n5\n")+3:][:4], "AAAA", 1), "line 1"},
		"another key":                {noteOf(t, NewSigner("https://sts.example.com/tenant", other), "n1", 5), "line 1"},
		"behind a good one":          {good + noteOf(t, NewSigner("https://sts.example.com", other), "n1", 5), "line 6"},
		"no signature":               {good[:strings.Index(good, "— ")], "line 1"},
		"half a note before others":  {good[:len(good)-20] + "\n" + good, "line 1"},
		"the same, on one line":      {good + good[:len(good)-20] + good, "line 6"},
		"two texts in one note":      {"sts.example.com/tenant/journal/n1\n1\nAAAA\n\n" + good, "line 1"},
		"no checkpoint":              {signed("sts.example.com/journal/n1\nhello\n"), "three lines"},
		"an extension line":          {signed("sts.example.com/journal/n1\n1\n" + strings.Repeat("A", 43) + "=\nmore\n"), "three lines"},
		"a number with a zero":       {signed("sts.example.com/journal/n1\n01\n" + strings.Repeat("A", 43) + "=\n"), "second line"},
		"a negative number":          {signed("sts.example.com/journal/n1\n-1\n" + strings.Repeat("A", 43) + "=\n"), "second line"},
		"a short hash":               {signed("sts.example.com/journal/n1\n1\nAAAA\n"), "third line"},
		"no journal's name":          {signed("sts.example.com/tree\n1\n" + strings.Repeat("A", 43) + "=\n"), "first line"},
		"a journal of a bad name":    {signed("sts.example.com/journal/../x\n1\n" + strings.Repeat("A", 43) + "=\n"), "first line"},
		"forged before a torn one":   {strings.Replace(good, "\n5\n", "\n4\n", 1) + good[:40], "line 1"},
		"a line of megabytes":        {strings.Repeat("x", 1<<20), "longer"},
		"a note of megabytes":        {strings.Repeat("x\n", 1<<20), "longer"},
		"control characters":         {strings.Replace(good, "5", "5\x1b", 1), "line 1"},
	} {
		if heads, _, err := Read(strings.NewReader(c.text), public(key)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", name, heads, err)
		}
	}
}

// A machine that dies while it adds a note spoils that note, and none before it.
func TestATornLastNoteIsSkipped(t *testing.T) {
	whole, last := noteOf(t, ours, "n1", 5), noteOf(t, ours, "n1", 6)
	cut := 0
	for i := 1; i < len(last); i++ {
		if last[i-1] == '\n' {
			continue // between two lines: that is no torn line
		}
		cut++
		for _, between := range []string{"", "\n"} {
			heads, torn, err := Read(strings.NewReader(whole+between+last[:i]), public(key))
			if err != nil || torn != 6+len(between) || !slices.Equal(heads["n1"], []authority.JournalHead{head(5)}) {
				t.Fatalf("cut at %q: %v, line %d, %v", last[:i], heads, torn, err)
			}
		}
	}
	if cut < 100 {
		t.Error(cut)
	}
	if heads, torn, err := Read(strings.NewReader(last[:10]), public(key)); err != nil || torn != 1 || len(heads) != 0 {
		t.Error("of a first note:", heads, torn, err)
	}
	// What is added later is whole again.
	path := filepath.Join(t.TempDir(), "heads")
	if err := os.WriteFile(path, []byte(whole+"\n"+last[:40]), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ToFile(path, ours)(t.Context(), "n1", head(7)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || !strings.HasSuffix(string(data), "\n"+noteOf(t, ours, "n1", 7)) {
		t.Errorf("%q, %v", data, err)
	}
	if _, _, err := Read(bytes.NewReader(data), public(key)); err == nil || !strings.Contains(err.Error(), "line 7") {
		t.Error(err)
	}
}

// sign signs any text under the name in its first line.
func sign(text string) (string, error) {
	name, _, _ := strings.Cut(text, "\n")
	id := sha256.Sum256(append([]byte(name+"\n\x01"), public(key)...))
	signature := append(id[:4:4], ed25519.Sign(key, []byte(text))...)
	return text + "\n— " + name + " " + base64.StdEncoding.EncodeToString(signature) + "\n", nil
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(noteOf(f, ours, "n1", 5) + "\n" + noteOf(f, ours, "n2", 6)))
	f.Add([]byte("a\n1\n\n— a AAAA\n— b\n\n"))
	f.Add([]byte("\n\n— \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		heads, _, err := Read(bytes.NewReader(b), public(key))
		if err != nil {
			return
		}
		// Whatever was taken was signed: with another key nothing is.
		if again, _, err := Read(bytes.NewReader(b), public(other)); len(again) > 0 || len(heads) > 0 && err == nil {
			t.Errorf("%v %v", again, err)
		}
	})
}

func TestTheFileIsAddedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "heads")
	for seq := range uint64(3) {
		if err := ToFile(path, ours)(t.Context(), "n1", head(seq+1)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	heads, _, err := Read(f, public(key))
	if err != nil || !slices.Equal(heads["n1"], []authority.JournalHead{head(1), head(2), head(3)}) {
		t.Error(heads, err)
	}
	if err := ToFile(filepath.Join(path, "x"), ours)(t.Context(), "n1", head(1)); err == nil {
		t.Error("a file that cannot be written")
	}
}

func TestTheWitnessIsAskedOverHTTP(t *testing.T) {
	got := map[string]string{}
	status := http.StatusCreated
	witness := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got[r.Method+" "+r.URL.String()+" "+r.Header.Get("If-None-Match")] = string(b)
		if status/100 == 3 {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
	}))
	defer witness.Close()
	show := func(path string) error {
		u, err := url.Parse(witness.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		return ToURL(u, ours)(t.Context(), "n1", head(5))
	}
	for path, want := range map[string]string{
		"/hook?token=secret":   "POST /hook?token=secret ",
		"/heads/?token=secret": "PUT /heads/n1/00000000000000000005?token=secret *",
	} {
		clear(got)
		if err := show(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if text, asked := got[want]; !asked || text != noteOf(t, ours, "n1", 5) {
			t.Errorf("%s: asked %q, want %q", path, slices.Collect(maps.Keys(got)), want)
		}
	}
	clear(got)
	for _, status = range []int{302, 307, 412, 500} {
		if err := show("/heads/?token=secret"); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d: %v", status, err)
		}
	}
	if len(got) != 1 {
		t.Errorf("it followed a redirect: %q", slices.Collect(maps.Keys(got)))
	}
	witness.Close()
	if err := show("/heads/?token=secret"); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("a witness that is away: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	u, _ := url.Parse(witness.URL)
	if err := ToURL(u, ours)(ctx, "n1", head(5)); err == nil {
		t.Error("asked after the end of its context")
	}
}
