package signin

import (
	"crypto/sha256"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// limiter slows down guessing (docs/security/threats.md J 104).
//
// A browser in which the account has signed in before (device.go) has a lane of
// its own: five failures are free, then the wait doubles up to five minutes.
// What others do, behind the same address or to the same account, never delays
// it. For everybody else failed attempts are counted
//
//   - by account and network together: five are free, then the wait doubles up
//     to five minutes. Only whoever guesses at that account from there waits;
//   - by network: fifty are free, then up to five seconds. It is short because
//     a whole office may be behind one address;
//   - by account: nobody ever waits for what others did, since a stranger
//     could lock the owner out that way. But while an account is under attack
//     from many networks, each gets one free attempt instead of five.
//
// A network is an IPv4 address, and for IPv6 the /64, the /56 and the /48 at
// once, of which the wider have more free attempts: a rented /48 holds 65,536
// times a /64.
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
	freeByNetwork    = 50
	maxWaitByNetwork = 5 * time.Second
	forgetAfter      = time.Hour
	maxTallies       = 1 << 16
)

// count is one tally that an attempt is in.
type count struct {
	key  [16]byte
	free int
	most time.Duration // the longest wait; zero if nobody waits for this one
	own  bool          // what this caller did to this account: a right password clears it
}

// attempt is one try that counts as failed until it is forgiven.
type attempt struct {
	limiter *limiter
	counts  []count
}

// begin counts an attempt before the password is looked at, so that many at
// once count like many in a row. If the caller has to wait first, it returns
// for how long and counts nothing.
func (l *limiter) begin(username, address string, now time.Time) (attempt, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := canonical(username)
	account := count{key: key("account", name)}
	free := freeTries
	if l.get(account.key, now).failures >= attackThreshold {
		free = freeUnderAttack
	}
	counts := []count{account}
	for i, network := range networksOf(address) {
		counts = append(counts,
			count{key: key("pair", name, network), free: free << i, most: maxWait, own: true},
			count{key: key("network", network), free: freeByNetwork << i, most: maxWaitByNetwork})
	}
	return l.try(counts, now)
}

// beginKnown is begin for a browser that the account has signed in with before.
func (l *limiter) beginKnown(lane []byte, now time.Time) (attempt, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.try([]count{{key: key("device", string(lane)), free: freeTries, most: maxWait, own: true}}, now)
}

func (l *limiter) try(counts []count, now time.Time) (attempt, time.Duration) {
	var wait time.Duration
	for _, c := range counts {
		wait = max(wait, l.get(c.key, now).wait(now, c.free, c.most))
	}
	if wait > 0 {
		return attempt{}, wait
	}
	for _, c := range counts {
		l.put(c.key, tally{l.get(c.key, now).failures + 1, now}, now)
	}
	return attempt{l, counts}, 0
}

// forgive takes the attempt back: the password was right, or was never looked
// at. A right password clears what this caller tried on this account before.
func (a attempt) forgive(right bool) {
	l := a.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range a.counts {
		t, ok := l.tallies[c.key]
		switch {
		case !ok:
		case t.failures <= 1 || (right && c.own):
			delete(l.tallies, c.key)
		default:
			l.tallies[c.key] = tally{t.failures - 1, t.last}
		}
	}
}

const (
	usesAtOnce = 10
	usePeriod  = 2 * time.Second
)

// tooOften counts a use of an account's lane, right or wrong. People sign in now
// and then; whoever does it all the time has no right to go before others.
func (l *limiter) tooOften(userID string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := key("uses", userID)
	t := l.get(k, now)
	uses := max(0, t.failures-int(now.Sub(t.last)/usePeriod)) + 1
	l.put(k, tally{min(uses, usesAtOnce+1), now}, now)
	return uses > usesAtOnce
}

func (t tally) wait(now time.Time, free int, most time.Duration) time.Duration {
	if t.failures < free || most == 0 {
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

// networksOf are what one party may have of the address: all of it for IPv4,
// and more and more of it for IPv6.
func networksOf(address string) []string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return []string{address}
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return []string{ip.String()}
	}
	var networks []string
	for _, bits := range []int{64, 56, 48} {
		prefix, _ := ip.Prefix(bits)
		networks = append(networks, prefix.String())
	}
	return networks
}

// key hashes, so that memory holds no names: people type passwords there.
func key(parts ...string) [16]byte {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return [16]byte(sum[:16])
}
