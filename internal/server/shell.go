package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/wire"
)

// Shell is what surrounds every request of a listener: a correlation id, the
// caller's address, limits, one log line, a metric and a span.
type Shell struct {
	Log            *slog.Logger
	Metrics        *Metrics
	Tracer         trace.Tracer   // nil for no traces
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	Now            func() time.Time
}

// mount builds the handler of a listener from its routes.
func (s *Shell) mount(routes []route) http.Handler {
	mux := http.NewServeMux()
	preflight := map[string]bool{}
	for _, r := range routes {
		serve := s.observe(r.path, r.serve)
		if r.crossOrigin {
			serve = crossOrigin(serve)
			if !preflight[r.path] {
				preflight[r.path] = true
				mux.HandleFunc("OPTIONS "+r.path, answerPreflight)
			}
		}
		mux.HandleFunc(strings.TrimSpace(r.method+" "+r.path), serve)
	}
	return s.guard(mux)
}

// guard refuses what no route should see.
func (s *Shell) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["X-Content-Type-Options"] = noSniff
		h["Referrer-Policy"] = noReferrer
		// The mux would answer an unclean path with a redirect that repeats the
		// POST and its credentials.
		escaped := r.URL.EscapedPath()
		if clean := path.Clean(escaped); clean != escaped && clean+"/" != escaped {
			http.NotFound(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, wire.MaxBody+1)
		next.ServeHTTP(w, r)
	})
}

var (
	noSniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
)

// observe gives the request its id, and tells of it once when it is over. The
// URL's query never goes into a log: it may hold a state, a code or a hint.
func (s *Shell) observe(route string, next http.HandlerFunc) http.HandlerFunc {
	metric := s.Metrics.route(route)
	return func(w http.ResponseWriter, r *http.Request) {
		start := s.Now()
		req := &wire.Request{ID: newRequestID(), Remote: s.remote(r)}
		ctx := wire.WithRequest(r.Context(), req)
		seen := &statusWriter{ResponseWriter: w}
		if s.Tracer != nil {
			var span trace.Span
			ctx, span = s.startSpan(ctx, r, route)
			defer func() { endSpan(span, req, seen.status()) }()
		}
		w.Header()["X-Request-Id"] = []string{req.ID}
		defer func() {
			if broken := recover(); broken != nil && broken != http.ErrAbortHandler {
				s.Log.Error("a request broke the server", "request_id", req.ID, "panic", fmt.Sprint(broken), "stack", string(debug.Stack()))
				wire.Error(seen, r.WithContext(ctx), oauth.Errorf(oauth.ServerError, "internal error"))
			}
			took := s.Now().Sub(start)
			metric.observe(r.Method, seen.status(), req.Log.Error, took)
			s.line(ctx, r, route, req, seen.status(), took)
		}()
		next(seen, r.WithContext(ctx))
	}
}

func (s *Shell) line(ctx context.Context, r *http.Request, route string, req *wire.Request, status int, took time.Duration) {
	level := slog.LevelInfo
	if status >= 500 {
		level = slog.LevelError
	}
	if !s.Log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 9)
	attrs = append(attrs, slog.String("request_id", req.ID), slog.String("method", r.Method), slog.String("path", route),
		slog.Int("status", status), slog.Duration("took", took), slog.String("remote", req.Remote))
	if req.Log.ClientID != "" {
		attrs = append(attrs, slog.String("client_id", req.Log.ClientID))
	}
	if req.Log.Error != "" {
		attrs = append(attrs, slog.String("error", req.Log.Error))
	}
	if req.Log.Cause != nil {
		attrs = append(attrs, slog.String("cause", req.Log.Cause.Error()))
	}
	s.Log.LogAttrs(ctx, level, "request", attrs...)
}

func newRequestID() string {
	var id [12]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// remote is the caller's address. A forwarded one is believed from the right
// as long as each hop is a trusted proxy, and from nobody else.
func (s *Shell) remote(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	if len(s.TrustedProxies) == 0 {
		return host
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.trusts(host); i-- {
		addr, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		host = addr.Unmap().String()
	}
	return host
}

func (s *Shell) trusts(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, prefix := range s.TrustedProxies {
		if prefix.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

// crossOrigin lets scripts read the answer. No credentials are allowed with
// it, so the wildcard opens nothing that the script could not do by itself.
func crossOrigin(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if origin := r.Header.Get("Origin"); origin != "" && origin != "null" {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Access-Control-Expose-Headers", "WWW-Authenticate, X-Request-Id")
		}
		next(w, r)
	}
}

func answerPreflight(w http.ResponseWriter, r *http.Request) {
	if origin := r.Header.Get("Origin"); origin != "" && origin != "null" {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
		h.Set("Access-Control-Max-Age", "600")
	}
	w.WriteHeader(http.StatusNoContent)
}

// ready answers load balancers. It says that something is wrong and not what.
func ready(check func(ctx context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := check(ctx); err != nil {
			wire.Error(w, r, oauth.Errorf(oauth.TemporarilyUnavailable, "not ready").Because(err))
			return
		}
		wire.JSON(w, http.StatusOK, map[string]string{"status": "ok"})
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
