// Package trust verifies tokens that other issuers made: service-account tokens of registered
// Kubernetes clusters, tokens of OpenID Connect issuers, and JWT-SVIDs of SPIFFE trust domains.
// What comes out is an authority.Proof of who the bearer is. What it may have is for the trust
// policies to say.
package trust

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/outbound"
)

// Options are what a Verifier needs.
type Options struct {
	Issuer string // our own: the audience of proofs where nothing else is registered
	// Outbound fetches key sets and discovery documents. Without it only pasted keys, and those
	// of API servers, are known.
	Outbound *outbound.Client
	// APIKeys gets the key set of a cluster from its API server (/openid/v1/jwks). Without it
	// that of no API server is known.
	APIKeys func(ctx context.Context, c authority.Cluster) ([]byte, error)
	Now     func() time.Time
	Log     *slog.Logger
}

// Verifier verifies proofs. It is safe for concurrent use.
//
// A token belongs to whoever's key set verifies it. Which sets are tried, its unverified iss, sub and kid
// say; nothing else in it is looked at before the signature is good, and nothing in it is ever
// fetched. Verification with keys that are known takes no lock and waits for nobody.
type Verifier struct {
	Options
	view atomic.Pointer[view]
	// proofs remembers by hash what has been verified before, so that the same proof again costs
	// no signature. It holds no token. Keys, registration and expiry are asked every time.
	proofs *otter.Cache[[32]byte, *remembered]
	wake   chan struct{} // tells Run that there is something new

	mu      sync.Mutex // guards what is below, and all of every ring
	origins []*origin
	changed chan struct{} // closed when the next view is there
	sets    uint64        // counts key sets, to know which was first
}

// view is what is registered and known at one moment. It never changes.
type view struct {
	byIssuer map[string][]*origin
	byDomain map[string]*origin
	clusters map[string]*origin // by name
	issuers  map[string]*origin // trusted issuers, by name
	keys     map[*origin]*keys
}

// origin is a cluster or a trusted issuer as a place that proofs come from. It never changes: another
// registration is another origin.
type origin struct {
	kind    kind
	iss     string
	cluster authority.Cluster       // one of the two is set
	issuer  authority.TrustedIssuer //
	accepts func(aud, ours string) bool
	ring    *ring
}

// remembered is a proof with what it depends on.
type remembered struct {
	proof  authority.Proof
	origin *origin
	keys   *keys
	key    jose.PublicKey
}

const (
	maxRemembered = 16 << 20 // bytes, about
	maxChecks     = 8        // signatures that are checked for one token
)

// New makes a verifier that trusts nobody: see Use. Run keeps its keys fresh.
func New(o Options) *Verifier {
	v := &Verifier{Options: o, wake: make(chan struct{}, 1), changed: make(chan struct{})}
	v.proofs = otter.Must(&otter.Options[[32]byte, *remembered]{
		MaximumWeight: maxRemembered,
		Weigher:       func(_ [32]byte, r *remembered) uint32 { return uint32(1024 + len(r.proof.Claims)) },
		Executor:      func(task func()) { task() },
	})
	v.view.Store(&view{})
	return v
}

// unverified is a token with what it says of itself, which anybody can have written.
type unverified struct {
	raw              string
	header           jose.Header
	iss, trustDomain string
}

// Verify says whose token it is and what it proves. Every error is a *Refusal. The proof is
// shared with later calls: nobody may change it.
func (v *Verifier) Verify(ctx context.Context, raw string) (authority.Proof, error) {
	hash := sha256.Sum256([]byte(raw))
	now := v.Now()
	if known, ok := v.proofs.GetIfPresent(hash); ok {
		if v.view.Load().vouches(known, now) {
			return known.proof, nil
		}
		v.proofs.Invalidate(hash)
	}
	token, err := inspect(raw)
	if err != nil {
		return authority.Proof{}, notJWT.because(err)
	}
	if token.iss == v.Issuer {
		return authority.Proof{}, notSigned.because(errOurs)
	}
	s := search{verifier: v, token: token, now: now}
	found, refused := s.run(ctx)
	if refused != nil {
		return authority.Proof{}, refused
	}
	found.proof.Hash = hex.EncodeToString(hash[:16]) // as issue.HashOf
	v.proofs.Set(hash, found)
	return found.proof, nil
}

// vouches says whether a proof from before would be one now.
func (w *view) vouches(r *remembered, now time.Time) bool {
	keys := w.keys[r.origin] // nil when its origin is registered no more, or differently
	return keys.usable(now) && (keys == r.keys || keys.has(r.key)) && now.Before(r.proof.Expires.Add(authority.Leeway))
}

func inspect(raw string) (unverified, error) {
	header, claims, err := jose.InspectUnverified(raw)
	if err != nil {
		return unverified{}, err
	}
	token := unverified{raw: raw, header: header}
	if token.iss, _, err = claims.String("iss"); err != nil {
		return unverified{}, err
	}
	sub, _, err := claims.String("sub")
	if err != nil {
		return unverified{}, err
	}
	if rest, ok := strings.CutPrefix(sub, spiffeScheme); ok {
		token.trustDomain, _, _ = strings.Cut(rest, "/")
	}
	return token, nil
}

// candidates are whose token it may be.
func (w *view) candidates(t unverified) []*origin {
	list := w.byIssuer[t.iss]
	if domain := w.byDomain[t.trustDomain]; t.trustDomain != "" && domain != nil {
		return append(slices.Clone(list), domain)
	}
	return list
}

// search is the road of one token: try the keys that are known; if its kid is
// unknown, have the key sets fetched that may hold it, and try what is new.
type search struct {
	verifier *Verifier
	token    unverified
	now      time.Time
	asked    bool             // for key sets: once
	checked  []jose.PublicKey // that have not signed it
	failed   error            // why no key has
}

func (s *search) run(ctx context.Context) (*remembered, *Refusal) {
	for {
		view := s.verifier.view.Load()
		candidates := view.candidates(s.token)
		if len(candidates) == 0 {
			return nil, notSigned.because(reasonf("its iss %s is not registered", shown(s.token.iss)))
		}
		found, missing, refused := s.try(view, candidates)
		if found != nil || refused != nil {
			return found, refused
		}
		wait, refused := s.fetch(view, missing)
		if wait == nil && refused == nil {
			refused = s.refuse(view, missing)
		}
		if refused != nil {
			s.verifier.note(candidates, refused, false)
			return nil, refused
		}
		select {
		case <-wait.changed:
			wait.end()
		case <-ctx.Done():
			wait.end()
			return nil, unavailable.because(errGaveUp)
		}
	}
}

// try checks the token with the keys that are known. missing are the candidates that may learn its
// key: those that do not know its kid, or, if another knows it, have no keys at all yet.
func (s *search) try(view *view, candidates []*origin) (found *remembered, missing []*origin, refused *Refusal) {
	s.failed = nil
	var headers [len(expects)]error
	claimed := false // somebody knows its kid
	for _, o := range candidates {
		header, want := s.token.header, expects[o.kind]
		keys := view.keys[o]
		key, ok, known := keys.find(header.KeyID, header.Algorithm, s.now)
		claimed = claimed || known
		switch {
		case o.kind == kubernetes && header.KeyID == "":
			s.fail(reasonf("it has no kid"))
			continue
		case !ok && known:
			s.fail(reasonf("the key %s is for another algorithm", shown(header.KeyID)))
			continue
		case !ok:
			// Nobody is asked for the key of a token that no key could make good.
			if headers[o.kind] == nil {
				_, headers[o.kind] = jose.Verify(s.token.raw, want, noKey)
			}
			if !errors.Is(headers[o.kind], jose.ErrKey) {
				s.fail(headers[o.kind])
				continue
			}
			missing = append(missing, o)
			continue
		case slices.ContainsFunc(s.checked, key.Equal):
			s.fail(jose.ErrSignature)
			continue
		case len(s.checked) == maxChecks:
			s.fail(errManyTries)
			continue
		}
		s.checked = append(s.checked, key)
		verified, err := jose.Verify(s.token.raw, want, func(string, jose.Algorithm) (jose.PublicKey, bool) { return key, true })
		if err != nil {
			s.fail(err)
			continue
		}
		// No other candidate has this key, so none could say anything else: see Verifier.settle.
		proof, refused := o.read(verified.Claims, s.verifier.Issuer, s.now)
		if refused != nil {
			refused.Cluster, refused.TrustedIssuer = o.cluster.Name, o.issuer.Name
			s.verifier.note([]*origin{o}, refused, true)
			return nil, nil, refused
		}
		return &remembered{proof, o, keys, key}, nil, nil
	}
	if claimed {
		missing = slices.DeleteFunc(missing, func(o *origin) bool { return view.keys[o].usable(s.now) })
	}
	return nil, missing, nil
}

func noKey(string, jose.Algorithm) (jose.PublicKey, bool) { return jose.PublicKey{}, false }

func (s *search) fail(err error) {
	if s.failed == nil {
		s.failed = err
	}
}

// refuse is for a token that no key which can be had has signed.
func (s *search) refuse(view *view, missing []*origin) *Refusal {
	for _, o := range missing {
		if !view.keys[o].usable(s.now) {
			return unavailable.because(reasonf("no keys of %s are known", o))
		}
	}
	if s.failed == nil {
		s.failed = reasonf("its key %s is not known", shown(s.token.header.KeyID))
	}
	return notSigned.because(s.failed)
}

func (o *origin) String() string {
	if o.kind == kubernetes {
		return "cluster " + o.cluster.Name
	}
	return "trusted issuer " + o.issuer.Name
}
