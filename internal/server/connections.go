package server

import (
	"container/list"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxHeader bounds the header fields of a request together.
	maxHeader = 32 << 10
	// maxStreams is how many requests one HTTP/2 connection may have under way;
	// RFC 9113 §6.5.2 advises against fewer.
	maxStreams = 100
)

// NewHTTPServer is http.Server with limits on all that a caller can hold: time,
// header and connections, of which there are at most most.
func NewHTTPServer(handler http.Handler, most int, count ConnectionMetrics) *HTTPServer {
	c := &connections{most: most, count: count, open: map[net.Conn]*list.Element{}, none: make(chan struct{}, 1)}
	srv := &http.Server{
		Handler: c.sayingGoodbye(handler), MaxHeaderBytes: maxHeader - 4096, // net/http adds 4096
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 60 * time.Second, IdleTimeout: 75 * time.Second,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), ConnState: c.track,
	}
	srv.RegisterOnShutdown(c.closeWaiting)
	return &HTTPServer{Server: srv, connections: c}
}

// HTTPServer is an http.Server that can take its leave.
type HTTPServer struct {
	*http.Server
	connections *connections
	ln          atomic.Pointer[listener]
}

// Serve serves one listener.
func (s *HTTPServer) Serve(ln net.Listener) error {
	s.ln.Store(&listener{Listener: ln})
	return s.Server.Serve(s.ln.Load())
}

// Leave stops listening and lets callers go without a failure: who asks on a
// connection that is open is answered, and told that it is the last answer. It
// returns when no connection is left, or when ctx ends. Shutdown follows: it
// closes what has not asked, and an HTTP/1.1 caller who asks at that moment
// cannot tell that from an answer that was lost.
func (s *HTTPServer) Leave(ctx context.Context) {
	if ln := s.ln.Load(); ln != nil {
		_ = ln.Close() // Shutdown reports it
	}
	s.connections.leave()
	select {
	case <-s.connections.none:
	case <-ctx.Done():
	}
}

// listener can be closed twice.
type listener struct {
	net.Listener
	once sync.Once
	err  error
}

func (l *listener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}

// connections bounds how many connections a listener holds. One connection more
// closes the one that has waited longest with no request under way, so that a
// caller who opens many and says nothing keeps nobody out. Only when every
// connection is at work is the new one refused.
type connections struct {
	most  int
	count ConnectionMetrics

	mu      sync.Mutex
	open    map[net.Conn]*list.Element // in waiting; nil while a request is under way
	waiting list.List                  // of net.Conn, the longest first

	leaving atomic.Bool
	none    chan struct{} // told, while leaving, that no connection is open
}

func (c *connections) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving.Store(true)
	c.tellNone()
}

func (c *connections) tellNone() {
	if c.leaving.Load() && len(c.open) == 0 {
		select {
		case c.none <- struct{}{}:
		default: // it is told already
		}
	}
}

// sayingGoodbye ends a connection with its next answer. net/http makes a GOAWAY
// of it for HTTP/2.
func (c *connections) sayingGoodbye(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// track is http.Server.ConnState. For a new connection it is called before any
// other is accepted, and must not wait.
func (c *connections) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.count.Open.Set(float64(len(c.open))) }()
	switch state {
	case http.StateNew:
		if len(c.open) >= c.most && !c.closeOldest() {
			c.count.Refused.Inc()
			refuse(conn)
			return
		}
		c.open[conn] = c.waiting.PushBack(conn)
	case http.StateIdle:
		if place, known := c.open[conn]; known && place == nil {
			c.open[conn] = c.waiting.PushBack(conn)
		}
	case http.StateActive:
		if place := c.open[conn]; place != nil {
			c.waiting.Remove(place)
			c.open[conn] = nil
		}
	case http.StateClosed, http.StateHijacked:
		if place := c.open[conn]; place != nil {
			c.waiting.Remove(place)
		}
		delete(c.open, conn)
		c.tellNone()
	}
}

func (c *connections) closeOldest() bool {
	oldest := c.waiting.Front()
	if oldest == nil {
		return false
	}
	conn := c.waiting.Remove(oldest).(net.Conn)
	delete(c.open, conn)
	_ = beneath(conn).Close() // nothing is under way on it
	return true
}

// closeWaiting is for a server that stops. Browsers keep connections in hand on
// which they have asked nothing, and Shutdown would wait five seconds for each.
func (c *connections) closeWaiting() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.closeOldest() {
	}
}

// beneath is the connection without TLS, whose farewell can wait for the peer.
func beneath(conn net.Conn) net.Conn {
	if secure, is := conn.(*tls.Conn); is {
		return secure.NetConn()
	}
	return conn
}

const refusal = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

// refuse says so where it can be said without a handshake. The text fits into
// the send buffer of a connection that has sent nothing, so nothing waits.
func refuse(conn net.Conn) {
	if _, secure := conn.(*tls.Conn); !secure {
		_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = io.WriteString(conn, refusal)
	}
	_ = beneath(conn).Close()
}
