// Package refusals remembers why requests were refused, so that the number on an
// error page leads somewhere although the journal counts equal refusals together
// and the log has gone elsewhere. It is memory of one node, bounded in number and
// in bytes, and gone with the process; what must last is in the journal.
package refusals

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Refusal is one request that was refused.
type Refusal struct {
	RequestID    string
	At           time.Time
	Method, Path string // the path is a template of ours
	Status       int
	Code         string // as it was answered
	Description  string // what the caller was told
	Cause        string // what the caller was not told
	ClientID     string
	Proved       bool // the client has proved that it is ClientID
	Remote       string
}

// Sized for an hour: of clients that have proved themselves four refusals a
// second; of all others one a second from one address, and eight from all.
const (
	ofClients   = 16 << 10
	lanes       = 8
	ofStrangers = 4 << 10 // in each lane
	bytesEach   = 192     // what a refusal may take on average
	maxText     = 256     // of one text
)

// Memory remembers refusals. The oldest are forgotten first. Clients that have
// proved themselves have room of their own. All others share lanes, chosen by
// their network: a flood from one of them pushes out an eighth of the rest.
type Memory struct {
	seed maphash.Seed

	mu        sync.Mutex
	clients   lane
	strangers [lanes]lane
	byID      map[string]*Refusal
}

// NewMemory makes an empty memory.
func NewMemory() *Memory {
	m := &Memory{seed: maphash.MakeSeed(), byID: map[string]*Refusal{}}
	m.clients.most = ofClients
	for i := range m.strangers {
		m.strangers[i].most = ofStrangers
	}
	return m
}

// Add remembers a refusal. It keeps no part of a larger string alive.
func (m *Memory) Add(r Refusal) {
	for _, text := range []*string{&r.RequestID, &r.Description, &r.Cause, &r.ClientID, &r.Remote} {
		*text = strings.Clone(clip(*text))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byID[r.RequestID] = &r
	for _, gone := range m.laneOf(r).push(&r) {
		delete(m.byID, gone.RequestID)
	}
}

// Find returns the refusal of a request.
func (m *Memory) Find(requestID string) (Refusal, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, known := m.byID[requestID]
	if !known {
		return Refusal{}, false
	}
	return *r, true
}

func (m *Memory) laneOf(r Refusal) *lane {
	if r.Proved {
		return &m.clients
	}
	return &m.strangers[maphash.String(m.seed, network(r.Remote))%lanes]
}

// network is what one attacker has at least: an IPv4 address, or a /56 of IPv6.
func network(remote string) string {
	addr, err := netip.ParseAddr(remote)
	if err != nil || addr.Is4() {
		return remote
	}
	prefix, err := addr.WithZone("").Prefix(56)
	if err != nil {
		return remote
	}
	return prefix.String()
}

// lane is a queue, the oldest first.
type lane struct {
	most  int
	queue []*Refusal
	bytes int
}

// push adds the newest and returns what had to go for it. Long texts leave room
// for fewer.
func (l *lane) push(r *Refusal) (gone []*Refusal) {
	l.queue = append(l.queue, r)
	l.bytes += r.size()
	for len(l.queue) > l.most || l.bytes > l.most*bytesEach {
		oldest := l.queue[0]
		l.queue[0], l.queue = nil, l.queue[1:]
		l.bytes -= oldest.size()
		gone = append(gone, oldest)
	}
	return gone
}

func (r *Refusal) size() int {
	return len(r.RequestID) + len(r.Description) + len(r.Cause) + len(r.ClientID) + len(r.Remote)
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
