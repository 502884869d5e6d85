package server

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/httpx"
)

func TestPlainHTTPIsForTheProxiesOnly(t *testing.T) { // 102
	middleware, log := newMiddleware()
	middleware.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	middleware.PlainFrom = middleware.TrustedProxies
	h := middleware.mount(empty("/jwks", "/token", "/readyz"), httpx.NotFound)
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
	h := middleware.mount(empty("/jwks", "/authorize", "/readyz"), httpx.NotFound)
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

// empty are routes that answer 200 and nothing.
func empty(paths ...string) (routes []route) {
	for _, path := range paths {
		routes = append(routes, route{method: "GET", path: path, serve: func(http.ResponseWriter, *http.Request) {}})
	}
	return routes
}
