package cli

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// execCredential is what kubectl reads.
type execCredential struct {
	APIVersion, Kind string
	Status           struct {
		ExpirationTimestamp time.Time
		Token               string
	}
}

func (i *exchangeIssuer) kubectl(file string, more ...string) result {
	i.Helper()
	return i.run(append([]string{"kube-credential", "--issuer", i.url, "--cluster", "spoke-a", "--subject-token-file", file}, more...)...)
}

// numbered answers token-1, token-2 and so on.
func (i *exchangeIssuer) numbered(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"Bearer","expires_in":300}`, len(i.requests()))
}

func (i *exchangeIssuer) gives(file, token string) execCredential {
	i.Helper()
	var got execCredential
	i.kubectl(file).wants(0).into(&got)
	if got.Status.Token != token {
		i.Errorf("kubectl got %q, not %q", got.Status.Token, token)
	}
	return got
}

// age makes what is kept so much older.
func (i *exchangeIssuer) age(by time.Duration) {
	i.Helper()
	files, err := filepath.Glob(filepath.Join(i.env["XDG_CACHE_HOME"], "signalbox", "exchanged", "*.json"))
	if err != nil || len(files) == 0 {
		i.Fatalf("nothing is kept: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			i.Fatal(err)
		}
		var entry map[string]any
		if err := json.Unmarshal(data, &entry); err != nil {
			i.Fatal(err)
		}
		for _, name := range []string{"obtained_at", "expires_at"} {
			at, err := time.Parse(time.RFC3339, entry[name].(string))
			if err != nil {
				i.Fatal(err)
			}
			entry[name] = at.Add(-by)
		}
		if data, err = json.Marshal(entry); err != nil {
			i.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			i.Fatal(err)
		}
	}
}

func TestKubectlGetsACredentialThatEndsBeforeTheToken(t *testing.T) {
	i := newExchangeIssuer(t)
	i.answer = i.numbered
	file := i.file(proof(t, "pod-1", "1"))
	before := time.Now()
	got := i.gives(file, "token-1")
	if got.Kind != "ExecCredential" || got.APIVersion != "client.authentication.k8s.io/v1" {
		t.Errorf("%+v", got)
	}
	if end := got.Status.ExpirationTimestamp; end.Before(before.Add(265*time.Second)) || end.After(time.Now().Add(270*time.Second)) {
		t.Errorf("kubectl asks again in %v", time.Until(end))
	}
	if form := i.requests()[0].form; form.Get("audience") != "spoke-a" || form.Get("subject_token") == "" {
		t.Errorf("it asked %v", form)
	}
}

func TestKubectlGetsTheVersionThatItAsksFor(t *testing.T) {
	i := newExchangeIssuer(t)
	file := i.file(proof(t, "pod-1", "1"))
	info := func(version string) string {
		return `{"kind":"ExecCredential","apiVersion":"` + version + `","spec":{"interactive":false}}`
	}
	for _, row := range []struct{ info, answer, problem string }{
		{"", "client.authentication.k8s.io/v1", ""},
		{info("client.authentication.k8s.io/v1"), "client.authentication.k8s.io/v1", ""},
		{info("client.authentication.k8s.io/v1beta1"), "client.authentication.k8s.io/v1beta1", ""},
		{info("client.authentication.k8s.io/v1alpha1"), "", "write apiVersion: client.authentication.k8s.io/v1 below exec"},
		{info(""), "", "write apiVersion:"},
		{"{}", "", "is not an ExecCredential"},
		{"nonsense", "", "is not an ExecCredential"},
		{info(strings.Repeat("v", maxExecInfo)), "", "is not an ExecCredential"},
	} {
		i.env["KUBERNETES_EXEC_INFO"] = row.info
		if row.problem != "" {
			if r := i.kubectl(file).wants(1, row.problem).inWords(); r.out != "" {
				t.Errorf("it printed %s", r.out)
			}
			continue
		}
		var got execCredential
		if i.kubectl(file).wants(0).into(&got); got.APIVersion != row.answer {
			t.Errorf("%s: %s", row.info, got.APIVersion)
		}
	}
}

func FuzzExecVersion(f *testing.F) {
	f.Add(`{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1beta1"}`)
	f.Add(`{"kind":7}`)
	f.Fuzz(func(t *testing.T, info string) {
		if version, err := execVersion(info); (err == nil) != (version != "") {
			t.Errorf("%q: %q, %v", info, version, err)
		}
	})
}

func TestAProofThatWasRenewedLeadsToTheTokenThatIsKept(t *testing.T) {
	i := newExchangeIssuer(t)
	i.answer = i.numbered
	i.gives(i.file(proof(t, "pod-1", "1")), "token-1")
	i.gives(i.file(proof(t, "pod-1", "2")), "token-1") // as a kubelet does
	i.gives(i.file(proof(t, "pod-2", "1")), "token-2") // another pod with the same home
	i.gives(i.file("no-jwt-1"), "token-3")
	i.gives(i.file("no-jwt-2"), "token-4")
	i.gives(i.file("no-jwt-1"), "token-3")
	i.kubectl(i.file(proof(t, "pod-1", "1")), "--cluster", "spoke-b").wants(0, "token-5")
}

// Whose a proof is, is all that it says apart from what changes when it is renewed.
func TestSubjectOfAProof(t *testing.T) {
	part := func(claims string) string {
		return strings.Replace(proof(t, "x", "x"), strings.Split(proof(t, "x", "x"), ".")[1], encode(claims), 1)
	}
	job := `{"iss":"https://ci.example.com","sub":"repo:acme/app","exp":1,"jti":"a","run_id":"7"}`
	for _, row := range []struct {
		sentence, claims string
		same             bool
	}{
		{"renewed", `{"exp":2,"jti":"b","iat":5,"nbf":5,"run_id":"7","sub":"repo:acme/app","iss":"https://ci.example.com"}`, true},
		{"the next run", `{"iss":"https://ci.example.com","sub":"repo:acme/app","exp":1,"jti":"a","run_id":"8"}`, false},
		{"another subject", `{"iss":"https://ci.example.com","sub":"repo:acme/other","exp":1,"jti":"a","run_id":"7"}`, false},
		{"another issuer", `{"iss":"https://ci2.example.com","sub":"repo:acme/app","exp":1,"jti":"a","run_id":"7"}`, false},
		{"one claim more", `{"iss":"https://ci.example.com","sub":"repo:acme/app","exp":1,"jti":"a","run_id":"7","ref":"x"}`, false},
	} {
		if got := subjectOf(part(job)) == subjectOf(part(row.claims)); got != row.same {
			t.Errorf("%s: the same is %t", row.sentence, got)
		}
	}
	for _, nobody := range []string{`{"exp":%d}`, `{"iss":"https://ci.example.com","exp":%d}`, `{"sub":"repo:acme/app","exp":%d}`} {
		if subjectOf(part(fmt.Sprintf(nobody, 1))) == subjectOf(part(fmt.Sprintf(nobody, 2))) {
			t.Errorf("two proofs that name nobody are the same: %s", nobody)
		}
	}
}

func TestKubectlGetsTheKeptTokenWhileTheServiceIsAway(t *testing.T) {
	i := newExchangeIssuer(t)
	i.answer = i.numbered
	file := i.file(proof(t, "pod-1", "1"))
	i.gives(file, "token-1")
	i.answer = refuses(503, "temporarily_unavailable", "the service cannot answer right now")
	i.age(199 * time.Second)
	i.gives(file, "token-1")
	i.age(90 * time.Second) // in the margin: to its end
	r := i.kubectl(file).wants(0, "the token that was kept is used until")
	var got execCredential
	if r.into(&got); got.Status.Token != "token-1" || !got.Status.ExpirationTimestamp.After(time.Now()) {
		t.Errorf("%+v", got)
	}
	i.age(20 * time.Second)
	if r := i.kubectl(file).wants(1, "temporarily_unavailable", "try again").inWords(); r.out != "" {
		t.Errorf("it printed %s", r.out)
	}
	i.answer = i.numbered
	i.kubectl(file).wants(0, "token-")
}

func TestKubectlGetsNothingThatTheServiceRefuses(t *testing.T) {
	i := newExchangeIssuer(t)
	file := i.file(proof(t, "pod-1", "1"))
	i.kubectl(file).wants(0)
	i.age(220 * time.Second)
	i.answer = refuses(400, "invalid_target", "no trust policy allows this exchange")
	for range 2 {
		if r := i.kubectl(file).wants(1, "no trust policy allows", "signalbox policy explain").inWords(); r.out != "" {
			t.Errorf("it printed %s", r.out)
		}
	}
}

func TestKubeCredentialSaysWhatIsMissing(t *testing.T) {
	i := newExchangeIssuer(t)
	for _, row := range []struct {
		code int
		want string
		args []string
	}{
		{2, "--issuer is needed", []string{"--cluster", "a"}},
		{2, "--cluster is needed", []string{"--issuer", i.url}},
		{2, "the name of a cluster", []string{"--issuer", i.url, "--cluster", "https://a"}},
		{2, "standard input is that of kubectl", []string{"--issuer", i.url, "--cluster", "a", "--subject-token-file", "-"}},
		{2, "--insecure-http", []string{"--issuer", "http://sts.example.com", "--cluster", "a"}},
		{1, "a projected volume", []string{"--issuer", i.url, "--cluster", "a", "--subject-token-file", "/nonexistent/token"}},
		{1, "--ca-file: ", []string{"--issuer", i.url, "--cluster", "a", "--subject-token-file", i.file("x"), "--ca-file", "/nonexistent/ca"}},
		{1, "no PEM certificate", []string{"--issuer", i.url, "--cluster", "a", "--subject-token-file", i.file("x"), "--ca-file", i.file("x")}},
	} {
		if r := i.run(append([]string{"kube-credential"}, row.args...)...).wants(row.code, row.want).inWords(); r.out != "" {
			t.Errorf("%v: it printed %s", row.args, r.out)
		}
	}
	delete(i.env, "XDG_CACHE_HOME")
	i.kubectl(i.file(proof(t, "pod-1", "1"))).wants(0, "the-token", "the token is not kept")
}

func TestAnAuthorityOfOnesOwnIsTrustedByItsFileAlone(t *testing.T) {
	i := newExchangeIssuer(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(i.handle))
	server.Config.ErrorLog = quiet
	server.StartTLS()
	i.serve(server)
	file := i.file(proof(t, "pod-1", "1"))
	i.kubectl(file).wants(1, "an authority that is not known here").inWords()
	ca := i.file(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	i.kubectl(file, "--ca-file", ca).wants(0, "the-token")
}
