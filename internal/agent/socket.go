package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A Unix socket that gives tokens over HTTP. The kernel says which user asks
// (SO_PEERCRED), so whoever can connect may: the answer depends on the user.

// Socket is what the socket gives, and to whom.
type Socket struct {
	Clock Clock

	mu     sync.Mutex
	tokens map[string]*onSocket
}

// onSocket is an Outlet: a token that the users uids may have.
type onSocket struct {
	name string
	uids []uint32

	mu    sync.Mutex
	token Token
}

func (s *onSocket) String() string { return "socket" }

func (s *onSocket) Put(_ context.Context, token Token) (changed bool, err error) {
	s.set(token)
	return false, nil // nobody is told: who asks gets the newest
}

func (s *onSocket) Found(context.Context) (time.Time, error) { return time.Time{}, nil }

func (s *onSocket) Remove(context.Context) error {
	s.set(Token{})
	return nil
}

func (s *onSocket) set(token Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

func (s *onSocket) get() Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

// Set makes these all that the socket gives.
func (s *Socket) set(tokens map[string]*onSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = tokens
}

// of finds the token of this name, or the only one, that the user may have. It does
// not tell what others may have.
func (s *Socket) of(uid uint32, name string) (token *onSocket, status int, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var may []string
	for n, t := range s.tokens {
		if slices.Contains(t.uids, uid) && (name == "" || n == name) {
			may = append(may, n)
			token = t
		}
	}
	slices.Sort(may)
	switch {
	case len(may) == 0:
		return nil, http.StatusForbidden, "this user may not have this token, or there is none of this name"
	case len(may) > 1:
		return nil, http.StatusBadRequest, fmt.Sprintf("say which: ?name=, one of %v", may)
	}
	return token, 0, ""
}

// ServeHTTP answers GET /token?name=NAME as a token endpoint does (RFC 6749 §5.1).
func (s *Socket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	fail := func(status int, code, words string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": words})
	}
	uid, known := r.Context().Value(peerKey{}).(uint32)
	query := r.URL.Query()
	switch {
	case !known:
		fail(http.StatusForbidden, "access_denied", "the system does not say who asks")
		return
	case r.URL.Path != "/token":
		fail(http.StatusNotFound, "not_found", "only /token is served here")
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", "GET")
		fail(http.StatusMethodNotAllowed, "method_not_allowed", "GET /token?name=NAME")
		return
	case len(query["name"]) > 1:
		fail(http.StatusBadRequest, "invalid_request", "name is there twice")
		return
	}
	found, status, problem := s.of(uid, query.Get("name"))
	if found == nil {
		code := "access_denied"
		if status == http.StatusBadRequest {
			code = "invalid_request"
		}
		fail(status, code, problem)
		return
	}
	now := s.Clock()
	token := found.get()
	if token.Ended(now) {
		w.Header().Set("Retry-After", "1")
		fail(http.StatusServiceUnavailable, "temporarily_unavailable", "there is no good token now")
		return
	}
	_ = json.NewEncoder(w).Encode(struct {
		Name      string `json:"name"`
		Token     string `json:"access_token"`
		Type      string `json:"token_type"`
		ExpiresIn int64  `json:"expires_in"`
	}{found.name, token.Value, "Bearer", int64((token.Life - token.age(now)).Seconds())})
}

// maxPerUser is how many connections one user may have at the same time.
const maxPerUser = 64

// listenSocket makes the socket. One that a process before has left is replaced;
// anything else with its name is not.
func listenSocket(path string) (net.Listener, error) {
	if err := peersKnown(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	folder, err := openFolder(filepath.Dir(path), false)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	switch info, err := folder.Lstat(filepath.Base(path)); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("%s is there and is no socket", path)
	default:
		if c, err := net.Dial("unix", path); err == nil {
			return nil, errors.Join(fmt.Errorf("another process listens on %s", path), c.Close())
		}
		if err := folder.Remove(filepath.Base(path)); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// Who asks is known of every connection. So everybody may connect.
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return &peers{Listener: ln, open: map[uint32]int{}}, nil
}

type peerKey struct{}

// peers is a listener that knows who connects.
type peers struct {
	net.Listener

	mu   sync.Mutex
	open map[uint32]int
}

// peer is a connection of a user.
type peer struct {
	net.Conn
	uid  uint32
	done func()
}

func (p *peer) Close() error {
	p.done()
	return p.Conn.Close()
}

func (l *peers) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := uidOf(c)
		if err != nil || !l.enter(uid) {
			_ = c.Close()
			continue
		}
		return &peer{c, uid, sync.OnceFunc(func() { l.leave(uid) })}, nil
	}
}

func (l *peers) enter(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[uid] >= maxPerUser {
		return false
	}
	l.open[uid]++
	return true
}

func (l *peers) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[uid]--; l.open[uid] == 0 {
		delete(l.open, uid)
	}
}

// serveSocket answers on the socket until ctx ends.
func (s *Socket) serve(ctx context.Context, ln net.Listener) error {
	return serveHTTP(ctx, ln, &http.Server{
		Handler: s,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if p, ok := c.(*peer); ok {
				return context.WithValue(ctx, peerKey{}, p.uid)
			}
			return ctx
		},
	})
}

// serveHTTP serves small requests until ctx ends.
func serveHTTP(ctx context.Context, ln net.Listener, server *http.Server) error {
	server.ReadHeaderTimeout, server.ReadTimeout, server.WriteTimeout, server.IdleTimeout = 5*time.Second, 5*time.Second, 10*time.Second, 30*time.Second
	server.MaxHeaderBytes = 8 << 10
	server.ErrorLog = log.New(io.Discard, "", 0) // callers' mistakes
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
