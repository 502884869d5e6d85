package outbound

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// target is a server on loopback that counts who connects.
type target struct {
	*httptest.Server
	connections, requests atomic.Int32
}

func serve(t *testing.T, h http.HandlerFunc) *target {
	t.Helper()
	s := &target{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		h(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *target) cas() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

func answers(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

func TestADocumentIsFetched(t *testing.T) {
	var got *http.Request
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Cache-Control", "public, max-age=300")
		http.SetCookie(w, &http.Cookie{Name: "id", Value: "1"})
		io.WriteString(w, "{}")
	})
	c := New(Options{AllowLoopback: true, CAs: s.cas()})
	for range 2 {
		answer, err := c.Get(t.Context(), s.URL+"/keys?a=b", 2)
		if err != nil || string(answer.Body) != "{}" || answer.MaxAge != 5*time.Minute {
			t.Fatalf("got %q, %v, %v", answer.Body, answer.MaxAge, err)
		}
		if got.Method != "GET" || got.RequestURI != "/keys?a=b" || got.Header.Get("Cookie") != "" || got.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("sent %s %s %v", got.Method, got.RequestURI, got.Header)
		}
	}
	if s.connections.Load() != 2 {
		t.Errorf("%d connections for two requests: one was kept", s.connections.Load())
	}
}

// docs/security/threats.md I 98.
func TestWhatComesBackIsBounded(t *testing.T) {
	const secret = "what-is-inside"
	for _, row := range []struct {
		name    string
		handler http.HandlerFunc
		want    error
	}{
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/"+secret, http.StatusFound) }, errStatus},
		{"a redirect that keeps the method", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/"+secret, 307) }, errStatus},
		{"an error page", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, http.StatusNotFound) }, errStatus},
		{"nothing at all", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, errStatus},
		{"a body that says that it is too large", answers(secret + strings.Repeat("x", 100)), errSize},
		{"a body without a length that is too large", func(w http.ResponseWriter, _ *http.Request) {
			for range 101 {
				io.WriteString(w, "x")
				w.(http.Flusher).Flush()
			}
		}, errSize},
		{"a body that is packed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, secret)
		}, errEncoding},
		{"a body that breaks off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "50")
			io.WriteString(w, secret)
		}, errConnection},
		{"headers without end", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 100 {
				w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat(secret, 100))
			}
		}, errConnection},
	} {
		s := serve(t, row.handler)
		_, err := New(Options{AllowLoopback: true, CAs: s.cas()}).Get(t.Context(), s.URL, 100)
		var typed *Error
		if !errors.Is(err, row.want) || !errors.As(err, &typed) {
			t.Errorf("%s: %v", row.name, err)
		}
		if s.requests.Load() != 1 {
			t.Errorf("%s: %d requests", row.name, s.requests.Load())
		}
		if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "404")) {
			t.Errorf("%s: the error tells what was found: %v", row.name, err)
		}
	}
}

func TestABodyAtTheLimitIsTaken(t *testing.T) {
	s := serve(t, answers(strings.Repeat("x", 100)))
	if _, err := New(Options{AllowLoopback: true, CAs: s.cas()}).Get(t.Context(), s.URL, 100); err != nil {
		t.Error(err)
	}
}

func TestAFormIsPosted(t *testing.T) {
	var got *http.Request
	for _, row := range []struct {
		name    string
		handler http.HandlerFunc
		want    error
	}{
		{"taken", answers("{}"), nil},
		{"taken without a word", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, nil},
		{"taken, and answered without end", func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); <-r.Context().Done() }, nil},
		{"accepted for later", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }, errNotTaken},
		{"refused", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "what-is-inside", http.StatusBadRequest) }, errNotTaken},
		{"sent elsewhere with the form", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/what-is-inside", 307) }, errNotTaken},
		{"sent elsewhere", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/what-is-inside", 303) }, errNotTaken},
	} {
		s := serve(t, func(w http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm()
			got = r
			row.handler(w, r)
		})
		err := New(Options{AllowLoopback: true, CAs: s.cas()}).PostForm(t.Context(), s.URL+"/out?a=b", url.Values{"logout_token": {"x y"}})
		var typed *Error
		if !errors.Is(err, row.want) || err != nil && (!errors.As(err, &typed) || strings.Contains(err.Error(), "inside")) {
			t.Errorf("%s: %v", row.name, err)
		}
		if got.Method != "POST" || got.RequestURI != "/out?a=b" || got.PostForm.Encode() != "logout_token=x+y" || got.TLS.Version != tls.VersionTLS13 ||
			got.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || s.requests.Load() != 1 {
			t.Errorf("%s: %d requests, %s %s %v", row.name, s.requests.Load(), got.Method, got.RequestURI, got.PostForm)
		}
	}
}

// docs/security/threats.md I 98.
func TestNoFormIsPostedToAPrivateAddress(t *testing.T) {
	s := serve(t, answers("{}"))
	for _, row := range []struct {
		to       string
		loopback bool
		want     error
	}{
		{s.URL, false, errAddress},
		{"https://169.254.169.254/latest/api/token", true, errAddress},
		{"https://10.0.0.1/", true, errAddress},
		{"https://[::ffff:10.0.0.1]/", true, errAddress},
		{strings.Replace(s.URL, "https:", "http:", 1), false, errURL},
		{s.URL + "/\r\nX: y", true, errURL},
	} {
		if err := New(Options{AllowLoopback: row.loopback, CAs: s.cas()}).PostForm(t.Context(), row.to, url.Values{}); !errors.Is(err, row.want) {
			t.Errorf("%s: %v", row.to, err)
		}
	}
	if s.connections.Load() != 0 {
		t.Errorf("%d connections were made", s.connections.Load())
	}
}

func TestASlowAnswerIsNotWaitedFor(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush() // the header is there: the body never ends
		close(asked)
		<-r.Context().Done()
	})
	go func() { <-asked; cancel() }()
	c := New(Options{AllowLoopback: true, CAs: s.cas()})
	if _, err := c.Get(ctx, s.URL, 100); !errors.Is(err, errTime) {
		t.Error(err)
	}
	if c.https.Timeout != Timeout || c.http.Timeout != Timeout {
		t.Error("a client without a time limit")
	}
}

func TestURLsThatAreNeverFetched(t *testing.T) {
	s := serve(t, answers("{}"))
	plain := strings.Replace(s.URL, "https:", "http:", 1)
	port := strings.TrimPrefix(s.URL, "https://127.0.0.1")
	for _, row := range []struct {
		name, url string
		loopback  bool
		want      error
	}{
		{"plain HTTP", plain, false, errURL},
		{"plain HTTP to elsewhere, with loopback allowed", "http://192.0.2.1/", true, errAddress},
		{"a file", "file:///etc/passwd", true, errURL},
		{"gopher", "gopher://127.0.0.1/", true, errURL},
		{"no scheme", "127.0.0.1/keys", true, errURL},
		{"no host", "https:///keys", true, errURL},
		{"opaque", "https:127.0.0.1", true, errURL},
		{"a user name", "https://a:b@127.0.0.1" + port, true, errURL},
		{"a fragment", s.URL + "/#x", true, errURL},
		{"a line break", s.URL + "/\r\nX: y", true, errURL},
		{"loopback", s.URL, false, errAddress},
		{"loopback by name", "https://localhost" + port, false, errAddress},
		{"loopback in IPv6", "https://[::1]" + port, false, errAddress},
		{"loopback as IPv4 in IPv6", "https://[::ffff:127.0.0.1]" + port, false, errAddress},
		{"loopback as zero", "https://0.0.0.0" + port, false, errAddress},
		{"the metadata service", "https://169.254.169.254/latest/meta-data", true, errAddress},
		{"the metadata service in IPv6", "https://[fd00:ec2::254]/", true, errAddress},
		{"a private network, with loopback allowed", "https://10.0.0.1/", true, errAddress},
	} {
		_, err := New(Options{AllowLoopback: row.loopback, CAs: s.cas()}).Get(t.Context(), row.url, 100)
		if !errors.Is(err, row.want) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	if s.connections.Load() != 0 {
		t.Errorf("%d connections were made", s.connections.Load())
	}
}

func TestACertificateOfOthersIsNotTrusted(t *testing.T) {
	s := serve(t, answers("{}"))
	_, err := New(Options{AllowLoopback: true, CAs: x509.NewCertPool()}).Get(t.Context(), s.URL, 100)
	if !errors.Is(err, errCertificate) || s.requests.Load() != 0 {
		t.Errorf("%d requests, %v", s.requests.Load(), err)
	}
}

func TestPlainHTTPOnLoopbackWhereItIsAllowed(t *testing.T) {
	s := httptest.NewServer(answers("{}"))
	t.Cleanup(s.Close)
	if _, err := New(Options{AllowLoopback: true}).Get(t.Context(), s.URL, 100); err != nil {
		t.Error(err)
	}
}

// net/http reads the environment once in a process, so only this tells.
func TestTheEnvironmentNamesNoProxy(t *testing.T) {
	c := New(Options{AllowLoopback: true})
	for _, client := range []*http.Client{c.https, c.http} {
		if client.Transport.(*http.Transport).Proxy != nil {
			t.Error("a proxy would connect for us, and look at no address")
		}
	}
}

// A name that an attacker owns resolves to what he likes, and to something
// else the next time: what counts is the address that is dialed.
func TestANameThatResolvesToOurNetwork(t *testing.T) {
	s := serve(t, answers("{}"))
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "https://"), ":")
	for name, records := range map[string][][4]byte{
		"at once":                   {{127, 0, 0, 1}},
		"after an address for show": {{192, 0, 2, 7}, {127, 0, 0, 1}},
	} {
		c := newClient(Options{CAs: s.cas()}, resolver(t, records))
		if _, err := c.Get(t.Context(), "https://rebind.example.com:"+port+"/", 100); !errors.Is(err, errAddress) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.connections.Load() != 0 {
		t.Errorf("%d connections were made", s.connections.Load())
	}
	// The same name with loopback allowed arrives, so the resolver works.
	c := newClient(Options{AllowLoopback: true, CAs: s.cas()}, resolver(t, [][4]byte{{127, 0, 0, 1}}))
	if _, err := c.Get(t.Context(), "https://example.com:"+port+"/", 100); err != nil {
		t.Error(err)
	}
}

// resolver answers every question for an IPv4 address with these.
func resolver(t *testing.T, addresses [][4]byte) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			for {
				var length [2]byte // net.Pipe is no packet connection: DNS over TCP
				if _, err := io.ReadFull(theirs, length[:]); err != nil {
					return
				}
				question := make([]byte, int(length[0])<<8|int(length[1]))
				if _, err := io.ReadFull(theirs, question); err != nil {
					return
				}
				reply := answer(t, question, addresses)
				theirs.Write(append([]byte{byte(len(reply) >> 8), byte(len(reply))}, reply...))
			}
		}()
		return ours, nil
	}}
}

func answer(t *testing.T, question []byte, addresses [][4]byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		t.Error(err)
		return nil
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		for _, a := range addresses {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: &dnsmessage.AResource{A: a},
			})
		}
	}
	reply, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return reply
}

func TestPublicAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"1.1.1.1": true, "140.82.112.5": true, "172.15.255.255": true, "172.32.0.0": true, "100.63.255.255": true, "100.128.0.0": true, "223.255.255.255": true,
		"2606:4700::1111": true, "2001:4860:4860::8888": true, "2a00:1450::1": true,
		"64:ff9b::1.1.1.1": true, "::ffff:1.1.1.1": true,

		"0.0.0.0": false, "0.1.2.3": false, "10.255.255.255": false, "100.64.0.1": false, "100.100.100.200": false, "127.0.0.1": false, "127.255.0.9": false,
		"168.63.129.16": false, "169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false, "192.0.0.192": false, "192.168.1.1": false,
		"198.18.0.1": false, "198.19.255.255": false, "224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false, "192.0.2.1": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd00:ec2::254": false, "ff02::1": false, "fec0::1": false,
		"::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false, "::10.0.0.1": false, "::ffff:0:10.0.0.1": false,
		"64:ff9b::10.0.0.1": false, "64:ff9b::127.0.0.1": false, "64:ff9b:1::1": false, "2002:a00:1::": false, "2002:7f00:1::": false,
		"2001::1": false, "2001:db8::1": false, "3fff::1": false, "4000::1": false, "100::1": false, "2606:4700::1%1": false,
	} {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: public is %v", address, got)
		}
	}
	if public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

func TestMaxAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": -1, "max-age=120": 2 * time.Minute, "Public, Max-Age=60, must-revalidate": time.Minute, `max-age="60"`: time.Minute,
		"max-age=60, no-store": 0, "no-cache": 0, "max-age=0": 0, "max-age=-1": -1, "max-age=1e9": -1, "max-age=99999999999": -1, "s-maxage=5": -1,
	} {
		if got := maxAge(http.Header{"Cache-Control": {text}}); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, text := range []string{"127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:a00:1::"} {
		f.Add(netip.MustParseAddr(text).AsSlice())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok || !public(a) {
			return
		}
		ip := a.Unmap()
		if bytes := ip.AsSlice(); len(bytes) == 16 && bytes[0] == 0 {
			ip = netip.AddrFrom4([4]byte(bytes[12:])) // NAT64
		}
		if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
			t.Errorf("%s is public", a)
		}
		if bytes.Equal(ip.AsSlice(), []byte{169, 254, 169, 254}) {
			t.Error("metadata")
		}
	})
}
