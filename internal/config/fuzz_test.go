package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config/source"
)

// FuzzParse: whatever the bytes, an answer comes, with a place inside the
// document, and never with a control character that would reach a terminal.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add(Sample(Start{Issuer: "https://sts.example.com"}))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("clients:\n  - {client_id: 1, jwks: {keys: [{kty: oct}]}}\n"))
	f.Add([]byte("tls: {acme: {}, off: yes, trusted_proxies: ['::/0', 1]}\n"))
	f.Add([]byte("? [a]\n: b\n---\n..."))
	f.Add([]byte("storage: {url: 'postgres://%zz:a@b'}\nusers: [null, 1, {}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Nothing but this document: no file of this machine may matter.
		if strings.Contains(string(data), "_file") {
			return
		}
		c, err := Parse("f.yaml", data, []string{masterIn})
		if (c == nil) == (err == nil) {
			t.Fatalf("%v %v", c, err)
		}
		if err == nil {
			if authority.CheckIssuer(c.Issuer) != nil || c.TLS.Mode == "" || c.Storage.URL.Reveal() == "" {
				t.Fatalf("accepted: %+v", c)
			}
			return
		}
		var es Errors
		if !errors.As(err, &es) || len(es) == 0 {
			t.Fatalf("not Errors: %v", err)
		}
		for _, e := range es {
			if e.Line < 1 || e.Column < 1 || e.Problem == "" {
				t.Fatalf("no place: %+v", e)
			}
		}
		for _, r := range err.Error() {
			if r < ' ' && r != '\n' || r == 0x7f {
				t.Fatalf("control character %q in %q", r, err.Error())
			}
		}
	})
}

// Each would be slow or huge if something were not bounded. The deadline is
// that of the test run: no clock is read.
func TestHostileDocumentsAreRefused(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+",", 9) + "]\n"
	}
	fill := func(s string) string { return strings.Repeat(s, source.MaxSize/len(s)) }
	for _, row := range []struct{ name, doc, want string }{
		{"too large", strings.Repeat("#", source.MaxSize+1), "larger than 1024 KiB"},
		{"alias bomb", bomb, "YAML anchors"},
		{"deep lists", fill("["), "YAML"},
		{"rather deep lists", "x: " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "nested too deeply"},
		{"deep sections", fill("{a: "), "YAML"},
		{"many unknown keys", fill("abcdefgh: 1\n"), "second time"},
		{"many empty members", "clients:\n" + fill("- {}\n")[:source.MaxSize-20], "is missing"},
		{"one long line", "users: [" + fill("{x: 1},")[:source.MaxSize-200] + "]", "unknown key"},
		{"many scopes", "clients: [{client_id: a, scope: '" + fill("a ")[:source.MaxSize-200] + "'}]", "scope is too long"},
		{"many passwords in one line", "x: {" + fill("password: 1, ")[:source.MaxSize-200] + "}", "unknown key"},
	} {
		_, err := Parse("x.yaml", []byte(row.doc), nil)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %.500v", row.name, err)
		} else if len(err.Error()) > 100<<10 {
			t.Errorf("%s: the message has %d bytes", row.name, len(err.Error()))
		}
	}
}
