// Package outbound is the one HTTP client for everything that we fetch from
// others, key sets and discovery documents, and tell them: that a session has ended. Whoever could choose where we send a request could
// otherwise look around in our network (docs/security/threats.md I 98). So: https only, no
// private addresses whatever a name resolves to, no redirects, no cookies, no proxy, bounded
// in time and size, and errors that say nothing of what was found.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Timeout is how long one request may take, from the look-up of the name to the last byte.
const Timeout = 5 * time.Second

const maxHeader = 32 << 10

// Options say what a Client may do.
type Options struct {
	// AllowLoopback opens loopback addresses, also in plain HTTP: for tests and sidecars.
	AllowLoopback bool
	// CAs sign the certificates that are accepted. Nil means those of the system.
	CAs *x509.CertPool
}

// Client fetches, and posts forms. It keeps no connection, cookie or answer, and is safe for concurrent use.
type Client struct {
	https, http *http.Client // http is nil unless loopback is allowed
}

// New makes a client.
func New(o Options) *Client {
	return newClient(o, nil)
}

func newClient(o Options, resolver *net.Resolver) *Client {
	c := &Client{https: hardened(o.CAs, resolver, func(a netip.Addr) bool { return public(a) || o.AllowLoopback && a.IsLoopback() })}
	if o.AllowLoopback {
		c.http = hardened(o.CAs, resolver, netip.Addr.IsLoopback)
	}
	return c
}

// hardened is an HTTP client that connects only where allowed says so. It is asked about the
// address that is about to be dialed, after every look-up, so a name that resolves to
// something else the second time (DNS rebinding) changes nothing.
func hardened(cas *x509.CertPool, resolver *net.Resolver, allowed func(netip.Addr) bool) *http.Client {
	dialer := &net.Dialer{
		Resolver: resolver,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			if to, err := netip.ParseAddrPort(address); err != nil || !allowed(to.Addr().Unmap()) {
				return errAddress
			}
			return nil
		},
	}
	return &http.Client{
		Timeout:       Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would connect for us, and look at no address
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: cas, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: maxHeader,
			DisableKeepAlives:      true,
			DisableCompression:     true, // nothing unpacks a bomb
		},
	}
}

// Answer is what came back with status 200.
type Answer struct {
	Body []byte
	// MaxAge is what Cache-Control says; 0 if it forbids keeping the answer, -1 if it says nothing.
	MaxAge time.Duration
}

// Error says why nothing came back, to the operator. Its text names the host that was asked and
// one of a few fixed reasons; it holds no byte of the answer, no address and no text of another
// library. A stranger who chose the URL must not be told even that: it tells names that exist
// inside from those that do not.
type Error struct {
	what, host string
	reason     error
}

func (e *Error) Error() string {
	return "cannot " + e.what + " " + strconv.Quote(e.host) + ": " + e.reason.Error()
}
func (e *Error) Unwrap() error { return e.reason }

var (
	errURL         = errors.New("not a URL that may be called: https, a host, no user name and no fragment")
	errAddress     = errors.New("its address is private, or otherwise not for us to call")
	errName        = errors.New("its name does not resolve")
	errCertificate = errors.New("its certificate is not trusted")
	errTime        = errors.New("it took too long")
	errConnection  = errors.New("no connection, or a broken answer")
	errStatus      = errors.New("its answer was not 200")
	errNotTaken    = errors.New("it did not take it: its answer was neither 200 nor 204")
	errEncoding    = errors.New("its answer is compressed, which nobody asked for")
	errSize        = errors.New("its answer is too large")
)

// Get fetches a document of at most limit bytes. Every error is an Error.
func (c *Client) Get(ctx context.Context, from string, limit int) (Answer, error) {
	u, client := c.route(from)
	if client == nil {
		return Answer{}, &Error{"fetch from", clip(from), errURL}
	}
	answer, err := get(ctx, client, u, limit)
	if err != nil {
		return Answer{}, &Error{"fetch from", clip(u.Host), reason(err)}
	}
	return answer, nil
}

// PostForm sends a form. Nothing of the answer but its status is looked at, and 200 and 204 mean
// that the form was taken. Every error is an Error.
func (c *Client) PostForm(ctx context.Context, to string, form url.Values) error {
	u, client := c.route(to)
	if client == nil {
		return &Error{"post to", clip(to), errURL}
	}
	if err := post(ctx, client, u, form); err != nil {
		return &Error{"post to", clip(u.Host), reason(err)}
	}
	return nil
}

// route reads a URL and says by which client it may be fetched, if by any.
func (c *Client) route(from string) (*url.URL, *http.Client) {
	u, err := url.Parse(from)
	switch {
	case err != nil, u.Opaque != "", u.Hostname() == "", u.User != nil, strings.Contains(from, "#"):
		return nil, nil
	case u.Scheme == "https":
		return u, c.https
	case u.Scheme == "http":
		return u, c.http
	}
	return nil, nil
}

func get(ctx context.Context, client *http.Client, u *url.URL, limit int) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Answer{}, errURL
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Accept-Encoding", "identity")
	request.Header.Set("User-Agent", "signalbox")
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	switch encoding := response.Header.Get("Content-Encoding"); {
	case response.StatusCode != http.StatusOK: // a redirect too
		return Answer{}, errStatus
	case encoding != "" && encoding != "identity":
		return Answer{}, errEncoding
	case response.ContentLength > int64(limit):
		return Answer{}, errSize
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, int64(limit)+1))
	switch {
	case err != nil:
		return Answer{}, err
	case len(body) > limit:
		return Answer{}, errSize
	}
	return Answer{body, maxAge(response.Header)}, nil
}

func post(ctx context.Context, client *http.Client, u *url.URL, form url.Values) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return errURL
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept-Encoding", "identity")
	request.Header.Set("User-Agent", "signalbox")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNoContent { // a redirect too
		return errNotTaken
	}
	return nil
}

// reason turns what a library said into one of our own sentences.
func reason(err error) error {
	for _, ours := range []error{errURL, errAddress, errStatus, errNotTaken, errEncoding, errSize} {
		if errors.Is(err, ours) {
			return ours
		}
	}
	var (
		timeout     net.Error
		name        *net.DNSError
		certificate *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.Canceled):
		return errTime
	case errors.As(err, &certificate):
		return errCertificate
	case errors.As(err, &name):
		return errName
	}
	return errConnection
}

// maxAge: RFC 9111 §5.2.2. What cannot be read counts as not said.
func maxAge(h http.Header) time.Duration {
	age := time.Duration(-1)
	for directive := range strings.SplitSeq(strings.ToLower(strings.Join(h.Values("Cache-Control"), ",")), ",") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(directive), "="); name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			if seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil && seconds >= 0 {
				age = time.Duration(seconds) * time.Second
			}
		}
	}
	return age
}

func clip(s string) string { return s[:min(len(s), 100)] }
