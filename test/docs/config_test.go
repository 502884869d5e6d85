package docs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// base are the sections that a fragment may omit.
var base = map[string]string{
	"issuer":  "issuer: https://sts.example.com\n",
	"tls":     "tls: {cert_file: /etc/signalbox/tls.crt, key_file: /etc/signalbox/tls.key}\n",
	"storage": "storage: {url: \"sqlite:/var/lib/signalbox/signalbox.db\"}\n",
	"secrets": "secrets: {master_key_file: /etc/signalbox/master.key}\n",
	"resources": "resources:\n" +
		"  - {id: \"https://api.example.com\", scopes: [orders:read, orders:write]}\n",
}

var (
	topLevel  = regexp.MustCompile(`(?m)^([a-z_]+):`)
	namedFile = regexp.MustCompile(`[a-z_]*_file: *"?([^ ,}"\n]+)`)
)

// validate completes a fragment and gives it to `config validate`, with a file
// for every file that it names.
func (w *workplace) validate(t *testing.T, b block) {
	t.Helper()
	text := b.text
	there := map[string]bool{}
	for _, m := range topLevel.FindAllStringSubmatch(text, -1) {
		there[m[1]] = true
	}
	for key, section := range base {
		if !there[key] {
			text = section + text
		}
	}
	dir := t.TempDir()
	for _, m := range namedFile.FindAllStringSubmatch(text, -1) {
		local := filepath.Join(dir, filepath.Base(m[1]))
		text = strings.ReplaceAll(text, m[1], local)
		if err := os.WriteFile(local, []byte(contentFor(t, local)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "signalbox.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(binDir, "signalbox"), "config", "validate", "--config", file)
	cmd.Env = cleanEnv()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", b, err, indent(string(out)))
	}
}

func contentFor(t *testing.T, name string) string {
	t.Helper()
	switch {
	case strings.HasSuffix(name, "jwks.json"):
		return `{"keys":[{"kty":"EC","crv":"P-256","kid":"k1","alg":"ES256","use":"sig",` +
			`"x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`
	case strings.HasSuffix(name, ".crt"):
		return keyPair()[0]
	case strings.HasSuffix(name, "tls.key"):
		return keyPair()[1]
	default:
		return "Zm9yIHRoZSB0ZXN0cyBvZiB0aGUgZG9jdW1lbnRzLCAzMiBieXRlcw==\n"
	}
}

// keyPair is a certificate and its key, in PEM.
var keyPair = sync.OnceValue(func() [2]string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"sts.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return [2]string{
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
})
