// RFC 8252 §7.3 and §8: the answer to an authorization request comes to a port of
// this machine. RFC 9207: it says which issuer made it.
package cli

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/httpx"
)

// loopback waits for the answer to one authorization request.
type loopback struct {
	state   string
	issuer  string
	wantISS bool // the issuer has promised to say who it is

	listener net.Listener
	server   *http.Server
	slot     chan struct{} // holds one: the answer that has not come yet
	answers  chan authorizationAnswer
	outcome  chan bool
}

// authorizationAnswer is a code, or why there is none.
type authorizationAnswer struct {
	code string
	err  error
}

const loopbackPath = "/callback"

// listenOnLoopback opens a port that nobody else can listen on. The address is a
// literal: a name could lead elsewhere (RFC 8252 §8.3).
func listenOnLoopback(state, issuer string, wantISS bool) (*loopback, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("no port on this machine for the browser to come back to: %w", err)
	}
	l := &loopback{
		state: state, issuer: issuer, wantISS: wantISS, listener: listener,
		slot: make(chan struct{}, 1), answers: make(chan authorizationAnswer, 1), outcome: make(chan bool, 1),
	}
	l.slot <- struct{}{}
	l.server = &http.Server{Handler: l, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 32 << 10}
	go func() { _ = l.server.Serve(listener) }() // until close
	return l, nil
}

func (l *loopback) redirectURI() string { return "http://" + l.listener.Addr().String() + loopbackPath }

// wait returns the code. Whoever has it must say with told what came of it: the
// person's browser waits for that.
func (l *loopback) wait(ctx context.Context) (string, error) {
	select {
	case answer := <-l.answers:
		return answer.code, answer.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (l *loopback) told(good bool) { l.outcome <- good }

// close lets the browser have its page, and ends.
func (l *loopback) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if l.server.Shutdown(ctx) != nil { // a connection that a browser has opened in advance
		_ = l.server.Close()
	}
}

// ServeHTTP takes one answer: the first with the state that nobody else knows. What
// another program or page sends changes nothing.
func (l *loopback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Host != l.listener.Addr().String() { // a name that was made to lead here
		page(w, http.StatusMisdirectedRequest, "Nothing is here under this name.")
		return
	}
	if r.URL.Path != loopbackPath || r.Method != http.MethodGet {
		page(w, http.StatusNotFound, "Nothing is here.")
		return
	}
	form, err := httpx.ReadQuery(r)
	if err != nil || subtle.ConstantTimeCompare([]byte(form.Get("state")), []byte(l.state)) != 1 {
		page(w, http.StatusBadRequest, "This is no answer to the sign-in that the terminal waits for.")
		return
	}
	select {
	case <-l.slot:
	default:
		page(w, http.StatusBadRequest, "The answer has come already.")
		return
	}
	l.answers <- l.read(form)
	select {
	case good := <-l.outcome:
		if good {
			page(w, http.StatusOK, "You are signed in at the terminal. You can close this window.")
			return
		}
		page(w, http.StatusBadRequest, "You are not signed in: the terminal says why. You can close this window.")
	case <-r.Context().Done():
	}
}

func (l *loopback) read(form httpx.Params) authorizationAnswer {
	iss, code := form.Get("iss"), form.Get("code")
	switch {
	case (iss != "" || l.wantISS) && iss != l.issuer:
		return authorizationAnswer{err: fmt.Errorf("the answer comes from the issuer %q and not from %s: it is not used", explain.Printable(iss), l.issuer)}
	case form.Get("error") != "":
		return authorizationAnswer{err: refusedBy(l.issuer, "an error", form.Get("error"), form.Get("error_description"))}
	case code == "":
		return authorizationAnswer{err: errors.New("the answer has no code")}
	}
	return authorizationAnswer{code: code}
}

// page shows a sentence and nothing that came with the request.
func page(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><title>Signalbox</title><main><h1>Signalbox</h1><p>`+text+"</p></main></html>\n")
}
