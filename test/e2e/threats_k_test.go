package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/journal/query"
)

// Threats K: the platform. What anonymous requests leave behind (K116) is in
// anonymous_test.go, what a full disk does (K114) in diskfull_linux_test.go.

// raw sends bytes as they are and reads one answer. The reply is empty if the connection
// was closed without one.
func (s *server) raw(t *testing.T, request string) reply {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.Issuer, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(startLimit))
	if _, err := io.WriteString(conn, request); err != nil && request == "" {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return reply{}
	}
	r, _ := readAll(resp)
	return r
}

// K112: size, shape and method.
func TestThreatsK_Requests(t *testing.T) {
	s := atHome(t)
	form := func() url.Values { return params("grant_type", "client_credentials", "resource", api) }
	body := func(r *http.Request, text string) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	}
	many := form()
	for i := range 200 {
		many.Add(fmt.Sprintf("p%d", i), "x")
	}
	big := form()
	for i := range 5 {
		big.Add(fmt.Sprintf("p%d", i), strings.Repeat("x", 20<<10))
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(form().Encode()))
	_ = z.Close()
	for _, row := range []struct {
		sentence string
		form     url.Values
		change   func(*http.Request)
		status   []int
	}{
		{"the good request", form(), basic(machine), []int{200}},
		{"a character set beside the type", form(), header("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"), []int{200}},
		{"a body over 64 KiB", big, func(*http.Request) {}, []int{413}},
		{"a body over 64 KiB of unknown length", big, func(r *http.Request) { r.ContentLength = -1 }, []int{413, 400}},
		{"200 parameters", many, func(*http.Request) {}, []int{400}},
		{"a compressed body", form(), func(r *http.Request) {
			r.Header.Set("Content-Encoding", "gzip")
			body(r, zipped.String())
		}, []int{400, 415}},
		{"JSON", form(), func(r *http.Request) {
			r.Header.Set("Content-Type", "application/json")
			body(r, `{"grant_type":"client_credentials"}`)
		}, []int{400, 415}},
		{"multipart", form(), func(r *http.Request) {
			r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
			body(r, "--x\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\nclient_credentials\r\n--x--\r\n")
		}, []int{400, 415}},
		{"no type", form(), func(r *http.Request) { r.Header.Del("Content-Type") }, []int{400, 415}},
		{"two types", form(), func(r *http.Request) { r.Header.Add("Content-Type", "application/json") }, []int{400, 415, 200}},
		{"parameters in the URL", url.Values{}, func(r *http.Request) { r.URL.RawQuery = form().Encode() }, []int{400}},
		{"parameters in the URL too", form(), func(r *http.Request) { r.URL.RawQuery = "scope=orders:read" }, []int{400}},
		{"a broken escape", form(), func(r *http.Request) { body(r, "grant_type=client_credentials&x=%zz") }, []int{400}},
		{"a semicolon for a separator", form(), func(r *http.Request) { body(r, "grant_type=client_credentials;resource="+api) }, []int{400}},
		{"an empty body", form(), func(r *http.Request) { body(r, "") }, []int{400}},
		{"bytes that are not text", form(), func(r *http.Request) { body(r, "\xff\xfe\x00\x01") }, []int{400}},
		{"headers over 32 KiB", form(), header("X-Filler", strings.Repeat("x", 40<<10)), []int{431}},
		{"GET", form(), func(r *http.Request) { r.Method, r.Body, r.ContentLength = "GET", nil, 0 }, []int{404, 405}},
		{"PUT", form(), func(r *http.Request) { r.Method = "PUT" }, []int{404, 405}},
		{"a method of our own", form(), func(r *http.Request) { r.Method = "ISSUE" }, []int{404, 405}},
		{"a method in a header", form(), func(r *http.Request) {
			r.Method = "GET"
			r.Header.Set("X-HTTP-Method-Override", "POST")
		}, []int{404, 405}},
	} {
		t.Run("K112 "+row.sentence, func(t *testing.T) {
			r := s.post(t, "/token", row.form, basic(machine), row.change)
			found := false
			for _, status := range row.status {
				found = found || r.Status == status
			}
			if !found || (r.JSON["access_token"] != nil) != (r.Status == 200) {
				t.Errorf("want %v: %s", row.status, r)
			}
		})
	}
	for _, path := range []string{"//token", "/token/", "/./token", "/x/../token", "/token//", "/%74oken/", "/token%2f", "/TOKEN"} {
		t.Run("K112 POST "+path, func(t *testing.T) {
			r := s.raw(t, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 29\r\n\r\ngrant_type=client_credentials", path))
			if r.Status == 307 || r.Status == 308 || r.Status < 400 {
				t.Errorf("a POST with credentials is sent on: %s", r)
			}
		})
	}
	for sentence, request := range map[string]string{
		"two lengths":               "POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		"a length and chunks":       "POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /jwks HTTP/1.1\r\nHost: x\r\n\r\n",
		"chunks under another name": "POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"two hosts":                 "GET /jwks HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"no host":                   "GET /jwks HTTP/1.1\r\n\r\n",
		"a space before the colon":  "GET /jwks HTTP/1.1\r\nHost : x\r\n\r\n",
		"a length that is negative": "POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello",
		"a line that is too long":   "GET /" + strings.Repeat("a", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"what is not HTTP":          "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
	} {
		t.Run("K112 "+sentence, func(t *testing.T) {
			if r := s.raw(t, request); r.Status != 0 && (r.Status < 400 || r.Status >= 500 && r.Status != 501) {
				t.Errorf("%s", r)
			}
		})
	}
	t.Run("K112 the service still works", func(t *testing.T) { s.machineToken(t) })
}

// K112: a slow sender loses its connection; the service still works.
func TestThreatsK_Slow(t *testing.T) {
	t.Parallel() // it waits for time-outs
	s := newHouse(t)
	for sentence, start := range map[string]string{
		"nothing after the first line": "POST /token HTTP/1.1\r\nHost: x\r\n",
		"a body that never comes":      "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\ngrant",
	} {
		t.Run("K112 "+sentence, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.Issuer, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, start); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(startLimit))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("after %v the connection is still open: %v", startLimit, err)
			}
			s.machineToken(t)
		})
	}
}

// K112: which scripts of other sites may read what.
func TestThreatsK_CORS(t *testing.T) {
	s := atHome(t)
	ask := func(method, path, origin string) reply {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.Issuer+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", origin)
		if method == http.MethodOptions {
			req.Header.Set("Access-Control-Request-Method", "POST")
		}
		return send(t, req)
	}
	public := map[string]string{
		"/.well-known/openid-configuration": "GET", "/jwks": "GET", "/token": "POST", "/userinfo": "GET", "/revoke": "POST",
	}
	for path, method := range public {
		for _, m := range []string{method, http.MethodOptions} {
			if got := ask(m, path, "https://app.example.com"); got.Header.Get("Access-Control-Allow-Origin") != "*" || got.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s %s from a script: %s", m, path, got)
			}
			if got := ask(m, path, "null"); got.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("K112: %s %s for the origin null: %s", m, path, got)
			}
		}
	}
	for path, method := range map[string]string{"/authorize": "GET", "/login": "POST", "/consent": "POST", "/logout": "GET", "/introspect": "POST", "/readyz": "GET"} {
		for _, m := range []string{method, http.MethodOptions} {
			if got := ask(m, path, "https://app.example.com"); got.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("K112: %s %s may be read by scripts of other sites: %s", m, path, got)
			}
		}
	}
}

// K113: input never becomes part of a query, and nothing has a default secret.
func TestThreatsK_Injection(t *testing.T) {
	onEachEngine(t, "", func(t *testing.T, w *world) {
		w.signedIn(t, webTwo, ada)
		before := w.rows(t)
		token := w.adminToken(t)
		evil := []string{"' OR '1'='1", "'; DROP TABLE grants; --", `" OR ""="`, "%27%20OR%201=1", "\\'; SELECT 1", "$1", "?1", "1 UNION SELECT * FROM clients", "a\x00b", "\xff\xfe", "{{.}}", "${jndi:ldap://x}"}
		for _, v := range evil {
			for _, path := range []string{"/clients/", "/users/", "/grants/", "/resources/"} {
				if r := w.administerAs(t, token, "GET", path+url.PathEscape(v), nil); r.Status != 404 && r.Status != 400 {
					t.Errorf("GET %s with %q: %s", path, v, r)
				}
			}
			for _, path := range []string{"/grants?client_id=", "/grants?subject=", "/users?username=", "/clients?after=", "/grants?after=", "/journal?client_id=", "/journal?text="} {
				r := w.administerAs(t, token, "GET", path+url.QueryEscape(v), nil)
				if r.Status != 400 && r.Status != 200 {
					t.Errorf("GET %s with %q: %s", path, v, r)
				}
				if items, _ := r.JSON["items"].([]any); len(items) != 0 && path != "/journal?text=" {
					t.Errorf("GET %s with %q found something: %s", path, v, r)
				}
			}
			for _, revoke := range []map[string]any{{"client_id": v}, {"username": v}, {"user_id": v}, {"grant_id": v}, {"token": v}} {
				if r := w.administerAs(t, token, "POST", "/revocations", revoke); r.Status != 404 && r.Status != 400 {
					t.Errorf("ending %v: %s", revoke, r)
				}
			}
			r := w.post(t, "/token", params("grant_type", "client_credentials"), basic(client{ID: v, Secret: v}), from(nextAddress()))
			if r.Status != 401 && r.Status != 400 {
				t.Errorf("client %q: %s", v, r)
			}
		}
		after := w.rows(t)
		for table, n := range before {
			if after[table] != n {
				t.Errorf("table %s had %d rows and has %d", table, n, after[table])
			}
		}
	})
	t.Run("K113 no two installations share a secret", func(t *testing.T) {
		one, two := startDev(t), startDev(t)
		secrets := map[string]string{}
		for _, s := range []*server{one, two} {
			for _, c := range s.Clients {
				if c.Secret == "" {
					continue
				}
				if who, taken := secrets[c.Secret]; taken {
					t.Errorf("%s and %s have the same secret", who, c.ID)
				}
				secrets[c.Secret] = c.ID
			}
		}
		if len(secrets) < 6 {
			t.Errorf("only %d secrets: what was compared?", len(secrets))
		}
		out, _, code := run(t, "", "init", "--help")
		if code != 0 {
			t.Error(out)
		}
	})
}

// K114: what callers send cannot forge a line of the journal or of the log.
func TestThreatsK_Records(t *testing.T) {
	s := newHouse(t)
	evil := "x\r\n{\"seq\":1,\"type\":\"forged\"}\x1b[2J\x1b]0;owned\x07\u202e\u2028"
	s.post(t, "/token", params("grant_type", evil, "scope", evil), basic(machine))
	s.post(t, "/token", params("grant_type", "client_credentials"), basic(client{ID: evil, Secret: evil}))
	s.post(t, "/token", params("grant_type", "client_credentials", "scope", "orders:read\u202e", "resource", api), basic(machine))
	s.get(t, "/"+url.PathEscape(evil))
	s.raw(t, "GET /\x1b[2J?x=\x1b[2J HTTP/1.1\r\nHost: \x1b[2J\r\nUser-Agent: \x1b[31mred\r\nX-Request-Id: \x1b[2J\r\nX-Forwarded-For: \x1b[2J\r\n\r\n")
	for _, id := range []string{"forged-request-id", strings.Repeat("i", 4000)} {
		r := s.post(t, "/token", params("grant_type", "client_credentials"), basic(client{ID: "nobody", Secret: "x"}), header("X-Request-Id", id))
		if r.Header.Get("X-Request-Id") == id || r.str("request_id") == id {
			t.Error("K114: the caller chooses the correlation id")
		}
	}
	b := newBrowser(t)
	p := b.follow(b.get(s.authorizeURL(newCodeRequest(webTwo).query)))
	b.press(p, "sign-in", url.Values{"username": {"ada\u202e\x1b[2J"}, "password": {"x"}})
	q := newCodeRequest(webTwo).query
	q.Set("state", "state\u202e\x1b[2J")
	q.Set("login_hint", evil)
	b.get(s.authorizeURL(q))
	mallory := map[string]any{"username": "mallory", "password": "a long pass phrase", "name": "Mal\u202elory"}
	if r := s.administer(t, "POST", "/users", mallory); r.Status != http.StatusBadRequest {
		t.Errorf("K114: a name that turns the direction of text is taken: %s", r)
	}
	mallory["name"] = "Mal\"lory\\ <b>"
	s.manage(t, "POST", "/users", mallory)
	refused := s.post(t, "/token", params("grant_type", "surprise"), basic(machine))
	s.stop()

	requestID := refused.Header.Get("X-Request-Id")
	if requestID == "" || refused.str("request_id") != requestID {
		t.Errorf("an error without a correlation id: %s", refused)
	}
	if got := journalOf(t, s, query.Query{RequestID: requestID}); len(got) != 1 {
		t.Errorf("%d records of the refusal with the id that its caller got", len(got))
	}
	for line := range strings.Lines(s.proc.out.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("a line of the log is not JSON: %q", line)
		}
		if strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\r\x1b\x07\u202e\u2028") {
			t.Errorf("a line of the log holds control characters: %q", line)
		}
	}
	if !strings.Contains(s.proc.out.String(), requestID) {
		t.Error("the correlation id is not in the log")
	}
	files, _ := filepath.Glob(filepath.Join(s.dir, "journal", "*.jsonl"))
	if len(files) == 0 {
		files, _ = filepath.Glob(filepath.Join(s.dir, "journal", "*.log"))
	}
	lines := 0
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			lines++
			if !json.Valid([]byte(line)) || strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
				t.Errorf("a line of the journal is not printable ASCII: %q", line)
			}
		}
	}
	if lines < 5 {
		t.Errorf("%d lines of the journal in %v", lines, files)
	}
	for _, r := range journalOf(t, s, query.Query{}) {
		if r.Type == "forged" {
			t.Errorf("a caller forged a record: %s", r.Raw)
		}
	}
	verifyJournal(t, s)
	out, errOut, code := run(t, "", "audit", "verify", "--master-key-file", filepath.Join(s.dir, "master.key"), filepath.Join(s.dir, "journal"))
	if code != 0 {
		t.Errorf("audit verify: %d\n%s%s", code, out, errOut)
	}
	// And a changed journal does not verify.
	for _, f := range files {
		raw, _ := os.ReadFile(f)
		changed := bytes.Replace(raw, []byte(`"client_id":"machine"`), []byte(`"client_id":"machina"`), 1)
		if bytes.Equal(raw, changed) {
			continue
		}
		if err := os.WriteFile(f, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, errOut, code := run(t, "", "audit", "verify", filepath.Join(s.dir, "journal")); code != 1 {
			t.Errorf("audit verify of a changed journal: %d\n%s%s", code, out, errOut)
		}
		return
	}
	t.Error("no record of the client machine to change")
}

// K116: the admin API is not on the public listener, and requires its own tokens.
func TestThreatsK_Admin(t *testing.T) {
	s := atHome(t)
	ask := func(base, method, path string, change ...func(*http.Request)) reply {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return send(t, req, change...)
	}
	token := s.adminToken(t)
	for _, path := range []string{"/admin/v1/clients", "/admin/v1/openapi.json", "/admin/", "/console", "/metrics", "/livez", "/debug/pprof/", "/debug/vars"} {
		if r := ask(s.Issuer, "GET", path, bearer(token)); r.Status != http.StatusNotFound {
			t.Errorf("K116: %s on the public listener: %s", path, r)
		}
	}
	for _, path := range []string{"/token", "/authorize", "/login", "/introspect", "/jwks", "/debug/pprof/", "/debug/vars"} {
		if r := ask(s.AdminURL, "GET", path); r.Status != http.StatusNotFound {
			t.Errorf("%s on the admin listener: %s", path, r)
		}
	}
	people := s.signedIn(t, webTwo, ada)
	for sentence, auth := range map[string]func(*http.Request){
		"no token":                  func(*http.Request) {},
		"a client's secret":         basic(admin),
		"a token for another API":   bearer(s.machineToken(t)),
		"a person's token":          bearer(people.str("access_token")),
		"an ID token":               bearer(people.str("id_token")),
		"a refresh token":           bearer(people.str("refresh_token")),
		"a word":                    bearer("admin"),
		"a token cut by one":        bearer(token[:len(token)-2]),
		"the token in another case": bearer(strings.ToLower(token)),
	} {
		t.Run("K116 "+sentence, func(t *testing.T) {
			for method, path := range map[string]string{"GET": "/clients", "POST": "/revocations", "DELETE": "/keys/x", "PATCH": "/clients/web"} {
				r := ask(s.AdminURL, method, "/admin/v1"+path, auth)
				if r.Status != http.StatusUnauthorized || !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Bearer") || r.JSON["items"] != nil {
					t.Errorf("%s %s: %s", method, path, r)
				}
			}
		})
	}
	t.Run("K116 a token in the URL", func(t *testing.T) {
		if r := ask(s.AdminURL, "GET", "/admin/v1/clients?access_token="+url.QueryEscape(token)); r.Status != http.StatusUnauthorized && r.Status != http.StatusBadRequest {
			t.Errorf("%s", r)
		}
	})
	t.Run("K116 each route wants its own scope", func(t *testing.T) {
		narrow := s.post(t, "/token", params("grant_type", "client_credentials", "scope", "clients:read"), basic(admin)).str("access_token")
		if r := s.administerAs(t, narrow, "GET", "/clients", nil); r.Status != http.StatusOK {
			t.Errorf("%s", r)
		}
		for _, path := range []string{"/users", "/keys", "/grants", "/resources", "/journal", "/journal/status", "/journal/tail"} {
			if r := s.administerAs(t, narrow, "GET", path, nil); r.Status != http.StatusForbidden || r.str("error") != "insufficient_scope" {
				t.Errorf("%s: %s", path, r)
			}
		}
		for _, path := range []string{"/clients", "/revocations", "/keys/rotate"} {
			if r := s.administerAs(t, narrow, "POST", path, map[string]any{}); r.Status != http.StatusForbidden {
				t.Errorf("%s: %s", path, r)
			}
		}
	})
	for _, limit := range []string{"0", "-1", "1001", "999999999999999999999", "x", "1e3", "1;2"} {
		t.Run("K116 limit="+limit, func(t *testing.T) {
			if r := s.administerAs(t, token, "GET", "/clients?limit="+url.QueryEscape(limit), nil); r.Status != http.StatusBadRequest {
				t.Errorf("%s", r)
			}
		})
	}
	t.Run("K116 pages join to the whole", func(t *testing.T) {
		whole := s.administerAs(t, token, "GET", "/clients?limit=1000", nil).JSON["items"].([]any)
		seen, after := map[string]bool{}, ""
		for range len(whole) + 2 {
			r := s.administerAs(t, token, "GET", "/clients?limit=2&after="+url.QueryEscape(after), nil)
			for _, item := range r.JSON["items"].([]any) {
				seen[item.(map[string]any)["client_id"].(string)] = true
			}
			if after = r.str("next"); after == "" {
				break
			}
		}
		if len(seen) != len(whole) || len(whole) < 9 {
			t.Errorf("%d clients by pages, %d at once", len(seen), len(whole))
		}
	})
	t.Run("what the file declares is read-only here", func(t *testing.T) {
		for _, change := range [][2]string{{"DELETE", "/clients/web"}, {"POST", "/clients/web/disable"}, {"POST", "/clients/web/secret"}} {
			r := s.administerAs(t, token, change[0], change[1], map[string]any{})
			if r.Status < 400 || r.Status > 499 {
				t.Errorf("%v: %s", change, r)
			}
		}
		if r := s.administerAs(t, token, "POST", "/clients", map[string]any{"client_id": "web", "grant_types": []string{"client_credentials"}}); r.Status != http.StatusConflict {
			t.Errorf("the same id in both: %s", r)
		}
	})
}
