// Package keys creates, seals, rotates and publishes signing keys. It is the only holder of private keys.
//
// A key is published before it signs and after it has signed: next -> current -> retired -> removed. No verification ever fails, because of these
// numbers: a node reads the store every 10 s (ReloadEvery), verifiers keep a copy of the key set for at most a minute (MaxAge), and a key signs
// 2 minutes (Lead) after it was stored. A node that cannot read the store lets its copies live shorter (JWKS), so however long that takes, no copy
// in use is older than Lead. Verifiers that look for an unknown key only when their copy is over, as kube-apiserver does, have every key in time.
package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

const (
	// MaxAge is how long verifiers may keep a copy of the key set (Cache-Control: max-age). It is short because it decides how soon a rotation
	// can follow another one.
	MaxAge = time.Minute
	// Lead is how long a key is published before it signs: two MaxAge, so that a cache in between, a slow node or a clock that is a little wrong
	// does no harm.
	Lead = 2 * MaxAge
	// ReloadEvery is how often Run reads the store.
	ReloadEvery = 10 * time.Second
	// keepRetired is how long a retired key stays published: until the last token that it signed has expired. The hour on top
	// is for a node that is cut off from the database and still signs with it.
	keepRetired = authority.MaxTokenTTL + authority.Leeway + time.Hour
)

// Settings may change while the service runs. A change takes effect at the next reload.
type Settings struct {
	Algorithms  []jose.Algorithm // the first one is the default
	RotateEvery time.Duration
}

// Ring is a node's view of all keys. Reading it takes no lock. All exported fields are required.
type Ring struct {
	Store    authority.KeyStore
	Settings func() Settings
	Now      func() time.Time
	// Record writes to the journal. It is called after the transition, by the node that made it.
	Record func(ctx context.Context, e authority.Event) error
	Log    *slog.Logger

	sealer sealer
	writes sync.Mutex // one transition or reload of this node at a time
	view   atomic.Pointer[view]
}

// view is a snapshot. Only the signers of its entries are added later.
type view struct {
	keys     map[string]*entry
	rows     []authority.Key           // sorted as they are published
	current  map[jose.Algorithm]*entry // at most one each
	next     map[jose.Algorithm]authority.Key
	jwks     []byte
	etag     string
	loadedAt time.Time
}

// entry is an opened key. Reloads keep it, and with it what crypto/ecdsa has precomputed for the key.
type entry struct {
	public  jose.PublicKey
	private crypto.Signer // nil once retired: a key that no longer signs is not kept
	sealed  []byte
	jwk     []byte
	signers atomic.Pointer[[]*jose.Signer] // one for each typ that was asked for
}

// Open loads the keys, and makes them on the first start.
// The error is ErrMasterKey if the stored keys were sealed under another master key.
func (r *Ring) Open(ctx context.Context, master MasterKey) error {
	r.writes.Lock()
	defer r.writes.Unlock()
	r.sealer = newSealer(master)
	if err := r.load(ctx); err != nil {
		return err
	}
	// On a first start every next key is stored before any current one. No key set was ever published without it, so the first
	// rotation does not have to wait.
	for _, state := range []authority.KeyState{authority.KeyNext, authority.KeyCurrent} {
		for _, alg := range r.Settings().Algorithms {
			if _, has := r.row(alg, state); !has && r.view.Load().current[alg] == nil && r.fresh() {
				if err := r.create(ctx, alg, state); err != nil {
					return err
				}
			}
		}
	}
	// A first start that was interrupted may have left an algorithm with a next key only.
	for _, alg := range r.Settings().Algorithms {
		next, has := r.row(alg, authority.KeyNext)
		if has && r.view.Load().current[alg] == nil && r.ready(next) == nil {
			if err := r.promote(ctx, next, "", "service", "at start"); err != nil {
				return err
			}
		}
	}
	if len(r.view.Load().current) == 0 {
		return errors.New("there is no current signing key")
	}
	return nil
}

// Signer gives the signer of the current key of an algorithm under a header with typ. The empty algorithm means the default one.
func (r *Ring) Signer(alg jose.Algorithm, typ string) (*jose.Signer, error) {
	view := r.view.Load()
	if alg == "" {
		return view.firstSigner(r.Settings().Algorithms, typ, func(jose.Algorithm) bool { return true })
	}
	key := view.current[alg]
	if key == nil {
		if next, ok := view.next[alg]; ok {
			return nil, fmt.Errorf("the first signing key for %s is published and signs from %s on", alg, next.CreatedAt.Add(Lead).Format(time.RFC3339))
		}
		return nil, fmt.Errorf("there is no signing key for %s", alg)
	}
	return key.signer(typ)
}

// ClusterSigner gives the signer of the default algorithm for those who verify as kube-apiserver does.
func (r *Ring) ClusterSigner(typ string) (*jose.Signer, error) {
	return r.view.Load().firstSigner(r.Settings().Algorithms, typ, authority.ClustersVerify)
}

// firstSigner uses the first algorithm of the list that is usable and has a current key: one that was just added does not sign before its key is
// known everywhere. If the whole list is new, it uses an algorithm of the old list.
func (view *view) firstSigner(algorithms []jose.Algorithm, typ string, usable func(jose.Algorithm) bool) (*jose.Signer, error) {
	for _, alg := range algorithms {
		if key := view.current[alg]; key != nil && usable(alg) {
			return key.signer(typ)
		}
	}
	for _, row := range view.rows { // sorted, so that all nodes choose the same
		if row.State == authority.KeyCurrent && usable(jose.Algorithm(row.Algorithm)) {
			return view.keys[row.ID].signer(typ)
		}
	}
	return nil, errors.New("there is no current signing key of a usable algorithm")
}

func (e *entry) signer(typ string) (*jose.Signer, error) {
	known := e.signers.Load()
	if known != nil {
		for _, signer := range *known {
			if signer.Type() == typ {
				return signer, nil
			}
		}
	}
	signer, err := jose.NewSigner(e.public.KeyID(), e.public.Algorithm(), typ, e.private)
	if err != nil {
		return nil, err
	}
	var more []*jose.Signer
	if known != nil {
		more = slices.Clone(*known)
	}
	more = append(more, signer)
	// The loser of this race still has a good signer, and the next call adds it to the list.
	e.signers.CompareAndSwap(known, &more)
	return signer, nil
}

// Find gives a key that may have signed a token which is still good: current, next or retired. It has the shape that jose.Verify takes.
func (r *Ring) Find(kid string, alg jose.Algorithm) (jose.PublicKey, bool) {
	key, ok := r.view.Load().keys[kid]
	if !ok || key.public.Algorithm() != alg {
		return jose.PublicKey{}, false
	}
	return key.public, true
}

// JWKS is the published key set (RFC 7517 section 5), its entity tag, and for how long a copy of it is good: MaxAge, or less where this node has
// not read the store for so long that a key which it lacks could sign meanwhile. The caller must not change the bytes.
func (r *Ring) JWKS() (body []byte, etag string, maxAge time.Duration) {
	view := r.view.Load()
	complete := view.loadedAt.Add(Lead - authority.Leeway).Sub(r.Now())
	return view.jwks, view.etag, max(0, min(MaxAge, complete))
}

// Keys lists the keys as last read, without their private parts.
func (r *Ring) Keys() []authority.Key { return slices.Clone(r.view.Load().rows) }

// Reload reads the store now, for instance when another node has changed a key.
func (r *Ring) Reload(ctx context.Context) error {
	r.writes.Lock()
	defer r.writes.Unlock()
	return r.load(ctx)
}

// load replaces the view, or leaves it as it is. The caller holds r.writes.
func (r *Ring) load(ctx context.Context) error {
	loadedAt := r.Now()
	rows, err := r.Store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("read signing keys: %w", err)
	}
	slices.SortFunc(rows, func(a, b authority.Key) int {
		if c := order(a.State) - order(b.State); c != 0 {
			return c
		}
		if c := strings.Compare(a.Algorithm, b.Algorithm); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	fresh := &view{
		keys:     make(map[string]*entry, len(rows)),
		current:  map[jose.Algorithm]*entry{},
		next:     map[jose.Algorithm]authority.Key{},
		loadedAt: loadedAt,
	}
	old := r.view.Load()
	set := make([][]byte, 0, len(rows))
	for i := range rows {
		key, err := r.entry(old, rows[i])
		if err != nil {
			return err
		}
		rows[i].Sealed = nil
		fresh.keys[rows[i].ID] = key
		set = append(set, key.jwk)
		switch rows[i].State {
		case authority.KeyCurrent:
			fresh.current[key.public.Algorithm()] = key
		case authority.KeyNext:
			fresh.next[key.public.Algorithm()] = rows[i]
		}
	}
	fresh.rows = rows
	fresh.jwks = slices.Concat([]byte(`{"keys":[`), bytes.Join(set, []byte{','}), []byte(`]}`))
	sum := sha256.Sum256(fresh.jwks)
	fresh.etag = `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	r.view.Store(fresh)
	return nil
}

// entry opens a row, or reuses the opened key if the row's private part has not changed.
func (r *Ring) entry(old *view, row authority.Key) (*entry, error) {
	retired := row.State == authority.KeyRetired
	if old != nil {
		known := old.keys[row.ID]
		if known != nil && bytes.Equal(known.sealed, row.Sealed) && string(known.public.Algorithm()) == row.Algorithm &&
			retired == (known.private == nil) {
			return known, nil
		}
	}
	private, public, err := r.sealer.open(row)
	if err != nil {
		return nil, err
	}
	if retired {
		private = nil
	}
	jwk, err := json.Marshal(public)
	if err != nil {
		return nil, err
	}
	return &entry{public: public, private: private, sealed: row.Sealed, jwk: jwk}, nil
}

func order(s authority.KeyState) int {
	return slices.Index([]authority.KeyState{authority.KeyCurrent, authority.KeyNext, authority.KeyRetired}, s)
}
