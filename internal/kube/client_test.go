package kube

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// bubble runs a test with a fake API server in a bubble.
func bubble(t *testing.T, name string, test func(t *testing.T, a *apiServer)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, newAPIServer(t)) })
	})
}

const ours = "https://sts.example.com"

// good is the status of a TokenReview that is good for us; change changes one thing.
func good(change ...func(status, user, extra map[string]any)) map[string]any {
	extra := map[string]any{
		"authentication.kubernetes.io/pod-name": []string{"web-0"}, "authentication.kubernetes.io/pod-uid": []string{"uid-0"},
		"authentication.kubernetes.io/node-name": []string{"node-1"}, "authentication.kubernetes.io/credential-id": []string{"JTI=1"},
	}
	user := map[string]any{"username": "system:serviceaccount:shop:web", "uid": "sa-uid", "groups": []string{"system:serviceaccounts"}, "extra": extra}
	status := map[string]any{"authenticated": true, "audiences": []string{ours}, "user": user}
	for _, c := range change {
		c(status, user, extra)
	}
	return status
}

func TestReview(t *testing.T) {
	for _, r := range []struct {
		name   string
		status map[string]any
		want   Reviewed
	}{
		{"a good token", good(), Reviewed{Authenticated: true, Username: "system:serviceaccount:shop:web", UID: "sa-uid", Groups: []string{"system:serviceaccounts"},
			Pod: authority.ObjectRef{Name: "web-0", UID: "uid-0"}, Node: authority.ObjectRef{Name: "node-1"}, CredentialID: "JTI=1"}},
		{"not authenticated", map[string]any{"authenticated": false, "error": "bad\x1btoken"}, Reviewed{Why: `"bad\x1btoken"`}},
		{"authenticated, with an error", good(func(s, _, _ map[string]any) { s["error"] = "but" }), Reviewed{Why: `"but"`}},
		{"for no audience", good(func(s, _, _ map[string]any) { delete(s, "audiences") }), Reviewed{Why: "the API server does not say that it is meant for us"}},
		{"for another audience", good(func(s, _, _ map[string]any) { s["audiences"] = []string{"https://kubernetes.default.svc", ours + "/"} }),
			Reviewed{Why: "the API server does not say that it is meant for us"}},
		{"of two pods", good(func(_, _, e map[string]any) { e["authentication.kubernetes.io/pod-uid"] = []string{"uid-0", "uid-1"} }), Reviewed{Authenticated: true,
			Username: "system:serviceaccount:shop:web", UID: "sa-uid", Groups: []string{"system:serviceaccounts"},
			Pod: authority.ObjectRef{Name: "web-0"}, Node: authority.ObjectRef{Name: "node-1"}, CredentialID: "JTI=1"}},
	} {
		bubble(t, r.name, func(t *testing.T, a *apiServer) {
			a.review = r.status
			got, err := a.client(t, testCluster).Review(t.Context(), "ey.the.token", []string{ours, "other"})
			if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", r.want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, r.want)
			}
			asked, _ := json.Marshal(a.asked)
			if string(asked) != `[{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"audiences":["`+ours+`","other"],"token":"ey.the.token"}}]` {
				t.Errorf("asked %s", asked)
			}
		})
	}
	bubble(t, "without audiences nothing is asked", func(t *testing.T, a *apiServer) {
		if _, err := a.client(t, testCluster).Review(t.Context(), "token", nil); err == nil || a.count("") != 0 {
			t.Errorf("got %v after %d requests", err, a.count(""))
		}
	})
}

func TestClientBoundsWhatItIsAnswered(t *testing.T) {
	write := func(body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { _, _ = io.WriteString(w, body) }
	}
	for _, r := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		want   string
	}{
		{"keys longer than 256 KiB", write(strings.Repeat(" ", maxKeys+1)), "longer than"},
		{"a redirect", func(w http.ResponseWriter) { w.Header().Set("Location", "https://elsewhere.test/"); w.WriteHeader(302) }, "answered 302"},
		{"a long refusal in colours", func(w http.ResponseWriter) { refuse(w, 403, "\x1b[31m"+strings.Repeat("x", 1000)) }, `answered 403: "\x1b[31mxxx`},
		{"a refusal that is no Status", func(w http.ResponseWriter) { w.WriteHeader(503); write("<html>")(w) }, "answered 503"},
	} {
		bubble(t, r.name, func(t *testing.T, a *apiServer) {
			a.on(func(w http.ResponseWriter, _ *http.Request) bool { r.answer(w); return true })
			_, err := a.client(t, testCluster).Keys(t.Context())
			if err == nil || !strings.Contains(err.Error(), r.want) || len(err.Error()) > 400 || strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("got %v", err)
			}
			if n := a.count(""); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
	bubble(t, "an API server that never answers", func(t *testing.T, a *apiServer) {
		c := a.client(t, testCluster)
		a.on(func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
		began := time.Now()
		if _, err := c.Keys(t.Context()); err == nil || time.Since(began) > callTimeout {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
	bubble(t, "an API server with another certificate", func(t *testing.T, a *apiServer) {
		other := testCluster
		other.APIServer = "https://other.test:6443"
		if _, err := a.client(t, other).Keys(t.Context()); err == nil || a.count("") != 0 {
			t.Errorf("got %v", err)
		}
	})
	bubble(t, "a pod whose name is a path", func(t *testing.T, a *apiServer) {
		c := a.client(t, testCluster)
		for _, name := range []string{"..", "a/b", "a?watch=1", "", "a%2fb", strings.Repeat("x", 254)} {
			if _, found, err := c.pod(t.Context(), "shop", name); found || err != nil {
				t.Errorf("%q: %v %v", name, found, err)
			}
			if _, found, err := c.pod(t.Context(), name, "web"); found || err != nil {
				t.Errorf("%q: %v %v", name, found, err)
			}
		}
		if a.count("") != 0 {
			t.Errorf("requests %q", a.requests)
		}
	})
}

func TestAClusterSaysWhatItsIssuerIs(t *testing.T) {
	for _, r := range []struct{ name, answer, want string }{
		{"as Kubernetes does", `{"issuer":"https://kubernetes.default.svc","jwks_uri":"https://10.0.0.1/openid/v1/jwks"}`, "https://kubernetes.default.svc"},
		{"without one", `{}`, ""},
		{"another document", `<html>`, ""},
	} {
		bubble(t, r.name, func(t *testing.T, a *apiServer) {
			a.on(func(w http.ResponseWriter, r2 *http.Request) bool {
				if r2.URL.Path != "/.well-known/openid-configuration" {
					return false
				}
				_, _ = io.WriteString(w, r.answer)
				return true
			})
			if got, err := a.client(t, testCluster).Issuer(t.Context()); got != r.want || (err == nil) != (r.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestReach(t *testing.T) {
	bubble(t, "an API server that allows all that we need", func(t *testing.T, a *apiServer) {
		if err := a.client(t, testCluster).Reach(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for what, path := range map[string]string{"list pods": "/api/v1/pods", "create a TokenReview": "tokenreviews", "get /openid": "jwks"} {
		bubble(t, "an API server that does not let us "+what, func(t *testing.T, a *apiServer) {
			a.on(func(w http.ResponseWriter, r *http.Request) bool {
				is := strings.HasSuffix(r.URL.Path, path)
				if is {
					refuse(w, 403, "forbidden")
				}
				return is
			})
			if err := a.client(t, testCluster).Reach(t.Context()); err == nil || !strings.HasPrefix(err.Error(), what) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	bubble(t, "a token that we issue to ourselves is renewed long before it expires, and when it is refused", func(t *testing.T, a *apiServer) {
		issued := 0
		self := func(_ context.Context, cluster string) (string, time.Time, error) {
			if issued++; cluster != "hub" {
				t.Errorf("issued for %q", cluster)
			}
			return fmt.Sprint("self-", issued), time.Now().Add(5 * time.Minute), nil
		}
		c, err := NewClient(testCluster, self)
		if err != nil {
			t.Fatal(err)
		}
		c.http.Transport.(*http.Transport).DialContext = a.dial
		defer c.Close()
		ask := func() {
			t.Helper()
			if _, err := c.Keys(t.Context()); err != nil {
				t.Error(err)
			}
		}
		ask()
		time.Sleep(3 * time.Minute)
		ask()
		time.Sleep(time.Minute)
		ask()
		a.on(func(w http.ResponseWriter, r *http.Request) bool {
			old := r.Header.Get("Authorization") == "Bearer self-2"
			if old {
				refuse(w, 401, "Unauthorized")
			}
			return old
		})
		ask()
		if want := []string{"Bearer self-1", "Bearer self-1", "Bearer self-2", "Bearer self-2", "Bearer self-3"}; !slices.Equal(a.tokens, want) {
			t.Errorf("sent %q", a.tokens)
		}
		a.on(func(w http.ResponseWriter, r *http.Request) bool { refuse(w, 401, "Unauthorized"); return true })
		if _, err := c.Keys(t.Context()); !hasCode(err, 401) || len(a.tokens) != 7 {
			t.Errorf("got %v after %d requests", err, len(a.tokens))
		}
	})
	bubble(t, "nobody is asked without a credential, and the error does not repeat one", func(t *testing.T, a *apiServer) {
		for _, token := range []string{"", "a\nb", "tök"} {
			c, err := NewClient(testCluster, func(context.Context, string) (string, time.Time, error) { return token, time.Now(), nil })
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Keys(t.Context()); err == nil || token != "" && strings.Contains(err.Error(), token) {
				t.Errorf("%q: got %v", token, err)
			}
		}
		if a.count("") != 0 {
			t.Errorf("requests %q", a.requests)
		}
	})
	bubble(t, "the token of the pod that we run in is read again", func(t *testing.T, a *apiServer) {
		folder := t.TempDir()
		tokenBefore, caBefore := serviceAccountToken, serviceAccountCA
		serviceAccountToken, serviceAccountCA = filepath.Join(folder, "token"), filepath.Join(folder, "ca.crt")
		defer func() { serviceAccountToken, serviceAccountCA = tokenBefore, caBefore }()
		inCluster := testCluster
		inCluster.Credential, inCluster.CA = authority.CredentialInCluster, nil
		if _, err := NewClient(inCluster, nil); err == nil {
			t.Error("a client without any CA of the cluster")
		}
		write := func(path, text string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(serviceAccountCA, string(certificatePEM))
		c := a.client(t, inCluster)
		ask := func() error { _, err := c.Keys(t.Context()); return err }
		if err := ask(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		write(serviceAccountToken, "first\n")
		_ = ask()
		write(serviceAccountToken, "second\n")
		_ = ask()
		time.Sleep(time.Minute)
		_ = ask()
		if want := []string{"Bearer first", "Bearer first", "Bearer second"}; !slices.Equal(a.tokens, want) {
			t.Errorf("sent %q", a.tokens)
		}
	})
}

func TestKubeconfig(t *testing.T) {
	data := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	whole := `apiVersion: v1
kind: Config
current-context: hub
contexts: [{name: hub, context: {cluster: c, user: u, namespace: x}}, {name: other, context: {cluster: c, user: other}}]
clusters: [{name: c, cluster: {server: "https://api.test:6443", certificate-authority-data: ` + data(certificatePEM) + `}}]
users: [{name: other, user: {token: static}}, {name: u, user: {client-certificate-data: ` + data(certificatePEM) + `, client-key-data: ` + data(keyPEM) + `}}]
`
	of := func(text string) (*Client, error) {
		c := testCluster
		c.APIServer, c.CA, c.Credential, c.Kubeconfig = "", nil, authority.CredentialKubeconfig, []byte(text)
		return NewClient(c, nil)
	}
	c, err := of(whole)
	if err != nil {
		t.Fatal(err)
	}
	if notes := c.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "client certificate") || !strings.Contains(notes[0], "2100-01-02") {
		t.Errorf("notes %q", notes)
	}
	if c, err := of(strings.Replace(whole, "user: u,", "user: file,", 1) + "  \n"); err == nil {
		t.Errorf("a user that is not there: %v", c)
	}
	user := "client-certificate-data: " + data(certificatePEM) + ", client-key-data: " + data(keyPEM)
	with := func(old, replacement string) string { return strings.Replace(whole, old, replacement, 1) }
	c, err = of(with(user, "tokenFile: /var/run/token"))
	if err != nil || len(c.Notes()) != 0 {
		t.Errorf("a token file: %v", err)
	}
	for name, text := range map[string]string{
		"a static token":                with(user, "token: s3cret"),
		"a static token beside a file":  with(user, "tokenFile: /x, token: s3cret"),
		"a password":                    with(user, "username: s3cret, password: s3cret"),
		"an exec plugin":                with(user, "exec: {command: s3cret}"),
		"an auth provider":              with(user, "auth-provider: {name: s3cret}"),
		"impersonation":                 with(user, user+", as: s3cret"),
		"impersonated groups":           with(user, user+", as-groups: [s3cret]"),
		"a certificate in a file":       with(user, "client-certificate: /s3cret, client-key: /s3cret"),
		"a certificate without a key":   with(user, "client-certificate-data: "+data(certificatePEM)),
		"a certificate that is not one": with(user, "client-certificate-data: czNjcmV0, client-key-data: czNjcmV0"),
		"a token file beside us":        with(user, "tokenFile: s3cret"),
		"no credential":                 with(user, ""),
		"no check of the server":        with("{server:", "{insecure-skip-tls-verify: true, server:"),
		"a proxy":                       with("{server:", "{proxy-url: 'http://s3cret', server:"),
		"a CA in a file":                with("{server:", "{certificate-authority: /s3cret, server:"),
		"a CA that is no base64":        with("certificate-authority-data: ", "certificate-authority-data: '*' #"),
		"a CA that is not one":          with(data(certificatePEM), "czNjcmV0"),
		"plain http":                    with("https://api.test:6443", "http://10.0.0.1:6443"),
		"a server with a password":      with("https://api.test:6443", "https://a:s3cret@api.test"),
		"no server":                     with(`server: "https://api.test:6443", `, ""),
		"no current context":            with("current-context: hub", "current-context: s3cret"),
		"a context without a name":      with("current-context: hub", `current-context: ""`),
		"two users of that name":        with("users: [", "users: [{name: u, user: {tokenFile: /s3cret}}, "),
		"something else":                "[s3cret]",
		"nothing":                       "",
		"a key twice":                   whole + "current-context: other\n",
		"a file that is far too long":   whole + strings.Repeat("#", maxKubeconfig),
	} {
		if _, err := of(text); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	loopback := testCluster
	loopback.APIServer, loopback.Kubeconfig, loopback.Credential = "http://127.0.0.1:8001", []byte(whole), authority.CredentialKubeconfig
	if c, err := NewClient(loopback, nil); err != nil || c.server.Host != "127.0.0.1:8001" {
		t.Errorf("api_server goes before the kubeconfig's: %v", err)
	}
}

func FuzzList(f *testing.F) {
	f.Add(`{"kind":"PartialObjectMetadataList","metadata":{"resourceVersion":"7","continue":"x"},"items":[{"metadata":{"uid":"a","deletionTimestamp":"2026-01-02T03:04:05Z"}}]}`)
	f.Add(`{"items":null,"metadata":{"resourceVersion":"7"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		version, _, err := parseItems(strings.NewReader(text), eachPod(func(object) error { n++; return nil }))
		if err == nil && version == "" {
			t.Error("a list without a version")
		}
		var whole struct {
			Metadata struct{ ResourceVersion string }
			Items    []json.RawMessage
		}
		// What encoding/json reads whole and without a second "items" has as many pods.
		if json.Unmarshal([]byte(text), &whole) == nil && err == nil && strings.Count(strings.ToLower(text), "items") == 1 && !strings.Contains(text, `\u`) && strings.Contains(text, `"items"`) && n < len(whole.Items) {
			t.Errorf("%d of %d pods", n, len(whole.Items))
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add(`{"type":"ADDED","object":{"metadata":{"uid":"a","resourceVersion":"7"}}}` + "\n" + `{"type":"ERROR","object":{"code":410,"message":"x"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		w := &Watch{Cluster: testCluster, Now: time.Now}
		w.start()
		events := newEvents(strings.NewReader(text))
		for {
			e, err := events.next()
			if err != nil {
				break
			}
			if e.version == "" {
				t.Error("an event without a version")
			}
			_ = w.take(e)
		}
	})
}

func FuzzReview(f *testing.F) {
	text, _ := json.Marshal(map[string]any{"kind": "TokenReview", "status": good()})
	f.Add(string(text))
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseReview([]byte(text), []string{ours})
		if err == nil && r.Authenticated && !strings.Contains(text, "sts.example.com") && !strings.Contains(text, `\`) {
			t.Errorf("%q is good for us", text)
		}
		if !r.Authenticated && r.Username != "" {
			t.Errorf("the name of nobody: %+v", r)
		}
	})
}

func FuzzKubeconfig(f *testing.F) {
	f.Add("current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://x'}}]\nusers: [{name: u, user: {tokenFile: /x}}]")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parseKubeconfig([]byte(text))
		if err == nil && k.credential == nil && len(k.certificates) == 0 {
			t.Error("no credential")
		}
	})
}
