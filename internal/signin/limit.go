package signin

import (
	"crypto/sha256"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// limiter slows down guessing (docs/security/threats.md J 104). It counts failed attempts by
// account and address together, by address, and by account:
//
//   - by account and address: five are free, then the wait doubles up to five
//     minutes. Only who guesses at that account from that address waits;
//   - by address: fifty are free, then up to five seconds. It is short because
//     a whole office may stand behind one address;
//   - by account: nobody ever waits for what others did, since a stranger
//     could lock the owner out that way. But while an account is under attack
//     from many addresses, each gets one free attempt in place of five.
//
// It counts names, known or not, so it tells nobody which exist. It lives in
// memory: a restart forgives, and each node counts for itself.
type limiter struct {
	mu      sync.Mutex
	tallies map[[16]byte]tally
}

type tally struct {
	failures int
	last     time.Time
}

const (
	freeTries        = 5
	freeUnderAttack  = 1
	attackThreshold  = 100
	maxWait          = 5 * time.Minute
	freeByAddress    = 50
	maxWaitByAddress = 5 * time.Second
	forgetAfter      = time.Hour
	maxTallies       = 1 << 15
)

// attempt is one try that counts as failed until it is forgiven.
type attempt struct {
	limiter                *limiter
	pair, address, account [16]byte
}

// begin counts an attempt before the password is looked at, so that many at
// once count like many in a row. If the caller has to wait first, it returns
// for how long and counts nothing.
func (l *limiter) begin(username, address string, now time.Time) (attempt, time.Duration) {
	name, network := canonical(username), networkOf(address)
	a := attempt{l, key("pair", name, network), key("address", network), key("account", name)}
	l.mu.Lock()
	defer l.mu.Unlock()
	free := freeTries
	if l.get(a.account, now).failures >= attackThreshold {
		free = freeUnderAttack
	}
	wait := max(
		l.get(a.pair, now).wait(now, free, maxWait),
		l.get(a.address, now).wait(now, freeByAddress, maxWaitByAddress),
	)
	if wait > 0 {
		return attempt{}, wait
	}
	for _, k := range [][16]byte{a.pair, a.address, a.account} {
		t := l.get(k, now)
		l.put(k, tally{t.failures + 1, now}, now)
	}
	return a, 0
}

// forgive takes the attempt back: the password was right, or was never looked
// at. A right password clears what this address tried on this account before.
func (a attempt) forgive(right bool) {
	l := a.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range [][16]byte{a.pair, a.address, a.account} {
		t, ok := l.tallies[k]
		switch {
		case !ok:
		case t.failures <= 1 || (right && k == a.pair):
			delete(l.tallies, k)
		default:
			l.tallies[k] = tally{t.failures - 1, t.last}
		}
	}
}

func (t tally) wait(now time.Time, free int, most time.Duration) time.Duration {
	if t.failures < free {
		return 0
	}
	pause := min(time.Second<<min(t.failures-free, 20), most)
	return t.last.Add(pause).Sub(now)
}

func (l *limiter) get(k [16]byte, now time.Time) tally {
	t := l.tallies[k]
	if now.Sub(t.last) > forgetAfter {
		return tally{}
	}
	return t
}

// put keeps the memory bounded. When it is full, what is old goes, and then
// anything: filling it takes an attacker 30 ms of our CPU an entry.
func (l *limiter) put(k [16]byte, t tally, now time.Time) {
	if l.tallies == nil {
		l.tallies = map[[16]byte]tally{}
	}
	if len(l.tallies) >= maxTallies {
		for old, t := range l.tallies {
			if now.Sub(t.last) > forgetAfter {
				delete(l.tallies, old)
			}
		}
		for some := range l.tallies {
			if len(l.tallies) < maxTallies*3/4 {
				break
			}
			delete(l.tallies, some)
		}
	}
	l.tallies[k] = t
}

// canonical gives the spellings of a username one count.
func canonical(username string) string { return strings.ToLower(strings.TrimSpace(username)) }

// networkOf is the address, or for IPv6 its /64: one host has all of that.
func networkOf(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	prefix, _ := ip.Prefix(64)
	return prefix.String()
}

// key hashes, so that memory holds no names: people type passwords there.
func key(parts ...string) [16]byte {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return [16]byte(sum[:16])
}
