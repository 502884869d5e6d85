//go:build linux

package load

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		name, in, body string
		whole, bad     bool
	}{
		{"a body of a length", ok + "Content-Length: 5\r\n\r\nhello", "hello", true, false},
		{"field names in any case", ok + "content-LENGTH:5\r\n\r\nhello", "hello", true, false},
		{"an empty body", ok + "Content-Length: 0\r\n\r\n", "", true, false},
		{"half a head", ok + "Content-Le", "", false, false},
		{"half a body", ok + "Content-Length: 5\r\n\r\nhel", "", false, false},
		{"two chunks", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", true, false},
		{"a chunk without the last one", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "", false, false},
		{"half a last chunk", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "", false, false},
		{"a bad chunk size", ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n", "", false, true},
		{"a chunk of the wrong size", ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n", "", false, true},
		{"no length", ok + "\r\n", "", false, true},
		{"a second answer behind the first", ok + "Content-Length: 1\r\n\r\nab", "", false, true},
		{"a closing server", ok + "Connection: close\r\nContent-Length: 0\r\n\r\n", "", false, true},
		{"another protocol", "SSH-2.0-OpenSSH\r\n\r\n", "", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, whole, err := parse([]byte(tt.in))
			if (err != nil) != tt.bad || whole != tt.whole || string(r.Body) != tt.body {
				t.Errorf("parse = %q, %v, %v", r.Body, whole, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, whole, err := parse(b)
		if whole && err == nil && len(r.Body) > len(b) {
			t.Error("more body than bytes")
		}
	})
}

func TestHistogramIsRightWithinAThirtieth(t *testing.T) {
	var h Histogram
	var all []time.Duration
	for range 100_000 {
		d := time.Duration(rand.ExpFloat64() * float64(3*time.Millisecond))
		all = append(all, d)
		h.Record(d)
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.99, 0.999, 1} {
		want := all[max(0, int(q*float64(len(all)))-1)]
		got := h.Quantile(q)
		if got < want-time.Microsecond || float64(got) > float64(want)*(1+1.0/30)+1000 {
			t.Errorf("quantile %v = %v, want %v", q, got, want)
		}
	}
	if h.Max() != all[len(all)-1] {
		t.Errorf("max = %v, want %v", h.Max(), all[len(all)-1])
	}
}

func request(s *httptest.Server, body string) []byte {
	return fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", s.Listener.Addr(), len(body), body)
}

func TestEveryConnectionSeesItsOwnAnswers(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if len(b)%2 == 0 {
			w.(http.Flusher).Flush() // makes the answer chunked
		}
		w.Write(b)
		w.Write([]byte(strings.Repeat("x", 20_000))) // larger than the first buffer
	}))
	defer s.Close()
	const conns, each = 8, 50
	var sent, seen [conns]int
	want := func(c, n int) string { return fmt.Sprintf("connection %d request %d ", c, n) }
	r := Run{
		Addr: s.Listener.Addr().String(), Connections: conns, Duration: time.Minute,
		Next: func(c int) []byte {
			if sent[c] == each {
				return nil
			}
			sent[c]++
			return request(s, want(c, sent[c]))
		},
		Check: func(c int, r Response) error {
			seen[c]++
			if !strings.HasPrefix(string(r.Body), want(c, seen[c])) {
				return fmt.Errorf("connection %d got %.40q", c, r.Body)
			}
			return nil
		},
	}
	res, err := r.Do()
	if err != nil {
		t.Fatal(err)
	}
	if res.Requests != conns*each {
		t.Errorf("counted %d requests, want %d", res.Requests, conns*each)
	}
}

func TestAnyFailureEndsTheRun(t *testing.T) {
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 100 {
			http.Error(w, "overloaded", http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	wrong := errors.New("wrong")
	run := func(check func(int, Response) error) error {
		r := Run{Addr: s.Listener.Addr().String(), Connections: 4, Duration: time.Second,
			Next: func(int) []byte { return request(s, "") }, Check: check}
		_, err := r.Do()
		return err
	}
	var status *StatusError
	if err := run(func(int, Response) error { return nil }); !errors.As(err, &status) || status.Status != 503 {
		t.Errorf("one 503 in a hundred: %v", err)
	}
	calls := 0
	if err := run(func(int, Response) error { calls++; return wrong }); !errors.Is(err, wrong) || calls != 1 {
		t.Errorf("an answer that the check refuses: %v after %d calls", err, calls)
	}
}

func TestTheLastAnswersAreSeenAfterTheEnd(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	sent, seen := 0, 0
	var order []string
	r := Run{
		Addr: s.Listener.Addr().String(), Connections: 4, WarmUp: 20 * time.Millisecond, Duration: 50 * time.Millisecond,
		Next:    func(int) []byte { sent++; return request(s, "") },
		Check:   func(int, Response) error { seen++; return nil },
		Started: func() { order = append(order, "started") },
		Stopped: func() { order = append(order, "stopped") },
	}
	res, err := r.Do()
	if err != nil {
		t.Fatal(err)
	}
	if sent != seen {
		t.Errorf("%d sent, %d answers seen", sent, seen)
	}
	if res.Requests >= seen {
		t.Errorf("counted %d of %d: warm-up and end must not count", res.Requests, seen)
	}
	if !slices.Equal(order, []string{"started", "stopped"}) {
		t.Errorf("called %v", order)
	}
}

func TestASilentServerEndsTheRun(t *testing.T) {
	block := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-block }))
	defer s.Close()
	defer close(block)
	r := Run{Addr: s.Listener.Addr().String(), Connections: 2, Duration: time.Minute, Timeout: 50 * time.Millisecond,
		Next: func(int) []byte { return request(s, "") }, Check: func(int, Response) error { return nil }}
	if _, err := r.Do(); err == nil {
		t.Error("no error")
	}
}
