// Package proxy is a TCP proxy between a program and what it depends on, for tests
// that take that away: connections break, or nothing comes through any more.
package proxy

import (
	"net"
	"sync"
	"testing"
)

// Proxy forwards to one address.
type Proxy struct {
	net.Listener
	target string
	mu     sync.Mutex
	away   bool
	open   map[net.Conn]bool
	hung   chan struct{} // not nil: nothing passes until it is closed
}

// Start listens on a port of loopback until the test ends.
func Start(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Listener: l, target: target, open: map[net.Conn]bool{}}
	go p.serve()
	t.Cleanup(func() {
		l.Close()
		p.Cut()
	})
	return p
}

func (p *Proxy) serve() {
	for {
		in, err := p.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		if p.away {
			p.mu.Unlock()
			in.Close()
			out.Close()
			continue
		}
		p.open[in], p.open[out] = true, true
		p.mu.Unlock()
		go p.pipe(in, out)
		go p.pipe(out, in)
	}
}

func (p *Proxy) pipe(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		hung := p.hung
		p.mu.Unlock()
		if hung != nil {
			<-hung
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	p.mu.Lock()
	delete(p.open, to)
	delete(p.open, from)
	p.mu.Unlock()
}

// Cut breaks every connection and refuses new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = true
	for c := range p.open {
		c.Close()
	}
	p.release()
}

// Restore undoes Cut and Hang.
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = false
	p.release()
}

// Hang keeps every connection and forwards nothing, like a network that drops packets.
func (p *Proxy) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hung = make(chan struct{})
}

func (p *Proxy) release() {
	if p.hung != nil {
		close(p.hung)
		p.hung = nil
	}
}
