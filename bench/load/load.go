//go:build linux

// Package load sends HTTP/1.1 requests over keep-alive connections as cheaply
// as it can, because it shares the machine with the server that it measures.
//
// One thread serves all connections through epoll with plain reads and writes:
// no goroutine, no buffer and no parsing beyond status, length and body. It is
// a closed loop: a connection sends its next request when it has its answer.
package load

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"syscall"
	"time"
)

// Response is one answer. Body is valid only during the call that gets it.
type Response struct {
	Status int
	Body   []byte
}

// Run says what to send, to whom and for how long.
type Run struct {
	Addr        string // IPv4 host:port
	Connections int
	WarmUp      time.Duration // sent but not counted
	Duration    time.Duration
	Timeout     time.Duration // for one answer. Zero means 10 s.

	// Next returns a connection's next request, complete. Nil means that there is
	// nothing left to send on it; the run ends early when all are answer.
	Next func(conn int) []byte
	// Check sees every answer, also those of warm-up and after the end. The
	// first error ends the run: a benchmark must not count failures.
	Check func(conn int, r Response) error
	// Started and Stopped, if set, are called at the edges of the counted time.
	Started, Stopped func()
}

// Result is what was counted between the warm-up and the end.
type Result struct {
	Requests int
	Elapsed  time.Duration
	Latency  Histogram
	OwnCPU   time.Duration // of this whole process
}

// StatusError is an answer other than 200.
type StatusError struct {
	Status int
	Body   string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Body) }

// PerSecond is the throughput.
func (r *Result) PerSecond() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

type conn struct {
	fd   int
	buf  []byte
	n    int // bytes of the answer so far
	sent time.Time
}

// Do runs r to its end.
func (r *Run) Do() (*Result, error) {
	if r.Timeout == 0 {
		r.Timeout = 10 * time.Second
	}
	// A locked thread keeps the scheduler from moving the loop.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(ep)
	conns := make([]conn, r.Connections)
	for i := range conns {
		conns[i] = conn{fd: -1, buf: make([]byte, 8<<10)}
	}
	defer func() {
		for i := range conns {
			conns[i].close()
		}
	}()
	for i := range conns {
		if conns[i].fd, err = dial(r.Addr); err != nil {
			return nil, err
		}
		ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)}
		if err := syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, conns[i].fd, &ev); err != nil {
			return nil, err
		}
	}
	return r.loop(ep, conns)
}

func (r *Run) loop(ep int, conns []conn) (*Result, error) {
	var (
		res      = new(Result)
		live     = len(conns)
		counting bool
		stopping bool
		begin    = time.Now()
		counted  time.Time
		cpu      time.Duration
	)
	stop := func(now time.Time) {
		stopping = true
		res.Elapsed, res.OwnCPU = now.Sub(counted), ownCPU()-cpu
		if r.Stopped != nil {
			r.Stopped()
		}
	}
	for i := range conns {
		sent, err := r.send(i, &conns[i], begin)
		if err != nil {
			return nil, err
		}
		if !sent {
			live--
		}
	}
	events := make([]syscall.EpollEvent, len(conns))
	for live > 0 {
		n, err := syscall.EpollWait(ep, events, 100)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		now := time.Now()
		if !counting && now.Sub(begin) >= r.WarmUp {
			counting, counted, cpu = true, now, ownCPU()
			if r.Started != nil {
				r.Started()
			}
		}
		if counting && !stopping && now.Sub(counted) >= r.Duration {
			stop(now)
		}
		if n == 0 {
			for i := range conns {
				if conns[i].fd >= 0 && now.Sub(conns[i].sent) > r.Timeout {
					return nil, fmt.Errorf("no answer within %s", r.Timeout)
				}
			}
		}
		for _, ev := range events[:n] {
			i := int(ev.Fd)
			c := &conns[i]
			answer, whole, err := c.read()
			if err != nil {
				return nil, err
			}
			if !whole {
				continue
			}
			now := time.Now()
			if counting && !stopping {
				res.Requests++
				res.Latency.Record(now.Sub(c.sent))
			}
			if answer.Status != 200 {
				return nil, &StatusError{answer.Status, string(answer.Body)}
			}
			if err := r.Check(i, answer); err != nil {
				return nil, fmt.Errorf("unexpected answer: %w", err)
			}
			// After the end every connection still gets its last answer: a
			// refresh chain continues from it in the next run.
			sent := false
			if !stopping {
				if sent, err = r.send(i, c, now); err != nil {
					return nil, err
				}
			}
			if !sent {
				c.close()
				live--
			}
		}
	}
	if !counting {
		return nil, errors.New("the requests ran out during warm-up")
	}
	if !stopping {
		stop(time.Now())
	}
	if res.Requests == 0 {
		return nil, errors.New("nothing was answered in the counted time")
	}
	return res, nil
}

// send reports whether there was something to send.
func (r *Run) send(i int, c *conn, now time.Time) (bool, error) {
	req := r.Next(i)
	if req == nil {
		return false, nil
	}
	c.n, c.sent = 0, now
	// A request is far smaller than a socket buffer and the last one was
	// answered, so a short write is an error and needs no state.
	n, err := syscall.Write(c.fd, req)
	if err != nil {
		return false, fmt.Errorf("write: %w", err)
	}
	if n != len(req) {
		return false, fmt.Errorf("wrote %d of %d bytes", n, len(req))
	}
	return true, nil
}

// read reads what is there and reports whether the answer is complete.
func (c *conn) read() (r Response, whole bool, err error) {
	if c.n == len(c.buf) {
		if len(c.buf) >= 1<<20 {
			return r, false, errors.New("answer larger than 1 MiB")
		}
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	n, err := syscall.Read(c.fd, c.buf[c.n:])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return r, false, nil
	case err != nil:
		return r, false, fmt.Errorf("read: %w", err)
	case n == 0:
		return r, false, errors.New("the server closed a connection")
	}
	c.n += n
	return parse(c.buf[:c.n])
}

func (c *conn) close() {
	if c.fd >= 0 {
		syscall.Close(c.fd)
		c.fd = -1
	}
}

func dial(addr string) (int, error) {
	a, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return -1, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	to := &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}
	if err := errors.Join(
		syscall.Connect(fd, to),
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.SetNonblock(fd, true),
	); err != nil {
		syscall.Close(fd)
		return -1, fmt.Errorf("dial %s: %w", addr, err)
	}
	return fd, nil
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
