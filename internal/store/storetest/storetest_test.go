package storetest

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// recorder takes the place of a test that may fail.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed []string
}

func (r *recorder) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, s)
}

func (r *recorder) Errorf(format string, args ...any) { r.note(fmt.Sprintf(format, args...)) }
func (r *recorder) Error(args ...any)                 { r.note(fmt.Sprint(args...)) }
func (r *recorder) Fatal(args ...any)                 { r.note(fmt.Sprint(args...)); runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) {
	r.note(fmt.Sprintf(format, args...))
	runtime.Goexit()
}
func (r *recorder) Fail()    { r.note("fail") }
func (r *recorder) FailNow() { r.note("fail"); runtime.Goexit() }
func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failed) > 0
}
func (r *recorder) Helper()             {}
func (r *recorder) Log(...any)          {}
func (r *recorder) Logf(string, ...any) {}

// judge runs one check of the suite on a store and gives what it complains of.
func judge(t *testing.T, name string, open func() Store) []string {
	t.Helper()
	for _, c := range checks() {
		if c.name != name {
			continue
		}
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() {
				if p := recover(); p != nil {
					r.note(fmt.Sprint("panic: ", p))
				}
			}()
			c.run(r, Engine{
				Open:  func(testing.TB) Store { return open() },
				Again: func(_ testing.TB, s Store) Store { return s },
			})
		}()
		<-done
		return r.failed
	}
	t.Fatalf("there is no check %q", name)
	return nil
}

// The stores that break one promise each.

type branching struct{ *model }

// RotateRefresh reads, thinks, and writes: two callers can both win.
func (b branching) RotateRefresh(ctx context.Context, id authority.ID, from, to authority.Refresh) error {
	g, err := b.Grant(ctx, id)
	if err != nil || g.State != authority.GrantActive || g.Refresh.Generation != from.Generation || g.Refresh.Hash != from.Hash {
		return authority.ErrConflict
	}
	runtime.Gosched()
	b.mu.Lock()
	defer b.mu.Unlock()
	g.Refresh = to
	b.grants[id] = g
	return nil
}

type hashless struct{ *model }

// RotateRefresh compares the generation only.
func (b hashless) RotateRefresh(ctx context.Context, id authority.ID, from, to authority.Refresh) error {
	g, err := b.Grant(ctx, id)
	if err == nil && g.Refresh.Generation == from.Generation {
		from.Hash = g.Refresh.Hash
	}
	return b.model.RotateRefresh(ctx, id, from, to)
}

type undead struct{ *model }

// RotateRefresh does not ask whether the grant has ended.
func (b undead) RotateRefresh(ctx context.Context, id authority.ID, from, to authority.Refresh) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, ok := b.grants[id]
	if !ok || g.Refresh.Generation != from.Generation || g.Refresh.Hash != from.Hash || from.Hash == [32]byte{} {
		return authority.ErrConflict
	}
	g.Refresh = to
	b.grants[id] = g
	return nil
}

type generous struct{ *model }

// RedeemCode reads first, and writes what it likes later.
func (b generous) RedeemCode(ctx context.Context, id authority.ID, hash [32]byte, refresh authority.Refresh, expiresAt, now time.Time) error {
	g, err := b.Grant(ctx, id)
	if err != nil || g.State != authority.GrantPending || g.Code.Hash != hash {
		return authority.ErrSpent
	}
	runtime.Gosched()
	b.mu.Lock()
	defer b.mu.Unlock()
	g.State, g.Refresh, g.ExpiresAt = authority.GrantActive, refresh, expiresAt
	b.grants[id] = g
	return nil
}

type forgetful struct{ *model }

func (forgetful) TakeTicket(context.Context, authority.Ticket) error { return nil }

type racyTickets struct{ *model }

// TakeTicket looks, and then writes.
func (b racyTickets) TakeTicket(_ context.Context, t authority.Ticket) error {
	t.ExpiresAt = time.Time{}
	b.mu.Lock()
	taken := b.tickets[t]
	b.mu.Unlock()
	if taken {
		return authority.ErrSpent
	}
	runtime.Gosched()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tickets[t] = true
	return nil
}

type walker struct{ *model }

// EndGrant also ends the rows of the descendants.
func (b walker) EndGrant(ctx context.Context, id authority.ID, e authority.Ending) ([]authority.Revocation, error) {
	written, err := b.model.EndGrant(ctx, id, e)
	defer b.lock()()
	for _, g := range b.grants {
		if slices.ContainsFunc(g.Lineage, func(a authority.Ancestor) bool { return a.GrantID == id }) {
			written = append(written, b.end(g, e)...)
		}
	}
	return written, err
}

// births is a store that is wrong about who may be born: refuses decides, and
// looks before the row is stored rather than while it is.
type births struct {
	*model
	refuses func(m *model, g authority.Grant) bool
}

func (b births) CreateGrant(_ context.Context, g authority.Grant) error {
	b.mu.Lock()
	_, taken := b.grants[g.ID]
	refused := b.refuses(b.model, g)
	b.mu.Unlock()
	if taken {
		return authority.ErrExists
	}
	if refused {
		return authority.ErrEnded
	}
	runtime.Gosched()
	defer b.lock()()
	b.displacePending(g)
	b.store(g)
	return nil
}

// endedRow looks for ancestors among the grants that have rows.
func endedRow(m *model, g authority.Grant) bool {
	return m.isRevoked(g.Evidence.Link().Kind, g.Evidence.Key) ||
		slices.ContainsFunc(g.Lineage, func(a authority.Ancestor) bool { return m.grants[a.GrantID].State == authority.GrantEnded })
}

// endedParent looks at the youngest ancestor only.
func endedParent(m *model, g authority.Grant) bool {
	if len(g.Lineage) > 1 {
		g.Lineage = g.Lineage[len(g.Lineage)-1:]
	}
	return m.hasEnded(g)
}

type forgetsOne struct{ *model }

// EndEvidence forgets one grant of several.
func (b forgetsOne) EndEvidence(_ context.Context, evidence authority.Evidence, proofUntil time.Time, e authority.Ending) ([]authority.Revocation, error) {
	defer b.lock()()
	all := b.sortedGrants(func(g authority.Grant) bool { return g.Evidence == evidence })
	if len(all) < 2 {
		return b.endEvidence(evidence, proofUntil, e)
	}
	forgotten := all[0]
	delete(b.grants, forgotten.ID)
	written, err := b.endEvidence(evidence, proofUntil, e)
	b.grants[forgotten.ID] = forgotten
	return written, err
}

type restless struct{ *model }

// EndGrant remembers longer each time that it is called.
func (b restless) EndGrant(ctx context.Context, id authority.ID, e authority.Ending) ([]authority.Revocation, error) {
	if written, err := b.model.EndGrant(ctx, id, e); err != nil || len(written) > 0 {
		return written, err
	}
	return nil, b.longer(authority.Link{Kind: authority.RevokeGrant, Key: id.String()}, e)
}

// EndEvidence does so too.
func (b restless) EndEvidence(ctx context.Context, evidence authority.Evidence, proofUntil time.Time, e authority.Ending) ([]authority.Revocation, error) {
	if written, err := b.model.EndEvidence(ctx, evidence, proofUntil, e); err != nil || len(written) > 0 {
		return written, err
	}
	return nil, b.longer(evidence.Link(), e)
}

func (b restless) longer(l authority.Link, e authority.Ending) error {
	defer b.lock()()
	b.revoke(goneFor(l, e.At, e))
	return nil
}

type shortMemory struct{ *model }

// EndGrant remembers from the end on, whatever the grant's expiry is.
func (b shortMemory) EndGrant(_ context.Context, id authority.ID, e authority.Ending) ([]authority.Revocation, error) {
	defer b.lock()()
	g := b.grants[id]
	if g.State == authority.GrantEnded {
		return nil, nil
	}
	g.State, g.EndedAt, g.EndReason = authority.GrantEnded, e.At, e.Reason
	b.grants[id] = g
	return b.revokeOnce(goneFor(authority.Link{Kind: authority.RevokeGrant, Key: id.String()}, e.At, e)), nil
}

type manyPending struct{ *model }

// CreateGrant lets the earlier pending grant be.
func (b manyPending) CreateGrant(_ context.Context, g authority.Grant) error {
	defer b.lock()()
	if _, taken := b.grants[g.ID]; taken {
		return authority.ErrExists
	}
	if b.hasEnded(g) {
		return authority.ErrEnded
	}
	b.store(g)
	return nil
}

type eager struct{ *model }

// CreateGrant makes room before it knows whether the form is a new one.
func (b eager) CreateGrant(ctx context.Context, g authority.Grant) error {
	b.mu.Lock()
	b.displacePending(g)
	b.mu.Unlock()
	return b.model.CreateGrant(ctx, g)
}

type starter struct{ *model }

// CreateGrant lets a form that is sent again start over.
func (b starter) CreateGrant(ctx context.Context, g authority.Grant) error {
	b.mu.Lock()
	if b.grants[g.ID].State == authority.GrantPending {
		delete(b.grants, g.ID)
	}
	b.mu.Unlock()
	return b.model.CreateGrant(ctx, g)
}

type backwards struct{ *model }

// Revoke lets the last writer of an epoch win.
func (b backwards) Revoke(_ context.Context, r authority.Revocation) (authority.Revocation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.revocations, [2]string{string(r.Kind), r.Key})
	return b.revoke(r), nil
}

type twoCurrents struct{ *model }

// PromoteKey does not look at the key that is current.
func (b twoCurrents) PromoteKey(_ context.Context, nextID, _ string, at time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := b.keys[nextID]
	if next.State != authority.KeyNext {
		return authority.ErrConflict
	}
	next.State, next.PromotedAt = authority.KeyCurrent, at
	b.keys[nextID] = next
	return nil
}

type everlasting struct{ *model }

// EndSession tells of the end but keeps the session.
func (b everlasting) EndSession(ctx context.Context, id authority.ID, e authority.Ending) ([]authority.Revocation, error) {
	s, _ := b.Session(ctx, id)
	return b.EndEvidence(ctx, authority.SessionEvidence(id), s.ExpiresAt, e)
}

type deaf struct{ *model }

// EndSession asks for the session first, and does nothing where it is gone.
func (b deaf) EndSession(ctx context.Context, id authority.ID, e authority.Ending) ([]authority.Revocation, error) {
	if _, err := b.Session(ctx, id); err != nil {
		return nil, nil
	}
	return b.model.EndSession(ctx, id, e)
}

type lastWriter struct{ *model }

// Declare looks, and then writes what it has made of that.
func (b lastWriter) Declare(ctx context.Context, d authority.Declaration, ran int64) (authority.Declaration, []authority.Revocation, error) {
	before, err := b.Declaration(ctx)
	if err == nil && before.Content == d.Content {
		return before, nil, nil
	}
	runtime.Gosched()
	b.mu.Lock()
	defer b.mu.Unlock()
	d.Revision = before.Revision + 1
	b.declared = append(b.declared, d)
	var ended []authority.Revocation
	for _, r := range d.Ends(before) {
		ended = append(ended, b.revoke(r))
	}
	return d, ended, nil
}

type amnesiac struct{ *model }

// Declare does not know what was in force earlier.
func (b amnesiac) Declare(ctx context.Context, d authority.Declaration, _ int64) (authority.Declaration, []authority.Revocation, error) {
	before, _ := b.Declaration(ctx)
	return b.model.Declare(ctx, d, before.Revision)
}

type stubborn struct{ *model }

// Declare takes nothing that was in force earlier, from nobody.
func (b stubborn) Declare(ctx context.Context, d authority.Declaration, _ int64) (authority.Declaration, []authority.Revocation, error) {
	before, _ := b.Declaration(ctx)
	d.Node += " again"
	got, ended, err := b.model.Declare(ctx, d, before.Revision-1)
	got.Node = strings.TrimSuffix(got.Node, " again")
	return got, ended, err
}

type lenient struct{ *model }

// Declare ends nothing.
func (b lenient) Declare(ctx context.Context, d authority.Declaration, ran int64) (authority.Declaration, []authority.Revocation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	revocations, seq := maps.Clone(b.revocations), b.seq
	got, ended, err := b.declare(d, ran)
	b.revocations, b.seq = revocations, seq
	return got, ended, err
}

type rewinding struct{ *model }

// SaveJournalHead takes whatever comes.
func (b rewinding) SaveJournalHead(_ context.Context, node string, _, to authority.JournalHead) error {
	defer b.lock()()
	j := b.journals[node]
	j.Head = to
	b.journals[node] = j
	return nil
}

type blindHeads struct{ *model }

// SaveJournalHead looks at the number, not at what the head was.
func (b blindHeads) SaveJournalHead(ctx context.Context, node string, from, to authority.JournalHead) error {
	b.mu.Lock()
	from = b.journals[node].Head
	b.mu.Unlock()
	return b.model.SaveJournalHead(ctx, node, from, to)
}

type crowded struct{ *model }

// StartJournal lets two journals have one place.
func (b crowded) StartJournal(ctx context.Context, node, place string, first authority.JournalHead) (authority.JournalHead, error) {
	return b.model.StartJournal(ctx, node, place+node, first)
}

type reviving struct{ *model }

// StartJournal takes back what ended the journal.
func (b reviving) StartJournal(ctx context.Context, node, place string, first authority.JournalHead) (authority.JournalHead, error) {
	b.mu.Lock()
	if j, known := b.journals[node]; known {
		j.RetiredAt, j.Loss = time.Time{}, authority.JournalLoss{}
		b.journals[node] = j
	}
	b.mu.Unlock()
	return b.model.StartJournal(ctx, node, place, first)
}

type racyLeases struct{ *model }

// TakeLease looks whose it is, and then writes.
func (b racyLeases) TakeLease(ctx context.Context, name, holder string, life time.Duration, ready bool) (authority.Lease, error) {
	b.mu.Lock()
	l := b.leases[name]
	b.mu.Unlock()
	if l.Holder != holder && time.Now().Before(l.until) {
		return l.now(), authority.ErrConflict
	}
	runtime.Gosched()
	b.mu.Lock()
	l.until = time.Time{}
	b.leases[name] = l
	b.mu.Unlock()
	return b.model.TakeLease(ctx, name, holder, life, ready)
}

type longLeases struct{ *model }

// TakeLease takes a lease that ran out for its holder's.
func (b longLeases) TakeLease(ctx context.Context, name, holder string, life time.Duration, ready bool) (authority.Lease, error) {
	b.mu.Lock()
	l := b.leases[name]
	b.mu.Unlock()
	if !l.until.IsZero() && l.Holder == holder && time.Now().After(l.until) {
		b.mu.Lock()
		l.Fence++
		b.leases[name] = l
		b.mu.Unlock()
	}
	return b.model.TakeLease(ctx, name, holder, life, ready)
}

type fenceless struct{ *model }

// TakeLease numbers all holders alike.
func (b fenceless) TakeLease(ctx context.Context, name, holder string, life time.Duration, ready bool) (authority.Lease, error) {
	l, err := b.model.TakeLease(ctx, name, holder, life, ready)
	l.Fence = 1
	return l, err
}

type openLeases struct{ *model }

// ReleaseLease does not ask whose the lease is.
func (b openLeases) ReleaseLease(ctx context.Context, name, _ string) error {
	l, err := b.model.Lease(ctx, name)
	if err != nil {
		return nil
	}
	return b.model.ReleaseLease(ctx, name, l.Holder)
}

type deadWord struct{ *model }

// Lease repeats what a holder said whose lease has run out.
func (b deadWord) Lease(ctx context.Context, name string) (authority.Lease, error) {
	l, err := b.model.Lease(ctx, name)
	b.mu.Lock()
	defer b.mu.Unlock()
	l.Ready = b.leases[name].Ready
	return l, err
}

type neighbourly struct{ *model }

// Grants takes the workloads of hub-b for those of hub.
func (b neighbourly) Grants(ctx context.Context, f authority.GrantFilter, p authority.Page) ([]authority.Grant, error) {
	f.SubjectPrefix = strings.TrimSuffix(f.SubjectPrefix, ":")
	return b.model.Grants(ctx, f, p)
}

type endedKeys struct{ *model }

// EvidenceKeys also lists what has ended, and each grant's.
func (b endedKeys) EvidenceKeys(_ context.Context, kind authority.EvidenceKind, prefix string, p authority.Page) (keys []string, _ error) {
	defer b.lock()()
	for _, g := range b.grants {
		if e := g.Evidence; e.Kind == kind && strings.HasPrefix(e.Key, prefix) && e.Key > p.After {
			keys = append(keys, e.Key)
		}
	}
	slices.Sort(keys)
	return keys[:min(len(keys), p.Limit)], nil
}

const (
	oneRotates   = "64 rotate one token on two nodes: one succeeds"
	rotationIs   = "rotation replaces the state that it names, and no other"
	histories    = "random histories end like those of a simple model"
	oneRow       = "ending a grant writes one row and one revocation, whatever hangs below"
	ancestors    = "no child is born below an ended ancestor, at any height, with or without a row"
	childRace    = "no child is born once the end of its ancestor has been answered, however the two race"
	evidenceEnds = "evidence takes its grants with it, and nothing else"
	evidenceRace = "no grant is born with evidence that ends, however the two race"
	sessionRace  = "no grant is born in a session that ends, however the two race"
	sessionEnds  = "a session ends with what depends on it, and so does one that is gone"
	remembered   = "the end of a grant is remembered after the later of the end and its expiry"
	endsAgain    = "ending again writes nothing"
	onePending   = "a pending grant takes the place of the one before of its session and client"
	oneLease     = "64 take one lease on two nodes: one succeeds, and all see whose it is"
	sameForm     = "the same form sent twice is refused, and changes nothing"
)

func TestTheSuiteFindsBrokenStores(t *testing.T) {
	// That a history fails is enough here; nobody reads the smallest one.
	for name, value := range map[string]string{"rapid.shrinktime": "10ms", "rapid.nofailfile": "true"} {
		before := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set(name, before) })
	}
	rows := []struct {
		name   string
		open   func() Store
		checks []string
	}{
		{"rotation reads and then writes", func() Store { return branching{newModel()} }, []string{oneRotates}},
		{"rotation ignores the hash", func() Store { return hashless{newModel()} }, []string{rotationIs, histories}},
		{"rotation ignores the state", func() Store { return undead{newModel()} }, []string{"only an active grant rotates", histories}},
		{"redemption reads and then writes", func() Store { return generous{newModel()} },
			[]string{"64 redeem one code on two nodes: one succeeds", "a wrong, expired, ended or unknown code is spent and changes nothing"}},
		{"tickets are forgotten", func() Store { return forgetful{newModel()} }, []string{"a ticket is spent once", histories}},
		{"tickets are looked up and then written", func() Store { return racyTickets{newModel()} }, []string{"64 take one ticket on two nodes: one succeeds"}},
		{"an end walks the descendants", func() Store { return walker{newModel()} }, []string{oneRow, histories}},
		{"a birth looks too early", func() Store { return births{newModel(), (*model).hasEnded} }, []string{childRace, evidenceRace, sessionRace}},
		{"a birth forgets the ancestor without a row", func() Store { return births{newModel(), endedRow} }, []string{ancestors, histories}},
		{"a birth forgets the grandparents", func() Store { return births{newModel(), endedParent} }, []string{ancestors, histories}},
		{"evidence forgets one of its grants", func() Store { return forgetsOne{newModel()} }, []string{evidenceEnds, evidenceRace, histories}},
		{"a second end is remembered longer", func() Store { return restless{newModel()} },
			[]string{endsAgain, "evidence that ends again is not written again, and leaves no grant alive", histories}},
		{"an end is forgotten before what it ended", func() Store { return shortMemory{newModel()} }, []string{remembered, histories}},
		{"both pending grants stay", func() Store { return manyPending{newModel()} },
			[]string{onePending, "64 approve in one session on two nodes: all are answered, and one is pending", histories}},
		{"a form that is sent twice displaces others", func() Store { return eager{newModel()} },
			[]string{sameForm, "a birth that is refused displaces nothing", histories}},
		{"a form that is sent twice displaces the first", func() Store { return starter{newModel()} },
			[]string{sameForm, "64 send one form on two nodes: one succeeds", histories}},
		{"an epoch moves back", func() Store { return backwards{newModel()} },
			[]string{"an epoch moves forward and never back", "64 move one epoch on two nodes: the latest stays", histories}},
		{"an algorithm has two current keys", func() Store { return twoCurrents{newModel()} },
			[]string{"a promotion that finds anything else changed is a conflict and changes nothing", "64 promote one key on two nodes: one succeeds"}},
		{"a journal's head goes back", func() Store { return rewinding{newModel()} },
			[]string{"a head moves forward from where it is, and in no other way", "64 move one head on two nodes: one succeeds"}},
		{"a journal's head forks", func() Store { return blindHeads{newModel()} }, []string{"a head moves forward from where it is, and in no other way"}},
		{"two journals have one place", func() Store { return crowded{newModel()} },
			[]string{"a place has one journal until that was retired or lost records", "64 claim one place on two nodes: one succeeds"}},
		{"a retired journal comes back", func() Store { return reviving{newModel()} }, []string{"a journal that was retired or has lost records ends there, forever"}},
		{"a lease is looked up and then written", func() Store { return racyLeases{newModel()} }, []string{oneLease}},
		{"a late holder has another number", func() Store { return longLeases{newModel()} }, []string{"a holder that comes late, with nobody in between, keeps its fence"}},
		{"all holders have one number", func() Store { return fenceless{newModel()} },
			[]string{oneLease, "a lease that ran out is the next one's, and its old holder hears so"}},
		{"anybody gives a lease back", func() Store { return openLeases{newModel()} }, []string{"a lease is its holder's until it is given back, and others see whose"}},
		{"a holder's word outlives its lease", func() Store { return deadWord{newModel()} }, []string{"a holder that comes late, with nobody in between, keeps its fence"}},
		{"a prefix ends where it likes", func() Store { return neighbourly{newModel()} }, []string{"lists are filtered, sorted and paged"}},
		{"keys of evidence that has ended are listed, and some twice", func() Store { return endedKeys{newModel()} },
			[]string{"keys of evidence are those of living grants, each once, by kind and prefix, page by page"}},
		{"a session outlives its end", func() Store { return everlasting{newModel()} },
			[]string{sessionEnds, "64 end one session on two nodes: one writes", histories}},
		{"a session that is gone takes nothing with it", func() Store { return deaf{newModel()} }, []string{sessionEnds, histories}},
		{"a declaration reads and then writes", func() Store { return lastWriter{newModel()} },
			[]string{"64 nodes declare one file: all agree, and it ends what it ends once", "64 nodes declare 64 files: each is in force once, and each but the last ends"}},
		{"an old file undoes a newer one", func() Store { return amnesiac{newModel()} },
			[]string{"a file that was replaced is refused to a node that does not know its successor"}},
		{"nobody can go back", func() Store { return stubborn{newModel()} },
			[]string{"whoever knows what is in force may go back to an older file"}},
		{"a declaration ends without a revocation", func() Store { return lenient{newModel()} },
			[]string{"a declaration ends who is gone or changed, in the same transition"}},
	}
	for _, r := range rows {
		for _, name := range r.checks {
			t.Run(r.name+"/"+name, func(t *testing.T) {
				// A race need not show on the first try.
				for range 200 {
					if found := judge(t, name, r.open); len(found) > 0 {
						t.Logf("found: %s", strings.SplitN(found[0], "\n", 2)[0])
						return
					}
				}
				t.Errorf("the suite lets it pass")
			})
		}
	}
}

// The suite must complain about the bugs, not about the model.
func TestTheSuitePassesTheModel(t *testing.T) {
	notInTheModel := []string{"restart", "closed", "wakes", "sweep", "fails", "failing", "failure", "left before"}
	for _, c := range checks() {
		known := true
		for _, word := range notInTheModel {
			known = known && !strings.Contains(c.name, word)
		}
		if !known {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if found := judge(t, c.name, func() Store { return newModel() }); len(found) > 0 {
				t.Errorf("%s", strings.Join(found, "\n"))
			}
		})
	}
}
