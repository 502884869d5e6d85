package cli

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/scan"
)

// TestScan loses tokens and secrets of a whole service, finds them and ends them.
func TestScan(t *testing.T) {
	s := newShell(t)
	service := s.client("demo-service")
	token := func() string {
		return strings.TrimSpace(s.run("token", "get", "--issuer", s.ready.Issuer, "--client-id", service.ClientID, "--client-secret-file", s.secretFile(service.ClientSecret)).wants(0).out)
	}
	lost, kept := token(), token()
	stranger := oauth.NewSecret(oauth.PrefixClientSecret).Reveal()
	proof := unsigned(`{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:shop:web","aud":"` + s.ready.Issuer + `"}`)
	leak := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(leak, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("app.log", "GET /cb?access_token="+lost+"\nagain "+lost+"\n")
	write("secret.yaml", "data:\n  key: "+base64.StdEncoding.EncodeToString([]byte(service.ClientSecret))+"\n  old: "+stranger+"\n  pod: "+proof+"\n")

	var report scanReport
	find := func(kind scan.Kind, times int) scanFinding {
		t.Helper()
		for _, f := range report.Findings {
			if f.Kind == kind && f.Times == times {
				return f
			}
		}
		t.Fatalf("no %s in %+v", kind, report.Findings)
		return scanFinding{}
	}
	shown := func(r result) result {
		for _, value := range []string{lost, service.ClientSecret, stranger, proof} {
			if strings.Contains(r.out+r.err, value) {
				t.Errorf("%v shows a value: %s%s", r.args, r.out, r.err)
			}
		}
		return r
	}

	shown(s.run("scan", leak, "--offline", "-o", "json").wants(1, "no issuer is known")).into(&report)
	if len(report.Findings) != 2 { // the secrets alone
		t.Errorf("without an issuer: %+v", report.Findings)
	}
	shown(s.run("scan", leak, "--offline", "--issuer", s.ready.Issuer, "-o", "json").wants(1)).into(&report)
	if f := find(scan.AccessToken, 2); f.Alive != nil || f.Line != 1 || f.Column != 22 || f.File != filepath.Join(leak, "app.log") {
		t.Errorf("offline: %+v", f)
	}

	issuer := []string{"scan", leak, "--issuer", s.ready.Issuer}
	shown(s.run(append(issuer, "-o", "json")...).wants(1)).into(&report)
	if f := find(scan.AccessToken, 2); f.Alive == nil || !*f.Alive || !strings.Contains(f.Summary, "client demo-service") {
		t.Errorf("asked: %+v", f)
	}
	if f := find(scan.Proof, 1); f.Alive != nil || !strings.Contains(f.Summary, "system:serviceaccount:shop:web") {
		t.Errorf("a proof: %+v", f)
	}
	alive := map[bool]string{}
	for _, f := range report.Findings {
		if f.Kind == scan.ClientSecret && f.Alive != nil {
			alive[*f.Alive] = f.Summary + " " + f.Action
		}
	}
	if !strings.Contains(alive[true], "secret of the client demo-service") || !strings.Contains(alive[true], "panic --client demo-service") || !strings.Contains(alive[false], "no client") {
		t.Errorf("secrets: %v", alive)
	}
	shown(s.run(issuer...).wants(1, "ALIVE, 2 times", "client secret, dead"))

	s.run(append(issuer, "--end")...).wants(2, "--yes")
	s.typing(lost, "why", "-").wants(0, "alive", "yes")
	shown(s.run(append(issuer, "--end", "--yes")...).wants(1, "ended 1")) // the secret and the pod's token are left
	s.typing(lost, "why", "-").wants(0, "no: it is dead")
	s.typing(kept, "why", "-").wants(0, "alive", "yes") // another grant of the same client
	shown(s.run(append(issuer, "--end", "--yes")...).wants(1, "nothing to end"))
	s.typing("only "+lost, "scan", "-", "--issuer", s.ready.Issuer).wants(0, "dead") // no work is left
	s.typing("nothing", "scan", "-", "--issuer", s.ready.Issuer).wants(0, "0 values")

	s.run("scan").wants(2, "give a file")
	s.run("scan", leak, "--offline", "--end").wants(2, "--offline asks nobody")
	s.run("scan", filepath.Join(leak, "missing"), "--offline").wants(1, "missing")
}

// TestScanEndsRefreshTokensAndCodes asks a service that says what it was told.
func TestScanEndsRefreshTokensAndCodes(t *testing.T) {
	refresh := oauth.EncodeOpaque(oauth.PrefixRefreshToken, make([]byte, 40))
	code := oauth.EncodeOpaque(oauth.PrefixAuthorizationCode, make([]byte, 40))
	var ended []map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/admin/v1/why" {
			_, _ = w.Write([]byte(`{"found":true,"kind":"grant","alive":true,"key":"` + exampleGrant + `","summary":"A grant."}`))
			return
		}
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		ended = append(ended, body)
		_, _ = w.Write([]byte(`{}`))
	}))
	defer server.Close()
	s := &shell{T: t, env: map[string]string{"SIGNALBOX_ADMIN_URL": server.URL, "SIGNALBOX_ADMIN_TOKEN": "token"}}
	s.typing(refresh+" "+code, "scan", "-", "--end", "--yes").wants(0, "ended 2")
	got, _ := json.Marshal(ended)
	if want := `[{"token":"` + refresh + `"},{"force":true,"grant_id":"` + exampleGrant + `"}]`; string(got) != want {
		t.Errorf("it asked to end %s, want %s", got, want)
	}
}
