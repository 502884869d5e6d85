package admin_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	server "github.com/signalbox-sts/signalbox/internal/server/admin"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

// sample gives each route a request that would do something, were it allowed.
func (s *service) sample() map[string]struct {
	path string
	body any
} {
	client, user := s.createClient("sample"), s.createUser("sample")
	doomed := s.createUser("doomed")
	s.createClient("doomed")
	s.call(s.admin(), "POST", "/resources", object{"id": "urn:doomed"}).wants(http.StatusCreated)
	grant := s.grant("web", user.UserID)
	s.call(s.admin(), "POST", "/resources", object{"id": "https://sample.example.com", "scopes": []string{"s"}}).wants(http.StatusCreated)
	type row = struct {
		path string
		body any
	}
	for _, name := range []string{"sample", "doomed"} {
		s.call(s.admin(), "POST", "/clusters", object{"name": name + "-cluster"}).wants(http.StatusCreated)
	}
	resource := "/resources/" + escape("https://sample.example.com")
	return map[string]row{
		"listClients": {"/clients", nil}, "createClient": {"/clients", object{"grant_types": []string{"client_credentials"}}},
		"showClient": {"/clients/" + client.ClientID, nil}, "updateClient": {"/clients/sample", object{"client_name": "x"}},
		"disableClient": {"/clients/sample/disable", nil}, "enableClient": {"/clients/sample/enable", nil},
		"rotateClientSecret": {"/clients/sample/secret", object{}}, "deleteClient": {"/clients/doomed", nil},
		"listUsers": {"/users", nil}, "createUser": {"/users", object{"username": "new", "password": "correct horse"}},
		"showUser": {"/users/" + user.UserID, nil}, "setPassword": {"/users/" + user.UserID + "/password", object{"password": "another one"}},
		"disableUser": {"/users/" + user.UserID + "/disable", nil}, "enableUser": {"/users/" + user.UserID + "/enable", nil}, "deleteUser": {"/users/" + doomed.UserID, nil},
		"listResources": {"/resources", nil}, "createResource": {"/resources", object{"id": "https://new.example.com"}},
		"showResource": {resource, nil}, "updateResource": {resource, object{"token_format": "opaque"}}, "deleteResource": {"/resources/urn:doomed", nil},
		"setGroups":    {"/users/" + user.UserID + "/groups", object{"groups": []string{"sre"}}},
		"listClusters": {"/clusters", nil}, "createCluster": {"/clusters", object{"name": "new-cluster"}}, "showCluster": {"/clusters/sample-cluster", nil},
		"updateCluster": {"/clusters/sample-cluster", object{"introspection_clients": []string{"web"}}}, "deleteCluster": {"/clusters/doomed-cluster", nil},
		"listTrustedIssuers": {"/trusted-issuers", nil}, "showTrustedIssuer": {"/trusted-issuers/ci", nil}, "listPolicies": {"/policies", nil},
		"listKeys": {"/keys", nil}, "rotateKey": {"/keys/rotate", object{"alg": "ES256"}}, "removeKey": {"/keys/" + s.retiredKey(), nil},
		"listGrants": {"/grants", nil}, "showGrant": {"/grants/" + grant.ID.String(), nil}, "endGrant": {"/grants/" + grant.ID.String() + "/end", nil},
		"revoke":        {"/revocations", object{"user_id": user.UserID}},
		"searchJournal": {"/journal", nil}, "tailJournal": {"/journal/tail", nil}, "showJournal": {"/journal/status", nil},
		"listNodes": {"/journal/nodes", nil}, "retireNode": {"/journal/nodes/" + s.gone("gone_1") + "/retire", nil},
		"why": {"/why/" + grant.ID.String(), nil}, "whyToken": {"/why", object{"token": s.admin()}},
	}
}

// retiredKey makes a key that signs nothing any more, and lets the next one
// grow old enough to be promoted.
func (s *service) retiredKey() string {
	s.Helper()
	old := s.Parts.Keys.Keys()
	s.Wait(20 * time.Minute)
	s.call(s.admin(), "POST", "/keys/rotate", object{"alg": "ES256"}).wants(http.StatusOK)
	s.Wait(20 * time.Minute)
	for _, k := range s.Parts.Keys.Keys() {
		if k.State == authority.KeyRetired {
			return k.ID
		}
	}
	s.Fatalf("no key was retired: %v", old)
	return ""
}

// TestEveryRouteAsksForItsScopeAndNoOther is the matrix: each route against a
// token of every scope but its own, of its own alone, and against none.
func TestEveryRouteAsksForItsScopeAndNoOther(t *testing.T) {
	static := declared()
	static.TrustedIssuers = map[string]authority.TrustedIssuer{"ci": {Name: "ci"}} // only a file has them
	s := newServiceOf(t, static)
	samples := s.sample()
	if len(samples) != len(server.Routes()) {
		t.Fatalf("%d samples for %d routes", len(samples), len(server.Routes()))
	}
	for _, rt := range server.Routes() {
		sample, ok := samples[rt.Name]
		if !ok {
			t.Fatalf("no sample for %s", rt.Name)
		}
		if rt.Scope == "" {
			t.Errorf("%s is open to everybody", rt.Name)
			continue
		}
		if !authority.AdminScopes.Has(rt.Scope) {
			t.Errorf("%s asks for %q, which is no scope of the API", rt.Name, rt.Scope)
		}
		reads := rt.Method == "GET" || rt.Name == "whyToken" // a token does not belong in a URL
		if changes := !reads; changes != strings.HasSuffix(rt.Scope, ":write") || changes != (rt.Event != "") {
			t.Errorf("%s %s has scope %q and event %q", rt.Method, rt.Path, rt.Scope, rt.Event)
		}
		others := slices.DeleteFunc(authority.AdminScopes.List(), func(name string) bool { return name == rt.Scope })
		t.Run(rt.Name, func(t *testing.T) {
			s.T = t
			before := len(s.events())
			s.call("", rt.Method, sample.path, sample.body).wants(http.StatusUnauthorized)
			s.call(s.tokenFor("root", "https://api.example.com", rt.Scope), rt.Method, sample.path, sample.body).wants(http.StatusUnauthorized, "invalid_token", authority.AdminResource)
			s.call(s.token(others...), rt.Method, sample.path, sample.body).wants(http.StatusForbidden, "insufficient_scope", rt.Scope)
			refused := s.events()[before:]
			if len(refused) != 1 || refused[0].Type != authority.EventAdminRefused || refused[0].Actor != "root" || refused[0].Target != rt.Method+" "+rt.Path {
				t.Fatalf("the refusal is not recorded: %+v", refused)
			}
			if rt.Stream {
				return // TestTail
			}
			got := s.call(s.token(rt.Scope), rt.Method, sample.path, sample.body)
			if got.status >= 300 {
				t.Fatalf("refused with its own scope: %d %s", got.status, got.body)
			}
		})
	}
}

func TestAccessTokens(t *testing.T) {
	s := newService(t)
	good := s.token("clients:read")
	s.call(good, "GET", "/clients", nil).wants(http.StatusOK)

	raw := func(header ...string) answer {
		if err := s.Node.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/admin/v1"+"/clients", nil)
		r.Header["Authorization"] = header
		w := httptest.NewRecorder()
		s.Admin.ServeHTTP(w, r)
		return answer{t, w.Code, w.Header(), w.Body.Bytes()}
	}
	raw("bearer " + good).wants(http.StatusOK) // RFC 9110 §11.1: the scheme's case does not count
	for name, header := range map[string][]string{
		"Basic instead of Bearer":       {"Basic " + good},
		"two headers":                   {"Bearer " + good, "Bearer " + good},
		"no token":                      {"Bearer "},
		"a token that was tampered":     {"Bearer " + good[:len(good)-2] + "AA"},
		"a token that is absurdly long": {"Bearer " + strings.Repeat("a", 1<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			got := raw(header...).wants(http.StatusUnauthorized)
			if !strings.Contains(got.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
				t.Fatalf("WWW-Authenticate is %q", got.header.Get("WWW-Authenticate"))
			}
		})
	}
	if got := raw().header.Get("WWW-Authenticate"); strings.Contains(got, "error") {
		t.Fatalf("RFC 6750 §3.1: no error where no token was sent, got %q", got)
	}
	if s.call(good, "GET", "/users", nil).header.Get("WWW-Authenticate") != `Bearer realm="signalbox-admin", error="insufficient_scope", scope="users:read"` {
		t.Fatal("the challenge does not name the scope")
	}
	s.Wait(6 * time.Minute)
	s.call(good, "GET", "/clients", nil).wants(http.StatusUnauthorized)
}

// Who accepts a token can also use it: one that is good at another API as well
// is not taken, even if something issued it.
func TestATokenThatIsGoodElsewhereTooIsRefused(t *testing.T) {
	s := newService(t)
	for _, others := range []string{"https://api.example.com " + authority.AdminResource, authority.AdminResource + " https://api.example.com"} {
		s.call(s.tokenFor("root", others, "clients:read"), "GET", "/clients", nil).wants(http.StatusUnauthorized, "invalid_token", "for others too")
	}
	s.call(s.tokenFor("root", authority.AdminResource, "openid", "clients:read"), "GET", "/clients", nil).wants(http.StatusUnauthorized, "for others too")
}

func TestTokenOfADisabledOrDeletedClientIsRefused(t *testing.T) {
	s := newService(t)
	s.call(s.admin(), "POST", "/clients", object{"client_id": "ops", "grant_types": []string{"client_credentials"}, "scope": "clients:read", "resources": []string{authority.AdminResource}}).wants(http.StatusCreated)
	token := s.tokenFor("ops", authority.AdminResource, "clients:read")
	s.call(token, "GET", "/clients", nil).wants(http.StatusOK)
	// Behind the API's back: even without an epoch the account decides.
	clients := authority.Clients(s.DB)
	client, _ := clients.Get(t.Context(), "ops")
	disabled := client
	disabled.Disabled = true
	disabled, err := clients.Update(t.Context(), disabled)
	if err != nil {
		t.Fatal(err)
	}
	s.call(token, "GET", "/clients", nil).wants(http.StatusUnauthorized, "disabled")
	if err := clients.Delete(t.Context(), disabled, s.Now()); err != nil {
		t.Fatal(err)
	}
	s.call(token, "GET", "/clients", nil).wants(http.StatusUnauthorized, "no longer exists")
}

func TestANodeThatHearsNothingIsNotAdministered(t *testing.T) {
	s := newService(t)
	token := s.admin()
	if err := s.Node.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Wait(6 * time.Second)
	r := httptest.NewRequest("GET", "/admin/v1"+"/clients", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	s.Admin.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || len(s.events())+len(s.Tallied()) != 0 {
		t.Fatalf("%d, %d records", w.Code, len(s.events())+len(s.Tallied()))
	}
}

func TestAnonymousRefusalsGoToTheJournalInBulk(t *testing.T) {
	s := newService(t)
	for range 100 {
		s.call("nonsense", "GET", "/clients", nil).wants(http.StatusUnauthorized)
	}
	if len(s.events()) != 0 || len(s.Tallied()) != 100 {
		t.Fatalf("%d synced records and %d later ones", len(s.events()), len(s.Tallied()))
	}
}

// TestNobodyHandsOutMoreThanHeHas: clients:write must not be every scope.
func TestNobodyHandsOutMoreThanHeHas(t *testing.T) {
	s := newService(t)
	weak := s.token("clients:read", "clients:write")
	client := func(scope string) object {
		return object{"client_id": "mine", "grant_types": []string{"client_credentials"}, "scope": scope, "resources": []string{authority.AdminResource}}
	}
	s.call(weak, "POST", "/clients", client("clients:read keys:write")).wants(http.StatusForbidden, "keys:write")
	s.call(weak, "POST", "/clients", client("clients:read")).wants(http.StatusCreated)
	s.call(weak, "PATCH", "/clients/mine", object{"scope": "users:write"}).wants(http.StatusForbidden, "users:write")

	s.call(s.admin(), "PATCH", "/clients/mine", object{"scope": "users:write"}).wants(http.StatusOK)
	s.call(weak, "POST", "/clients/mine/secret", object{}).wants(http.StatusForbidden, "users:write")
	s.call(weak, "PATCH", "/clients/mine", object{"token_endpoint_auth_method": "client_secret_post"}).wants(http.StatusForbidden)
	refused := 0
	for _, e := range s.events() {
		if e.Type == authority.EventAdminRefused {
			refused++
		}
	}
	if refused != 4 {
		t.Fatalf("%d refusals recorded, want 4", refused)
	}
}

// A client that holds more of this API than the caller is out of the caller's
// hands, whatever the change: who can enable an administrator can undo his end.
func TestNobodyChangesAClientThatHoldsMore(t *testing.T) {
	s := newService(t)
	s.call(s.admin(), "POST", "/clients", object{
		"client_id": "ruler", "grant_types": []string{"client_credentials"}, "scope": "clients:read users:write", "resources": []string{authority.AdminResource},
	}).wants(http.StatusCreated)
	s.call(s.admin(), "POST", "/clients/ruler/disable", nil).wants(http.StatusOK)
	s.Wait(time.Millisecond)
	// What the caller holds is by the token, not by its client.
	weak, same := s.token("clients:read", "clients:write"), s.token("clients:read", "clients:write", "users:write")
	changes := []struct {
		name, method, path string
		body               any
	}{
		{"enable", "POST", "/clients/ruler/enable", nil},
		{"give a new secret", "POST", "/clients/ruler/secret", object{}},
		{"change its name", "PATCH", "/clients/ruler", object{"client_name": "x"}},
		{"take its scopes", "PATCH", "/clients/ruler", object{"scope": "", "resources": []string{}}},
		{"disable", "POST", "/clients/ruler/disable", nil},
		{"delete", "DELETE", "/clients/ruler", nil},
	}
	for _, row := range changes {
		got := s.call(weak, row.method, row.path, row.body)
		if got.status != http.StatusForbidden || !strings.Contains(string(got.body), "users:write") {
			t.Errorf("%s: %d %s", row.name, got.status, got.body)
		}
	}
	if c, err := authority.Clients(s.DB).Get(t.Context(), "ruler"); err != nil || c.Revision != 2 {
		t.Errorf("it was changed: %+v %v", c, err)
	}
	for _, row := range changes {
		if got := s.call(same, row.method, row.path, row.body); got.status >= 300 {
			t.Errorf("%s, by who holds as much: %d %s", row.name, got.status, got.body)
		}
	}
	// Also one that breaks a rule, and so holds nothing now.
	s.stored(authority.KindClient, "old", object{"grant_types": []string{"client_credentials"}, "client_name": "\x1b", "scope": "keys:write", "resources": []string{authority.AdminResource}})
	s.call(weak, "DELETE", "/clients/old", nil).wants(http.StatusForbidden, "keys:write")
}

// Whoever was told that an end is not on record asks again, and then it is.
func TestAnEndIsOnRecordInTheEnd(t *testing.T) {
	for _, kind := range []string{"token", "grant"} {
		s := newService(t)
		token := s.admin()
		s.createClient("c1")
		held := s.tokenFor("c1", "https://api.example.com", "orders:read")
		of, err := s.Parts.Reader.Authenticate(held)
		if err != nil {
			t.Fatal(err)
		}
		body := map[string]object{"token": {"token": held}, "grant": {"grant_id": of.GrantID.String()}}[kind]
		before := len(s.events())
		s.breakJournal(errors.New("disk full"))
		s.call(token, "POST", "/revocations", body).wants(http.StatusServiceUnavailable, "access was ended")
		s.breakJournal(nil)
		for range 2 {
			s.Pass(time.Second)
			s.call(token, "POST", "/revocations", body).wants(http.StatusOK)
		}
		if got := s.events()[before:]; len(got) != 1 || got[0].GrantID != of.GrantID || !strings.Contains(got[0].Reason, "again") {
			t.Errorf("%s: %+v", kind, got)
		}
	}
}

// TestTheJournalComesFirst: a change that cannot be recorded does not happen,
// and what takes access away happens all the same.
func TestTheJournalComesFirst(t *testing.T) {
	s := newService(t)
	token := s.admin()
	s.createClient("c1")
	user := s.createUser("bob")
	held := s.tokenFor("c1", "https://api.example.com", "orders:read")
	reads := s.token("clients:read")
	s.breakJournal(errors.New("disk full"))

	got := s.call(token, "POST", "/clients", object{"client_id": "c2", "grant_types": []string{"client_credentials"}}).wants(http.StatusServiceUnavailable, "nothing was changed")
	if got.header.Get("Retry-After") == "" || strings.Contains(string(got.body), "disk full") || strings.Contains(string(got.body), "sbx_cs_") {
		t.Fatalf("%v %s", got.header, got.body)
	}
	s.call(token, "PATCH", "/clients/c1", object{"client_name": "x"}).wants(http.StatusServiceUnavailable)
	s.call(token, "POST", "/users/"+user.UserID+"/enable", nil).wants(http.StatusServiceUnavailable)
	s.call(token, "GET", "/clients/c2", nil).wants(http.StatusNotFound)
	var c1 admin.Client
	s.call(token, "GET", "/clients/c1", nil).wants(http.StatusOK).into(&c1)
	if c1.ClientName != "" {
		t.Fatal("the client was changed off the record")
	}

	if _, err := s.Parts.Reader.Authenticate(held); err != nil {
		t.Fatal(err)
	}
	s.call(token, "POST", "/revocations", object{"client_id": "c1"}).wants(http.StatusServiceUnavailable, "access was ended")
	if _, err := s.Parts.Reader.Authenticate(held); err == nil {
		t.Fatal("a full disk protects the thief")
	}
	s.call(reads, "GET", "/users", nil).wants(http.StatusServiceUnavailable, "refusal")
}

func TestAStoreThatFailsIs503AndOnRecord(t *testing.T) {
	s := newService(t)
	s.Rig.Fail("CreateObject", errors.New("database away"))
	got := s.call(s.admin(), "POST", "/clients", object{"client_id": "c2", "grant_types": []string{"client_credentials"}}).wants(http.StatusServiceUnavailable, "temporarily_unavailable")
	if strings.Contains(string(got.body), "database away") || strings.Contains(string(got.body), "sbx_cs_") {
		t.Fatalf("%s", got.body)
	}
	events := s.events()
	if len(events) != 2 || events[0].Error != "" || events[1].Error != "temporarily_unavailable" || !strings.Contains(events[1].Reason, "failed") {
		t.Fatalf("%+v", events)
	}
}

func TestTransport(t *testing.T) {
	s := newService(t)
	token := s.admin()
	tooLarge := `{"client_name":"` + strings.Repeat("x", httpx.MaxBody) + `"}`
	deep := `{"jwks":` + strings.Repeat(`{"a":`, 60) + `1` + strings.Repeat(`}`, 60) + `}`
	for _, row := range []struct {
		name, method, path string
		body               any
		status             int
		text               string
	}{
		{"an unknown parameter", "GET", "/grants?clientid=web", nil, 400, "clientid"},
		{"a parameter sent twice", "GET", "/grants?client_id=web&client_id=spa", nil, 400, "twice"},
		{"a limit of 0", "GET", "/clients?limit=0", nil, 400, "limit"},
		{"a negative limit", "GET", "/users?limit=-1", nil, 400, "limit"},
		{"a limit above 1000", "GET", "/grants?limit=1001", nil, 400, "limit"},
		{"a limit that is no number", "GET", "/resources?limit=1e2", nil, 400, "limit"},
		{"a cursor that nobody gave", "GET", "/clients?after=' OR 1=1", nil, 400, "after"},
		{"a cursor of another list", "GET", "/grants?after=" + api.Cursor("fweb"), nil, 400, "after"},
		{"a cursor with a NUL", "GET", "/clients?after=" + api.Cursor("d\x00"), nil, 400, "after"},
		{"a cursor that is too long", "GET", "/clients?after=" + api.Cursor("d"+strings.Repeat("x", 4000)), nil, 400, "after"},
		{"an id with a NUL", "GET", "/clients/a%00b", nil, 404, ""},
		{"an id that is not UTF-8", "GET", "/users/%ff", nil, 404, ""},
		{"a grant id that is SQL", "GET", "/grants/" + escape("' OR 1=1--"), nil, 404, ""},
		{"a body above 1 MiB", "POST", "/clients", tooLarge, 400, "1 MiB"},
		{"a body that is deep", "POST", "/clients", deep, 400, "deep"},
		{"a body of two values", "POST", "/clients", `{} {}`, 400, "one well-formed JSON object"},
		{"a body that is an array", "POST", "/clients", `[]`, 400, "one well-formed JSON object"},
		{"an empty body", "POST", "/clients", ``, 400, "one well-formed JSON object"},
		{"a member sent twice", "POST", "/users", `{"username":"a","username":"b","password":"correct horse"}`, 400, "twice"},
		{"a member in other case", "POST", "/users", `{"Username":"a","password":"correct horse"}`, 400, "Username"},
		{"an unknown member", "POST", "/users", `{"username":"a","password":"correct horse","admin":true}`, 400, "admin"},
		{"a member that is not the caller's to set", "POST", "/clients", `{"grant_types":["client_credentials"],"source":"file"}`, 400, "source"},
		{"a member of the wrong type", "POST", "/users", `{"username":7,"password":"correct horse"}`, 400, "username"},
		{"a NUL in a member", "POST", "/users", `{"username":"a\u0000","password":"correct horse"}`, 400, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.T = t
			path := strings.ReplaceAll(row.path, " ", "%20")
			s.call(token, row.method, path, row.body).wants(row.status, row.text)
		})
	}
	r := httptest.NewRequest("POST", "/admin/v1"+"/users", strings.NewReader(`{"username":"a","password":"correct horse"}`))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.Admin.ServeHTTP(w, r)
	answer{t, w.Code, w.Header(), w.Body.Bytes()}.wants(http.StatusBadRequest, "application/json")
	if n := len(s.events()); n != 0 {
		t.Fatalf("%d records of changes that were refused", n)
	}
}

func TestPagesHoldEverythingOnce(t *testing.T) {
	s := newService(t)
	for _, id := range []string{"m1", "m2", "zz", "a0", "Q"} {
		s.createClient(id)
	}
	for limit := 1; limit <= 9; limit++ {
		var ids []string
		after := ""
		for range 20 {
			var page admin.Page[admin.Client]
			s.call(s.admin(), "GET", "/clients?limit="+string(rune('0'+limit))+after, nil).wants(http.StatusOK).into(&page)
			for _, c := range page.Items {
				ids = append(ids, c.ClientID)
			}
			if page.Next == "" {
				break
			}
			after = "&after=" + page.Next
		}
		if want := []string{"root", "spa", "web", "Q", "a0", "m1", "m2", "zz"}; !slices.Equal(ids, want) {
			t.Fatalf("limit %d: %v", limit, ids)
		}
	}
}

func TestWhatTheFileHoldsIsReadOnly(t *testing.T) {
	s := newService(t)
	token := s.admin()
	api := "/resources/" + escape("https://api.example.com")
	for _, row := range []struct {
		name, method, path string
		body               any
		status             int
	}{
		{"change a client", "PATCH", "/clients/web", object{"client_name": "x"}, 409},
		{"disable a client", "POST", "/clients/web/disable", nil, 409},
		{"enable a client", "POST", "/clients/web/enable", nil, 409},
		{"rotate a client's secret", "POST", "/clients/web/secret", object{}, 409},
		{"delete a client", "DELETE", "/clients/web", nil, 409},
		{"set a user's password", "POST", "/users/u_ada/password", object{"password": "correct horse"}, 409},
		{"disable a user", "POST", "/users/u_ada/disable", nil, 409},
		{"enable a user", "POST", "/users/u_ada/enable", nil, 409},
		{"delete a user", "DELETE", "/users/u_ada", nil, 409},
		{"change a resource", "PATCH", api, object{"token_format": "opaque"}, 409},
		{"delete a resource", "DELETE", api, nil, 409},
		{"change the built-in resource", "PATCH", "/resources/" + escape(authority.AdminResource), object{"scopes": []string{"all"}}, 409},
		{"delete the built-in resource", "DELETE", "/resources/" + escape(authority.AdminResource), nil, 409},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.T = t
			s.call(token, row.method, row.path, row.body).wants(row.status, "read_only")
		})
	}
	s.T = t
	s.call(token, "PATCH", "/clients/web", object{}).wants(409, "configuration file", "change it there")
	s.call(token, "POST", "/clients", object{"client_id": "web", "grant_types": []string{"client_credentials"}}).wants(409, "already_exists")
	s.call(token, "POST", "/users", object{"username": "ada", "password": "correct horse"}).wants(409, "already_exists")
	s.call(token, "POST", "/resources", object{"id": "https://api.example.com"}).wants(409, "already_exists")
	// Ending what a declared client or user has is no change of the file.
	s.call(token, "POST", "/revocations", object{"client_id": "web"}).wants(200)
	s.call(token, "POST", "/revocations", object{"username": "Ada"}).wants(200)
}
