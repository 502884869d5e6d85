package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/password"
	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// browser is one of ada, signed in nowhere.
type browser struct {
	*testing.T
	s    *service
	http *http.Client
}

func newBrowser(t *testing.T, s *service) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := *s.client
	client.Jar, client.CheckRedirect = jar, func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &browser{t, s, &client}
}

// visit asks for a page, or sends a form. It returns where that leads to, empty if it leads nowhere.
func (b *browser) visit(at string, form url.Values) (status int, next, page string) {
	b.Helper()
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(b.Context(), method, at, strings.NewReader(form.Encode()))
	if err != nil {
		b.Fatal(err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	response, err := b.http.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	if location, err := response.Location(); err == nil {
		next = location.String()
	}
	return response.StatusCode, next, string(body)
}

// approve goes through the pages of Signalbox, as ada, and returns where they lead.
func (b *browser) approve(at string) string {
	b.Helper()
	for range 10 {
		_, next, page := b.visit(at, nil)
		for next == "" {
			sealed := flow.FindStringSubmatch(page)
			if sealed == nil {
				b.Fatalf("%s is no form: %s", at, page)
			}
			to, form := "/login", url.Values{"flow": sealed[1:], "username": {"ada"}, "password": {adasPassword}}
			if strings.Contains(page, `id="allow"`) {
				to, form = "/consent", url.Values{"flow": sealed[1:], "decision": {"allow"}}
			}
			_, next, page = b.visit(b.s.Issuer+to, form)
		}
		if !strings.HasPrefix(next, b.s.Issuer+"/") {
			return next
		}
		at = next
	}
	b.Fatal("the pages go round")
	return ""
}

// user is whom Argo CD's API sees in this browser, empty if nobody.
func (b *browser) user(cd string) string {
	b.Helper()
	_, _, text := b.visit(cd+"/api/v1/session/userinfo", nil)
	var answer struct {
		LoggedIn bool
		Username string
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		b.Fatalf("userinfo: %v: %s", err, text)
	}
	if !answer.LoggedIn {
		return ""
	}
	return answer.Username
}

// The real argocd-server signs a person in from its own /auth/login to its own /auth/callback: as a public
// client by PKCE, and as a client whose pod's token is in the place of a secret. It needs no page of its own for that,
// and has none here: the pages are no part of its Go module.
func TestScenario14_ArgoCDSignsPeopleInWithoutASecret(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "argocd-signin"
	address := rig.FreeAddress()
	cd := "http://" + address
	hash, err := password.Hash(adasPassword)
	if err != nil {
		t.Fatal(err)
	}
	client := fmt.Sprintf("redirect_uris: [%q], grant_types: [authorization_code], scope: \"openid profile email\"", cd+"/auth/callback")
	s := startService(t, "  - {client_id: argocd, token_endpoint_auth_method: none, "+client+"}\n"+
		"  - {client_id: argocd-pod, token_endpoint_auth_method: federated_jwt, federated_credential: {cluster: hub, namespace: "+namespace+", service_account: argocd-server}, "+client+"}\n"+
		fmt.Sprintf("users: [{username: ada, password_hash: %q, email: ada@example.com, email_verified: true}]\n", hash)+"clusters:\n"+clusterEntry(r.Hub, ""))
	a := newArgo(t, r.Hub, namespace, "  url: "+cd)
	pod, other := runs(t, r.Hub, namespace, "argocd-server", "argocd-server-0"), runs(t, r.Hub, namespace, "other", "other-0")

	refused := func() (n int) {
		for _, record := range s.journal(t) {
			if record["type"] == "token.refused" {
				n++
			}
		}
		return n
	}
	for _, row := range []struct {
		sentence, client, more string
		pod                    *rig.Pod // whose token proves the client
		user                   string
	}{
		{"a public client, by PKCE", "argocd", "", nil, "ada@example.com"},
		{"the token of its pod", "argocd-pod", "azure: {useWorkloadIdentity: true}", &pod, "ada@example.com"},
		{"the token of another pod", "argocd-pod", "azure: {useWorkloadIdentity: true}", &other, ""},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			ca, _ := json.Marshal(string(s.CA))
			patch, _ := json.Marshal(map[string]any{"data": map[string]string{"oidc.config": fmt.Sprintf(
				"name: Signalbox\nissuer: %s\nclientID: %s\nenablePKCEAuthentication: true\nrequestedScopes: [openid, profile, email]\nrequestedIDTokenClaims: {email: {}, name: {}}\nrootCA: %s\n%s\n", s.Issuer, row.client, ca, row.more)}})
			r.Hub.Kubectl(t, "patch", "configmap", "-n", namespace, "argocd-cm", "--type=merge", "-p", string(patch))
			proof := filepath.Join(t.TempDir(), "token")
			if row.pod != nil {
				if err := os.WriteFile(proof, []byte(r.Hub.Token(t, *row.pod, s.Issuer, time.Hour)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			a.startServer(t, address, "AZURE_FEDERATED_TOKEN_FILE="+proof)

			before := refused()
			ada, thief := newBrowser(t, s), newBrowser(t, s)
			if user := ada.user(cd); user != "" {
				t.Errorf("before she signs in she is %s", user)
			}
			_, authorize, page := ada.visit(cd+"/auth/login?return_url="+url.QueryEscape(cd+"/applications"), nil)
			asked, err := url.Parse(authorize)
			if err != nil || !strings.HasPrefix(authorize, s.Issuer+"/authorize?") {
				t.Fatalf("/auth/login leads to %q: %s", authorize, page)
			}
			if q := asked.Query(); q.Get("code_challenge_method") != "S256" || q.Get("code_challenge") == "" || q.Get("redirect_uri") != cd+"/auth/callback" || q.Get("client_id") != row.client {
				t.Errorf("it asks for %v", q)
			}
			if _, _, text := ada.visit(cd+"/api/v1/settings", nil); strings.Contains(text, "ecret") {
				t.Errorf("Argo CD's page is told %s", text)
			}
			callback := ada.approve(authorize)
			if !strings.HasPrefix(callback, cd+"/auth/callback?") {
				t.Fatalf("the pages lead to %s", callback)
			}
			if status, _, _ := thief.visit(callback, nil); status != http.StatusBadRequest || thief.user(cd) != "" {
				t.Errorf("a thief of the link is %q, answered %d", thief.user(cd), status)
			}
			status, landed, page := ada.visit(callback, nil)
			if user := ada.user(cd); user != row.user {
				t.Errorf("Argo CD says she is %q, not %q: %d %s", user, row.user, status, page)
			}
			if (landed == cd+"/applications") != (row.user != "") {
				t.Errorf("she is led to %q: %d %s", landed, status, page)
			}
			if status, _, text := ada.visit(cd+"/api/v1/applications", nil); (status == http.StatusOK) != (row.user != "") {
				t.Errorf("the API answers %d: %s", status, text)
			}
			if n := refused() - before; row.user != "" && n != 1 { // its first try, with an empty secret in the header
				t.Errorf("the journal has %d refusals of one sign-in", n)
			}
			if status, _, _ := ada.visit(callback, nil); status == http.StatusSeeOther {
				t.Error("the same link signs in a second time")
			}
		})
	}
}
