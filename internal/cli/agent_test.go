package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalbox-sts/signalbox/internal/agent"
	"github.com/signalbox-sts/signalbox/internal/config"
)

// badNetwork is an issuer and the way to it, both in memory, in the time of a synctest
// bubble.
type badNetwork struct {
	mu     sync.Mutex
	fault  fault
	began  time.Time
	issued int
	faults int // requests that met the fault
}

const (
	networkIssuer = "http://127.0.0.1:1"
	networkLife   = 5 * time.Minute
)

// fault is what becomes of a request. Zero: nothing happens to it.
type fault struct {
	name   string
	dial   func(ctx context.Context) error
	answer func(w http.ResponseWriter, r *http.Request, good string)
}

func (n *badNetwork) has(f fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault, n.faults = f, 0
}

func (n *badNetwork) now() fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fault.name != "" {
		n.faults++
	}
	return n.fault
}

func (n *badNetwork) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	good := fmt.Sprintf(`{"issuer":%q,"token_endpoint":"%s/token"}`, networkIssuer, networkIssuer)
	if r.Method == http.MethodPost {
		_, _ = io.Copy(io.Discard, r.Body) // whoever has read it notices that the client is gone
		n.mu.Lock()
		n.issued++
		good = fmt.Sprintf(`{"access_token":"begin.%d.%d.end","token_type":"Bearer","expires_in":300}`, n.issued, int(time.Since(n.began).Seconds()+networkLife.Seconds()))
		n.mu.Unlock()
	}
	if f := n.now(); f.answer != nil {
		f.answer(w, r, good)
		return
	}
	io.WriteString(w, good)
}

func says(status int, kind, body string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// brokenOff sends so much of an answer, of which it promises all, and closes.
func brokenOff(after int) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, good string) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		whole := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(good), good)
		io.WriteString(conn, whole[:max(0, len(whole)-after)])
	}
}

var faults = []fault{
	{"the port is closed", func(context.Context) error { return syscall.ECONNREFUSED }, nil},
	{"nothing answers a connection", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, nil},
	{"the network is gone", func(context.Context) error { return syscall.ENETUNREACH }, nil},
	{"the connection is reset before the answer", nil, brokenOff(1 << 20)},
	{"the answer is cut in its middle", nil, brokenOff(40)},
	{"the answer's last byte is missing", nil, brokenOff(1)},
	{"the request vanishes", nil, func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() }},
	{"the answer comes a byte a second", nil, func(w http.ResponseWriter, r *http.Request, good string) {
		for i := range len(good) {
			if _, err := io.WriteString(w, good[i:i+1]); err != nil || r.Context().Err() != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(time.Second)
		}
	}},
	{"the JSON is cut, and its length is right", nil, func(w http.ResponseWriter, _ *http.Request, good string) { io.WriteString(w, good[:len(good)-25]) }},
	{"an empty answer", nil, says(200, "application/json", "")},
	{"a page of whoever owns the network", nil, says(200, "text/html", "<html>Welcome to our café</html>")},
	{"a token without an end", nil, says(200, "application/json", `{"access_token":"begin.0.0.end","token_type":"Bearer"}`)},
	{"a token that has ended", nil, says(200, "application/json", `{"access_token":"begin.0.0.end","token_type":"Bearer","expires_in":0}`)},
	{"a token of two lines", nil, says(200, "application/json", `{"access_token":"begin.0.0.\nend","token_type":"Bearer","expires_in":300}`)},
	{"503 with Retry-After", nil, says(503, "application/json", `{"error":"temporarily_unavailable"}`)},
	{"429", nil, says(429, "application/json", `{"error":"slow_down"}`)},
	{"502 of a proxy", nil, says(502, "text/html", "<html>Bad Gateway</html>")},
	{"403 of a proxy", nil, says(403, "text/html", "<html>Blocked</html>")},
	{"a redirect elsewhere", nil, func(w http.ResponseWriter, r *http.Request, _ string) {
		http.Redirect(w, r, "http://127.0.0.1:2/", http.StatusTemporaryRedirect)
	}},
}

// The network fails in every way that it can, each for a minute that begins just
// before a token is renewed. Whoever reads finds a whole token that is good.
func TestTheAgentsReadersDoNotNoticeABadNetwork(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "proof"), []byte("proof\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func() (*config.Agent, error) {
		return config.ParseAgent(filepath.Join(dir, "agent.yaml"), []byte("issuer: "+networkIssuer+"\ntokens: [{name: a, from: {subject_token_file: proof}, to: {cluster: spoke-a}, file: {path: token}}]\n"))
	}
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		n := &badNetwork{began: time.Now()}
		env, end := n.start(t)
		defer end()
		var log lockedBuilder
		d := &agent.Daemon{Log: slog.New(slog.NewTextHandler(&log, nil)), Connect: func(issuer string, ca []byte) (agent.Service, error) { return env.connect(issuer, ca) }}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx, c, load, nil) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(time.Second) // the first token is there
		read := func() (number int) {
			text, err := os.ReadFile(filepath.Join(dir, "token"))
			var until int
			if got, scanned := fmt.Sscanf(string(text), "begin.%d.%d.end\n", &number, &until); err != nil || got != 2 || scanned != nil || !strings.HasSuffix(string(text), ".end\n") {
				t.Fatalf("a reader finds %q: %v, %v", text, err, scanned)
			}
			if left := time.Duration(until)*time.Second - time.Since(n.began); left <= 0 {
				t.Fatalf("a reader finds a token that ended %v ago\n%s", -left, log.String())
			}
			return number
		}
		pass := func(d time.Duration) {
			for range int(d / (500 * time.Millisecond)) {
				time.Sleep(500 * time.Millisecond)
				read()
			}
		}
		for _, f := range faults {
			before := read()
			// An agent renews after 0.9 to 1 times two thirds of a life.
			for read() == before {
				pass(time.Second)
			}
			before = read()
			pass(networkLife*6/10 - 2*time.Second)
			n.has(f)
			pass(networkLife/15 + time.Minute)
			if read() != before || n.faults < 3 {
				t.Errorf("%s: not met, or a token came through it: %d times", f.name, n.faults)
			}
			n.has(fault{})
			pass(35 * time.Second) // the last attempt takes 15 s to fail, and the next one comes after at most 15 s
			if read() == before {
				t.Errorf("%s: no new token 35 s after it", f.name)
			}
		}
	})
}

// start gives an environment whose issuer is n.
func (n *badNetwork) start(t *testing.T) (*Environment, func()) {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: n, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		if f := n.now(); f.dial != nil {
			return nil, f.dial(ctx)
		}
		ours, theirs := net.Pipe()
		select {
		case l.conns <- theirs:
			return ours, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	env := &Environment{Err: io.Discard, issuer: &http.Client{Timeout: issuerTimeout, CheckRedirect: followNone, Transport: transport}}
	return env, func() {
		transport.CloseIdleConnections()
		server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

type lockedBuilder struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuilder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuilder) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
