package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/operation"
)

// describing is the route of the description, which needs no token.
var describing = Route{
	Operation: operation.Describe, Summary: "This description, as OpenAPI 3.1.", Out: json.RawMessage{},
}

// Mount hands every route to handle: its method, the template of its path, and
// what serves it. The description of them all is one more.
func (s *Server) Mount(routes []Route, handle func(method, path string, serve http.HandlerFunc)) {
	description, described := Describe(routes), describing
	described.Run = func(context.Context, *Call) (Plan, error) { return Reads(description), nil }
	for _, rt := range append([]Route{described}, routes...) {
		handle(rt.Method, operation.Prefix+rt.Path, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, &rt) })
	}
}

// serve is transport: HTTP in, act, HTTP out.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, rt *Route) {
	c := &Call{route: rt, Now: s.Now().UTC().Truncate(time.Millisecond)} // the precision of what is stored
	p, err := s.act(r.Context(), rt, c, func() error { return c.read(rt, r) }, r.Header)
	if c.Token != nil {
		log := &httpx.RequestOf(r.Context()).Log
		log.ClientID, log.Proved = c.Token.ClientID, true
	}
	switch {
	case err != nil:
		writeError(w, r, err)
	case p.Stream != nil:
		s.stream(w, r, c, p)
	case rt.Status == http.StatusNoContent:
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
	case rt.Status != 0:
		httpx.JSON(w, rt.Status, p.Answer)
	default:
		httpx.JSON(w, http.StatusOK, p.Answer)
	}
}

// stream sends records as they come, one a line (application/x-ndjson). The
// caller's token is asked again before each: a stream must not outlive it.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, c *Call, p Plan) {
	raw, _ := bearer(r.Header)
	ctx, cancel := context.WithDeadline(r.Context(), s.streamUntil(c))
	defer cancel()
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	_ = control.SetWriteDeadline(time.Time{}) // a stream is longer than any answer
	_ = control.Flush()                       // the caller sees that it is connected
	err := p.Stream(ctx, func(record any) error {
		if _, err := s.Tokens.Authenticate(raw); err != nil {
			return err
		}
		line, err := json.Marshal(record)
		if err != nil {
			return err
		}
		_ = control.SetWriteDeadline(time.Now().Add(30 * time.Second)) // a reader that hangs is let go
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		return control.Flush()
	})
	if err != nil && ctx.Err() == nil {
		httpx.RequestOf(r.Context()).Log.Cause = err
	}
}

// streamUntil is the end of the token in the time of the machine, which
// contexts go by.
func (s *Server) streamUntil(c *Call) time.Time {
	return time.Now().Add(c.Token.Expires.Sub(s.Now()))
}
