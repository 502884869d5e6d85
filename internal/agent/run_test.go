package agent

import (
	"context"
	"encoding/json"
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

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/kube"
)

// house is a daemon in a folder, with a service that gives numbered tokens.
type house struct {
	*testing.T
	Daemon
	dir   string
	asked chan os.Signal
	ended chan error
	end   context.CancelFunc

	mu       sync.Mutex
	requests []Request
	fail     error
	text     string // of the configuration
	log      strings.Builder
}

func (h *house) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(p)
}

func newHouse(t *testing.T) *house {
	h := &house{T: t, dir: t.TempDir(), asked: make(chan os.Signal, 1), ended: make(chan error, 1)}
	h.Log = slog.New(slog.NewTextHandler(h, nil))
	h.Connect = func(string, []byte) (Service, error) {
		return func(_ context.Context, r Request) (string, time.Duration, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.requests = append(h.requests, r)
			if h.fail != nil {
				return "", 0, h.fail
			}
			return fmt.Sprintf("secret-token-%d", len(h.requests)), time.Hour, nil
		}, nil
	}
	h.write("proof", "the-proof\n")
	h.write("client.secret", "the-secret\n")
	return h
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

func (h *house) write(name, text string) {
	h.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.Fatal(err)
	}
}

func (h *house) load() (*config.Agent, error) {
	h.mu.Lock()
	text := h.text
	h.mu.Unlock()
	return config.ParseAgent(h.path("agent.yaml"), []byte("issuer: https://sts.example.com\n"+text))
}

// configure is for run and reload.
func (h *house) configure(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = text
}

func (h *house) run() {
	h.Helper()
	c, err := h.load()
	if err != nil {
		h.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	h.end = end
	d := &Daemon{Connect: h.Connect, Log: h.Log} // a process of its own
	go func() { h.ended <- d.Run(ctx, c, h.load, h.asked) }()
	h.Cleanup(h.stop)
}

func (h *house) stop() {
	if h.end == nil {
		return
	}
	h.end()
	h.end = nil
	select {
	case err := <-h.ended:
		if err != nil {
			h.Error(err)
		}
	case <-time.After(10 * time.Second):
		h.Error("it does not end")
	}
}

// until waits for what happens in another goroutine.
func (h *house) until(what string, is func() bool) {
	h.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.Fatalf("not yet: %s\n%s", what, h.log.String())
		}
	}
}

func (h *house) holds(name, want string) {
	h.Helper()
	h.until(name+" holds "+want, func() bool {
		got, err := os.ReadFile(h.path(name))
		return err == nil && string(got) == want+"\n" || want == "" && errors.Is(err, os.ErrNotExist)
	})
}

func (h *house) logged(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Contains(h.log.String(), text)
}

func entryOf(name, to, output string) string {
	return fmt.Sprintf("  - {name: %s, from: {subject_token_file: proof}, to: {cluster: %s}, %s}\n", name, to, output)
}

func TestTheConfigurationIsFollowed(t *testing.T) {
	h := newHouse(t)
	h.configure("state_file: state.json\ntokens:\n" + entryOf("a", "spoke-a", "file: {path: a}") + entryOf("b", "spoke-a", "file: {path: b}") +
		`  - {name: c, from: {client_id: orders, client_secret_file: client.secret}, to: {resource: "https://api", scopes: [x, y]}, file: {path: c}}` + "\n")
	h.run()
	for _, name := range []string{"a", "b", "c"} {
		h.until(name, func() bool { _, err := os.Stat(h.path(name)); return err == nil })
	}
	h.mu.Lock()
	if len(h.requests) != 2 {
		t.Errorf("%d exchanges for two identities", len(h.requests))
	}
	for _, r := range h.requests {
		if r.ClientID == "" && (r.SubjectToken != "the-proof" || r.Cluster != "spoke-a" || r.ClientSecret != "") ||
			r.ClientID != "" && (r.ClientSecret != "the-secret" || r.SubjectToken != "" || r.Resource != "https://api" || len(r.Scopes) != 2) {
			t.Error("asked with something else")
		}
	}
	h.mu.Unlock()
	a, _ := os.ReadFile(h.path("a"))
	contains(t, h.path("b"), string(a))

	h.configure("state_file: state.json\nfoo: bar\n")
	h.asked <- syscall.SIGHUP
	h.until("a wrong file is refused", func() bool { return h.logged("foo: unknown key") })
	contains(t, h.path("a"), string(a))

	h.configure("state_file: other.json\n")
	h.asked <- syscall.SIGHUP
	h.until("a key that needs a restart", func() bool { return h.logged("state_file cannot change") })
	contains(t, h.path("a"), string(a))

	h.configure("state_file: state.json\ntokens:\n" + entryOf("a", "spoke-a", "file: {path: a}"))
	h.asked <- syscall.SIGHUP
	h.holds("b", "")
	h.holds("c", "")
	contains(t, h.path("a"), string(a))
	h.stop()
	contains(t, h.path("a"), string(a)) // readers go on while the agent is restarted

	h.configure("state_file: state.json\ntokens:\n" + entryOf("d", "spoke-d", "file: {path: d}"))
	h.run()
	h.holds("a", "") // it left while nobody ran
	h.until("d", func() bool { _, err := os.Stat(h.path("d")); return err == nil })
	if h.logged("secret-token") || h.logged("the-proof") || h.logged("the-secret") {
		t.Error("the log has secrets")
	}
}

func TestATokenInAFileIsNotTrustedAtTheStartAndNotRemovedEither(t *testing.T) {
	h := newHouse(t)
	h.write("a", "somebody's-token\n")
	h.fail = errors.New("the service is away")
	h.configure("tokens:\n" + entryOf("a", "spoke-a", "file: {path: a}, socket: {uids: ["+fmt.Sprint(os.Getuid())+"]}") + "listen: {socket: s}\n")
	h.run()
	h.until("it has asked", func() bool { return h.logged("no new token") })
	contains(t, h.path("a"), "somebody's-token\n")
	if status, body := h.ask("/token?name=a"); status != 503 || strings.Contains(body, "somebody") {
		t.Errorf("%d %s", status, body)
	}
	h.mu.Lock()
	h.fail = nil
	h.mu.Unlock()
	h.until("a new one", func() bool { got, _ := os.ReadFile(h.path("a")); return strings.HasPrefix(string(got), "secret-token") })
}

// ask asks the socket.
func (h *house) ask(path string) (status int, body string) {
	h.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.path("s"))
	}}}
	answer, err := client.Get("http://agent" + path)
	if err != nil {
		h.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		h.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func TestTheSocketGivesEachUserHisTokensAlone(t *testing.T) {
	if peersKnown() != nil {
		t.Skip("this system does not say who connects")
	}
	h := newHouse(t)
	me, other := os.Getuid(), os.Getuid()+1
	h.configure(fmt.Sprintf("listen: {socket: s}\ntokens:\n"+
		entryOf("mine", "spoke-a", "socket: {uids: [%d]}")+entryOf("shared", "spoke-b", "socket: {uids: [%d, %d]}")+entryOf("theirs", "spoke-c", "socket: {uids: [%d]}"), me, me, other, other))
	h.run()
	h.until("the socket is there", func() bool { c, err := net.Dial("unix", h.path("s")); return err == nil && c.Close() == nil })
	h.until("the tokens are there", func() bool {
		s, _ := h.ask("/token?name=mine")
		r, _ := h.ask("/token?name=shared")
		return s == 200 && r == 200
	})
	for _, row := range []struct {
		path   string
		status int
		want   string
	}{
		{"/token?name=mine", 200, "secret-token"},
		{"/token?name=shared", 200, "secret-token"},
		{"/token?name=theirs", 403, "access_denied"},
		{"/token?name=nothing", 403, "access_denied"},
		{"/token", 400, "[mine shared]"},
		{"/token?name=mine&name=shared", 400, "twice"},
		{"/", 404, "not_found"},
		{"/token/../token?name=mine", 404, "not_found"},
	} {
		if status, body := h.ask(row.path); status != row.status || !strings.Contains(body, row.want) || strings.Contains(body, "theirs") {
			t.Errorf("%s: %d %s", row.path, status, body)
		}
	}
	_, body := h.ask("/token?name=mine")
	var got struct {
		Token     string `json:"access_token"`
		Type      string `json:"token_type"`
		ExpiresIn int64  `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || got.Type != "Bearer" || got.ExpiresIn < 3500 || got.ExpiresIn > 3600 {
		t.Errorf("%v %s", err, body)
	}
	h.configure(fmt.Sprintf("listen: {socket: s}\ntokens:\n"+entryOf("mine", "spoke-a", "socket: {uids: [%d]}"), me))
	h.asked <- syscall.SIGHUP
	h.until("one is left", func() bool { s, _ := h.ask("/token"); return s == 200 })
	if _, again := h.ask("/token"); !strings.Contains(again, got.Token) {
		t.Error("what stays as it is was asked for again")
	}
}

func TestASocketThatAnotherProcessLeftIsReplacedAndNothingElseIs(t *testing.T) {
	if peersKnown() != nil {
		t.Skip("this system does not say who connects")
	}
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(path); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Error(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	ln, err := listenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(path); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Error(err)
	}
}

func TestAUserCannotHoldMoreThanHisShareOfConnections(t *testing.T) {
	l := &peers{open: map[uint32]int{}}
	for range maxPerUser {
		if !l.enter(1) {
			t.Fatal("refused too early")
		}
	}
	if l.enter(1) || !l.enter(2) {
		t.Error("the share of one is another's, or has no end")
	}
	l.leave(1)
	if !l.enter(1) {
		t.Error("a place that is free again is not given")
	}
}

func TestOnceLeavesTheSocketOutAndFailsIfOneFails(t *testing.T) {
	h := newHouse(t)
	h.configure("listen: {socket: s}\ntokens:\n" + entryOf("a", "spoke-a", "file: {path: a}") + entryOf("b", "spoke-b", "file: {path: none/b}") + entryOf("c", "spoke-c", "socket: {uids: [1]}"))
	c, err := h.load()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Once(t.Context(), c); err == nil || !strings.Contains(err.Error(), "b: file "+h.path("none/b")) || !strings.Contains(err.Error(), "does not exist") {
		t.Error(err)
	}
	h.until("a is written", func() bool { _, err := os.Stat(h.path("a")); return err == nil })
	if len(h.requests) != 2 {
		t.Errorf("%d requests: what goes nowhere is not asked for", len(h.requests))
	}
	if _, err := os.Stat(h.path("s")); err == nil {
		t.Error("there is a socket")
	}
}

func TestReadyzIsRedPastNineTenthsOfALifeAndSaysWhich(t *testing.T) {
	inWorld(t, func(w *world) {
		a, b := w.shelf("file /a"), w.shelf("file /b")
		w.life = 100 * time.Second
		get := func(path string) (int, string) {
			synctest.Wait()
			answer := newRecorder()
			request, _ := http.NewRequest(http.MethodGet, path, nil)
			w.Handler(noController).ServeHTTP(answer, request)
			return answer.status, answer.body.String()
		}
		a.answers(errors.New("no space left on device"))
		w.Set(w.ctx, []Entry{w.entry("spoke-a", "x", a, b)})
		if status, body := get("/readyz"); status != 503 || body != "spoke-a: file /a: it has no token yet, and it cannot be written: no space left on device\n" {
			t.Errorf("%d %s", status, body)
		}
		a.answers(nil)
		time.Sleep(2 * time.Second)
		if status, body := get("/readyz"); status != 200 || body != "ok\n" {
			t.Errorf("%d %s", status, body)
		}
		if _, body := get("/metrics"); !strings.Contains(body, "signalbox_agent_ready 1\n") || strings.Contains(body, "signalbox_agent_serves") {
			t.Errorf("it is ready, and serves no namespace:\n%s", body)
		}
		w.answers(errAway)
		time.Sleep(87 * time.Second)
		if status, body := get("/readyz"); status != 200 {
			t.Errorf("%d %s", status, body)
		}
		time.Sleep(2 * time.Second)
		if status, body := get("/readyz"); status != 503 || strings.Count(body, "its token is past 90 % of its life") != 2 {
			t.Errorf("%d %s", status, body)
		}
		time.Sleep(10 * time.Second)
		if status, body := get("/readyz"); status != 503 || strings.Count(body, "its token has ended") != 2 {
			t.Errorf("%d %s", status, body)
		}
		if status, _ := get("/livez"); status != 200 {
			t.Error(status)
		}
		_, body := get("/metrics")
		for _, want := range []string{
			`signalbox_agent_renewals_total{output="file /a",token="spoke-a"} 1`, `signalbox_agent_failures_total{output="file /b",token="spoke-a"} 0`,
			`signalbox_agent_token_expires_in_seconds{output="file /b",token="spoke-a"} -1`, `signalbox_agent_last_change_timestamp_seconds{output="file /a",token="spoke-a"} 9.46`,
			"signalbox_agent_ready 0\n",
		} {
			if !strings.Contains(body, want) {
				t.Errorf("no %s in\n%s", want, body)
			}
		}
		if strings.Contains(body, "token-1") {
			t.Error("the token is in the metrics")
		}
	})
}

func TestMetricsSayWhoServesSignalboxTokens(t *testing.T) {
	inWorld(t, func(w *world) {
		served, up := (*Agent)(nil), error(nil)
		c := Controller{Run: func(context.Context) {}, Up: func() error { return up }, Tokens: func() *Agent { return served }}
		for _, row := range []struct {
			sentence string
			served   *Agent
			up       error
			want     string
		}{
			{"another one serves", nil, nil, "signalbox_agent_ready 1\nsignalbox_agent_serves 0\n"},
			{"this one serves", &w.Agent, nil, "signalbox_agent_ready 1\nsignalbox_agent_serves 1\n"},
			{"it does not hear of changes", nil, errors.New("deaf"), "signalbox_agent_ready 0\nsignalbox_agent_serves 0\n"},
		} {
			served, up = row.served, row.up
			answer := newRecorder()
			request, _ := http.NewRequest(http.MethodGet, "/metrics", nil)
			w.Handler(c).ServeHTTP(answer, request)
			var got strings.Builder
			for line := range strings.Lines(answer.body.String()) {
				if !strings.HasPrefix(line, "#") {
					got.WriteString(line)
				}
			}
			if got.String() != row.want {
				t.Errorf("%s:\n%s", row.sentence, got.String())
			}
		}
	})
}

// recorder is an http.ResponseWriter.
type recorder struct {
	status int
	body   strings.Builder
	header http.Header
}

func newRecorder() *recorder                    { return &recorder{status: 200, header: http.Header{}} }
func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

// onRecord calls f with each message, and waits for it.
type onRecord struct {
	slog.Handler
	f func(message string)
}

func (h onRecord) Handle(ctx context.Context, r slog.Record) error {
	h.f(r.Message)
	return h.Handler.Handle(ctx, r)
}

// Until it is known which tokens are wanted, none is missing: nobody is told so.
func TestNobodyHearsThatTheAgentIsReadyBeforeItHasBegun(t *testing.T) {
	h := newHouse(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	h.configure("state_file: state.json\ntokens:\n" + entryOf("a", "spoke-a", "file: {path: a}") + entryOf("b", "spoke-a", "file: {path: b}"))
	h.run()
	h.holds("b", "secret-token-1")
	h.stop()
	early := make(chan error, 1)
	h.Log = slog.New(onRecord{h.Log.Handler(), func(message string) {
		if strings.Contains(message, "no longer configured") {
			client := &http.Client{Timeout: 300 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
			_, err := client.Get("http://" + address + "/readyz")
			early <- err
		}
	}})
	h.configure("state_file: state.json\nlisten: {health: \"" + address + "\"}\ntokens:\n" + entryOf("a", "spoke-a", "file: {path: a}"))
	h.run()
	select {
	case err := <-early:
		if err == nil {
			t.Error("it was answered")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was removed")
	}
	h.until("it is ready", func() bool {
		answer, err := http.Get("http://" + address + "/readyz")
		if err == nil {
			answer.Body.Close()
		}
		return err == nil && answer.StatusCode == http.StatusOK
	})
}

func TestASecretOfArgoCDTellsWhereThePrivateCertificatesAre(t *testing.T) {
	h := newHouse(t)
	h.client = &kube.Client{}
	h.configure("tokens:\n" + entryOf("a", "spoke-a", `secret: {namespace: argocd, name: spoke-a, kind: argocd-cluster, server: "https://10.0.1.1:6443"}`))
	c, err := h.load()
	if err != nil {
		t.Fatal(err)
	}
	c.CAFile = "ca.crt"
	entries, _, err := h.entries(c)
	if err != nil {
		t.Fatal(err)
	}
	if to := entries[0].Outlets[0].(*Secret).To; to != c.Target("spoke-a") || to.CAFile == "" {
		t.Errorf("%+v", to)
	}
}
