package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/password"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

func TestClientRules(t *testing.T) {
	s := newService(t)
	good := func(change object) object {
		c := object{"client_id": "c", "grant_types": []string{"authorization_code"}, "redirect_uris": []string{"https://c.example.com/cb"}}
		for k, v := range change {
			c[k] = v
		}
		return c
	}
	for _, row := range []struct {
		name   string
		change object
		text   string
	}{
		{"a public client without a grant type", object{"token_endpoint_auth_method": "none", "grant_types": []string{}}, "grant_types"},
		{"people as administrators", object{"resources": []string{authority.AdminResource}}, "give administrators a client of their own"},
		{"an unknown grant type", object{"grant_types": []string{"implicit"}}, "implicit"},
		{"a code without a place to send it", object{"redirect_uris": []string{}}, "redirect_uris"},
		{"refresh without code", object{"grant_types": []string{"refresh_token"}}, "refresh_token"},
		{"a public client with client_credentials", object{"token_endpoint_auth_method": "none", "grant_types": []string{"client_credentials"}}, "proves who it is"},
		{"an unknown way to authenticate", object{"token_endpoint_auth_method": "password"}, "token_endpoint_auth_method"},
		{"a redirect with a fragment", object{"redirect_uris": []string{"https://c.example.com/#x"}}, "redirect_uris[0]"},
		{"a redirect that is a script", object{"redirect_uris": []string{"JaVaScRiPt:alert(1)"}}, "redirect_uris[0]"},
		{"a redirect over plain http", object{"redirect_uris": []string{"http://c.example.com/cb"}}, "http is accepted only"},
		{"a logout redirect that is a script", object{"post_logout_redirect_uris": []string{"javascript:1"}}, "post_logout_redirect_uris[0]"},
		{"a scope that no resource has", object{"scope": "orders:read"}, "orders:read"},
		{"a scope with a quote", object{"scope": `a"b`}, "scope"},
		{"a resource that is not there", object{"resources": []string{"https://other.example.com"}}, "other.example.com"},
		{"private_key_jwt without keys", object{"token_endpoint_auth_method": "private_key_jwt"}, "jwks"},
		{"keys without private_key_jwt", object{"jwks": json.RawMessage(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)}, "jwks"},
		{"a private key", object{"token_endpoint_auth_method": "private_key_jwt", "jwks": json.RawMessage(`{"keys":[{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)}, "private"},
		{"ID tokens that nothing can sign", object{"id_token_signed_response_alg": "EdDSA"}, "EdDSA"},
		{"an id with a space", object{"client_id": "a b"}, "client_id"},
		{"an id of dots", object{"client_id": ".."}, "client_id"},
		{"an id that is a user's", object{"client_id": "u_ada"}, "already"},
		{"a name with a terminal sequence", object{"client_name": "\x1b[2J"}, "client_name"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.T = t
			got := s.call(s.admin(), "POST", "/clients", good(row.change))
			if got.status != 400 && got.status != 409 || !strings.Contains(string(got.body), row.text) {
				t.Fatalf("%d %s", got.status, got.body)
			}
		})
	}
	s.T = t
	s.call(s.admin(), "POST", "/clients", good(nil)).wants(http.StatusCreated)
}

func TestAClientsLife(t *testing.T) {
	s := newService(t)
	token := s.admin()
	created := s.createClient("job")
	if !strings.HasPrefix(created.ClientSecret, "sbx_cs_") || created.SecretExpiresAt == nil || *created.SecretExpiresAt != 0 || created.AuthMethod != "client_secret_basic" {
		t.Fatalf("%+v", created)
	}
	accepts := func(secret string) bool {
		client, err := authority.Clients(s.DB).Get(t.Context(), "job")
		if err != nil {
			t.Fatal(err)
		}
		return client.AcceptsSecret(oauth.SecretOf(secret), s.Now())
	}
	if !accepts(created.ClientSecret) {
		t.Fatal("the secret that was shown is not the client's")
	}
	if got := s.call(token, "GET", "/clients/job", nil).wants(200); strings.Contains(string(got.body), created.ClientSecret) || strings.Contains(string(got.body), "client_secret\"") {
		t.Fatalf("the secret is shown again: %s", got.body)
	}

	var rotated admin.ClientCredentials
	s.call(token, "POST", "/clients/job/secret", object{"old_expires_in": 60}).wants(200).into(&rotated)
	if !accepts(created.ClientSecret) || !accepts(rotated.ClientSecret) || len(rotated.Secrets) != 2 {
		t.Fatal("both secrets must work while one is rotated")
	}
	for i, secret := range rotated.Secrets { // the old one first
		if secret.Current != (i == 1) || secret.CreatedAt == nil || !secret.CreatedAt.Equal(s.Now()) || (secret.ExpiresAt == nil) != secret.Current {
			t.Errorf("secret %d says %+v", i, secret)
		}
	}
	s.Wait(61 * time.Second)
	if accepts(created.ClientSecret) || !accepts(rotated.ClientSecret) {
		t.Fatal("the old secret must die on time, and alone")
	}
	var last admin.ClientCredentials
	s.call(token, "POST", "/clients/job/secret", object{}).wants(200).into(&last)
	if accepts(rotated.ClientSecret) || !accepts(last.ClientSecret) {
		t.Fatal("without old_expires_in the old secret ends at once")
	}
	s.call(token, "POST", "/clients/job/secret", object{"old_expires_in": -1}).wants(400)
	s.call(token, "POST", "/clients/job/secret", object{"old_expires_in": 31 * 86400}).wants(400)

	s.call(token, "PATCH", "/clients/job", object{"client_name": "Night job"}).wants(200, "Night job", "orders:read")
	held := s.tokenFor("job", "https://api.example.com", "orders:read")
	s.call(token, "POST", "/clients/job/disable", nil).wants(200, `"disabled":true`)
	if _, err := s.Parts.Reader.Authenticate(held); err == nil {
		t.Fatal("the token of a disabled client is alive")
	}
	s.Wait(time.Millisecond)
	s.call(token, "POST", "/clients/job/enable", nil).wants(200, `"disabled":false`)
	if _, err := s.Parts.Reader.Authenticate(held); err == nil {
		t.Fatal("enabling the client brought a dead token back")
	}
	held = s.tokenFor("job", "https://api.example.com", "orders:read")
	if _, err := s.Parts.Reader.Authenticate(held); err != nil {
		t.Fatal("a new token of the enabled client is dead", err)
	}
	s.Wait(time.Millisecond)
	s.call(token, "DELETE", "/clients/job", nil).wants(204)
	if _, err := s.Parts.Reader.Authenticate(held); err == nil {
		t.Fatal("the token of a deleted client is alive")
	}
	s.call(token, "GET", "/clients/job", nil).wants(404)

	for _, e := range s.events() {
		text := fmt.Sprintf("%+v", e)
		if strings.Contains(text, "sbx_cs_") {
			t.Fatalf("a secret in the journal: %s", text)
		}
		if e.Actor != "root" || len(e.RequestID) != 24 || e.Remote != "192.0.2.1" || e.Target != "job" || e.ClientID != "job" {
			t.Fatalf("%+v", e)
		}
	}
	var reasons []string
	for _, e := range s.events() {
		reasons = append(reasons, string(e.Type)+" "+strings.SplitN(e.Reason, ";", 2)[0])
	}
	want := []string{
		"client.changed created", "client.changed secret rotated", "client.changed secret rotated", "client.changed changed client_name",
		"epoch.set the client was disabled", "client.changed disabled", "client.changed enabled", "epoch.set the client was deleted", "client.changed deleted",
	}
	if !reflect.DeepEqual(reasons, want) {
		t.Fatalf("journal:\n%s", strings.Join(reasons, "\n"))
	}
}

func TestChangingHowAClientAuthenticates(t *testing.T) {
	s := newService(t)
	s.call(s.admin(), "POST", "/clients", object{"client_id": "app", "token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code"}, "redirect_uris": []string{"com.example.app:/cb"}}).wants(201)
	var c admin.ClientCredentials
	s.call(s.admin(), "PATCH", "/clients/app", object{"token_endpoint_auth_method": "client_secret_post"}).wants(200).into(&c)
	if c.ClientSecret == "" {
		t.Fatal("a client that now needs a secret got none")
	}
	c = admin.ClientCredentials{}
	s.call(s.admin(), "PATCH", "/clients/app", object{"token_endpoint_auth_method": "client_secret_basic"}).wants(200).into(&c)
	if c.ClientSecret != "" || len(c.Secrets) != 1 {
		t.Fatal("a client that has a secret got another")
	}
	c = admin.ClientCredentials{}
	s.call(s.admin(), "PATCH", "/clients/app", object{"token_endpoint_auth_method": "none"}).wants(200).into(&c)
	if len(c.Secrets) != 0 {
		t.Fatal("a public client kept its secret")
	}
	s.call(s.admin(), "POST", "/clients/app/secret", object{}).wants(400, "none")
}

func TestAUsersLife(t *testing.T) {
	s := newService(t)
	token := s.admin()
	for _, row := range []struct {
		name string
		body object
	}{
		{"a short password", object{"username": "eve", "password": "short"}},
		{"a password that costs time", object{"username": "eve", "password": strings.Repeat("x", 1025)}},
		{"capital letters", object{"username": "Eve", "password": "correct horse"}},
		{"a space", object{"username": "e ve", "password": "correct horse"}},
		{"a terminal sequence", object{"username": "e\x1bve", "password": "correct horse"}},
		{"no username", object{"password": "correct horse"}},
		{"an address that is none", object{"username": "eve", "password": "correct horse", "email": "Eve <eve@example.com>"}},
		{"a verified address that is missing", object{"username": "eve", "password": "correct horse", "email_verified": true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.T = t
			s.call(token, "POST", "/users", row.body).wants(400)
		})
	}
	s.T = t
	bob := s.createUser("bob")
	if len(bob.UserID) != 28 {
		t.Fatalf("user id %q has not 128 random bits", bob.UserID)
	}
	s.call(token, "POST", "/users", object{"username": "bob", "password": "correct horse"}).wants(409)
	if got := s.call(token, "GET", "/users?username=bob", nil).wants(200, bob.UserID); strings.Contains(string(got.body), "hash") {
		t.Fatalf("%s", got.body)
	}
	s.call(token, "GET", "/users?username=nobody", nil).wants(200, `"items":[]`)

	grant := s.grant("web", bob.UserID)
	if !s.alive(grant, s.Now()) {
		t.Fatal("the grant is dead from the start")
	}
	s.call(token, "POST", "/users/"+bob.UserID+"/password", object{"password": "battery staple"}).wants(200)
	stored, err := authority.Users(s.DB).Get(t.Context(), bob.UserID)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := password.Verify(t.Context(), password.Caller{}, stored.PasswordHash, "battery staple"); err != nil || !same {
		t.Fatalf("the new password is not good: %v", err)
	}
	if s.alive(grant, s.Now()) {
		t.Fatal("a grant outlived the password that it was made with")
	}
	s.Wait(time.Millisecond)
	grant = s.grant("web", bob.UserID)
	s.call(token, "POST", "/users/"+bob.UserID+"/disable", nil).wants(200, `"disabled":true`)
	if s.alive(grant, s.Now()) {
		t.Fatal("a disabled user's grant is alive")
	}
	s.call(token, "POST", "/users/"+bob.UserID+"/enable", nil).wants(200, `"disabled":false`)
	s.call(token, "DELETE", "/users/"+bob.UserID, nil).wants(204)
	s.call(token, "DELETE", "/users/"+bob.UserID, nil).wants(404)
	for _, e := range s.events() {
		if text := fmt.Sprintf("%+v", e); strings.Contains(text, "battery") || strings.Contains(text, "correct") || e.Subject.ID != bob.UserID {
			t.Fatalf("journal: %s", text)
		}
	}
}

func TestResources(t *testing.T) {
	s := newService(t)
	token := s.admin()
	for _, row := range []struct {
		name string
		body object
	}{
		{"an id that is no URI", object{"id": "api"}},
		{"an id with a fragment", object{"id": "https://api.example.org/#x"}},
		{"the issuer itself", object{"id": issuerURL}},
		{"a scope of OpenID Connect", object{"id": "urn:x", "scopes": []string{"openid"}}},
		{"a scope with a space", object{"id": "urn:x", "scopes": []string{"a b"}}},
		{"an unknown format", object{"id": "urn:x", "token_format": "paseto"}},
		{"tokens that live too long", object{"id": "urn:x", "access_ttl": 3601}},
		{"tokens of negative life", object{"id": "urn:x", "access_ttl": -1}},
		{"introspection by nobody", object{"id": "urn:x", "introspection_clients": []string{"nobody"}}},
		{"introspection by anybody", object{"id": "urn:x", "introspection_clients": []string{"spa"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.T = t
			s.call(token, "POST", "/resources", row.body).wants(400)
		})
	}
	s.T = t
	id := "https://files.example.com/v1/"
	s.call(token, "POST", "/resources", object{"id": id, "scopes": []string{"files"}, "access_ttl": 60, "introspection_clients": []string{"web"}}).wants(201, id, `"access_ttl":60`)
	path := "/resources/" + escape(id)
	s.call(token, "GET", path, nil).wants(200, id)
	s.call(token, "PATCH", path, object{"token_format": "opaque"}).wants(200, "opaque", "files")
	s.call(token, "POST", "/clients", object{"client_id": "user-of-it", "grant_types": []string{"client_credentials"}, "scope": "files", "resources": []string{id}}).wants(201)
	s.call(token, "DELETE", path, nil).wants(409, "user-of-it")
	s.call(token, "DELETE", "/clients/user-of-it", nil).wants(204)
	s.call(s.admin(), "DELETE", path, nil).wants(204)
	s.call(token, "GET", path, nil).wants(404)
}

func TestKeys(t *testing.T) {
	s := newService(t)
	s.call(s.admin(), "POST", "/keys/rotate", object{"alg": "ES256"}) // the ring may allow the first one at once
	s.call(s.admin(), "POST", "/keys/rotate", object{"alg": "ES256"}).wants(409, "published long enough")
	s.call(s.admin(), "POST", "/keys/rotate", object{"alg": "EdDSA"}).wants(400, "keys.algorithms")
	s.call(s.admin(), "POST", "/keys/rotate", object{"alg": "none"}).wants(400)
	s.Wait(20 * time.Minute)
	old := s.tokenFor("web", "https://api.example.com", "orders:read")
	full := s.admin()
	var page admin.Page[admin.Key]
	var current, now admin.Key
	if got := s.call(full, "GET", "/keys", nil).wants(200); strings.Contains(string(got.body), "\"d\"") || strings.Contains(string(got.body), "ealed") {
		t.Fatalf("%s", got.body)
	} else {
		got.into(&page)
	}
	for _, k := range page.Items {
		if k.State == "current" && k.Algorithm == "ES256" {
			current = k
		}
	}
	s.call(full, "POST", "/keys/rotate", object{"alg": "ES256"}).wants(200).into(&now)
	if now.KeyID == current.KeyID || now.State != "current" {
		t.Fatalf("%+v", now)
	}
	if _, err := s.Parts.Reader.Authenticate(old); err != nil {
		t.Fatal("a rotation failed a token of the old key", err)
	}
	s.call(full, "DELETE", "/keys/nothing", nil).wants(404)
	s.call(full, "DELETE", "/keys/"+current.KeyID, nil).wants(204)
	if _, err := s.Parts.Reader.Authenticate(old); err == nil {
		t.Fatal("a token of a removed key is alive")
	}
	s.call(full, "GET", "/keys", nil).wants(401) // it was signed with that key too
	if got := s.call(s.admin(), "GET", "/keys", nil).wants(200); strings.Contains(string(got.body), current.KeyID) {
		t.Fatal("the removed key is still there")
	}
}

func TestGrants(t *testing.T) {
	s := newService(t)
	bob, eve := s.createUser("bob"), s.createUser("eve")
	root := s.grant("web", bob.UserID)
	child := s.grant("spa", bob.UserID, root)
	grandchild := s.grant("spa", bob.UserID, root, child)
	other := s.grant("web", eve.UserID)
	count := func(query string) int {
		n, after := 0, ""
		for range 20 {
			var page admin.Page[admin.Grant]
			s.call(s.admin(), "GET", "/grants?limit=1"+query+after, nil).wants(200).into(&page)
			n += len(page.Items)
			if page.Next == "" {
				return n
			}
			after = "&after=" + page.Next
		}
		return -1
	}
	for query, want := range map[string]int{
		"": 4, "&client_id=spa": 2, "&subject=" + eve.UserID: 1, "&active=true": 4, "&client_id=nobody": 0, "&client_id=web&subject=" + bob.UserID: 1,
	} {
		if got := count(query); got != want {
			t.Errorf("%q lists %d grants, want %d", query, got, want)
		}
	}
	s.call(s.admin(), "GET", "/grants?active=maybe", nil).wants(400)
	var shown admin.GrantWithFamily
	s.call(s.admin(), "GET", "/grants/"+root.ID.String(), nil).wants(200).into(&shown)
	if len(shown.Descendants) != 2 || shown.Descendants[0].GrantID != child.ID.String() || shown.Descendants[1].GrantID != grandchild.ID.String() || !shown.Alive || len(shown.Ancestors) != 0 {
		t.Fatalf("%+v", shown)
	}
	shown = admin.GrantWithFamily{}
	s.call(s.admin(), "GET", "/grants/"+grandchild.ID.String(), nil).wants(200).into(&shown)
	if len(shown.Descendants) != 0 || len(shown.Ancestors) != 2 || shown.Ancestors[0].GrantID != root.ID.String() || shown.Ancestors[1].GrantID != child.ID.String() || !shown.Ancestors[0].Alive || shown.Ancestors[0].Rowless {
		t.Fatalf("%+v", shown)
	}
	s.call(s.admin(), "GET", "/grants/"+authority.NewID(time.Now()).String(), nil).wants(404)

	var ended admin.Revoked
	s.call(s.admin(), "POST", "/grants/"+root.ID.String()+"/end", nil).wants(200).into(&ended)
	if ended.ActiveGrants != 3 || ended.DryRun {
		t.Fatalf("%+v", ended)
	}
	for _, g := range []authority.Grant{root, child, grandchild} {
		if !s.Parts.Revoked(g.Links()) { // at once, before the list is read again
			t.Errorf("tokens of %s are alive", g.ID)
		}
		s.call(s.admin(), "GET", "/grants/"+g.ID.String(), nil).wants(200, `"alive":false`)
	}
	s.call(s.admin(), "GET", "/grants/"+root.ID.String(), nil).wants(200, `"state":"ended"`)
	s.call(s.admin(), "GET", "/grants/"+other.ID.String(), nil).wants(200, `"alive":true`)
	if got := count("&active=true"); got != 1 {
		t.Errorf("%d active grants", got)
	}
}

func TestRevocations(t *testing.T) {
	s := newService(t)
	for _, row := range []struct {
		name string
		body object
	}{
		{"nothing named", object{}},
		{"only a dry run", object{"dry_run": true}},
		{"two things named", object{"client_id": "web", "everything": true}},
		{"with_grant without a token", object{"client_id": "web", "with_grant": true}},
		{"everything: false is nothing", object{"everything": false}},
		{"a grant id that is none", object{"grant_id": "x"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.T = t
			s.call(s.admin(), "POST", "/revocations", row.body).wants(400)
		})
	}
	s.T = t
	for name, body := range map[string]object{
		"a token of nobody": {"token": "abc"}, "a damaged refresh token": {"token": "sbx_rt_abc"},
		"somebody else's refresh token": {"token": authority.NewRefreshKey([32]byte{3}).Reveal(s.Parts.Refresh.First(authority.NewID(s.Now())))},
		"a client of nobody":            {"client_id": "nobody"}, "a user of nobody": {"user_id": "nobody"}, "a name of nobody": {"username": "nobody"},
	} {
		if got := s.call(s.admin(), "POST", "/revocations", body); got.status != 404 {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	if n := len(s.events()); n != 0 {
		t.Fatalf("%d records", n)
	}
}

// TestADryRunTouchesNothing, and says what the real run then does.
func TestADryRunTouchesNothing(t *testing.T) {
	for _, row := range []struct {
		name   string
		body   func(s *service, bob admin.User, g authority.Grant, token string) object
		active int64
		kind   string
	}{
		{"a token", func(_ *service, _ admin.User, _ authority.Grant, token string) object { return object{"token": token} }, 0, "token"},
		{"a token with a grant that has no row", func(_ *service, _ admin.User, _ authority.Grant, token string) object {
			return object{"token": token, "with_grant": true}
		}, 0, "grant"},
		{"a grant", func(_ *service, _ admin.User, g authority.Grant, _ string) object {
			return object{"grant_id": g.ID.String()}
		}, 2, "grant"},
		{"the grant of a refresh token", func(s *service, _ admin.User, g authority.Grant, _ string) object {
			return object{"token": s.Parts.Refresh.Reveal(s.Parts.Refresh.First(g.ID))}
		}, 2, "grant"},
		{"the grant of a refresh token of an older generation", func(s *service, _ admin.User, g authority.Grant, _ string) object {
			return object{"token": s.Parts.Refresh.Reveal(s.Parts.Refresh.Successor(s.Parts.Refresh.First(g.ID)))}
		}, 2, "grant"},
		{"a client", func(*service, admin.User, authority.Grant, string) object { return object{"client_id": "web"} }, 2, "client"},
		{"a user by id", func(_ *service, bob admin.User, _ authority.Grant, _ string) object {
			return object{"user_id": bob.UserID}
		}, 2, "user"},
		{"a user by name", func(*service, admin.User, authority.Grant, string) object { return object{"username": "bob"} }, 2, "user"},
		{"everything", func(*service, admin.User, authority.Grant, string) object { return object{"everything": true} }, 3, "everything"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newService(t)
			bob, eve := s.createUser("bob"), s.createUser("eve")
			g := s.grant("web", bob.UserID)
			s.grant("spa", bob.UserID, g)
			newest := s.grant("web", eve.UserID)
			held := s.tokenFor("web", "https://api.example.com", "orders:read")
			s.Wait(time.Second)
			events := len(s.events())
			before, err := s.DB.Revocations(t.Context(), 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			body := row.body(s, bob, g, held)
			body["dry_run"] = true
			var would admin.Revoked
			s.call(s.admin(), "POST", "/revocations", body).wants(200).into(&would)
			after, _ := s.DB.Revocations(t.Context(), 0, 1000)
			if len(s.events()) != events || len(after) != len(before) || !s.alive(g, s.Now()) {
				t.Fatal("the dry run left a trace")
			}
			if !would.DryRun || would.Kind != row.kind || would.ActiveGrants != row.active || !would.Exact || would.TokensDieIn <= 0 || would.TokensDieIn > 300 {
				t.Fatalf("%+v", would)
			}
			if row.kind == "everything" {
				if !would.Oldest.Equal(g.CreatedAt) || !would.Newest.Equal(newest.CreatedAt) || !reflect.DeepEqual(would.ByClient, []admin.ClientCount{{ClientID: "web", ActiveGrants: 2}, {ClientID: "spa", ActiveGrants: 1}}) {
					t.Fatalf("%+v", would)
				}
			}
			delete(body, "dry_run")
			var did admin.Revoked
			s.call(s.admin(), "POST", "/revocations", body).wants(200).into(&did)
			would.DryRun = false
			if !reflect.DeepEqual(would, did) {
				t.Fatalf("said %+v, did %+v", would, did)
			}
			if after, _ = s.DB.Revocations(t.Context(), 0, 1000); len(after) == len(before) || len(s.events()) == events {
				t.Fatal("nothing was written")
			}
			s.Wait(time.Second)
			body["dry_run"] = true
			if row.kind != "token" && row.name != "a token with a grant that has no row" {
				would = admin.Revoked{}
				s.call(s.admin(), "POST", "/revocations", body).wants(200).into(&would)
				if would.ActiveGrants != 0 {
					t.Fatalf("%d grants are still active", would.ActiveGrants)
				}
			}
			dead := map[string]bool{"token": true, "client": true, "everything": true}[row.kind] || row.name == "a token with a grant that has no row"
			if _, err := s.Parts.Reader.Authenticate(held); (err != nil) != dead {
				t.Fatalf("the machine's token: dead %v, want %v", err != nil, dead)
			}
		})
	}
}

// TestAMistypedGrantIsNotCalledEnded: whoever is told so stops looking. One that
// had ended before has ended, and what a machine got for itself is known from
// the journal of the node that issued it.
func TestAMistypedGrantIsNotCalledEnded(t *testing.T) {
	s := newService(t)
	bob := s.createUser("bob")
	g := s.grant("web", bob.UserID)
	machine, err := s.Parts.Reader.Authenticate(s.tokenFor("web", "https://api.example.com", "orders:read"))
	if err != nil {
		t.Fatal(err)
	}
	end := func(body object, status int) (r admin.Revoked) {
		t.Helper()
		answer := s.call(s.admin(), "POST", "/revocations", body).wants(status)
		if status == 200 {
			answer.into(&r)
		}
		return r
	}
	unknown := authority.NewID(s.Now()).String()
	for _, row := range []struct {
		sentence, id string
		status       int
		rowless      bool
	}{
		{"a grant with a row", g.ID.String(), 200, false},
		{"what a machine got for itself", machine.GrantID.String(), 200, true},
		{"an id that was never seen", unknown, 404, false},
	} {
		for _, dryRun := range []bool{true, false} {
			if r := end(object{"grant_id": row.id, "dry_run": dryRun}, row.status); r.AlreadyEnded || r.Rowless != row.rowless {
				t.Errorf("%s: %+v", row.sentence, r)
			}
		}
		if row.status != 200 {
			continue
		}
		events := len(s.events())
		if r := end(object{"grant_id": row.id}, 200); !r.AlreadyEnded {
			t.Errorf("%s, again: %+v", row.sentence, r)
		}
		if len(s.events()) != events {
			t.Errorf("%s, again: recorded a second time", row.sentence)
		}
	}
	if r := end(object{"grant_id": unknown, "force": true}, 200); r.AlreadyEnded || !r.Rowless {
		t.Errorf("by force: %+v", r)
	}
	if r := end(object{"grant_id": unknown}, 200); !r.AlreadyEnded {
		t.Errorf("after that: %+v", r)
	}
	end(object{"client_id": "web", "force": true}, 400)
}

func TestEpochsReachEveryNodeAndLastAsLongAsGrants(t *testing.T) {
	s := newService(t)
	bob := s.createUser("bob")
	at := s.Now()
	s.call(s.admin(), "POST", "/revocations", object{"user_id": bob.UserID}).wants(200)
	s.call(s.admin(), "POST", "/revocations", object{"grant_id": authority.NewID(at).String(), "force": true}).wants(200)
	written, err := s.DB.Revocations(t.Context(), 0, 10)
	if err != nil || len(written) != 2 {
		t.Fatal(err, written)
	}
	if r := written[0]; r.Kind != authority.EpochUser || r.Key != bob.UserID || !r.NotBefore.Equal(at) || !r.ExpiresAt.Equal(at.Add(authority.MaxGrantTTL+authority.Leeway)) {
		t.Fatalf("%+v", r)
	}
	// No row says how long what came from this grant may live.
	if r := written[1]; r.Kind != authority.RevokeGrant || r.ExpiresAt.Before(at.Add(authority.MaxGrantTTL)) {
		t.Fatalf("%+v", r)
	}
}

func TestJournalSearch(t *testing.T) {
	s := newService(t)
	for i := range 5 {
		s.createClient(fmt.Sprintf("c%d", i))
		s.Wait(time.Minute)
		s.call(s.token("keys:read"), "GET", "/clients", nil).wants(403)
	}
	var targets []string
	after := ""
	for range 10 {
		var page admin.Page[admin.Record]
		s.call(s.admin(), "GET", "/journal?type=client.changed&limit=2"+after, nil).wants(200).into(&page)
		for _, r := range page.Items {
			if r.Type != "client.changed" || r.Actor != "root" {
				t.Fatalf("%+v", r)
			}
			targets = append(targets, r.Target)
		}
		if page.Next == "" {
			break
		}
		after = "&after=" + page.Next
	}
	if !slices.Equal(targets, []string{"c4", "c3", "c2", "c1", "c0"}) {
		t.Fatalf("newest first, each once: %v", targets)
	}
	s.call(s.admin(), "GET", "/journal?client_id=c3", nil).wants(200, `"target":"c3"`)
	var since admin.Page[admin.Record]
	s.call(s.admin(), "GET", "/journal?type=client.changed&since=2026-05-01T12:04:00Z&until=2026-05-01T12:05:00Z", nil).wants(200).into(&since)
	if len(since.Items) != 1 || since.Items[0].Target != "c4" {
		t.Fatalf("%+v", since.Items)
	}
	for _, query := range []string{"since=yesterday", "until=1", "after=" + api.Cursor("0"), "after=" + api.Cursor("x"), "limit=0"} {
		s.call(s.admin(), "GET", "/journal?"+query, nil).wants(400)
	}
	full := s.admin()
	var newest admin.Page[admin.Record]
	s.call(full, "GET", "/journal?limit=1", nil).wants(200).into(&newest)
	s.call(full, "GET", "/journal/status", nil).wants(200, fmt.Sprintf(`"node":%q`, newest.Items[0].Node), fmt.Sprintf(`"seq":%d`, newest.Items[0].Seq))
}

func TestJournalTailFollowsAndEndsWithItsToken(t *testing.T) {
	s := newService(t)
	s.createClient("before")
	server := httptest.NewServer(s.Admin)
	defer server.Close()
	tail := func(query, token string) (*bufio.Reader, func()) {
		ctx, cancel := context.WithCancel(t.Context())
		request, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/admin/v1"+"/journal/tail"+query, nil)
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Fatal(response.Status, response.Header)
		}
		return bufio.NewReader(response.Body), func() { cancel(); response.Body.Close() }
	}
	next := func(r *bufio.Reader) admin.Record {
		t.Helper()
		line, err := r.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var record admin.Record
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatal(err)
		}
		return record
	}
	follow, stop := tail("?type=client.changed", s.token("journal:read"))
	defer stop()
	again, stopAgain := tail("?from=1", s.token("journal:read"))
	defer stopAgain()
	s.createUser("bob")
	s.createClient("now")
	if r := next(follow); r.Target != "now" {
		t.Fatalf("%+v", r)
	}
	if r := next(again); r.Seq != 1 {
		t.Fatalf("%+v", r)
	}
	s.call(s.admin(), "GET", "/journal/tail?from=0", nil).wants(400)
	s.call(s.admin(), "GET", "/journal/tail?since=2026-05-01T12:04:00Z", nil).wants(400)

	// The next record after the revocation is not sent any more.
	s.Wait(time.Millisecond)
	s.call(s.admin(), "POST", "/revocations", object{"everything": true}).wants(200)
	s.Wait(time.Millisecond)
	s.createClient("later")
	if line, err := follow.ReadBytes('\n'); err == nil {
		t.Fatalf("a dead token still reads the journal: %s", line)
	}
}
