package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/refusals"
)

func TestRemote(t *testing.T) { // 102
	prefixes := func(list ...string) (p []netip.Prefix) {
		for _, s := range list {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	inside := prefixes("10.0.0.0/8", "fd00::/8")
	for _, row := range []struct {
		name      string
		trusted   []netip.Prefix
		peer      string
		forwarded []string
		want      string
	}{
		{"nobody is trusted", nil, "10.0.0.1:1", []string{"203.0.113.9"}, "10.0.0.1"},
		{"the peer is no proxy of ours", inside, "198.51.100.7:1", []string{"203.0.113.9"}, "198.51.100.7"},
		{"a trusted proxy", inside, "10.0.0.1:1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"a trusted proxy that says nothing", inside, "10.0.0.1:1", nil, "10.0.0.1"},
		{"the caller has forged a hop", inside, "10.0.0.1:1", []string{"127.0.0.1, 203.0.113.9"}, "203.0.113.9"},
		{"the caller has forged a trusted hop", inside, "10.0.0.1:1", []string{"192.0.2.1, 10.9.9.9, 203.0.113.9"}, "203.0.113.9"},
		{"two proxies", inside, "10.0.0.1:1", []string{"203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		{"two headers", inside, "10.0.0.1:1", []string{"192.0.2.1", "203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		{"noise before", inside, "10.0.0.1:1", []string{"<script>, 203.0.113.9"}, "203.0.113.9"},
		{"noise last", inside, "10.0.0.1:1", []string{"203.0.113.9, <script>"}, "10.0.0.1"},
		{"nothing last", inside, "10.0.0.1:1", []string{"203.0.113.9,"}, "10.0.0.1"},
		{"a name", inside, "10.0.0.1:1", []string{"localhost"}, "10.0.0.1"},
		{"IPv6", inside, "[fd00::1]:1", []string{"2001:db8::9"}, "2001:db8::9"},
		{"IPv4 in IPv6 is IPv4", inside, "10.0.0.1:1", []string{"203.0.113.9, ::ffff:10.0.0.2"}, "203.0.113.9"},
		{"a hop with a port", inside, "10.0.0.1:1", []string{"203.0.113.9:4711"}, "203.0.113.9"},
		{"IPv6 with a port, through a proxy with one", inside, "10.0.0.1:1", []string{"[2001:db8::9]:4711, 10.0.0.2:80"}, "2001:db8::9"},
		{"only our own proxies", inside, "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"no peer", inside, "", []string{"203.0.113.9"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = row.peer
			r.Header["X-Forwarded-For"] = row.forwarded
			r.Header.Set("X-Real-Ip", "192.0.2.66")
			r.Header.Set("Forwarded", "for=192.0.2.66")
			if got := (&Middleware{TrustedProxies: row.trusted}).remote(r); got != row.want {
				t.Fatalf("%q, want %q", got, row.want)
			}
		})
	}
}

// FuzzRemote: whatever is in the header, the caller's address is an
// address, and a peer that is no proxy of ours cannot choose it.
func FuzzRemote(f *testing.F) {
	f.Add("203.0.113.9, 10.0.0.2", "x")
	f.Add("x", "fe80::1%evil\nline")
	f.Add("203.0.113.9:80", "[2001:db8::1]:80, [10.0.0.2]")
	f.Add(" 203.0.113.9\t", "::ffff:10.0.0.1")
	middleware := &Middleware{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}}
	f.Fuzz(func(t *testing.T, first, second string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["X-Forwarded-For"] = []string{first, second}
		r.RemoteAddr = "10.0.0.1:1234"
		got := middleware.remote(r)
		if addr, err := netip.ParseAddr(got); err != nil || addr.Zone() != "" || addr.String() != got {
			t.Fatalf("%q is not an address", got)
		}
		if got != "10.0.0.1" && !strings.Contains(strings.ToLower(first+","+second), strings.ToLower(got)) && netip.MustParseAddr(got).Is4() && !strings.Contains(first+second, ":") {
			t.Fatalf("%q is nowhere in %q, %q", got, first, second)
		}
		r.RemoteAddr = "198.51.100.7:1234"
		if got := middleware.remote(r); got != "198.51.100.7" {
			t.Fatalf("a stranger is %q", got)
		}
	})
}

func TestPanic(t *testing.T) {
	middleware, log := newMiddleware()
	h := middleware.mount([]route{
		{method: "GET", path: "/breaks", serve: func(http.ResponseWriter, *http.Request) {
			panic("index out of range in /src/secret.go " + "sbx_cs_AAAAAAAAAAAAAAAAAAAAAA")
		}},
		{method: "GET", path: "/works", serve: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }},
	}, httpx.NotFound)
	r := ask(h, "GET", "/breaks", "")
	said := text(t, r)
	if r.StatusCode != 500 || strings.Contains(said, "secret.go") || strings.Contains(said, "goroutine") || !strings.Contains(said, r.Header.Get("X-Request-Id")) {
		t.Fatalf("%d %s", r.StatusCode, said)
	}
	if !strings.Contains(log.String(), "secret.go") || !strings.Contains(log.String(), r.Header.Get("X-Request-Id")) || strings.Contains(log.String(), "sbx_cs_") {
		t.Fatalf("the log: %s", log)
	}
	if series(t, middleware, "signalbox_requests_total", "/breaks", "500") != 1 {
		t.Error("a request that breaks the server is not counted")
	}
	if r := ask(h, "GET", "/works", ""); r.StatusCode != 204 {
		t.Fatalf("afterwards: %d", r.StatusCode)
	}
}

func TestAHandlerThatAbortsCutsTheConnection(t *testing.T) {
	middleware, _ := newMiddleware()
	server := httptest.NewServer(middleware.mount([]route{{method: "GET", path: "/aborts", serve: func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("half"))
		panic(http.ErrAbortHandler)
	}}}, httpx.NotFound))
	t.Cleanup(server.Close)
	r, err := server.Client().Get(server.URL + "/aborts")
	if err != nil {
		return // not even a status came through
	}
	defer r.Body.Close()
	if _, err := io.ReadAll(r.Body); err == nil {
		t.Fatal("half an answer is taken for a whole one")
	}
}

// series counts the series of a metric that have all these label values.
func series(t *testing.T, middleware *Middleware, name string, values ...string) (n int) {
	t.Helper()
	families, err := middleware.Metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			text := family.GetName() + " " + m.String()
			all := family.GetName() == name || name == ""
			for _, v := range values {
				all = all && strings.Contains(text, fmt.Sprintf("%q", v))
			}
			if all {
				n++
			}
		}
	}
	return n
}

func TestMetricsPage(t *testing.T) {
	metrics := NewMetrics(
		Figure{Name: "signalbox_things", Help: "Things.", Labels: []string{"kind"}, Read: func(emit func(float64, ...string)) { emit(7, "a"); emit(8, "b") }},
		Figure{Name: "signalbox_things_total", Help: "Things.", Counter: true, Read: func(emit func(float64, ...string)) { emit(9) }})
	metrics.JournalSynced(3 * time.Millisecond)
	metrics.Event(authority.Event{Type: authority.EventTokenIssued, GrantType: "refresh_token"})
	metrics.Event(authority.Event{Type: authority.EventGrantCreated, GrantType: "authorization_code"})
	answer := httptest.NewRecorder()
	metrics.handler()(answer, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`signalbox_things{kind="a"} 7`, `signalbox_things{kind="b"} 8`, "# TYPE signalbox_things_total counter", `signalbox_journal_sync_seconds_bucket{le="0.005"} 1`, `signalbox_events_total{grant_type="refresh_token",type="token.issued"} 1`, `signalbox_events_total{grant_type="",type="grant.created"} 1`, "go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(answer.Body.String(), want) {
			t.Errorf("no %s", want)
		}
	}
}

// An alert on an increase misses the first event of a series that is born with it.
func TestEveryEventSeriesExistsAtZeroFromTheStart(t *testing.T) {
	answer := httptest.NewRecorder()
	NewMetrics().handler()(answer, httptest.NewRequest("GET", "/metrics", nil))
	want := []string{`grant_type="client_credentials",type="token.refused"`, `grant_type="authorization_code",type="token.issued"`}
	for _, eventType := range authority.EventTypes() {
		if eventType.IsJournals() {
			continue
		}
		want = append(want, fmt.Sprintf(`grant_type="",type=%q`, eventType))
		for _, grantType := range oauth.GrantTypes {
			if eventType.HasGrantType() {
				want = append(want, fmt.Sprintf(`grant_type=%q,type=%q`, grantType, eventType))
			}
		}
	}
	for _, labels := range want {
		if !strings.Contains(answer.Body.String(), "signalbox_events_total{"+labels+"} 0\n") {
			t.Errorf("no series with %s", labels)
		}
	}
}

func TestWhatIsRememberedOfARefusalHoldsNoSecret(t *testing.T) { // 114
	middleware, _ := newMiddleware()
	secret := "sbx_rt_0123456789abcdefghij"
	h := middleware.mount([]route{{path: "/page", serve: func(w http.ResponseWriter, r *http.Request) {
		httpx.Error(w, r, oauth.Errorf(oauth.InvalidRequest, "no").Because(errors.New("it was "+secret)))
	}}}, httpx.NotFound)
	r, found := middleware.Refusals.Find(ask(h, "GET", "/page?token="+secret, "").Header.Get("X-Request-Id"))
	if !found || r.Cause != "it was [redacted]" || r.Description != "no" || r.Path != "/page" || r.Remote != "192.0.2.1" {
		t.Fatalf("%+v", r)
	}
}

func TestTraces(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	middleware, _ := newMiddleware()
	middleware.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	h := middleware.mount([]route{
		{method: "POST", path: "/token", serve: func(_ http.ResponseWriter, r *http.Request) { httpx.RequestOf(r.Context()).Log.ClientID = "service" }},
		{method: "GET", path: "/authorize", serve: func(http.ResponseWriter, *http.Request) {}},
	}, httpx.NotFound)
	const parent = "4bf92f3577b34da6a3ce929d0e0e4736"
	r := ask(h, "POST", "/token", "grant_type=client_credentials", "Traceparent", "00-"+parent+"-00f067aa0ba902b7-01", "Authorization", "Basic c2VydmljZTp0aGUgc2VjcmV0")
	ask(h, "MADEUP", "/authorize?state=the-state&code=the-code", "")
	ended := spans.Ended()
	if len(ended) != 2 || ended[0].Name() != "POST /token" || ended[0].SpanContext().TraceID().String() != parent {
		t.Fatalf("%v", ended)
	}
	said := fmt.Sprint(ended[0].Attributes(), ended[1].Attributes(), ended[1].Name())
	if !strings.Contains(said, r.Header.Get("X-Request-Id")) || !strings.Contains(said, "service") {
		t.Errorf("%s", said)
	}
	for _, secret := range []string{"the-state", "the-code", "MADEUP", "the secret"} {
		if strings.Contains(said, secret) {
			t.Errorf("%q is in a span: %s", secret, said)
		}
	}
}

func TestLogLines(t *testing.T) { // 114
	for _, format := range []string{"json", "text"} {
		logger, log := newLog(format, slog.LevelInfo)
		middleware := &Middleware{Log: logger, Metrics: NewMetrics(), Refusals: refusals.NewMemory(), Now: time.Now}
		cause := errors.New("bad\nlevel=ERROR msg=\"forged\" \x1b[2J")
		h := middleware.mount([]route{{path: "/page", serve: func(w http.ResponseWriter, r *http.Request) {
			httpx.RequestOf(r.Context()).Log.ClientID = "client\nlevel=ERROR"
			httpx.Error(w, r, oauth.Errorf(oauth.InvalidRequest, "no").Because(cause))
		}}}, httpx.NotFound)
		ask(h, "GET", "/page?code=the-code&state=the-state", "", "User-Agent", "agent\x1b[2J", "Authorization", "Bearer the-token")
		lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
		if len(lines) != 1 || strings.Contains(log.String(), "\x1b") {
			t.Errorf("%s: a caller writes lines: %q", format, lines)
		}
		for _, secret := range []string{"the-code", "the-state", "the-token", "agent"} {
			if strings.Contains(log.String(), secret) {
				t.Errorf("%s: %q is in the log: %s", format, secret, log)
			}
		}
		for _, want := range []string{"request_id", "/page", "400", "invalid_request", "192.0.2.1"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%s: no %q in %s", format, want, log)
			}
		}
	}
}
