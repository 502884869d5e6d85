// Package logout tells clients that a person's session has ended (OpenID Connect
// Back-Channel Logout 1.0), and what a page has to load for those that only a browser can
// tell (Front-Channel Logout 1.0).
//
// Each client that has had an ID token in the session gets a logout token. That happens
// beside the request that has ended the session, in parallel and in bounded numbers, so
// neither a client that hangs nor a thousand of them hold up anybody. What fails is tried
// again, for about an hour. It is in memory: whoever kills this process kills what it has
// yet to tell.
package logout

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const (
	// patience is how long a page waits until everybody has been told.
	patience = 2 * time.Second
	// remember is how long an outcome waits for a page that asks about it.
	remember = time.Minute
	// parting is how long a service that stops waits for what is under way.
	parting = 5 * time.Second

	maxTelling   = 32      // at a time, of what ended at once
	maxPosts     = 128     // at a time, of this node
	maxOfClient  = 8       // of those, to one client: one that hangs does not stop the others
	maxGathering = 8       // who has to be told, found out at a time
	maxWaiting   = 10_000  // for their next try
	maxFrames    = 50      // on one page: their origins travel in a header
	maxGrants    = 100_000 // that are looked at for one end

	pageSize   = 1000
	retryEvery = time.Second
)

// backoff is how long it takes from each try that failed to the next one. After the last
// one nobody tries again.
var backoff = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour}

// Options are what a Notifier needs. All fields are required.
type Options struct {
	Issuer  string
	Grants  func(ctx context.Context, f authority.GrantFilter, p authority.Page) ([]authority.Grant, error)
	Session func(ctx context.Context, id authority.ID) (authority.Session, error)
	Client  func(ctx context.Context, id string) (authority.Client, error)
	// Token makes a logout token; the zero session means all of the person's.
	Token func(client authority.Client, subject string, session authority.ID, at time.Time) (string, authority.ID, error)
	// Post sends a form to a URL that somebody else has chosen.
	Post func(ctx context.Context, to string, form url.Values) error
	// Record writes to the journal.
	Record func(ctx context.Context, e authority.Event) error
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time
	Log    *slog.Logger
}

// Notifier tells clients. It is safe for concurrent use.
type Notifier struct {
	Options
	life     context.Context
	die      context.CancelFunc
	working  sync.WaitGroup
	gathers  chan struct{}
	posts    chan struct{}
	mu       sync.Mutex // guards what follows
	closed   bool
	toClient map[string]chan struct{}
	batches  map[authority.ID]*batch
	waiting  []notice
}

// New makes a Notifier. Close it.
func New(o Options) *Notifier {
	n := &Notifier{
		Options: o, gathers: make(chan struct{}, maxGathering), posts: make(chan struct{}, maxPosts),
		toClient: map[string]chan struct{}{}, batches: map[authority.ID]*batch{},
	}
	n.life, n.die = context.WithCancel(context.Background())
	return n
}

// notice is for one client, about one session, or about all of a person's if session is zero.
type notice struct {
	clientID, name string
	subject        authority.Subject
	session        authority.ID
	tries          int // that have failed
	due            time.Time
}

// batch is what one end has to tell.
type batch struct {
	ended authority.Revocation
	at    time.Time
	done  chan struct{}

	mu     sync.Mutex
	untold map[string]int // by the client's name: notices that it does not have yet
	frames []string
}

// Outcome is what a page can say about the end of a session.
type Outcome struct {
	Untold []string // the names of the clients that have not been told, or not yet
	Frames []string // URLs that the page loads, so that their clients know too
}

// Ended begins to tell of what this node has ended, and returns at once.
func (n *Notifier) Ended(ended []authority.Revocation) {
	for _, r := range ended {
		switch r.Kind {
		case authority.RevokeSession, authority.EpochUser:
			n.begin(&batch{ended: r, at: n.Now(), done: make(chan struct{}), untold: map[string]int{}})
		}
	}
}

func (n *Notifier) begin(b *batch) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	maps.DeleteFunc(n.batches, func(_ authority.ID, old *batch) bool { return b.at.Sub(old.at) > remember })
	if id, err := authority.ParseID(b.ended.Key); err == nil && b.ended.Kind == authority.RevokeSession {
		n.batches[id] = b
	}
	n.working.Go(func() {
		defer close(b.done)
		n.tell(b)
	})
}

// Wait says who has not been told of the end of a session, after a short while at the
// most. It says so once, and only where this node has ended the session.
func (n *Notifier) Wait(ctx context.Context, session authority.ID) Outcome {
	n.mu.Lock()
	b := n.batches[session]
	delete(n.batches, session)
	n.mu.Unlock()
	if b == nil {
		return Outcome{}
	}
	select {
	case <-b.done:
	case <-n.After(patience):
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return Outcome{Untold: slices.Sorted(maps.Keys(b.untold)), Frames: b.frames}
}

func (n *Notifier) tell(b *batch) {
	notices, frames, err := n.gather(b.ended)
	if err != nil {
		n.Log.Error("the applications of an ended session could not be found, and are not told", "kind", b.ended.Kind, "key", b.ended.Key, "error", err)
		return
	}
	b.mu.Lock()
	for i, f := range frames {
		if i < maxFrames {
			b.frames = append(b.frames, f.url)
		} else {
			b.untold[f.name]++
		}
	}
	for _, notice := range notices {
		b.untold[notice.name]++
	}
	b.mu.Unlock()
	n.deliver(notices, func(told notice) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.untold[told.name]--; b.untold[told.name] == 0 {
			delete(b.untold, told.name)
		}
	})
}

// gather finds who has to be told of an end: the clients that have had an ID token.
func (n *Notifier) gather(ended authority.Revocation) ([]notice, []frame, error) {
	n.gathers <- struct{}{}
	defer func() { <-n.gathers }()
	var filter authority.GrantFilter
	if ended.Kind == authority.EpochUser {
		filter.SubjectID = ended.Key
	} else {
		id, err := authority.ParseID(ended.Key)
		if err != nil {
			return nil, nil, err
		}
		filter.SessionID = id
	}
	type pair struct {
		client  string
		session authority.ID
	}
	var (
		notices []notice
		frames  []frame
		seen    = map[pair]bool{}
		clients = map[string]authority.Client{}
		alive   = map[authority.ID]bool{}
		page    = authority.Page{Limit: pageSize}
	)
	for range maxGrants / pageSize {
		grants, err := n.Grants(n.life, filter, page)
		if err != nil {
			return nil, nil, err
		}
		for _, g := range grants {
			if !g.WasRedeemed() || !g.Scopes.Has(oauth.ScopeOpenID) || g.SessionID.IsZero() || seen[pair{g.ClientID, g.SessionID}] {
				continue
			}
			seen[pair{g.ClientID, g.SessionID}] = true
			client, known := clients[g.ClientID]
			if !known {
				if client, err = n.Client(n.life, g.ClientID); err != nil && !errors.Is(err, authority.ErrNotFound) {
					return nil, nil, err
				}
				clients[g.ClientID] = client
			}
			name := cmp.Or(client.Name, client.ID)
			if front := client.FrontchannelLogout; !client.Disabled && front.URI != "" && ended.Kind == authority.RevokeSession {
				frames = append(frames, frame{name, n.frame(front, g.SessionID)})
			}
			if client.Disabled || client.BackchannelLogout.URI == "" {
				continue
			}
			about := notice{clientID: client.ID, name: name, subject: g.Subject, session: g.SessionID}
			if ended.Kind == authority.EpochUser {
				if !client.BackchannelLogout.SessionRequired {
					about.session = authority.ID{} // one is enough for all of them
					if seen[pair{client.ID, about.session}] {
						continue
					}
					seen[pair{client.ID, about.session}] = true
				} else if lives, err := n.lives(alive, g.SessionID); err != nil {
					return nil, nil, err
				} else if !lives {
					continue
				}
			}
			notices = append(notices, about)
		}
		if len(grants) < pageSize {
			return notices, frames, nil
		}
		page.After = grants[len(grants)-1].ID.String()
	}
	n.Log.Warn("an end has too many grants: not all of its applications are told", "kind", ended.Kind, "key", ended.Key)
	return notices, frames, nil
}

// frame is what a page loads for one client.
type frame struct{ name, url string }

// frame is the URL for one session (Front-Channel Logout 1.0 §2).
func (n *Notifier) frame(l authority.Logout, session authority.ID) string {
	if !l.SessionRequired {
		return l.URI
	}
	separator := "?"
	if strings.Contains(l.URI, "?") {
		separator = "&"
	}
	return l.URI + separator + url.Values{"iss": {n.Issuer}, "sid": {session.String()}}.Encode()
}

// lives says whether a session had not ended before its person was.
func (n *Notifier) lives(known map[authority.ID]bool, id authority.ID) (bool, error) {
	if lives, ok := known[id]; ok {
		return lives, nil
	}
	_, err := n.Session(n.life, id)
	if err != nil && !errors.Is(err, authority.ErrNotFound) {
		return false, err
	}
	known[id] = err == nil
	return err == nil, nil
}

// deliver makes one try for each notice, and keeps those that fail for the next.
func (n *Notifier) deliver(notices []notice, told func(notice)) {
	queue := make(chan notice)
	var tellers sync.WaitGroup
	for range min(maxTelling, len(notices)) {
		tellers.Go(func() {
			for notice := range queue {
				if n.try(notice) {
					told(notice)
				}
			}
		})
	}
	for _, notice := range notices {
		queue <- notice
	}
	close(queue)
	tellers.Wait()
}

// try says whether the client knows now, or need not.
func (n *Notifier) try(about notice) bool {
	client, err := n.Client(n.life, about.clientID) // as it is now
	if errors.Is(err, authority.ErrNotFound) || err == nil && (client.Disabled || client.BackchannelLogout.URI == "") {
		return true
	}
	var raw string
	var id authority.ID
	if err == nil {
		raw, id, err = n.Token(client, about.subject.ID, about.session, n.Now())
	}
	if err == nil {
		err = n.post(client, raw)
	}
	event := authority.Event{
		Type: authority.EventLogoutSent, At: n.Now(), Actor: "signalbox",
		ClientID: about.clientID, Subject: about.subject, SessionID: about.session, TokenID: id,
	}
	if err != nil {
		event.Type, event.Reason = authority.EventLogoutFailed, err.Error()
		again := n.again(about)
		switch {
		case !again:
			event.Reason += "; nobody tries again"
		case about.tries > 0:
			return false // on record already
		}
	}
	n.record(event)
	return err == nil
}

func (n *Notifier) post(client authority.Client, raw string) error {
	n.mu.Lock()
	slots := n.toClient[client.ID]
	if slots == nil {
		slots = make(chan struct{}, maxOfClient)
		n.toClient[client.ID] = slots
	}
	n.mu.Unlock()
	for _, s := range []chan struct{}{slots, n.posts} { // in this order: who waits for a client holds up nobody else
		select {
		case s <- struct{}{}:
			defer func() { <-s }()
		case <-n.life.Done():
			return errStopped
		}
	}
	return n.Post(n.life, client.BackchannelLogout.URI, url.Values{"logout_token": {raw}})
}

var errStopped = errors.New("the service has stopped")

// again puts a notice that has failed among those that wait. It says whether there is a
// next try.
func (n *Notifier) again(failed notice) bool {
	if failed.tries >= len(backoff) {
		return false
	}
	failed.due = n.Now().Add(backoff[failed.tries])
	failed.tries++
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) >= maxWaiting {
		return false
	}
	n.waiting = append(n.waiting, failed)
	return true
}

// record: what was told cannot be taken back, so a journal that fails is a line in the log.
func (n *Notifier) record(e authority.Event) {
	if err := n.Record(context.WithoutCancel(n.life), e); err != nil {
		n.Log.Error("the journal could not be told", "type", e.Type, "client_id", e.ClientID, "sid", e.SessionID.String(), "error", err)
	}
}

// Waiting is how many notices wait for their next try.
func (n *Notifier) Waiting() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.waiting)
}

// Retry tries now what is due.
func (n *Notifier) Retry() {
	now := n.Now()
	n.mu.Lock()
	var due []notice
	n.waiting = slices.DeleteFunc(n.waiting, func(w notice) bool {
		if w.due.After(now) {
			return false
		}
		due = append(due, w)
		return true
	})
	n.mu.Unlock()
	n.deliver(due, func(notice) {})
}

// Run tries again what has failed until ctx ends, and closes n then.
func (n *Notifier) Run(ctx context.Context) {
	defer n.Close()
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			n.working.Go(n.Retry) // beside this, so that a stop need not wait for clients that hang
		}
	}
}

// Close finishes what is under way, for a short while, and puts on record who will not be told.
func (n *Notifier) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	idle := make(chan struct{})
	go func() { n.working.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-n.After(parting):
	}
	n.die()
	<-idle
	n.mu.Lock()
	untold := n.waiting
	n.waiting = nil
	n.mu.Unlock()
	for _, w := range untold {
		n.record(authority.Event{
			Type: authority.EventLogoutFailed, At: n.Now(), Actor: "signalbox", ClientID: w.clientID, Subject: w.subject, SessionID: w.session,
			Reason: "the service stops before the next try; nobody tries again",
		})
	}
}
