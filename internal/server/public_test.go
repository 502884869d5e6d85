package server_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/node/nodetest"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/server"
)

// newRig is a node with a client and a resource.
func newRig(t *testing.T) *nodetest.Rig {
	t.Helper()
	const api = "https://api.example.com"
	return nodetest.New(t, nodetest.Setup{Static: authority.StaticObjects{
		Resources: map[string]authority.Resource{api: {ID: api, Scopes: oauth.MustScopes("read"), Format: authority.FormatJWT}},
		Clients: map[string]authority.Client{"service": {
			ID: "service", AuthMethod: oauth.AuthClientSecretBasic, GrantTypes: []oauth.GrantType{oauth.ClientCredentials},
			Secrets: []authority.ClientSecret{{Hash: sha256.Sum256([]byte("the secret"))}},
		}},
	}})
}

// raw sends one request line that no honest client would write.
func raw(t *testing.T, site *httptest.Server, method, target, body string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", site.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body)
	r, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %q: %v", method, target, err)
	}
	return r
}

func TestUncleanPathsLeadNowhere(t *testing.T) { // 3 and 10
	site := httptest.NewServer(newRig(t).Public)
	t.Cleanup(site.Close)
	for _, target := range []string{
		"//token", "/./token", "/x/../token", "/token/..", "/token/.", "/..", "/../token", "//evil.example", "//evil.example/..", "///token", "/token//", "//",
		"/%2e%2e/token", "/%2e/token", "/x/%2e%2e/token", "/x%2f..%2ftoken", "/%2ftoken", "/token%2f", "/token%2f..", `/\evil.example`, "/%5cevil.example", `/x\..\token`,
		"/token/", "/TOKEN", "/Token", "/token;x", "/token%00", "/token%20", "/..;/token", "/;/token", "/%252e%252e/token", "/login/", "/authorize/", "/jwks/", "/.well-known//openid-configuration",
		"/.well-known/", "/.well-known/openid-configuration/", "/nosuch", "http://evil.example//token", "http://evil.example/x/../token", "http://evil.example",
	} {
		for _, method := range []string{"GET", "POST"} {
			t.Run(method+" "+target, func(t *testing.T) {
				r := raw(t, site, method, target, "grant_type=client_credentials")
				if r.StatusCode >= 300 && r.StatusCode < 400 || r.Header.Get("Location") != "" {
					t.Fatalf("%d to %q", r.StatusCode, r.Header.Get("Location"))
				}
				if r.StatusCode != 404 && r.StatusCode != 400 && r.StatusCode != 405 {
					t.Fatalf("%d: it leads somewhere: %.200s", r.StatusCode, server.Text(t, r))
				}
				if strings.Contains(server.Text(t, r), "evil.example") {
					t.Fatal("the answer repeats the path")
				}
			})
		}
	}
	if r := raw(t, site, "POST", "/token", "grant_type=client_credentials"); r.StatusCode != 401 {
		t.Fatalf("the clean path: %d", r.StatusCode)
	}
}

func TestMethods(t *testing.T) { // 112
	h := newRig(t).Public
	for path, allowed := range map[string][]string{
		"/token": {"POST"}, "/introspect": {"POST"}, "/revoke": {"POST"}, "/userinfo": {"GET", "HEAD", "POST"}, "/jwks": {"GET", "HEAD"},
		"/.well-known/openid-configuration": {"GET", "HEAD"}, "/readyz": {"GET", "HEAD"},
		"/authorize": {"GET", "POST"}, "/login": {"GET", "POST"}, "/consent": {"GET", "POST"}, "/logout": {"GET", "POST"},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "MADEUP"} {
			r := server.Ask(h, method, path, "")
			if slices.Contains(allowed, method) {
				if r.StatusCode == 404 || r.StatusCode == 405 {
					t.Errorf("%s %s: %d", method, path, r.StatusCode)
				}
				continue
			}
			if r.StatusCode != 405 || r.Header.Get("Allow") == "" {
				t.Errorf("%s %s: %d, Allow %q", method, path, r.StatusCode, r.Header.Get("Allow"))
			}
		}
	}
}

func TestCrossOrigin(t *testing.T) { // 112
	h := newRig(t).Public
	for _, row := range []struct {
		name, method, path, origin string
		want                       string
	}{
		{"a script reads the metadata", "GET", "/.well-known/openid-configuration", "https://app.example", "*"},
		{"a script reads the keys", "GET", "/jwks", "https://app.example", "*"},
		{"a script redeems a code", "POST", "/token", "https://app.example", "*"},
		{"a script revokes", "POST", "/revoke", "https://app.example", "*"},
		{"a script asks for UserInfo", "GET", "/userinfo", "https://app.example", "*"},
		{"a script introspects", "POST", "/introspect", "https://app.example", ""},
		{"a script reads the sign-in page", "GET", "/authorize", "https://app.example", ""},
		{"a script signs in", "POST", "/login", "https://app.example", ""},
		{"a script signs out", "GET", "/logout", "https://app.example", ""},
		{"112: the origin null", "POST", "/token", "null", ""},
		{"112: the origin null asks first", "OPTIONS", "/token", "null", ""},
		{"no origin", "POST", "/token", "", ""},
		{"a script asks first", "OPTIONS", "/token", "https://app.example", "*"},
		{"a script asks first about introspection", "OPTIONS", "/introspect", "https://app.example", ""},
		{"a script asks first about sign-in", "OPTIONS", "/login", "https://app.example", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var headers []string
			if row.origin != "" {
				headers = []string{"Origin", row.origin, "Access-Control-Request-Method", "POST", "Cookie", "__Host-signalbox_session=x"}
			}
			r := server.Ask(h, row.method, row.path, "", headers...)
			if got := r.Header.Get("Access-Control-Allow-Origin"); got != row.want {
				t.Errorf("Access-Control-Allow-Origin is %q, want %q", got, row.want)
			}
			if r.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("112: credentials with a wildcard")
			}
			allowed := r.Header.Get("Access-Control-Allow-Headers")
			if row.method == "OPTIONS" && row.want != "" && (r.StatusCode != 204 || !strings.Contains(allowed, "Authorization") || !strings.Contains(allowed, "Content-Type")) {
				t.Errorf("the preflight: %d %v", r.StatusCode, r.Header)
			}
		})
	}
}

func TestEveryAnswer(t *testing.T) {
	rig := newRig(t)
	h := rig.Public
	for _, row := range []struct{ method, path, body string }{
		{"POST", "/token", "grant_type=client_credentials"}, {"POST", "/introspect", "token=x"}, {"POST", "/revoke", "token=x"}, {"GET", "/userinfo", ""},
		{"GET", "/jwks", ""}, {"GET", "/.well-known/openid-configuration", ""}, {"GET", "/readyz", ""}, {"GET", "/authorize", ""}, {"GET", "/", ""}, {"GET", "/nosuch", ""}, {"POST", "/login", ""},
	} {
		r := server.Ask(h, row.method, row.path, row.body, "X-Request-Id", "chosen-by-the-caller", "X-Correlation-Id", "chosen-by-the-caller")
		id := r.Header.Get("X-Request-Id")
		if r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Referrer-Policy") != "no-referrer" || r.Header.Get("Server") != "" {
			t.Errorf("%s %s: %v", row.method, row.path, r.Header)
		}
		if len(id) != 24 || !strings.Contains(rig.Log(), id) {
			t.Errorf("%s %s: the id %q is not in the log", row.method, row.path, id)
		}
		var body struct {
			Error string `json:"error"`
			ID    string `json:"request_id"`
		}
		if said := server.Text(t, r); strings.HasPrefix(said, `{"error"`) && (json.Unmarshal([]byte(said), &body) != nil || body.ID != id) {
			t.Errorf("%s %s: the error names another id: %s", row.method, row.path, said)
		}
	}
	if strings.Contains(rig.Log(), "chosen-by-the-caller") {
		t.Error("114: the caller chose the id")
	}
	if r := server.Ask(h, "GET", "//unclean", ""); r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("an unclean path: %v", r.Header)
	}
}

func TestLargeBodies(t *testing.T) { // 112
	site := httptest.NewServer(newRig(t).Public)
	t.Cleanup(site.Close)
	for _, path := range []string{"/token", "/introspect", "/revoke"} {
		for name, body := range map[string]io.Reader{
			"announced":     strings.NewReader("a=" + strings.Repeat("b", httpx.MaxForm)),
			"not announced": io.MultiReader(strings.NewReader("a="), strings.NewReader(strings.Repeat("b", httpx.MaxForm))),
		} {
			r, err := site.Client().Post(site.URL+path, "application/x-www-form-urlencoded", body)
			if err != nil {
				t.Fatal(err)
			}
			if said := server.Text(t, r); r.StatusCode != 413 || !strings.Contains(said, "invalid_request") || !r.Close {
				t.Errorf("%s, %s: %d %s", path, name, r.StatusCode, said)
			}
			_ = r.Body.Close()
		}
	}
}

func TestDiscovery(t *testing.T) {
	h := newRig(t).Public
	r := server.Ask(h, "GET", "/.well-known/openid-configuration", "", "Host", "evil.example", "X-Forwarded-Host", "evil.example", "Forwarded", "host=evil.example")
	said := server.Text(t, r)
	if other := server.Text(t, server.Ask(h, "GET", "/.well-known/oauth-authorization-server", "")); other != said || strings.Contains(said, "evil.example") {
		t.Fatalf("102: two documents, or one that the caller wrote: %s", said)
	}
	var document map[string]any
	if err := json.Unmarshal([]byte(said), &document); err != nil {
		t.Fatal(err)
	}
	if document["issuer"] != nodetest.Issuer || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", document["issuer"])
	}
	// Every endpoint that is listed is served, and answers for itself.
	want := map[string]struct {
		method, path string
		status       int
	}{
		"authorization_endpoint": {"GET", "/authorize", 400}, "token_endpoint": {"POST", "/token", 401}, "jwks_uri": {"GET", "/jwks", 200}, "userinfo_endpoint": {"GET", "/userinfo", 401},
		"introspection_endpoint": {"POST", "/introspect", 401}, "revocation_endpoint": {"POST", "/revoke", 401}, "end_session_endpoint": {"GET", "/logout", 200},
	}
	for name, value := range document {
		if !strings.HasSuffix(name, "_endpoint") && name != "jwks_uri" {
			continue
		}
		row, known := want[name]
		if !known || value != nodetest.Issuer+row.path {
			t.Errorf("%s is %v", name, value)
			continue
		}
		delete(want, name)
		if got := server.Ask(h, row.method, row.path, map[string]string{"POST": "a=b"}[row.method]).StatusCode; got != row.status {
			t.Errorf("%s: %s %s is %d, want %d", name, row.method, row.path, got, row.status)
		}
	}
	if len(want) > 0 {
		t.Errorf("served and not listed: %v", want)
	}
	// What is not built is not promised.
	for _, later := range []string{"registration_endpoint", "device_authorization_endpoint", "pushed_authorization_request_endpoint"} {
		if document[later] != nil {
			t.Errorf("%s is listed", later)
		}
	}
	list := func(name string) (values []string) {
		for _, v := range document[name].([]any) {
			values = append(values, v.(string))
		}
		return values
	}
	for name, exact := range map[string][]string{
		"code_challenge_methods_supported":      {"S256"},
		"response_types_supported":              {"code"},
		"grant_types_supported":                 {"authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:grant-type:jwt-bearer"},
		"id_token_signing_alg_values_supported": {"ES256", "RS256"},
		"token_endpoint_auth_methods_supported": {"none", "client_secret_basic", "client_secret_post", "private_key_jwt", "federated_jwt"},
		"scopes_supported":                      {"openid", "profile", "email", "address", "phone", "offline_access", "read"},
		"response_modes_supported":              {"query", "form_post"},
		"acr_values_supported":                  {"urn:signalbox:acr:password"},
	} {
		if got := list(name); !slices.Equal(got, exact) {
			t.Errorf("%s: %q, want %q", name, got, exact)
		}
	}
	if document["authorization_response_iss_parameter_supported"] != true || document["request_uri_parameter_supported"] != false { // 20
		t.Errorf("%s", said)
	}
	for _, endpoint := range []string{"token", "introspection", "revocation"} { // RFC 8414 §2
		methods := list(endpoint + "_endpoint_auth_methods_supported")
		algorithms, _ := document[endpoint+"_endpoint_auth_signing_alg_values_supported"].([]any)
		if !slices.Contains(methods, "private_key_jwt") || len(algorithms) == 0 || slices.Contains(algorithms, any("none")) {
			t.Errorf("%s: methods %q, algorithms %v", endpoint, methods, algorithms)
		}
	}
	if slices.Contains(list("introspection_endpoint_auth_methods_supported"), "none") {
		t.Error("73: introspection without authentication is listed")
	}
}

func TestKeySetIsForgottenBeforeAKeySigns(t *testing.T) { // 63
	if keys.MaxAge >= keys.Lead {
		t.Fatalf("a copy of the key set lives %s, and a key signs %s after it was published", keys.MaxAge, keys.Lead)
	}
	r := server.Ask(newRig(t).Public, "GET", "/jwks", "")
	if got, want := r.Header.Get("Cache-Control"), fmt.Sprintf("public, max-age=%d", int(keys.MaxAge.Seconds())); got != want {
		t.Fatalf("%q, want %q", got, want)
	}
}

func TestLogAndMetricsNameTheTemplateOfTheRoute(t *testing.T) {
	rig := newRig(t)
	public, private := rig.Public, rig.Admin
	for _, row := range []struct {
		h                      http.Handler
		method, path, template string
	}{
		{private, "GET", "/admin/v1/clients", "/admin/v1/clients"},
		{private, "GET", "/admin/v1/clients/web", "/admin/v1/clients/{id}"},
		{private, "POST", "/admin/v1/clients/web/secret", "/admin/v1/clients/{id}/secret"},
		{private, "GET", "/admin/v1/resources/https%3A%2F%2Fapi.example.com", "/admin/v1/resources/{id}"},
		{private, "PUT", "/admin/v1/clients/web", "/admin/v1/clients/{id}"},
		{private, "GET", "/admin/v1/openapi.json", "/admin/v1/openapi.json"},
		{private, "GET", "/admin/v1/nosuch", "other"},
		{private, "GET", "/nosuch", "other"},
		{public, "POST", "/token", "/token"},
		{public, "GET", "/token", "/token"},
		{public, "OPTIONS", "/token", "/token"},
		{public, "GET", "/", "/"},
		{public, "GET", "/nosuch", "other"},
		{public, "GET", "//token", "other"},
		{public, "GET", "/clusters/hub/jwks", "/clusters/{name}/jwks"},
		{public, "GET", "/clusters/hub/.well-known/openid-configuration", "/clusters/{name}/.well-known/openid-configuration"},
		{public, "GET", "/clusters/hub", "other"},
		{public, "POST", "/kubernetes/tokenreview", "/kubernetes/tokenreview"},
	} {
		r := server.Ask(row.h, row.method, row.path, "")
		var line struct{ Path string }
		for _, l := range strings.Split(rig.Log(), "\n") {
			if strings.Contains(l, r.Header.Get("X-Request-Id")) {
				if err := json.Unmarshal([]byte(l), &line); err != nil {
					t.Fatal(err)
				}
			}
		}
		if line.Path != row.template {
			t.Errorf("%s %s is logged as %q, want %q", row.method, row.path, line.Path, row.template)
		}
		if series(rig, "signalbox_requests_total", row.template, row.method) == 0 {
			t.Errorf("%s %s is not counted as %q", row.method, row.path, row.template)
		}
	}
}

func TestWhatLeadsNowhereIsJSONOrAPage(t *testing.T) {
	rig := newRig(t)
	public, private := rig.Public, rig.Admin
	const browser = "text/html,application/xhtml+xml,*/*;q=0.8"
	for _, row := range []struct {
		name         string
		h            http.Handler
		method, path string
		accept       string
		status       int
		allow        string
		code         string // empty: it is a page
	}{
		{"a program at a wrong address", public, "GET", "/nosuch", "", 404, "", "not_found"},
		{"a program at an address that is not clean", public, "POST", "/x/../token", "application/json", 404, "", "not_found"},
		{"a person at a wrong address", public, "GET", "/nosuch", browser, 404, "", ""},
		{"a program with a wrong method", public, "GET", "/token", "", 405, "OPTIONS, POST", "method_not_allowed"},
		{"a browser at an address for programs", public, "GET", "/introspect", browser, 405, "POST", "method_not_allowed"},
		{"GET is HEAD too", public, "DELETE", "/jwks", "", 405, "GET, HEAD, OPTIONS", "method_not_allowed"},
		{"a wrong method on a page", public, "DELETE", "/consent", browser, 405, "GET, POST", ""},
		{"a wrong address of the admin API", private, "GET", "/admin/v1/nosuch", browser, 404, "", "not_found"},
		{"a wrong address of the admin listener", private, "GET", "/nosuch", browser, 404, "", "not_found"},
		{"a wrong method in the admin API", private, "PUT", "/admin/v1/clients", "", 405, "GET, POST", "method_not_allowed"},
		{"HEAD, which would start a stream", private, "HEAD", "/admin/v1/journal/tail", "", 405, "GET", "method_not_allowed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := server.Ask(row.h, row.method, row.path, "", "Accept", row.accept)
			if r.StatusCode != row.status || r.Header.Get("Allow") != row.allow {
				t.Errorf("%d, Allow: %s", r.StatusCode, r.Header.Get("Allow"))
			}
			body, id := server.Text(t, r), r.Header.Get("X-Request-Id")
			if row.code == "" {
				if !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") || row.status == 404 && !strings.Contains(body, id) {
					t.Errorf("%s: %.300s", r.Header.Get("Content-Type"), body)
				}
				return
			}
			var said struct{ Error, Request_id string }
			if err := json.Unmarshal([]byte(body), &said); err != nil || said.Error != row.code || said.Request_id != id {
				t.Errorf("%s: %.300s", r.Header.Get("Content-Type"), body)
			}
		})
	}
}

func TestMetricsDoNotGrowWithWhatCallersSay(t *testing.T) { // 116
	rig := newRig(t)
	h := rig.Public
	junk := func(i int) {
		for _, method := range []string{"GET", "POST", fmt.Sprintf("MADEUP%d", i)} {
			for _, path := range []string{"/token", "/authorize", "/login", "/logout", "/", "/jwks", "/userinfo", "/introspect", fmt.Sprintf("/nosuch%d", i), fmt.Sprintf("//x%d", i)} {
				server.Ask(h, method, path+fmt.Sprintf("?client_id=madeup%d", i), "")
				server.Ask(h, method, path, fmt.Sprintf("grant_type=madeup%d&client_id=madeup%d&client_secret=x", i, i), "Authorization", fmt.Sprintf("MadeUp%d x", i))
				server.Ask(h, method, path, fmt.Sprintf("grant_type=madeup%d&scope=madeup%d", i, i), "Authorization", "Basic c2VydmljZTp0aGUgc2VjcmV0", "Host", fmt.Sprintf("madeup%d.example", i))
			}
		}
	}
	junk(0)
	rig.Metrics() // which is a request too
	before := series(rig, "")
	for i := range 5 {
		junk(i + 1)
	}
	if after := series(rig, ""); after != before {
		t.Errorf("%d series, then %d", before, after)
	}
	if said := strings.ToLower(rig.Metrics()); strings.Contains(said, "madeup") || strings.Contains(said, "nosuch") {
		t.Error("a word of the caller's is in the metrics")
	}
	if series(rig, "signalbox_requests_total", "/token", "401", "invalid_client") == 0 {
		t.Error("the counter does not count")
	}
}

// series counts the series of a metric that have all these label values; of all
// metrics where it has no name.
func series(rig *nodetest.Rig, name string, values ...string) (n int) {
	for line := range strings.Lines(rig.Metrics()) {
		metric, _, _ := strings.Cut(line, "{")
		if strings.HasPrefix(line, "#") || name != "" && metric != name {
			continue
		}
		all := true
		for _, v := range values {
			all = all && strings.Contains(line, fmt.Sprintf("%q", v))
		}
		if all {
			n++
		}
	}
	return n
}
