package kube

import (
	"container/heap"
	"errors"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// State is what a watch knows of a pod.
type State int

// The states. A pod that is not known may be newer than what the watch has heard.
const (
	Unknown State = iota
	Living
	Terminating // it is being deleted, and until its deadline it counts as living
	Ended       // for good, also if the object is still there
)

const (
	// apiServerBelieves is for how long the API server may still take the token of a
	// pod that has ended: 60 s after its deadline, and 10 s of its cache of good
	// verdicts; the rest is for clocks that differ.
	apiServerBelieves = 2 * time.Minute
	// maxPods is three times what Kubernetes supports in one cluster.
	maxPods = 1 << 19
)

var errTooMany = errors.New("the cluster has more pods than can be watched")

// end is the end of one pod, to be told: proof of it may come until then.
type end struct {
	uid        string
	proofUntil time.Time
	noticed    time.Time
}

// pods is what a watch knows: the deadline of each pod, by uid.
type pods struct {
	refuse bool // a pod ends when its deletion is asked for

	mu          sync.Mutex
	known       map[string]pod
	due         deadlines
	round       uint32
	terminating int
	rearmed     chan struct{} // a deadline is earlier than all before
}

// pod is small: there may be 100,000 of them.
type pod struct {
	due   int64  // Unix time in µs: when it ends, or when it may be forgotten once it is gone; 0 for never
	round uint32 // the list that it was last seen in, or later
	state State
	gone  bool // the object is not there any more
	told  bool // its end is on record
}

// deadline is an entry of the one timer heap. It is void if its pod has another one by now.
type deadline struct {
	at  int64
	uid string
}

type deadlines []deadline

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at < d[j].at }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *deadlines) Push(x any)        { *d = append(*d, x.(deadline)) }
func (d *deadlines) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}

func newPods(refuse bool) *pods {
	return &pods{refuse: refuse, known: map[string]pod{}, rearmed: make(chan struct{}, 1)}
}

func (p *pods) state(uid string) State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[uid].state
}

// count gives how many pods live, and how many of them are being deleted.
func (p *pods) count() (living, terminating int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.known {
		if k.state == Living || k.state == Terminating {
			living++
		}
	}
	return living, p.terminating
}

// set changes what is known of a pod, and keeps count. The caller holds the lock.
func (p *pods) set(uid string, k pod) {
	if p.known[uid].state == Terminating {
		p.terminating--
	}
	if k.state == Terminating {
		p.terminating++
	}
	p.known[uid] = k
}

// at gives a pod a deadline. The caller holds the lock.
func (p *pods) at(uid string, at int64) {
	if len(p.due) > 2*len(p.known)+64 { // most of it is void: deadlines may be moved without end
		p.due = p.due[:0]
		for uid, k := range p.known {
			if k.due != 0 {
				p.due = append(p.due, deadline{k.due, uid})
			}
		}
		heap.Init(&p.due)
	}
	first := len(p.due) == 0 || at < p.due[0].at
	heap.Push(&p.due, deadline{at, uid})
	if first {
		select {
		case p.rearmed <- struct{}{}:
		default:
		}
	}
}

// begin starts a list: what is not seen from now on until sweep is gone.
func (p *pods) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.round++
}

// saw takes in that a pod exists. It returns its end, if it has come by that.
func (p *pods) saw(o object, now time.Time) (ends []end, err error) {
	if !authority.IsUID(o.UID) {
		return nil, nil // no proof can name it
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k, known := p.known[o.UID]
	if !known && len(p.known) >= maxPods {
		return nil, errTooMany
	}
	k.round = p.round
	if k.state == Ended { // a uid never comes back to life, whatever the API server says
		p.set(o.UID, k)
		return nil, nil
	}
	k.state = Living
	switch {
	case o.Deletion.IsZero():
		k.due = 0
	case p.refuse || !now.Before(o.Deletion):
		k.state, k.due = Ended, 0
		ends = append(ends, end{o.UID, proofUntil(o.Deletion, now), now})
	default:
		k.state = Terminating
		if at := o.Deletion.UnixMicro(); at != k.due {
			k.due = at
			p.at(o.UID, at)
		}
	}
	p.set(o.UID, k)
	return ends, nil
}

// gone takes in that a pod is not there any more. It is remembered until its end is
// on record, and then for as long as the API server may still believe in it.
func (p *pods) gone(uid string, now time.Time) []end {
	if !authority.IsUID(uid) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bury(uid, now)
}

func (p *pods) bury(uid string, now time.Time) (ends []end) {
	k, known := p.known[uid]
	if k.gone || !known && len(p.known) >= maxPods {
		return nil
	}
	if k.state != Ended {
		ends = append(ends, end{uid, now.Add(apiServerBelieves), now})
	}
	p.set(uid, pod{round: p.round, state: Ended, gone: true, told: k.told})
	p.forget(uid, now)
	return ends
}

// told takes in that the end of a pod is on record.
func (p *pods) told(uid string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k, known := p.known[uid]; known {
		k.told = true
		p.set(uid, k)
		p.forget(uid, now)
	}
}

// forget gives a pod that nobody needs to hear of any more its last deadline. The
// caller holds the lock.
func (p *pods) forget(uid string, now time.Time) {
	k := p.known[uid]
	if !k.gone || !k.told {
		return
	}
	k.due = now.Add(apiServerBelieves).UnixMicro()
	p.set(uid, k)
	p.at(uid, k.due)
}

// sweep ends a list: what it did not have is gone.
func (p *pods) sweep(now time.Time) (ends []end) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, k := range p.known {
		if k.round != p.round && !k.gone {
			ends = append(ends, p.bury(uid, now)...)
		}
	}
	return ends
}

// missing gives those of the uids that are not known.
func (p *pods) missing(uids []string) (missing []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, uid := range uids {
		if _, known := p.known[uid]; !known {
			missing = append(missing, uid)
		}
	}
	return missing
}

// pass ends the pods whose deadline has passed, and forgets those that are long
// gone. next is the next deadline, zero for none.
func (p *pods) pass(now time.Time) (ends []end, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.due) > 0 {
		first := p.due[0]
		if first.at > now.UnixMicro() {
			return ends, time.UnixMicro(first.at)
		}
		heap.Pop(&p.due)
		k, known := p.known[first.uid]
		switch {
		case !known || k.due != first.at:
		case k.gone:
			delete(p.known, first.uid)
		default:
			k.state, k.due = Ended, 0
			p.set(first.uid, k)
			ends = append(ends, end{first.uid, now.Add(apiServerBelieves), now})
		}
	}
	return ends, time.Time{}
}

// proofUntil is until when the API server takes the token of a pod with this
// deadline. It may be in a thousand years; after a day only whoever knows or asks
// about the object itself refuses it.
func proofUntil(deadline, now time.Time) time.Time {
	if day := now.Add(24 * time.Hour); deadline.After(day) {
		deadline = day
	}
	return later(now, deadline).Add(apiServerBelieves)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
