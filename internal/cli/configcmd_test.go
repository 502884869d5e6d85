package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInitTakesOnlyAnIssuerThatServeTakes: with the words of config validate.
func TestInitTakesOnlyAnIssuerThatServeTakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "signalbox.yaml")
	in := strings.NewReader("")
	for issuer, words := range map[string]string{
		"foo":                      "expected an https URL",
		"":                         "",
		"http://sts.example.com":   "http is accepted only for a loopback address",
		"https://sts.example.com/": "ends with a slash: write https://sts.example.com",
		"https://a.example\x1b[2J": "",
		"https://a\" , b: c":       "",
	} {
		r := execute(t, t.Context(), nil, in, "init", "--issuer", issuer, "--output", file).wants(2, "--issuer: "+words)
		if strings.ContainsAny(r.err, "\x1b") || r.out != "" {
			t.Errorf("%q: %q %q", issuer, r.out, r.err)
		}
		if _, err := os.Stat(file); err == nil {
			t.Fatalf("%q: a file was written", issuer)
		}
	}
	for _, issuer := range []string{"https://sts.example.com", "http://127.0.0.1:8443", "https://sts.example.com/tenant"} {
		if r := execute(t, t.Context(), nil, in, "init", "--issuer", issuer).wants(0); !strings.Contains(r.out, issuer) {
			t.Errorf("%s: %s", issuer, r.out)
		}
	}
}
