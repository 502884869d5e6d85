package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/refusals"
)

func TestRedaction(t *testing.T) { // 114
	secret := oauth.NewSecret(oauth.PrefixClientSecret).Reveal()
	jwt := "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
	for _, row := range []struct {
		name  string
		value any
		gone  string // must not be in the log
	}{
		{"a client secret", "it was " + secret + " they say", secret},
		{"a refresh token", oauth.EncodeOpaque(oauth.PrefixRefreshToken, make([]byte, 68)), "sbx_rt_A"},
		{"an authorization code", oauth.EncodeOpaque(oauth.PrefixAuthorizationCode, make([]byte, 40)), "sbx_ac_A"},
		{"a JWT", jwt, "c2lnbmF0dXJl"},
		{"a JWT without a signature", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.", "eyJzdWIi"},
		{"a form", "grant_type=password&password=hunter2&x=y", "hunter2"},
		{"a form in another letter case", "Client_Secret=hunter2", "hunter2"},
		{"a header", "Authorization: Bearer abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnop"},
		{"Basic", "basic c2VydmljZTp0aGUgc2VjcmV0", "c2VydmljZTp"},
		{"an error", fmt.Errorf("POST failed: %w", errors.New("refresh_token=hunter2")), "hunter2"},
		{"a Secret", oauth.SecretOf("hunter2"), "hunter2"},
	} {
		for _, format := range []string{"json", "text"} {
			line := lineOf(format, func(l *slog.Logger) {
				l.With("before", row.value).WithGroup("group").Info("message", "value", row.value)
			})
			if strings.Contains(line, row.gone) || strings.Count(line, "[redacted]") < 2 {
				t.Errorf("%s, %s: %s", row.name, format, line)
			}
		}
	}
	const ordinary = "an ordinary sentence about basic things"
	if line := lineOf("json", func(l *slog.Logger) { l.Info("message", "value", ordinary, "n", 7) }); !strings.Contains(line, ordinary) {
		t.Errorf("too much is redacted: %s", line)
	}
	for _, format := range []string{"json", "text"} {
		if line := lineOf(format, func(l *slog.Logger) { l.Debug("quiet") }); line != "" {
			t.Errorf("the level is not kept: %s", line)
		}
	}
}

func lineOf(format string, do func(*slog.Logger)) string {
	logger, log := newLog(format, slog.LevelInfo)
	do(logger)
	return log.String()
}

// The line that is written by hand is the line that slog would write.
func FuzzLineIsTheLineOfSlog(f *testing.F) {
	f.Add("request", "client_id", "web", int64(-1))
	f.Add("a \"word\"\n\x1b[2J", "é", "\\ \xff\u2028<&>", int64(1)<<62)
	f.Add("", "", "", int64(0))
	f.Fuzz(func(t *testing.T, message, key, value string, n int64) {
		switch key {
		case slog.TimeKey, slog.LevelKey, slog.MessageKey, "n", "u", "took", "ok", "error", "group", "before":
			return // one name twice is one member of the map
		}
		say := func(l *slog.Logger) {
			l.With("before", value).Warn(message, key, value, "n", n, "u", uint64(n), "took", time.Duration(n), "ok", n > 0, "error", errors.New(value))
		}
		var ours, theirs map[string]any
		if err := json.Unmarshal([]byte(lineOf("json", say)), &ours); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		say(slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { return redact(a) }})))
		if err := json.Unmarshal([]byte(out.String()), &theirs); err != nil {
			t.Fatal(err)
		}
		if ours["time"] == "" || theirs["time"] == "" {
			t.Fatal("no time")
		}
		delete(ours, "time")
		delete(theirs, "time")
		if !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("by hand %v\nby slog %v", ours, theirs)
		}
	})
}

func TestGroupsArePrefixes(t *testing.T) {
	line := lineOf("json", func(l *slog.Logger) {
		l.WithGroup("a").With("b", 1).Info("m", slog.Group("c", slog.Int("d", 2)), slog.Attr{})
	})
	if !strings.HasSuffix(line, `,"msg":"m","a.b":1,"a.c.d":2}`+"\n") {
		t.Fatal(line)
	}
}

// What spares a text the pattern must never spare one that the pattern would find.
func FuzzRedaction(f *testing.F) {
	f.Add("sbx_rt_0123456789abcdefghij")
	f.Add("Bearer 0123456789abcdef")
	f.Add("eyJhbGciOiJub25lIn0.x.")
	f.Add("password=x")
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := redactText(s), looksSecret.ReplaceAllString(s, "[redacted]"); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

func TestAWarningDoesNotWaitAndTakesTheLinesBeforeItAlong(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		logger, log := newLog(format, slog.LevelInfo)
		now := func() string { // without the flush of log.String
			log.mu.Lock()
			defer log.mu.Unlock()
			return log.buf.String()
		}
		logger.Warn("first")
		if said := now(); strings.Count(said, "\n") != 1 {
			t.Errorf("%s: a warning waits: %q", format, said)
		}
		logger.Info("second")
		logger.With("x", 1).WithGroup("g").Error("third")
		if said := now(); strings.Count(said, "\n") != 3 || strings.Index(said, "second") > strings.Index(said, "third") {
			t.Errorf("%s: %q", format, said)
		}
	}
}

// What some code may one day hand to the log: a message, a form, a header.
func TestLogRedactsWhateverItGets(t *testing.T) {
	secret := "sbx_rt_0123456789abcdefghij"
	line := lineOf("json", func(l *slog.Logger) {
		l.Info("the token is "+secret, "form", url.Values{"refresh_token": {secret}}, "header", http.Header{"X": {secret}}, "error", errors.New(secret))
	})
	if strings.Contains(line, secret) || strings.Count(line, "[redacted]") < 4 {
		t.Fatal(line)
	}
}

// What a request costs beside its handler.
func BenchmarkMiddleware(b *testing.B) {
	m := &Middleware{Log: NewLogger(NewLineWriter(io.Discard), "json", slog.LevelInfo), Metrics: NewMetrics(), Refusals: refusals.NewMemory(), Now: time.Now}
	h := m.mount([]route{{method: "POST", path: "/token", serve: func(w http.ResponseWriter, r *http.Request) {
		httpx.RequestOf(r.Context()).Log.ClientID = "orders-api"
	}}}, httpx.NotFound)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/token", nil))
	}
}

func BenchmarkRequestLine(b *testing.B) {
	m := &Middleware{Log: NewLogger(NewLineWriter(io.Discard), "json", slog.LevelInfo), Now: time.Now}
	r := httptest.NewRequest("POST", "/token", nil)
	req := &httpx.Request{ID: "0123456789abcdef01234567", Remote: "192.0.2.1", Log: httpx.Note{ClientID: "orders-api"}}
	b.ReportAllocs()
	for b.Loop() {
		m.line(b.Context(), r, "/token", req, 200, 1500)
	}
}
