package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/refusals"
)

// Middleware is what surrounds every request of a listener: a correlation id, the
// caller's address, limits, one log line, a metric and a span.
type Middleware struct {
	Log            *slog.Logger
	Metrics        *Metrics
	Tracer         trace.Tracer     // nil for no traces
	TrustedProxies []netip.Prefix   // whose X-Forwarded-For is believed
	PlainFrom      []netip.Prefix   // who alone may speak plain HTTP; nil where TLS is on or nobody else can come
	Node           string           // the name in its ids of requests
	Refusals       *refusals.Memory // remembers what was refused
	HTTPS          bool             // the address that callers see is https: they must never use another
	Now            func() time.Time
}

// observe gives a request its id, catches what breaks, and tells of it once
// when it is over. The URL's query never goes into a log: it may hold a state,
// a code or a hint.
func (s *Middleware) observe(known map[string]*endpoint, next http.Handler) http.Handler {
	tag := httpx.TagOf(s.Node)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := s.Now()
		req := &httpx.Request{ID: httpx.NewRequestID(tag, start), Remote: s.remote(r)}
		ctx := httpx.WithRequest(r.Context(), req)
		seen := &statusWriter{ResponseWriter: w}
		var span trace.Span
		if s.Tracer != nil {
			ctx, span = s.startSpan(ctx, r)
		}
		r = r.WithContext(ctx)
		h := w.Header()
		h["X-Request-Id"] = []string{req.ID}
		h["X-Content-Type-Options"] = noSniff
		h["Referrer-Policy"] = noReferrer
		if s.HTTPS {
			h["Strict-Transport-Security"] = onlyHTTPS
		}
		defer func() {
			broken := recover()
			if broken == http.ErrAbortHandler {
				defer panic(broken) // for net/http, which then cuts the connection
			} else if broken != nil {
				s.Log.Error("a request broke the server", "request_id", req.ID, "panic", fmt.Sprint(broken), "stack", string(debug.Stack()))
				httpx.Error(seen, r, oauth.Errorf(oauth.ServerError, "internal error"))
			}
			reached := known[r.Pattern] // which the mux has filled in
			if reached == nil {
				reached = known[nowhere]
			}
			took := s.Now().Sub(start)
			if req.Log.Error != "" || seen.status() >= 400 {
				s.remember(r, reached.template, req, seen.status(), start)
			}
			reached.metric.observe(r.Method, seen.status(), req.Log.Error, took)
			s.line(ctx, r, reached.template, req, seen.status(), took)
			if span != nil {
				endSpan(span, r, reached.template, req, seen.status())
			}
		}()
		next.ServeHTTP(seen, r)
	})
}

var (
	noSniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	onlyHTTPS  = []string{"max-age=31536000"} // RFC 6797 §6.1; other hosts below ours are not ours to speak for
)

func (s *Middleware) line(ctx context.Context, r *http.Request, route string, req *httpx.Request, status int, took time.Duration) {
	level := slog.LevelInfo
	if status >= 500 {
		level = slog.LevelError
	}
	if !s.Log.Enabled(ctx, level) {
		return
	}
	line := slog.NewRecord(s.Now(), level, "request", 0)
	line.AddAttrs(slog.String("request_id", req.ID), slog.String("method", r.Method), slog.String("path", route),
		slog.Int("status", status), slog.Duration("took", took), slog.String("remote", req.Remote))
	if req.Log.ClientID != "" {
		line.AddAttrs(slog.String("client_id", req.Log.ClientID))
	}
	if req.Log.Error != "" {
		line.AddAttrs(slog.String("error", req.Log.Error))
	}
	if req.Log.Cause != nil {
		line.AddAttrs(slog.String("cause", req.Log.Cause.Error()))
	}
	_ = s.Log.Handler().Handle(ctx, line) // a log that cannot be written stops nothing
}

// remember keeps why a request was refused, for whoever comes with its number.
func (s *Middleware) remember(r *http.Request, route string, req *httpx.Request, status int, at time.Time) {
	refused := refusals.Refusal{
		RequestID: req.ID, At: at, Method: knownMethod(r.Method), Path: route, Status: status, Code: req.Log.Error, Description: req.Log.Description,
		ClientID: req.Log.ClientID, Proved: req.Log.Proved, Remote: req.Remote,
	}
	if req.Log.Cause != nil {
		refused.Cause = redactText(req.Log.Cause.Error())
	}
	s.Refusals.Add(refused)
}

// remote is the caller's address. A forwarded one is believed from the right
// as long as each hop is a trusted proxy, and from nobody else.
func (s *Middleware) remote(r *http.Request) string {
	host := peer(r)
	if len(s.TrustedProxies) == 0 || host == "" {
		return host
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && within(s.TrustedProxies, host); i-- {
		addr, ok := parseHop(hops[i])
		if !ok {
			break
		}
		host = addr.String()
	}
	return host
}

// peer is the address at the other end of the connection.
func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

func within(prefixes []netip.Prefix, host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}

// readyPath is asked by load balancers, which are not always among the proxies.
const readyPath = "/readyz"

// ready answers load balancers. It says that something is wrong and not what.
func ready(check func(ctx context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := check(ctx); err != nil {
			httpx.Error(w, r, oauth.Errorf(oauth.TemporarilyUnavailable, "not ready").Because(err))
			return
		}
		httpx.JSON(w, http.StatusOK, map[string]string{"status": "ok"})
	}
}

// statusWriter remembers the status for the log.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}
