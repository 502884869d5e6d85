package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

var redirectURIs = []struct {
	uri  string
	good bool
}{
	{"https://app.example.com/callback", true},
	{"https://app.example.com", true},
	{"https://app.example.com/?tenant=1", true},
	{"https://app.example.com:8443/cb", true},
	{"https://192.0.2.7/cb", true},
	{"https://[2001:db8::1]/cb", true},
	{"https://xn--bcher-kva.example/cb", true},
	{"https://a.example/a%20b", true},
	{"http://127.0.0.1/cb", true},
	{"http://127.0.0.1:8080/cb", true},
	{"http://[::1]:8080/cb", true},
	{"http://localhost:3000/cb", true},
	{"com.example.app:/callback", true},
	{"com.example.app:/", true},
	{"com.example.app://oauth/cb", true},

	{"", false},
	{"/callback", false},
	{"//app.example.com/cb", false},
	{"https://app.example.com/cb#x", false},
	{"https://app.example.com/cb#", false},
	{"javascript:alert(1)", false},
	{"JaVaScRiPt:alert(1)", false},
	{"data:text/html,x", false},
	{"vbscript:x", false},
	{"file:///etc/passwd", false},
	{"blob:https://app.example.com/1", false},
	{" https://app.example.com/cb", false},
	{"https://app.example.com/c b", false},
	{"https://bücher.example/cb", false},
	{`https://app.example.com\@evil.example/cb`, false},
	{"https://user@evil.example/cb", false},
	{"http://127.0.0.1:80@evil.example/cb", false},
	{"http://127.0.0.1.evil.example/cb", false},
	{"http://app.example.com/cb", false},
	{"http://0.0.0.0/cb", false},
	{"http://127.0.0.2/cb", false},
	{"HTTPS://app.example.com/cb", false},
	{"https://App.example.com/cb", false},
	{"https://*.example.com/cb", false},
	{"https://app.example.com/*", false},
	{"https:///cb", false},
	{"https://-x.example/cb", false},
	{"https://app.example.com:0/cb", false},
	{"https://app.example.com:99999/cb", false},
	{"https://app.example.com:/cb", false},
	{"https://app.example.com/a/../b", false},
	{"https://app.example.com/a/..;x=1/b", false},
	{"https://app.example.com/a/%2e%2e/b", false},
	{"https://app.example.com/a/%252e%252e/b", false},
	{"https://app.example.com/a%2Fb", false},
	{"https://app.example.com/a%0d%0aSet-Cookie:x", false},
	{"https://app.example.com/%zz", false},
	{"https://app.example.com/?a=%", false},
	{"myapp:/callback", false},
	{"com.example.app:callback", false},
	{"https:app.example.com", false},
	{"https://app.example.com/" + strings.Repeat("a", 2048), false},
}

var resourceIDs = []struct {
	uri  string
	good bool
}{
	{"https://orders.example.com", true},
	{"https://api.example.com/v1?x=1", true},
	{"https://api.example.com:8443/", true},
	{"http://internal/api", true},
	{"urn:example:api", true},
	{"api://orders", true},

	{"", false},
	{"api", false},
	{"/api", false},
	{"//api.example.com", false},
	{"https:///path", false},
	{"urn:", false},
	{"https://api.example.com#x", false},
	{"https://u@api.example.com", false},
	{"javascript:alert(1)", false},
	{"JavaScript:alert(1)", false},
	{"data:text/html,x", false},
	{"vbscript:x", false},
	{"file:///etc/passwd", false},
	{"urn:a b", false},
	{"https://api.example.com/%0d%0a", false},
	{"HTTPS://api.example.com", false},
	{"https://API.example.com", false},
	{"https://*.example.com", false},
	{"https://api.example.com:99999", false},
	{"urn:signalbox:admin", false},
	{"urn:signalbox:other", false},
	{issuerURL, false},
}

// inFile says whether a configuration file may hold this.
func inFile(yaml string) bool {
	const head = "issuer: " + issuerURL + "\ntls: {off: true, trusted_proxies: [10.0.0.0/8]}\n"
	_, err := config.Parse("x.yaml", []byte(head+yaml), []string{"SIGNALBOX_SECRETS_MASTER_KEY=0123456789abcdef0123456789abcdef"})
	return err == nil
}

// stored puts an object into the database behind the API's back.
func (s *service) stored(kind authority.Kind, id string, body object) {
	s.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.Fatal(err)
	}
	if err := s.DB.CreateObject(s.Context(), authority.Object{Kind: kind, ID: id, Body: text}); err != nil {
		s.Fatal(err)
	}
}

// TestOneRuleBook: the file, the admin API and stored rows take and refuse the
// same (docs/security/threats.md A 1 to A 5).
func TestOneRuleBook(t *testing.T) {
	s := newService(t)
	agree := func(what, uri string, good, file bool, status int, problems int) {
		t.Helper()
		if api, row := status == http.StatusCreated, problems == 0; file != good || api != good || row != good {
			t.Errorf("%s %q: want %v, the file says %v, the admin API %v, a stored row %v", what, uri, good, file, api, row)
		}
	}
	for i, row := range redirectURIs {
		for _, member := range []string{"redirect_uris", "post_logout_redirect_uris"} {
			client := object{"token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code"}, "redirect_uris": []string{"https://c.example.com/"}}
			client[member] = []string{row.uri}
			text, err := json.Marshal(client) // YAML takes JSON
			if err != nil {
				t.Fatal(err)
			}
			file := inFile(`clients: [{"client_id": c, ` + string(text[1:]) + "]\n")
			api := s.call(s.admin(), "POST", "/clients", client)
			id := fmt.Sprint(member, i)
			s.stored(authority.KindClient, id, client)
			stored, err := authority.Clients(s.DB).Get(t.Context(), id)
			if err != nil || stored.Disabled != (len(stored.Problems) > 0) {
				t.Fatal(err)
			}
			agree(member, row.uri, row.good, file, api.status, len(stored.Problems))
		}
	}
	for _, row := range resourceIDs {
		text, err := json.Marshal(row.uri)
		if err != nil {
			t.Fatal(err)
		}
		file := inFile("resources: [{id: " + string(text) + "}]\n")
		api := s.call(s.admin(), "POST", "/resources", object{"id": row.uri})
		if row.uri == issuerURL {
			agree("resource", row.uri, row.good, file, api.status, 1) // a row does not know whose it is
			continue
		}
		if api.status == http.StatusCreated {
			s.call(s.admin(), "DELETE", "/resources/"+escape(row.uri), nil).wants(http.StatusNoContent)
		}
		s.stored(authority.KindResource, row.uri, object{"token_format": "jwt"})
		stored, err := authority.Resources(s.DB).Get(t.Context(), row.uri)
		if err != nil {
			t.Fatal(err)
		}
		agree("resource", row.uri, row.good, file, api.status, len(stored.Problems))
	}
}

// A stored client that breaks a rule can do nothing, is shown, and can be
// fixed or deleted.
func TestAStoredClientThatBreaksARule(t *testing.T) {
	s := newService(t)
	s.stored(authority.KindClient, "old", object{"grant_types": []string{"authorization_code"}, "token_endpoint_auth_method": "none", "redirect_uris": []string{"https://*.example.com/"}})
	s.stored(authority.KindResource, "javascript:x", object{"token_format": "jwt"})
	s.call(s.admin(), "GET", "/clients", nil).wants(200, `"client_id":"old"`, `"redirect_uris[0]"`)
	s.call(s.admin(), "GET", "/clients/old", nil).wants(200, `"disabled":true`, "wildcards")
	s.call(s.admin(), "PATCH", "/clients/old", object{"client_name": "x"}).wants(400, "wildcards")
	s.call(s.admin(), "POST", "/clients/old/enable", nil).wants(400, "wildcards")
	s.call(s.admin(), "PATCH", "/clients/old", object{"redirect_uris": []string{"https://app.example.com/"}}).wants(200, `"disabled":true`)
	if got := s.call(s.admin(), "POST", "/clients/old/enable", nil).wants(200, `"disabled":false`); strings.Contains(string(got.body), "problems") {
		t.Errorf("%s", got.body)
	}
	s.call(s.admin(), "GET", "/resources/"+escape("javascript:x"), nil).wants(200, "dangerous")
	s.call(s.admin(), "DELETE", "/resources/"+escape("javascript:x"), nil).wants(204)
}

// Everything that is wrong is told at once, under the names that were sent.
func TestEveryProblemIsTold(t *testing.T) {
	s := newService(t)
	var e api.Error
	s.call(s.admin(), "POST", "/clients", object{"client_id": "policy:x", "client_name": "\x1b", "redirect_uris": []string{"x:y"}, "grant_types": []string{"authorization_code"}}).
		wants(400, "and 2 more", `"problems":[`).into(&e)
	if len(e.Problems) != 3 || e.Problems[2].Field != "redirect_uris[0]" || e.Problems[2].Fix == "" {
		t.Errorf("%+v", e.Problems)
	}
}

// A client that another issuer vouches for has no secret, and one workload is one client, wherever it is kept.
func TestAClientWithAFederatedCredential(t *testing.T) {
	static := declared()
	ofTheFile := authority.FederatedCredential{TrustedIssuer: "ci", Subject: "repo:acme"}
	static.TrustedIssuers = map[string]authority.TrustedIssuer{"ci": {Name: "ci", Issuer: "https://ci.example.com"}}
	static.Clients["builder"] = authority.Client{ID: "builder", AuthMethod: oauth.AuthFederatedJWT, Federated: ofTheFile}
	s := newServiceOf(t, static)
	s.call(s.admin(), "POST", "/clusters", hub("hub")).wants(http.StatusCreated)
	argocd := object{"cluster": "hub", "namespace": "argocd", "service_account": "argocd-server"}
	client := func(id string, credential object) object {
		return object{"client_id": id, "grant_types": []string{}, "token_endpoint_auth_method": "federated_jwt", "federated_credential": credential}
	}
	var made admin.ClientCredentials
	s.call(s.admin(), "POST", "/clients", client("argocd", argocd)).wants(http.StatusCreated).into(&made)
	if made.ClientSecret != "" || made.Federated == nil || *made.Federated != (admin.FederatedCredential{Cluster: "hub", Namespace: "argocd", ServiceAccount: "argocd-server"}) {
		t.Errorf("%+v", made)
	}
	s.call(s.admin(), "POST", "/clients", client("again", argocd)).wants(http.StatusConflict, "already_exists", "argocd")
	s.call(s.admin(), "POST", "/clients", client("again", object{"trusted_issuer": "ci", "subject": "repo:acme"})).wants(http.StatusConflict, "already_exists", "builder")
	s.call(s.admin(), "POST", "/clients", client("other", object{"trusted_issuer": "cd", "subject": "x"})).wants(http.StatusBadRequest, "no trusted issuer")
	s.call(s.admin(), "POST", "/clients", client("other", object{"cluster": "nowhere", "namespace": "a", "service_account": "b"})).wants(http.StatusBadRequest, "no cluster")
	s.call(s.admin(), "POST", "/clients", client("other", nil)).wants(http.StatusBadRequest, "federated_credential", "missing")
	s.call(s.admin(), "PATCH", "/clients/argocd", object{"resources": []string{authority.AdminResource}, "scope": "keys:read"}).wants(http.StatusBadRequest, "no proof of others leads there")
	s.call(s.admin(), "PATCH", "/clients/argocd", object{"client_name": "Argo CD"}).wants(http.StatusOK, "argocd-server")
	s.call(s.admin(), "POST", "/clients", client("job", object{"trusted_issuer": "ci", "subject": "repo:other"})).wants(http.StatusCreated)
	s.call(s.admin(), "PATCH", "/clients/job", object{"federated_credential": argocd}).wants(http.StatusConflict, "already_exists")
	s.call(s.admin(), "POST", "/clients/argocd/secret", object{}).wants(http.StatusBadRequest, "has no secret")
	var back admin.ClientCredentials
	s.call(s.admin(), "PATCH", "/clients/argocd", object{"token_endpoint_auth_method": "client_secret_basic"}).wants(http.StatusOK).into(&back)
	if back.ClientSecret == "" || back.Federated != nil {
		t.Errorf("%+v", back)
	}
	s.call(s.admin(), "PATCH", "/clients/job", object{"federated_credential": argocd}).wants(http.StatusOK)
	last := s.events()[len(s.events())-1]
	if len(last.Changes) != 1 || last.Changes[0].Field != "federated_credential" || last.Changes[0].New != `{"cluster":"hub","namespace":"argocd","service_account":"argocd-server"}` {
		t.Errorf("recorded %+v", last)
	}
}
