package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// exchangeIssuer is an issuer that answers as a test says, and the commands that
// ask it. It never answers in a way that a service could not.
type exchangeIssuer struct {
	*testing.T
	url    string
	env    map[string]string
	answer http.HandlerFunc // of its token endpoint

	mu    sync.Mutex
	asked []asked
}

type asked struct {
	form       url.Values
	id, secret string
}

func newExchangeIssuer(t *testing.T) *exchangeIssuer {
	i := &exchangeIssuer{T: t, answer: answerToken}
	i.serve(httptest.NewServer(http.HandlerFunc(i.handle)))
	i.env = map[string]string{"XDG_CACHE_HOME": t.TempDir(), "XDG_CONFIG_HOME": t.TempDir()}
	return i
}

func (i *exchangeIssuer) serve(server *httptest.Server) {
	i.Cleanup(server.Close)
	i.url = server.URL
}

func (i *exchangeIssuer) handle(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/token" {
		fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":%q}`, i.url, i.url+"/token")
		return
	}
	_ = r.ParseForm()
	id, secret, _ := r.BasicAuth()
	i.mu.Lock()
	i.asked = append(i.asked, asked{r.PostForm, id, secret})
	i.mu.Unlock()
	i.answer(w, r)
}

func (i *exchangeIssuer) requests() []asked {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked
}

func answerToken(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, `{"access_token":"the-token","issued_token_type":%q,"token_type":"Bearer","expires_in":300,"scope":"orders:read"}`, oauth.TokenTypeAccessToken)
}

// refuses is an answer that is an error.
func refuses(status int, code, description string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": description, "request_id": "req-1"})
	}
}

func (i *exchangeIssuer) run(args ...string) result {
	i.Helper()
	return execute(i.T, i.Context(), i.env, strings.NewReader(""), args...)
}

func (i *exchangeIssuer) exchange(args ...string) result {
	i.Helper()
	return i.run(append([]string{"token", "exchange", "--issuer", i.url}, args...)...)
}

// proof is a pod's token; each one has an id of its own.
func proof(t *testing.T, pod, id string) string {
	t.Helper()
	return encode(`{"alg":"RS256"}`) + "." + encode(fmt.Sprintf(
		`{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:shop:orders","exp":1,"iat":1,"jti":%q,"kubernetes.io":{"pod":{"uid":%q}}}`, id, pod)) + "." + encode("signature of "+id)
}

func (i *exchangeIssuer) file(content string) string {
	i.Helper()
	path := filepath.Join(i.TempDir(), "token")
	if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
		i.Fatal(err)
	}
	return path
}

func TestAWorkloadExchangesItsProofWithoutAClient(t *testing.T) {
	i := newExchangeIssuer(t)
	raw := proof(t, "pod-1", "1")
	i.run("context", "create", "shop", "--issuer", i.url, "--client-id", "orders", "--client-secret-file", i.file("hunter2")).wants(0)
	r := i.exchange("--cluster", "spoke-a", "--subject-token-file", i.file(raw)).wants(0, "a token for the cluster spoke-a, good until", "5m0s", "scope orders:read")
	if r.out != "the-token\n" {
		t.Errorf("stdout is %q", r.out)
	}
	i.exchange("--resource", "https://api.example.com", "--scope", "orders:read", "--subject-token-file", i.file(raw)).wants(0)
	common := url.Values{"grant_type": {string(oauth.TokenExchange)}, "subject_token": {raw}, "subject_token_type": {string(oauth.TokenTypeJWT)}}.Encode()
	for n, want := range []string{"audience=spoke-a&" + common, common} {
		got := i.requests()[n]
		if n == 1 {
			if got.form.Get("resource") != "https://api.example.com" || got.form.Get("scope") != "orders:read" || got.form.Has("audience") {
				t.Errorf("it asked for %v", got.form)
			}
			continue
		}
		if got.form.Encode() != want || got.id+got.secret != "" { // the context's client is not the workload
			t.Errorf("it asked %v as %q", got.form, got.id)
		}
	}
	i.exchange("--cluster", "spoke-a", "--subject-token-file", i.file(raw), "--client-id", "orders").wants(0) // who says so is a client
	if got := i.requests()[2]; got.id != "orders" || got.secret != "hunter2" {
		t.Errorf("it asked as %+v", got)
	}
}

func TestAClientExchangesATokenOfTheIssuer(t *testing.T) {
	i := newExchangeIssuer(t)
	i.run("context", "create", "shop", "--issuer", i.url, "--client-id", "orders", "--client-secret-file", i.file("hunter2")).wants(0)
	args := []string{"token", "exchange", "--resource", "https://billing.example.com", "--subject-token-type", "access_token", "--subject-token-file"}
	i.run(append(args, i.file("sbx_at_x"), "-o", "json")...).wants(0, `"access_token": "the-token"`, `"issued_token_type": "`+string(oauth.TokenTypeAccessToken)+`"`, `"expires_in": 300`)
	if got := i.requests()[0]; got.id != "orders" || got.secret != "hunter2" || got.form.Get("subject_token_type") != string(oauth.TokenTypeAccessToken) || got.form.Get("subject_token") != "sbx_at_x" {
		t.Errorf("it asked as %+v", got)
	}
	i.run(append(args[:6], "--issuer", i.url)...).wants(2, "--subject-token-file is needed")
	i.run("context", "delete", "shop").wants(0)
	i.run(append(args, i.file("sbx_at_x"), "--issuer", i.url)...).wants(2, "--client-id is needed: only a client may")
	i.run(append(args, i.file("sbx_at_x"), "--issuer", i.url, "--client-id", "spa")...).wants(2, "--client-secret-file is needed")
	i.run(append(args, "-", "--issuer", i.url, "--client-id", "orders", "--client-secret-file", "-")...).wants(2, "cannot both come from standard input")
}

func TestAnExchangeThatCannotBeAskedForAsksNobody(t *testing.T) {
	i := newExchangeIssuer(t)
	file := i.file(proof(t, "pod-1", "1"))
	secret := strings.ReplaceAll(proof(t, "pod-1", "1"), "_", "-")
	for _, row := range []struct {
		sentence string
		code     int
		want     string
		args     []string
	}{
		{"no target", 2, "--cluster NAME or --resource URI", []string{"--subject-token-file", file}},
		{"two targets", 2, "one of the two", []string{"--cluster", "a", "--resource", "https://b", "--subject-token-file", file}},
		{"a cluster that would be taken for a URI", 2, "the name of a cluster", []string{"--cluster", "urn:x", "--subject-token-file", file}},
		{"a kind of proof that is none", 2, "must be jwt or access_token", []string{"--cluster", "a", "--subject-token-file", file, "--subject-token-type", "saml"}},
		{"no file", 1, "a projected volume, which signalbox token exchange --help shows", []string{"--cluster", "a", "--subject-token-file", "/nonexistent/token"}},
		{"the proof itself", 1, "is it the secret itself?", []string{"--cluster", "a", "--subject-token-file", secret}},
		{"an empty file", 1, "has no token", []string{"--cluster", "a", "--subject-token-file", i.file("")}},
		{"a file with more than a token", 1, "one line with nothing else", []string{"--cluster", "a", "--subject-token-file", i.file("token: abc")}},
		{"plain HTTP to another machine", 2, "--insecure-http", []string{"--cluster", "a", "--subject-token-file", file, "--issuer", "http://sts.example.com"}},
	} {
		r := i.exchange(row.args...).wants(row.code, row.want)
		if r.out != "" || strings.Contains(r.err, secret) {
			t.Errorf("%s: %s%s", row.sentence, r.out, r.err)
		}
	}
	if got := i.requests(); len(got) != 0 {
		t.Errorf("%+v was asked", got)
	}
	if !strings.Contains(i.run("token", "exchange", "--help").wants(0).out, "serviceAccountToken: {path: token, audience: https://sts.example.com}") {
		t.Error("the help shows no projected volume")
	}
}

func TestARefusedExchangeSaysWhatToDo(t *testing.T) {
	i := newExchangeIssuer(t)
	file := i.file(proof(t, "pod-1", "1"))
	for _, row := range []struct {
		status     int
		code, want string
	}{
		{400, "invalid_target", "signalbox policy explain --config FILE --subject-token-file " + file + " --cluster spoke-a"},
		{400, "invalid_request", "signalbox token inspect " + file},
		{400, "invalid_scope", "ask for fewer in --scope"},
		{401, "invalid_client", "are --client-id and --client-secret-file right? A workload needs no client"},
		{400, "unauthorized_client", "grant_types"},
		{400, "unsupported_grant_type", "exchanges no tokens"},
		{503, "temporarily_unavailable", "try again"},
		{500, "server_error", "try again"},
	} {
		i.answer = refuses(row.status, row.code, "why it was refused")
		r := i.exchange("--cluster", "spoke-a", "--subject-token-file", file).wants(1, row.code+": why it was refused; ", row.want, "signalbox why req-1").inWords()
		if r.out != "" {
			t.Errorf("%s: it printed %s", row.code, r.out)
		}
	}
	i.answer = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) }
	i.exchange("--cluster", "spoke-a", "--subject-token-file", file).wants(1, "answered 502 Bad Gateway").inWords()
}

func TestAnAnswerThatIsNoTokenIsNotPrinted(t *testing.T) {
	i := newExchangeIssuer(t)
	file := i.file(proof(t, "pod-1", "1"))
	for _, row := range []struct{ answer, want string }{
		{`<html>`, "answered no token"},
		{`{}`, "answered no token"},
		{`{"access_token":"a\nb","token_type":"Bearer","expires_in":300}`, "answered no token"},
		{`{"access_token":"a","token_type":"DPoP","expires_in":300}`, "a type other than Bearer"},
		{`{"access_token":"a","token_type":"Bearer"}`, "did not say how long"},
		{`{"access_token":"a","token_type":"Bearer","expires_in":-5}`, "did not say how long"},
		{`{"access_token":"a","token_type":"Bearer","expires_in":9223372036854775807}`, "did not say how long"},
	} {
		i.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, row.answer) }
		if r := i.exchange("--cluster", "spoke-a", "--subject-token-file", file).wants(1, row.want).inWords(); r.out != "" {
			t.Errorf("%s: it printed %s", row.answer, r.out)
		}
	}
}

// A service that lies gets the proof, since that is what it is asked with. The
// terminal and the log of whoever asks do not.
func TestTheProofIsInNoError(t *testing.T) {
	i := newExchangeIssuer(t)
	raw := proof(t, "pod-1", "1")
	file := i.file(raw)
	for name, answer := range map[string]http.HandlerFunc{
		"in the description": refuses(400, "invalid_request", "the token "+raw+" is bad"),
		"in the code":        refuses(400, raw, ""),
		"in a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example.com/?"+raw, http.StatusTemporaryRedirect)
		},
		"in the request's id": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":"invalid_target","request_id":%q}`, raw)
		},
		"in the kind of token": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"access_token":"a","token_type":%q,"expires_in":300}`, raw)
		},
	} {
		i.answer = answer
		for _, command := range [][]string{{"token", "exchange"}, {"kube-credential"}} {
			r := i.run(append(command, "--issuer", i.url, "--cluster", "spoke-a", "--subject-token-file", file)...).wants(1)
			if strings.Contains(r.out+r.err, raw) || strings.Contains(r.out+r.err, strings.Split(raw, ".")[1]) {
				t.Errorf("%s: %s", name, r.err)
			}
		}
	}
	if n := len(i.requests()); n != 10 { // each of them once: no redirect was followed
		t.Errorf("%d requests", n)
	}
}

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
