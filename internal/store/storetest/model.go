package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// model is a store that is right because it is simple: maps under one lock.
// Random histories are compared with it, and the suite is tested on it.
// What it does not override panics.
type model struct {
	Store // nil: the transitions that the model does not know

	mu          sync.Mutex
	grants      map[authority.ID]authority.Grant
	sessions    map[authority.ID]authority.Session
	tickets     map[authority.Ticket]bool
	keys        map[string]authority.Key
	revocations map[[2]string]authority.Revocation
	journals    map[string]authority.Journal
	leases      map[string]leased
	seq         int64
	declared    []authority.Declaration        // what came into force, the newest last
	objects     map[[2]string]authority.Object // by namespace and id; one without a body is deleted
}

func newModel() *model {
	return &model{
		grants: map[authority.ID]authority.Grant{}, sessions: map[authority.ID]authority.Session{}, tickets: map[authority.Ticket]bool{},
		keys: map[string]authority.Key{}, revocations: map[[2]string]authority.Revocation{},
		journals: map[string]authority.Journal{}, leases: map[string]leased{},
		objects: map[[2]string]authority.Object{},
	}
}

// lock begins a transition: model methods start with `defer m.lock()()`.
func (m *model) lock() func() { m.mu.Lock(); return m.mu.Unlock }

func (m *model) CreateGrant(_ context.Context, g authority.Grant) error {
	defer m.lock()()
	if !g.Evidence.IsZero() && (g.Evidence.Kind == "" || g.Evidence.Key == "") {
		return errUnnamed
	}
	if _, taken := m.grants[g.ID]; taken {
		return authority.ErrExists
	}
	if _, taken := m.standing(g); taken && g.IsStanding() {
		return authority.ErrExists
	}
	if m.hasEnded(g) {
		return authority.ErrEnded
	}
	m.displacePending(g)
	m.store(g)
	return nil
}

// standing finds the active grant that stands for the same as g.
func (m *model) standing(g authority.Grant) (authority.Grant, bool) {
	for _, other := range m.grants {
		if other.State == authority.GrantActive && other.Evidence == g.Evidence && other.ClientID == g.ClientID && slices.Equal(other.Resources, g.Resources) {
			return other, true
		}
	}
	return authority.Grant{}, false
}

func (m *model) StandingGrant(_ context.Context, g authority.Grant) (authority.Grant, error) {
	defer m.lock()()
	found, there := m.standing(g)
	if !there {
		return found, authority.ErrNotFound
	}
	return found, nil
}

// hasEnded says whether a grant, or one of those that it comes from, has ended.
func (m *model) hasEnded(g authority.Grant) bool {
	gone := m.isRevoked(authority.RevokeGrant, g.ID.String()) || m.isRevoked(g.Evidence.Link().Kind, g.Evidence.Key)
	for _, a := range g.Lineage {
		gone = gone || m.isRevoked(authority.RevokeGrant, a.GrantID.String())
	}
	return gone
}

func (m *model) isRevoked(kind authority.RevocationKind, key string) bool {
	_, there := m.revocations[[2]string{string(kind), key}]
	return there
}

func (m *model) displacePending(g authority.Grant) {
	if g.State != authority.GrantPending || g.SessionID.IsZero() {
		return
	}
	for id, other := range m.grants {
		if id != g.ID && other.State == authority.GrantPending && other.SessionID == g.SessionID && other.ClientID == g.ClientID {
			delete(m.grants, id)
		}
	}
}

func (m *model) store(g authority.Grant) {
	g.CreatedAt = g.CreatedAt.UTC().Truncate(time.Microsecond)
	m.grants[g.ID] = g
}

func (m *model) Grant(_ context.Context, id authority.ID) (authority.Grant, error) {
	defer m.lock()()
	g, ok := m.grants[id]
	if !ok {
		return g, authority.ErrNotFound
	}
	return g, nil
}

func (m *model) RedeemCode(_ context.Context, id authority.ID, codeHash [32]byte, refresh authority.Refresh, expiresAt, now time.Time) error {
	defer m.lock()()
	g, ok := m.grants[id]
	if !ok || g.State != authority.GrantPending || g.Code.Hash != codeHash || codeHash == [32]byte{} || !now.Before(g.Code.ExpiresAt) {
		return authority.ErrSpent
	}
	g.State, g.Refresh, g.ExpiresAt = authority.GrantActive, refresh, expiresAt
	m.grants[id] = g
	return nil
}

func (m *model) RotateRefresh(_ context.Context, id authority.ID, from, to authority.Refresh) error {
	defer m.lock()()
	g, ok := m.grants[id]
	if !ok || g.State != authority.GrantActive || g.Refresh.Generation != from.Generation || g.Refresh.Hash != from.Hash || from.Hash == [32]byte{} {
		return authority.ErrConflict
	}
	g.Refresh = to
	m.grants[id] = g
	return nil
}

var errUnnamed = errors.New("it has no name")

func (m *model) EndGrant(_ context.Context, id authority.ID, e authority.Ending) ([]authority.Revocation, error) {
	defer m.lock()()
	if id.IsZero() {
		return nil, errUnnamed
	}
	if g, ok := m.grants[id]; ok {
		return m.end(g, e), nil
	}
	return m.revokeOnce(authority.Revocation{Kind: authority.RevokeGrant, Key: id.String(), NotBefore: e.At,
		ExpiresAt: e.At.Add(authority.MaxGrantTTL + e.Remember)}), nil
}

func (m *model) end(g authority.Grant, e authority.Ending) []authority.Revocation {
	if g.State == authority.GrantEnded {
		return nil
	}
	g, r := ended(g, e)
	m.grants[g.ID] = g
	if r.ExpiresAt.After(m.revocations[[2]string{string(r.Kind), r.Key}].ExpiresAt) {
		return []authority.Revocation{m.revoke(r)}
	}
	return nil
}

func (m *model) revokeOnce(r authority.Revocation) []authority.Revocation {
	if m.isRevoked(r.Kind, r.Key) {
		return nil
	}
	return []authority.Revocation{m.revoke(r)}
}

func (m *model) EndEvidence(_ context.Context, evidence authority.Evidence, proofUntil time.Time, e authority.Ending) ([]authority.Revocation, error) {
	defer m.lock()()
	return m.endEvidence(evidence, proofUntil, e)
}

func (m *model) endEvidence(evidence authority.Evidence, proofUntil time.Time, e authority.Ending) (written []authority.Revocation, _ error) {
	if evidence.Kind == "" || evidence.Key == "" {
		return nil, errUnnamed
	}
	for _, g := range m.grants {
		if g.Evidence == evidence {
			written = append(written, m.end(g, e)...)
		}
	}
	return append(written, m.revokeOnce(goneFor(evidence.Link(), proofUntil, e))...), nil
}

func (m *model) sortedGrants(in func(authority.Grant) bool) (list []authority.Grant) {
	for _, g := range m.grants {
		if in(g) {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b authority.Grant) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	return list
}

func selects(f authority.GrantFilter) func(authority.Grant) bool {
	return func(g authority.Grant) bool {
		return (f.ClientID == "" || g.ClientID == f.ClientID) && (f.SubjectID == "" || g.Subject.ID == f.SubjectID) &&
			strings.HasPrefix(g.Subject.ID, f.SubjectPrefix) &&
			(f.SessionID.IsZero() || g.SessionID == f.SessionID) && (!f.ActiveOnly || g.State == authority.GrantActive) &&
			(!f.ActiveOnly || f.AliveAt.IsZero() || g.ExpiresAt.After(f.AliveAt))
	}
}

func (m *model) Grants(_ context.Context, f authority.GrantFilter, p authority.Page) ([]authority.Grant, error) {
	defer m.lock()()
	list := m.sortedGrants(func(g authority.Grant) bool { return selects(f)(g) && g.ID.String() > p.After })
	return list[:min(len(list), max(p.Limit, 1))], nil
}

func (m *model) CountGrants(_ context.Context, f authority.GrantFilter) (int, error) {
	defer m.lock()()
	return len(m.sortedGrants(selects(f))), nil
}

func (m *model) Consented(_ context.Context, asked authority.Grant, since, now time.Time) (bool, error) {
	defer m.lock()()
	return len(m.sortedGrants(func(g authority.Grant) bool {
		return g.Subject == asked.Subject && g.ClientID == asked.ClientID && g.Alive(now) &&
			g.RedirectDigest == asked.RedirectDigest && g.RedirectDigest != [32]byte{} && g.Covers(asked) &&
			g.ID.Time().After(since) && g.CreatedAt.After(since)
	})) > 0, nil
}

func (m *model) StartSession(_ context.Context, s authority.Session) error {
	defer m.lock()()
	for _, other := range m.sessions {
		if other.ID == s.ID || other.Hash == s.Hash {
			return authority.ErrExists
		}
	}
	m.sessions[s.ID] = s
	return nil
}

func (m *model) SessionByHash(_ context.Context, hash [32]byte) (authority.Session, error) {
	defer m.lock()()
	for _, s := range m.sessions {
		if s.Hash == hash {
			return s, nil
		}
	}
	return authority.Session{}, authority.ErrNotFound
}

func (m *model) RenewSession(_ context.Context, hash [32]byte, next authority.Session) error {
	defer m.lock()()
	if was, ok := m.sessions[next.ID]; !ok || was.Hash != hash {
		return authority.ErrNotFound
	}
	m.sessions[next.ID] = next
	return nil
}

func (m *model) Session(_ context.Context, id authority.ID) (authority.Session, error) {
	defer m.lock()()
	s, ok := m.sessions[id]
	if !ok {
		return s, authority.ErrNotFound
	}
	return s, nil
}

func (m *model) EndSession(_ context.Context, id authority.ID, e authority.Ending) ([]authority.Revocation, error) {
	defer m.lock()()
	until := m.sessions[id].ExpiresAt
	delete(m.sessions, id)
	return m.endEvidence(authority.SessionEvidence(id), until, e)
}

func (m *model) TakeTicket(_ context.Context, t authority.Ticket) error {
	defer m.lock()()
	t.ExpiresAt = time.Time{}
	if m.tickets[t] {
		return authority.ErrSpent
	}
	m.tickets[t] = true
	return nil
}

func (m *model) Keys(context.Context) (list []authority.Key, _ error) {
	defer m.lock()()
	for _, k := range m.keys {
		list = append(list, k)
	}
	return list, nil
}

func (m *model) AddKey(_ context.Context, k authority.Key) error {
	defer m.lock()()
	if _, taken := m.keys[k.ID]; taken || (k.State != authority.KeyRetired && m.hasKey(k.Algorithm, k.State)) {
		return authority.ErrConflict
	}
	m.keys[k.ID] = k
	return nil
}

func (m *model) hasKey(algorithm string, state authority.KeyState) bool {
	for _, k := range m.keys {
		if k.Algorithm == algorithm && k.State == state {
			return true
		}
	}
	return false
}

func (m *model) PromoteKey(_ context.Context, nextID, currentID string, at time.Time) error {
	defer m.lock()()
	next, current := m.keys[nextID], m.keys[currentID]
	if next.State != authority.KeyNext {
		return authority.ErrConflict
	}
	if currentID == "" && m.hasKey(next.Algorithm, authority.KeyCurrent) {
		return authority.ErrConflict
	}
	if currentID != "" {
		if current.State != authority.KeyCurrent || current.Algorithm != next.Algorithm {
			return authority.ErrConflict
		}
		current.State, current.RetiredAt = authority.KeyRetired, at
		m.keys[currentID] = current
	}
	next.State, next.PromotedAt = authority.KeyCurrent, at
	m.keys[nextID] = next
	return nil
}

func (m *model) RemoveKey(_ context.Context, id string) error {
	defer m.lock()()
	if _, ok := m.keys[id]; !ok {
		return authority.ErrNotFound
	}
	delete(m.keys, id)
	return nil
}

func (m *model) Revoke(_ context.Context, r authority.Revocation) (authority.Revocation, error) {
	defer m.lock()()
	return m.revoke(r), nil
}

func (m *model) revoke(r authority.Revocation) authority.Revocation {
	at := [2]string{string(r.Kind), r.Key}
	r.NotBefore = r.NotBefore.Truncate(time.Millisecond)
	if old, there := m.revocations[at]; there {
		next := old
		if r.ExpiresAt.After(old.ExpiresAt) {
			next.ExpiresAt = r.ExpiresAt
		}
		if r.Kind.IsEpoch() && r.NotBefore.After(old.NotBefore) {
			next.NotBefore = r.NotBefore
		}
		if next == old {
			return old
		}
		r = next
	}
	m.seq++
	r.Seq = m.seq
	m.revocations[at] = r
	return r
}

func (m *model) Revocations(_ context.Context, after int64, limit int) (list []authority.Revocation, _ error) {
	defer m.lock()()
	for _, r := range m.revocations {
		if r.Seq > after {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b authority.Revocation) int { return int(a.Seq - b.Seq) })
	return list[:min(len(list), limit)], nil
}

func (m *model) Declare(_ context.Context, d authority.Declaration, ran int64) (authority.Declaration, []authority.Revocation, error) {
	defer m.lock()()
	return m.declare(d, ran)
}

func (m *model) declare(d authority.Declaration, ran int64) (authority.Declaration, []authority.Revocation, error) {
	var current authority.Declaration
	if n := len(m.declared); n > 0 {
		current = m.declared[n-1]
		if current.Content == d.Content {
			m.declared[n-1].Digests = d.Digests
			return m.declared[n-1], nil, nil
		}
	}
	known := slices.ContainsFunc(m.declared, func(was authority.Declaration) bool { return was.Content == d.Content })
	if err := d.MayReplace(current, ran, known); err != nil {
		return d, nil, err
	}
	d.Revision = current.Revision + 1
	m.declared = append(m.declared, d)
	var ended []authority.Revocation
	for _, r := range d.Ends(current) {
		before := m.seq
		if r = m.revoke(r); m.seq > before {
			ended = append(ended, r)
		}
	}
	return d, ended, nil
}

func (m *model) Declaration(context.Context) (authority.Declaration, error) {
	defer m.lock()()
	if len(m.declared) == 0 {
		return authority.Declaration{}, authority.ErrNotFound
	}
	return m.declared[len(m.declared)-1], nil
}

func (m *model) Object(_ context.Context, kind authority.Kind, id string) (authority.Object, error) {
	defer m.lock()()
	return m.live(kind, id)
}

func (m *model) live(kind authority.Kind, id string) (authority.Object, error) {
	o := m.objects[[2]string{kind.Namespace(), id}]
	if o.Kind != kind || o.Body == nil {
		return authority.Object{}, authority.ErrNotFound
	}
	return o, nil
}

func (m *model) ObjectByName(_ context.Context, kind authority.Kind, name string) (authority.Object, error) {
	defer m.lock()()
	return m.named(kind, name)
}

func (m *model) named(kind authority.Kind, name string) (authority.Object, error) {
	for _, o := range m.objects {
		if o.Kind == kind && name != "" && o.Name == name {
			return o, nil
		}
	}
	return authority.Object{}, authority.ErrNotFound
}

func (m *model) Objects(_ context.Context, kind authority.Kind, p authority.Page) (list []authority.Object, _ error) {
	defer m.lock()()
	for _, o := range m.objects {
		if o.Kind == kind && o.Body != nil && o.ID > p.After {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b authority.Object) int { return strings.Compare(a.ID, b.ID) })
	return list[:min(len(list), max(p.Limit, 1))], nil
}

func (m *model) CreateObject(_ context.Context, o authority.Object) error {
	defer m.lock()()
	at := [2]string{o.Kind.Namespace(), o.ID}
	if old, taken := m.objects[at]; taken && old.Body == nil {
		return authority.ErrRetired
	} else if taken {
		return authority.ErrExists
	}
	if _, err := m.named(o.Kind, o.Name); err == nil {
		return authority.ErrExists
	}
	o.Revision = 1
	m.objects[at] = o
	return nil
}

func (m *model) ClaimIDs(_ context.Context, kinds map[string]authority.Kind, _ time.Time) error {
	defer m.lock()()
	for id, kind := range kinds {
		old, taken := m.objects[[2]string{kind.Namespace(), id}]
		switch {
		case taken && old.Body != nil:
			return authority.ErrExists
		case taken && (old.Kind != kind || old.Revision != claimed):
			return authority.ErrRetired
		}
	}
	for id, kind := range kinds {
		m.objects[[2]string{kind.Namespace(), id}] = authority.Object{Kind: kind, ID: id, Revision: claimed}
	}
	return nil
}

// claimed is the revision of what only keeps an id for a file.
const claimed = -1

func (m *model) UpdateObject(_ context.Context, o authority.Object) error {
	defer m.lock()()
	old, err := m.live(o.Kind, o.ID)
	if err != nil {
		return err
	}
	if old.Revision != o.Revision {
		return authority.ErrConflict
	}
	if other, err := m.named(o.Kind, o.Name); err == nil && other.ID != o.ID {
		return authority.ErrExists
	}
	o.CreatedAt, o.Revision = old.CreatedAt, old.Revision+1
	m.objects[[2]string{o.Kind.Namespace(), o.ID}] = o
	return nil
}

func (m *model) DeleteObject(_ context.Context, kind authority.Kind, id string, revision int64, _ time.Time) error {
	defer m.lock()()
	old, err := m.live(kind, id)
	if err != nil {
		return err
	}
	if old.Revision != revision {
		return authority.ErrConflict
	}
	at := [2]string{kind.Namespace(), id}
	delete(m.objects, at)
	if kind.KeepsIDs() {
		m.objects[at] = authority.Object{Kind: kind, ID: id}
	}
	return nil
}
