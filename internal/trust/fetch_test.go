package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

// fetched is a trusted issuer whose keys are at a server of the test.
func fetched(f *fakeIssuer) authority.TrustedIssuer {
	return authority.TrustedIssuer{Name: "fetched", Issuer: f.URL}
}

func (f *fakeIssuer) discovery() string {
	return fmt.Sprintf(`{"issuer":%q,"jwks_uri":"%s/jwks"}`, f.URL, f.URL)
}

const wellKnown = "/.well-known/openid-configuration"

func TestKeysComeFromDiscovery(t *testing.T) {
	k := ecKey(t, "k1")
	f := newIssuer(t)
	f.answers(wellKnown, f.discovery())
	f.answers("/jwks", string(jwks(t, k)))
	r := newRig(t)
	r.use(t, nil, fetched(f))
	if f.asked.Load() != 0 {
		t.Error("registration alone asked for keys")
	}
	token := k.sign(t, jobClaims().with("iss", f.URL))
	if p := r.accepts(t, token); p.TrustedIssuer != "fetched" {
		t.Errorf("%+v", p)
	}
	r.accepts(t, k.sign(t, jobClaims().with("iss", f.URL).with("jti", "job-2")))
	if n := f.asked.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
	if s := r.IssuerStatus("fetched"); !s.FetchedAt.Equal(start) || len(s.KeyIDs) != 1 || s.LastError != "" {
		t.Errorf("%+v", s)
	}
}

func TestKeysComeFromAURIAndFromAnAPIServer(t *testing.T) {
	k, api, svid := ecKey(t, "k1"), ecKey(t, "k1"), ecKey(t, "s1")
	f := newIssuer(t)
	f.answers("/keys", string(jwks(t, k)))
	f.answers("/bundle", string(bundle(t, svid)))
	mirrored := reachable("mirrored")
	mirrored.KeysURI = f.URL + "/keys"
	r := newRig(t)
	r.apiKeys = func(_ context.Context, c authority.Cluster) ([]byte, error) {
		if c.Name != "hub" {
			t.Errorf("asked for the keys of %s", c.Name)
		}
		return jwks(t, api), nil
	}
	r.use(t, []authority.Cluster{mirrored, reachable("hub")}, authority.TrustedIssuer{Name: "prod", TrustDomain: "prod.example.com", KeysURI: f.URL + "/bundle"})
	if p := r.accepts(t, k.sign(t, podClaims())); p.Cluster != "mirrored" {
		t.Errorf("of %s", p.Cluster)
	}
	if p := r.accepts(t, api.sign(t, podClaims())); p.Cluster != "hub" {
		t.Errorf("of %s", p.Cluster)
	}
	if p := r.accepts(t, svid.sign(t, svidClaims())); p.TrustedIssuer != "prod" {
		t.Errorf("of %s", p.TrustedIssuer)
	}
}

func TestIssuersThatAnswerNothingOfUse(t *testing.T) {
	k := ecKey(t, "k1")
	for _, row := range []struct {
		name string
		does func(f *fakeIssuer)
		want string
	}{
		{"no discovery", func(f *fakeIssuer) {}, "200"},
		{"the discovery of another issuer", func(f *fakeIssuer) {
			f.answers(wellKnown, strings.Replace(f.discovery(), f.URL+`"`, f.URL+`/"`, 1))
		}, "another issuer"},
		{"a discovery without an issuer", func(f *fakeIssuer) { f.answers(wellKnown, `{"jwks_uri":"`+f.URL+`/jwks"}`) }, "another issuer"},
		{"a discovery without keys", func(f *fakeIssuer) { f.answers(wellKnown, `{"issuer":"`+f.URL+`"}`) }, "not a URL"},
		{"a discovery with two issuers", func(f *fakeIssuer) {
			f.answers(wellKnown, strings.Replace(f.discovery(), "{", `{"issuer":"x",`, 1))
		}, "cannot be read"},
		{"keys in a private network", func(f *fakeIssuer) {
			f.answers(wellKnown, `{"issuer":"`+f.URL+`","jwks_uri":"https://169.254.169.254/keys"}`)
		}, "address"},
		{"keys in a file", func(f *fakeIssuer) { f.answers(wellKnown, `{"issuer":"`+f.URL+`","jwks_uri":"file:///etc/passwd"}`) }, "not a URL"},
		{"a redirect to good keys", func(f *fakeIssuer) {
			f.answers("/elsewhere", string(jwks(t, k)))
			f.handles("/jwks", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
		}, "200"},
		{"nothing", func(f *fakeIssuer) { f.answers("/jwks", "") }, "malformed"},
		{"no keys", func(f *fakeIssuer) { f.answers("/jwks", `{"keys":[]}`) }, "no key"},
		{"a huge answer", func(f *fakeIssuer) { f.answers("/jwks", `{"keys":[],"x":"`+strings.Repeat("x", maxKeySet)+`"}`) }, "too large"},
		{"a private key", func(f *fakeIssuer) {
			f.answers("/jwks", strings.Replace(string(jwks(t, k)), `"kty"`, `"d":"AAAA","kty"`, 1))
		}, "private"},
	} {
		f := newIssuer(t)
		if row.name != "no discovery" {
			f.answers(wellKnown, f.discovery())
		}
		row.does(f)
		neighbour := ecKey(t, "n1")
		r := newRig(t)
		r.use(t, []authority.Cluster{cluster("hub", jwks(t, neighbour))}, fetched(f))
		_, err := r.Verify(t.Context(), k.sign(t, jobClaims().with("iss", f.URL)))
		var refused *Refusal
		if !errors.As(err, &refused) || refused.Unavailable != (row.name != "no keys") {
			t.Errorf("%s: %v", row.name, err)
		}
		if s := r.IssuerStatus("fetched"); !strings.Contains(s.LastError, row.want) || len(s.KeyIDs) != 0 {
			t.Errorf("%s: %+v", row.name, s)
		}
		r.accepts(t, neighbour.sign(t, podClaims()))
	}
}

// A slow issuer delays those who need its new keys, and nobody else.
func TestASlowIssuerHarmsNobodyElse(t *testing.T) {
	slow, quick, old := ecKey(t, "slow"), ecKey(t, "quick"), ecKey(t, "old")
	asked, release := make(chan struct{}, 10), make(chan struct{})
	r := newRig(t)
	var mu sync.Mutex
	answer := map[string][]byte{"slow": jwks(t, old), "quick": jwks(t, quick)}
	r.apiKeys = func(_ context.Context, c authority.Cluster) ([]byte, error) {
		mu.Lock()
		keys := answer[c.Name]
		mu.Unlock()
		if keys == nil {
			asked <- struct{}{}
			<-release
			return jwks(t, slow), nil
		}
		return keys, nil
	}
	r.use(t, []authority.Cluster{reachable("slow"), reachable("quick")})
	r.accepts(t, old.sign(t, podClaims()))
	mu.Lock()
	answer["slow"] = nil
	mu.Unlock()
	r.clock.pass(interval)

	// Ten wait for the slow one's new key, and cause one request.
	token := slow.sign(t, podClaims())
	results := make(chan error, 10)
	for range 10 {
		go func() {
			_, err := r.Verify(context.Background(), token)
			results <- err
		}()
	}
	<-asked
	// Meanwhile its old key and its neighbour's verify at once, also one that was not known.
	r.accepts(t, old.sign(t, podClaims().with("jti", "2")))
	r.accepts(t, quick.sign(t, podClaims()))
	rotated := ecKey(t, "rotated")
	mu.Lock()
	answer["quick"] = jwks(t, quick, rotated)
	mu.Unlock()
	r.clock.pass(interval)
	if p := r.accepts(t, rotated.sign(t, podClaims())); p.Cluster != "quick" {
		t.Errorf("of %s", p.Cluster)
	}
	select {
	case err := <-results:
		t.Errorf("answered before the keys came: %v", err)
	default:
	}
	close(release)
	for range 10 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if len(asked) != 0 {
		t.Error("the slow one was asked more than once")
	}
}

func TestWhoGivesUpDoesNotStopTheFetch(t *testing.T) {
	k := ecKey(t, "k1")
	asked, release := make(chan struct{}), make(chan struct{})
	r := newRig(t)
	r.apiKeys = func(context.Context, authority.Cluster) ([]byte, error) {
		close(asked)
		<-release
		return jwks(t, k), nil
	}
	r.use(t, []authority.Cluster{reachable("hub")})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	_, err := r.Verify(ctx, k.sign(t, podClaims()))
	var refused *Refusal
	if !errors.As(err, &refused) || !refused.Unavailable {
		t.Errorf("%v", err)
	}
	close(release)
	r.settled(t)
	r.accepts(t, k.sign(t, podClaims()))
	if o := r.origins[0].ring; o.waiting != 0 {
		t.Errorf("%d still wait", o.waiting)
	}
}

func TestOnlySoManyWaitForOneIssuer(t *testing.T) {
	k := ecKey(t, "k1")
	release := make(chan struct{})
	r := newRig(t)
	r.apiKeys = func(context.Context, authority.Cluster) ([]byte, error) { <-release; return jwks(t, k), nil }
	r.use(t, []authority.Cluster{reachable("hub")})
	token := k.sign(t, podClaims())
	results := make(chan error, maxWaiting+1)
	for range maxWaiting + 1 {
		go func() { _, err := r.Verify(context.Background(), token); results <- err }()
	}
	var refused *Refusal
	if err := <-results; !errors.As(err, &refused) || !refused.Unavailable || !errors.Is(err, errBusy) { // whoever came last
		t.Errorf("%v", err)
	}
	close(release)
	for range maxWaiting {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestAnUnknownKidIsAskedForOncePerInterval(t *testing.T) {
	k, next := ecKey(t, "k1"), ecKey(t, "k2")
	r := newRig(t)
	set := jwks(t, k)
	r.apiKeys = func(context.Context, authority.Cluster) ([]byte, error) { return set, nil }
	r.use(t, []authority.Cluster{reachable("hub")})
	r.accepts(t, k.sign(t, podClaims()))
	for i := range 20 {
		r.refuses(t, "an unknown kid", ecKey(t, fmt.Sprint("x", i)).sign(t, podClaims()), notSigned, "not known")
	}
	if n := r.asked.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	r.refuses(t, "a bad signature of a known kid", ecKey(t, "k1").sign(t, podClaims()), notSigned, "signature")
	r.clock.pass(interval)
	r.refuses(t, "a bad signature of a known kid", ecKey(t, "k1").sign(t, podClaims().with("jti", "2")), notSigned, "signature")
	if n := r.asked.Load(); n != 1 {
		t.Errorf("%d requests: a known kid was asked for", n)
	}
	set = jwks(t, k, next) // published a moment ago
	r.accepts(t, next.sign(t, podClaims()))
	if n := r.asked.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
	r.clock.pass(-time.Hour) // a clock that is set back blocks nothing
	r.refuses(t, "an unknown kid", ecKey(t, "y").sign(t, podClaims().with("nbf", 0).with("iat", 0)), notSigned, "not known")
	if n := r.asked.Load(); n != 3 {
		t.Errorf("%d requests", n)
	}
}

func TestMaxAgeHasBounds(t *testing.T) {
	for _, row := range []struct {
		header string
		want   time.Duration
	}{
		{"", defaultAge}, {"max-age=120", 2 * time.Minute}, {"max-age=1", minAge}, {"no-store", minAge}, {"max-age=0", minAge}, {"max-age=86400", maxAge},
	} {
		k := ecKey(t, "k1")
		f := newIssuer(t)
		f.answers("/jwks", string(jwks(t, k)), "Cache-Control", row.header)
		r := newRig(t)
		r.use(t, nil, authority.TrustedIssuer{Name: "fetched", Issuer: githubIssuer, KeysURI: f.URL + "/jwks"})
		fetches := func(want int32) {
			t.Helper()
			r.refresh()
			r.settled(t)
			if n := f.asked.Load(); n != want {
				t.Errorf("%q: %d requests, want %d", row.header, n, want)
			}
		}
		fetches(1)
		r.clock.pass(row.want - time.Second)
		fetches(1)
		r.clock.pass(time.Second)
		fetches(2)
	}
}

func TestKeysThatCannotBeFetchedAgainAreGoodForADay(t *testing.T) {
	k := ecKey(t, "k1")
	r := newRig(t)
	set := jwks(t, k)
	var down error
	r.apiKeys = func(context.Context, authority.Cluster) ([]byte, error) { return set, down }
	r.use(t, []authority.Cluster{reachable("hub")})
	long := podClaims().with("exp", start.Add(24*time.Hour).Unix())
	r.accepts(t, k.sign(t, long))
	down = errors.New("connection refused")
	for range 23 {
		r.clock.pass(time.Hour)
		r.refresh()
		r.settled(t)
	}
	r.accepts(t, k.sign(t, long))
	r.accepts(t, k.sign(t, long.with("jti", "2")))
	if s := r.Status("hub"); s.LastError != "connection refused" || !s.FetchedAt.Equal(start) {
		t.Errorf("%+v", s)
	}
	if n := r.asked.Load(); n != 24 {
		t.Errorf("%d requests", n)
	}
	r.clock.pass(time.Hour)
	r.refuses(t, "keys of yesterday", k.sign(t, long.with("exp", start.Add(25*time.Hour).Unix())), unavailable, "no keys")
	r.refuses(t, "keys of yesterday, a proof that is remembered", k.sign(t, long), unavailable, "no keys")
	if _, err := r.Keys("hub"); err == nil {
		t.Error("the mirror shows keys of yesterday")
	}
	down = nil
	r.clock.pass(interval)
	r.accepts(t, k.sign(t, long.with("exp", start.Add(25*time.Hour).Unix())))
	if s := r.Status("hub"); s.LastError != "" {
		t.Errorf("%+v", s)
	}
}

// A cluster that publishes the key of another gains nothing and takes nothing.
func TestAKeyThatShowsASecondTimeVerifiesNothingThere(t *testing.T) {
	k, own := ecKey(t, "k1"), ecKey(t, "own")
	r := newRig(t)
	sets := map[string][]byte{"hub": jwks(t, k), "liar": jwks(t, own)}
	r.apiKeys = func(_ context.Context, c authority.Cluster) ([]byte, error) { return sets[c.Name], nil }
	fetch := func() {
		r.clock.pass(defaultAge)
		r.refresh()
		r.settled(t)
	}
	token := func(id string) string { return k.sign(t, podClaims().with("jti", id)) }
	hub, liar := reachable("hub"), reachable("liar")
	for _, order := range [][]authority.Cluster{{hub, liar}, {liar, hub}} {
		sets["liar"] = jwks(t, own)
		r.use(t, nil)
		r.use(t, order)
		fetch()
		sets["liar"] = jwks(t, own, k)
		fetch()
		if p := r.accepts(t, token("1")); p.Cluster != "hub" {
			t.Errorf("of %s", p.Cluster)
		}
		if s := r.Status("liar"); len(s.KeyIDs) != 1 || !strings.Contains(s.LastError, "k1") {
			t.Errorf("%+v", s)
		}
		if p := r.accepts(t, own.sign(t, podClaims())); p.Cluster != "liar" {
			t.Errorf("of %s", p.Cluster)
		}
		if text, _ := r.Keys("liar"); strings.Contains(string(text), "k1") {
			t.Error("the mirror of the liar shows it")
		}
		fetch() // once more: the first one stays the first
		if p := r.accepts(t, token("2")); p.Cluster != "hub" {
			t.Errorf("of %s", p.Cluster)
		}
	}
	// The liar was first; then the key is pasted where it belongs.
	r.use(t, []authority.Cluster{liar})
	r.accepts(t, token("3"))
	r.use(t, []authority.Cluster{liar, cluster("hub", jwks(t, k))})
	for _, id := range []string{"3", "4"} { // one of which was remembered as the liar's
		if p := r.accepts(t, token(id)); p.Cluster != "hub" {
			t.Errorf("%s is of %s", id, p.Cluster)
		}
	}
	// An issuer's key is nothing in a cluster either.
	r.use(t, []authority.Cluster{liar}, github(jwks(t, k)))
	r.refuses(t, "an issuer's key in a cluster", token("5"), notSigned, "not known")
}

func TestWithoutAClientNothingIsFetched(t *testing.T) {
	k := ecKey(t, "k1")
	v := New(Options{Issuer: ours, Now: (&clock{}).now, Log: newRig(t).Log})
	if err := v.Use([]authority.Cluster{reachable("hub"), cluster("pasted", jwks(t, k))}, []authority.TrustedIssuer{{Name: "github", Issuer: githubIssuer}}); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), k.sign(t, podClaims())); err != nil {
		t.Error(err)
	}
	for _, token := range []string{ecKey(t, "k2").sign(t, podClaims()), k.sign(t, jobClaims())} {
		var refused *Refusal
		if _, err := v.Verify(t.Context(), token); !errors.As(err, &refused) || !refused.Unavailable {
			t.Errorf("%v", err)
		}
	}
	if s := v.Status("hub"); !strings.Contains(s.LastError, "paste") {
		t.Errorf("%+v", s)
	}
}

func TestRunFetchesWhatIsRegistered(t *testing.T) {
	k := ecKey(t, "k1")
	f := newIssuer(t)
	f.answers("/jwks", string(jwks(t, k)))
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	r.use(t, nil, authority.TrustedIssuer{Name: "fetched", Issuer: githubIssuer, KeysURI: f.URL + "/jwks"})
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if len(r.IssuerStatus("fetched").KeyIDs) > 0 {
			break
		}
		<-changed
	}
	cancel()
	<-done
}

// Verify under load, while keys rotate, the registration changes and liars lie: for the race detector, and so that nobody is ever
// taken for another.
func TestVerifyWhileEverythingChanges(t *testing.T) {
	a, b := ecKey(t, "k"), ecKey(t, "k")
	r := newRig(t)
	r.apiKeys = func(_ context.Context, c authority.Cluster) ([]byte, error) {
		if c.Name == "a" {
			return jwks(t, a), nil
		}
		return jwks(t, b), nil
	}
	both := []authority.Cluster{reachable("a"), reachable("b")}
	r.use(t, both)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 200 {
				k, want := a, "a"
				if i%2 == 1 {
					k, want = b, "b"
				}
				proof, err := r.Verify(context.Background(), k.sign(t, podClaims().with("jti", fmt.Sprint(i%7))))
				if err == nil && proof.Cluster != want {
					t.Errorf("%s taken for %s", want, proof.Cluster)
				}
			}
		})
	}
	for i := range 100 {
		r.clock.pass(time.Second)
		r.refresh()
		r.Status("a")
		if i%10 == 0 {
			r.use(t, both[:1+i/10%2])
		}
	}
	group.Wait()
}

func FuzzVerify(f *testing.F) {
	// Nothing random: every process that fuzzes must have the same keys.
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{4}, 32))
	if err != nil {
		f.Fatal(err)
	}
	signer, err := jose.NewSigner("k1", jose.ES256, "", private)
	if err != nil {
		f.Fatal(err)
	}
	k := key{signer}
	r := newRig(f)
	r.use(f, []authority.Cluster{cluster("hub", jwks(f, k))}, trustDomain([]byte(`{"keys":[{"use":"jwt-svid","kty":"OKP","crv":"Ed25519","kid":"s1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`)))
	good := k.sign(f, podClaims())
	for _, token := range []string{"", "e30.e30.", good, k.sign(f, svidClaims()), forge(`{"alg":"none","kid":"k1"}`, podClaims().text(), nil)} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		proof, err := r.Verify(t.Context(), token)
		if err == nil && token != good {
			t.Errorf("%q: %+v", token, proof)
		}
		var refused *Refusal
		if err != nil && (!errors.As(err, &refused) || refused.Unavailable) {
			t.Errorf("%q: %v", token, err)
		}
	})
}

// What a key that we trust has signed, its owner chose: it must not make a proof that reads like another's.
func FuzzClaims(f *testing.F) {
	hub := &origin{kind: kubernetes, iss: clusterIssuer, cluster: authority.Cluster{Name: "hub"}, accepts: authority.Cluster{}.Accepts}
	prod := &origin{kind: spiffe, iss: "spiffe://prod.example.com", issuer: trustDomain(nil), accepts: authority.TrustedIssuer{}.Accepts}
	f.Add([]byte(podClaims().text()))
	f.Add([]byte(podClaims().in("namespace", "a:sa:b").text()))
	f.Add([]byte(svidClaims().text()))
	f.Add([]byte(`{"iss":"` + clusterIssuer + `","aud":["` + ours + `"],"exp":1e9,"kubernetes.io":{"pod":null}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		claims, err := jose.ParseClaims(payload)
		if err != nil {
			return
		}
		if p, refused := hub.read(claims, ours, start); refused == nil {
			if p.Cluster != "hub" || p.Subject != "system:serviceaccount:"+p.Namespace+":"+p.ServiceAccount || p.Check() != nil ||
				p.Audience[0] != ours || strings.Count(p.WorkloadID(), ":") != 5 {
				t.Errorf("%s: %+v", payload, p)
			}
		}
		if p, refused := prod.read(claims, ours, start); refused == nil {
			if p.Cluster != "" || !strings.HasPrefix(p.WorkloadID(), "issuer:prod:spiffe://prod.example.com/") || p.Check() != nil {
				t.Errorf("%s: %+v", payload, p)
			}
		}
	})
}

func BenchmarkVerifyFirstTime(b *testing.B) {
	for name, k := range map[string]key{"RS256": rsaKey(b, "k1", jose.RS256, ""), "ES256": ecKey(b, "k1")} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b)
			r.use(b, []authority.Cluster{cluster("hub", jwks(b, k))})
			tokens := make([]string, b.N)
			for i := range tokens {
				tokens[i] = k.sign(b, podClaims().with("jti", fmt.Sprint(i)))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for _, token := range tokens {
				if _, err := r.Verify(context.Background(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSignatureAlone is what the first time is compared with.
func BenchmarkSignatureAlone(b *testing.B) {
	k := rsaKey(b, "k1", jose.RS256, "")
	token := k.sign(b, podClaims())
	for b.Loop() {
		if _, err := jose.Verify(token, expects[kubernetes], func(string, jose.Algorithm) (jose.PublicKey, bool) { return k.PublicKey(), true }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyAgain(b *testing.B) {
	k := rsaKey(b, "k1", jose.RS256, "")
	r := newRig(b)
	r.use(b, []authority.Cluster{cluster("hub", jwks(b, k))})
	token := k.sign(b, podClaims())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Verify(context.Background(), token); err != nil {
			b.Fatal(err)
		}
	}
}
