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

	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Middleware is what surrounds every request of a listener: a correlation id, the
// caller's address, limits, one log line, a metric and a span.
type Middleware struct {
	Log            *slog.Logger
	Lines          *LineWriter // what Log writes to, if that is JSON; nil otherwise
	Metrics        *Metrics
	Tracer         trace.Tracer   // nil for no traces
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	Now            func() time.Time
}

// mount builds the handler of a listener from its routes.
func (s *Middleware) mount(routes []route) http.Handler {
	mux := http.NewServeMux()
	known := map[string]*observed{"": {"other", s.Metrics.route("other")}}
	preflight := map[string]bool{}
	for _, r := range routes {
		serve := r.serve
		if r.crossOrigin {
			serve = crossOrigin(serve)
			if !preflight[r.path] {
				preflight[r.path] = true
				mux.HandleFunc("OPTIONS "+r.path, answerPreflight)
				known["OPTIONS "+r.path] = &observed{r.path, s.Metrics.route(r.path)}
			}
		}
		pattern := strings.TrimSpace(r.method + " " + r.path)
		mux.HandleFunc(pattern, serve)
		known[pattern] = &observed{r.path, s.Metrics.route(r.path)}
	}
	return s.observe(known, clean(mux))
}

// observed is a route as log and metrics name it.
type observed struct {
	path   string
	metric *routeMetric
}

// observe gives a request its id, catches what breaks, and tells of it once
// when it is over. The URL's query never goes into a log: it may hold a state,
// a code or a hint.
func (s *Middleware) observe(known map[string]*observed, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := s.Now()
		req := &httpx.Request{ID: newRequestID(), Remote: s.remote(r)}
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
		defer func() {
			broken := recover()
			if broken == http.ErrAbortHandler {
				defer panic(broken) // for net/http, which then cuts the connection
			} else if broken != nil {
				s.Log.Error("a request broke the server", "request_id", req.ID, "panic", fmt.Sprint(broken), "stack", string(debug.Stack()))
				httpx.Error(seen, r, oauth.Errorf(oauth.ServerError, "internal error"))
			}
			route := known[r.Pattern] // which the mux has filled in
			if route == nil {
				route = known[""]
			}
			took := s.Now().Sub(start)
			route.metric.observe(r.Method, seen.status(), req.Log.Error, took)
			s.line(ctx, r, route.path, req, seen.status(), took)
			if span != nil {
				endSpan(span, r, route.path, req, seen.status())
			}
		}()
		next.ServeHTTP(seen, r)
	})
}

// clean refuses unclean paths and bounds the body. The mux would answer an
// unclean path with a redirect that repeats the POST and its credentials.
func clean(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		escaped := r.URL.EscapedPath()
		cleaned := path.Clean(escaped)
		if cleaned != escaped && (cleaned == "/" || cleaned+"/" != escaped) {
			http.NotFound(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, httpx.MaxBody+1)
		next.ServeHTTP(w, r)
	})
}

var (
	noSniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
)

func (s *Middleware) line(ctx context.Context, r *http.Request, route string, req *httpx.Request, status int, took time.Duration) {
	level := slog.LevelInfo
	if status >= 500 {
		level = slog.LevelError
	}
	if !s.Log.Enabled(ctx, level) {
		return
	}
	note := req.Log
	if s.Lines != nil && level == slog.LevelInfo && note.Cause == nil && isPlain(note.ClientID) && isPlain(req.Remote) && isPlain(r.Method) {
		s.Lines.gather(func(buf []byte) []byte {
			return appendRequestLine(buf, s.Now(), req.ID, r.Method, route, status, took, req.Remote, note.ClientID, note.Error)
		})
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
func (s *Middleware) remote(r *http.Request) string {
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
		if err != nil || addr.Zone() != "" { // a zone may be any text
			break
		}
		host = addr.Unmap().String()
	}
	return host
}

func (s *Middleware) trusts(host string) bool {
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
