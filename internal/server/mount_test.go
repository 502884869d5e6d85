package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/server/admin"
)

// newAdmin is the admin listener as somebody without a token sees it.
func newAdmin() Admin {
	return Admin{
		API:   &admin.API{Tally: func(authority.Event) {}, Now: time.Now},
		Ready: func(context.Context) error { return nil },
	}
}

func TestLogAndMetricsNameTheTemplateOfTheRoute(t *testing.T) {
	middleware, log := newMiddleware()
	public, private := newPublic(t).Handler(middleware), newAdmin().Handler(middleware)
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
	} {
		r := ask(row.h, row.method, row.path, "")
		var line struct{ Path string }
		for _, l := range strings.Split(log.String(), "\n") {
			if strings.Contains(l, r.Header.Get("X-Request-Id")) {
				if err := json.Unmarshal([]byte(l), &line); err != nil {
					t.Fatal(err)
				}
			}
		}
		if line.Path != row.template {
			t.Errorf("%s %s is logged as %q, want %q", row.method, row.path, line.Path, row.template)
		}
		if series(t, middleware, "signalbox_requests_total", row.template, row.method) == 0 {
			t.Errorf("%s %s is not counted as %q", row.method, row.path, row.template)
		}
	}
}

func TestWhatLeadsNowhereIsJSONOrAPage(t *testing.T) {
	middleware, _ := newMiddleware()
	public, private := newPublic(t).Handler(middleware), newAdmin().Handler(middleware)
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
			r := ask(row.h, row.method, row.path, "", "Accept", row.accept)
			if r.StatusCode != row.status || r.Header.Get("Allow") != row.allow {
				t.Errorf("%d, Allow: %s", r.StatusCode, r.Header.Get("Allow"))
			}
			body, id := text(t, r), r.Header.Get("X-Request-Id")
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

func TestPlainHTTPIsForTheProxiesOnly(t *testing.T) { // 102
	middleware, log := newMiddleware()
	middleware.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	middleware.PlainFrom = middleware.TrustedProxies
	h := newPublic(t).Handler(middleware)
	for _, row := range []struct {
		name, peer, path string
		status           int
	}{
		{"a proxy", "10.1.2.3:1", "/jwks", 200},
		{"a proxy as IPv4 in IPv6", "[::ffff:10.1.2.3]:1", "/jwks", 200},
		{"a stranger", "192.0.2.1:1", "/jwks", 403},
		{"a stranger who says that he was forwarded", "192.0.2.1:1", "/token", 403},
		{"this machine, which is not named", "127.0.0.1:1", "/jwks", 403},
		{"a peer without an address", "", "/jwks", 403},
		{"the probe of a load balancer", "192.0.2.1:1", "/readyz", 200},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", row.path, nil)
			r.RemoteAddr = row.peer
			r.Header.Set("X-Forwarded-For", "203.0.113.9")
			answer := httptest.NewRecorder()
			h.ServeHTTP(answer, r)
			if answer.Code != row.status {
				t.Fatalf("%d %s", answer.Code, answer.Body)
			}
			id := answer.Header().Get("X-Request-Id")
			if row.status == 403 && (!strings.Contains(answer.Body.String(), `"access_denied"`) || !strings.Contains(log.String(), "is not in tls.trusted_proxies") || !strings.Contains(log.String(), id)) {
				t.Fatalf("%s\n%s", answer.Body, log)
			}
		})
	}
}

func TestHSTS(t *testing.T) {
	middleware, _ := newMiddleware()
	h := newPublic(t).Handler(middleware)
	if got := ask(h, "GET", "/jwks", "").Header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("without https: %q", got)
	}
	middleware.HTTPS = true
	for _, path := range []string{"/jwks", "/authorize", "/nosuch", "/readyz"} {
		if got := ask(h, "GET", path, "").Header.Get("Strict-Transport-Security"); got != "max-age=31536000" {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestRequestsUnderWayAreBounded(t *testing.T) { // 112
	middleware, _ := newMiddleware()
	entered, leave := make(chan struct{}), make(chan struct{})
	h := middleware.mount([]route{
		{method: "GET", path: "/wait", serve: func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-leave }},
		{method: "GET", path: "/quick", serve: func(http.ResponseWriter, *http.Request) {}},
	}, func(http.ResponseWriter, *http.Request) {})
	done := make(chan struct{})
	for range maxAtOnce {
		go func() {
			ask(h, "GET", "/wait", "")
			done <- struct{}{}
		}()
	}
	for range maxAtOnce {
		<-entered
	}
	if r := ask(h, "GET", "/quick", ""); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %d", r.StatusCode)
	}
	close(leave)
	for range maxAtOnce {
		<-done
	}
	if r := ask(h, "GET", "/quick", ""); r.StatusCode != 200 {
		t.Errorf("afterwards: %d", r.StatusCode)
	}
}
