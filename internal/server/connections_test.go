package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"
)

// listen serves with at most two connections. A request to /wait is under way
// until release is called.
func listen(t *testing.T, wrap func(net.Listener) net.Listener) (srv *HTTPServer, metrics *Metrics, dial func() net.Conn, release func()) {
	t.Helper()
	metrics = NewMetrics()
	under := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/wait", func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush() // the caller knows that it is under way
		<-under
	})
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	srv = NewHTTPServer(mux, 2, metrics.Connections("public"))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	if wrap != nil {
		ln = wrap(ln)
	}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return srv, metrics, func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}, func() { close(under) }
}

// get asks and reads the head of the answer.
func get(t *testing.T, conn net.Conn, path string) (int, error) {
	t.Helper()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		return 0, err
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return r.StatusCode, nil
}

// sumOf is the sum of a metric's series.
func sumOf(t *testing.T, metrics *Metrics, name string) (sum float64) {
	t.Helper()
	families, err := metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func isClosed(conn net.Conn) bool {
	_, err := conn.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, context.DeadlineExceeded)
}

func TestASilentConnectionMakesRoomForANewOne(t *testing.T) { // 112
	_, metrics, dial, _ := listen(t, nil)
	first, second := dial(), dial()
	third := dial()
	if status, err := get(t, third, "/"); status != 200 {
		t.Fatalf("two callers who say nothing keep a third out: %d %v", status, err)
	}
	if !isClosed(first) {
		t.Fatal("not the oldest has gone")
	}
	if status, err := get(t, second, "/"); status != 200 {
		t.Fatalf("the younger one has gone too: %d %v", status, err)
	}
	if n := sumOf(t, metrics, "signalbox_connections"); n != 2 {
		t.Fatalf("%v connections are counted", n)
	}
}

func TestAConnectionThatIsIdleMakesRoomAndOneAtWorkDoesNot(t *testing.T) { // 112
	srv, metrics, dial, release := listen(t, nil)
	atWork, idle := dial(), dial()
	if status, err := get(t, atWork, "/wait"); status != 200 {
		t.Fatal(status, err)
	}
	if status, err := get(t, idle, "/"); status != 200 {
		t.Fatal(status, err)
	}
	for !anyWaits(srv) { // it is idle a moment after its caller has the answer
		runtime.Gosched()
	}
	other := dial()
	if status, err := get(t, other, "/wait"); status != 200 {
		t.Fatalf("an idle connection keeps a caller out: %d %v", status, err)
	}
	if !isClosed(idle) {
		t.Fatal("the idle one is still there")
	}
	// Now both are at work.
	late := dial()
	if status, err := get(t, late, "/"); status != 503 && !isReset(err) {
		t.Fatalf("a third caller beside two at work: %d %v", status, err)
	}
	if n := sumOf(t, metrics, "signalbox_connections_refused_total"); n != 1 {
		t.Fatalf("%v refusals are counted", n)
	}
	release()
	if _, err := io.ReadFull(atWork, make([]byte, len("0\r\n\r\n"))); err != nil {
		t.Fatalf("who was at work was cut off: %v", err)
	}
}

// anyWaits says whether a connection is open at which no request is under way.
func anyWaits(srv *HTTPServer) bool {
	srv.connections.mu.Lock()
	defer srv.connections.mu.Unlock()
	return srv.connections.waiting.Len() > 0
}

// isReset: the refusal and the request cross each other on the way.
func isReset(err error) bool {
	var operation *net.OpError
	return errors.As(err, &operation) || errors.Is(err, io.ErrUnexpectedEOF)
}

func TestACallerThatHangsInTheHandshakeMakesRoom(t *testing.T) { // 112
	issued := httptest.NewUnstartedServer(nil)
	issued.StartTLS()
	t.Cleanup(issued.Close)
	certificate := issued.TLS.Certificates
	_, _, dial, _ := listen(t, func(ln net.Listener) net.Listener { return tls.NewListener(ln, &tls.Config{Certificates: certificate}) })
	first := dial()
	dial()
	secure := tls.Client(dial(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // loopback, and not what is tested
	if status, err := get(t, secure, "/"); status != 200 {
		t.Fatalf("%d %v", status, err)
	}
	if !isClosed(first) {
		t.Fatal("the oldest is still there")
	}
}

func TestShutdownDoesNotWaitForConnectionsThatWait(t *testing.T) {
	srv, metrics, dial, _ := listen(t, nil)
	silent, idle := dial(), dial()
	if status, err := get(t, idle, "/"); status != 200 {
		t.Fatal(status, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // net/http itself waits five for the silent one
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if !isClosed(silent) || !isClosed(idle) {
		t.Fatal("a connection is left")
	}
	for sumOf(t, metrics, "signalbox_connections") != 0 { // each is counted off a moment after it is closed
		if ctx.Err() != nil {
			t.Fatal("closed connections are counted")
		}
		runtime.Gosched()
	}
}

func TestWhoAsksWhileTheServerLeavesIsAnsweredAndToldToGo(t *testing.T) {
	srv, _, dial, _ := listen(t, nil)
	fresh, idle := dial(), dial() // in this order, so that both are accepted once the second is answered
	if status, err := get(t, idle, "/"); status != 200 {
		t.Fatal(status, err)
	}
	left := make(chan struct{})
	go func() {
		defer close(left)
		srv.Leave(t.Context())
	}()
	for !srv.connections.leaving.Load() {
		runtime.Gosched()
	}
	if late, err := net.Dial("tcp", idle.RemoteAddr().String()); err == nil {
		_ = late.Close()
		t.Error("a server that leaves still listens")
	}
	for name, conn := range map[string]net.Conn{"a connection that was idle": idle, "a connection on which nothing was asked": fresh} {
		if status, err := get(t, conn, "/"); status != 200 {
			t.Errorf("%s: %d %v", name, status, err)
		} else if !isClosed(conn) {
			t.Errorf("%s is kept open", name)
		}
	}
	<-left // although its context has not ended: nobody is there any more
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Errorf("the listener that was closed already: %v", err)
	}
}
