package server

import (
	"errors"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// route is one row of the table that routes requests and makes the metadata.
type route struct {
	method, path string // an empty method: the handler looks at it itself
	serve        http.HandlerFunc
	crossOrigin  bool // scripts of any origin may read the answer; no cookie is ever looked at here
	exact        bool // GET is not HEAD too: what is served has no end
}

// endpoint is one path with all that is served there. Its template is what log,
// metrics and traces call it.
type endpoint struct {
	template string
	methods  map[string]http.HandlerFunc
	any      http.HandlerFunc // instead of methods
	allowed  string           // the methods, for the header Allow
	metric   *routeMetric
}

// nowhere is the endpoint of what leads nowhere: one name for all that callers invent.
const nowhere = "other"

// mount builds the handler of a listener from its routes. notFound answers what
// none of them takes.
func (s *Middleware) mount(routes []route, notFound http.HandlerFunc) http.Handler {
	known := map[string]*endpoint{nowhere: {template: nowhere, metric: s.Metrics.route(nowhere)}}
	for _, r := range routes {
		e := known[r.path]
		if e == nil {
			template := strings.TrimSuffix(r.path, "{$}")
			e = &endpoint{template: template, methods: map[string]http.HandlerFunc{}, metric: s.Metrics.route(template)}
			known[r.path] = e
		}
		e.add(r)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", notFound)
	for pattern, e := range known {
		if pattern != nowhere {
			e.allowed = allow(e.methods)
			mux.Handle(pattern, e)
		}
	}
	return s.observe(known, s.admit(clean(mux, notFound)))
}

const (
	// maxAtOnce bounds the requests of a listener that are under way: one connection
	// of HTTP/2 carries many.
	maxAtOnce = 4096
	// bodyRoom is what all their larger bodies together may take.
	bodyRoom = 16 << 20
)

// admit refuses, before anything is read, who speaks plain HTTP and is none of
// our proxies, and requests beyond maxAtOnce.
func (s *Middleware) admit(next http.Handler) http.Handler {
	var underWay atomic.Int64
	room := httpx.NewRoom(bodyRoom)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.PlainFrom != nil && r.URL.Path != readyPath && !within(s.PlainFrom, peer(r)) {
			httpx.Error(w, r, errPlain.Because(errors.New(peer(r)+" is not in tls.trusted_proxies")))
			return
		}
		defer underWay.Add(-1)
		if underWay.Add(1) > maxAtOnce {
			httpx.Error(w, r, errCrowded)
			return
		}
		req := httpx.RequestOf(r.Context())
		req.Writer, req.Room = w, room
		defer req.Release()
		next.ServeHTTP(w, r)
	})
}

var (
	errPlain   = oauth.Errorf(oauth.AccessDenied, "this address takes plain HTTP from its proxies only: use the https address")
	errCrowded = oauth.Errorf(oauth.TemporarilyUnavailable, "too many requests at once, try again")
)

func (e *endpoint) add(r route) {
	serve := r.serve
	if r.crossOrigin {
		serve = crossOrigin(serve)
		e.methods[http.MethodOptions] = answerPreflight
	}
	switch {
	case r.method == "":
		e.any = serve
	case r.method == http.MethodGet && !r.exact:
		e.methods[http.MethodGet], e.methods[http.MethodHead] = serve, serve
	default:
		e.methods[r.method] = serve
	}
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	serve := e.methods[r.Method]
	if serve == nil {
		serve = e.any
	}
	if serve == nil {
		httpx.MethodNotAllowed(w, r, e.allowed)
		return
	}
	serve(w, r)
}

func allow(methods map[string]http.HandlerFunc) string {
	var names []string
	for name := range methods {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// clean refuses unclean paths and bounds the body. The mux would answer an
// unclean path with a redirect that repeats the POST and its credentials.
func clean(next http.Handler, notFound http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		escaped := r.URL.EscapedPath()
		cleaned := path.Clean(escaped)
		if cleaned != escaped && (cleaned == "/" || cleaned+"/" != escaped) {
			notFound(w, r)
			return
		}
		if r.ContentLength != 0 {
			r.Body = http.MaxBytesReader(w, r.Body, httpx.MaxBody+1) // whoever reads it
		}
		next.ServeHTTP(w, r)
	})
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
