package issue

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/seal"
)

const (
	testIssuer = "https://sts.example.com"
	testAPI    = "https://api.example.com"
)

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 300e6, time.UTC)

// bench is an issuer and a reader over the same keys.
type bench struct {
	*Issuer
	*Reader
	private    crypto.Signer
	now        time.Time
	user       authority.User
	userErr    error
	deadGrant  bool
	dead       map[authority.ID]bool
	journalErr error
	readyErr   error
	steps      []string // what happened, in order
	events     []authority.Event
}

func newBench(t testing.TB) *bench {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return benchOf(t, private)
}

func benchOf(t testing.TB, private *ecdsa.PrivateKey) *bench {
	t.Helper()
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{private: private, now: testNow, dead: map[authority.ID]bool{}, user: authority.User{
		ID: "ada-id", Username: "ada", Name: "Ada", Email: "ada@example.com", EmailVerified: true, UpdatedAt: testNow.Add(-time.Hour),
	}}
	public, err := jose.NewPublicKey("k1", jose.ES256, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	box := seal.NewBox([32]byte{1}, "access token")
	isDead := func(l authority.Lineage) bool {
		return b.deadGrant || b.dead[l.TokenID] || b.dead[l.GrantID] || b.dead[l.SessionID]
	}
	b.Issuer = &Issuer{
		Settings: func() authority.Issuer {
			return authority.Issuer{URL: testIssuer, AccessTTL: 5 * time.Minute, IDTTL: 4 * time.Minute}
		},
		User: func(context.Context, string) (authority.User, error) {
			b.steps = append(b.steps, "user")
			return b.user, b.userErr
		},
		Revoked: func(l authority.Lineage) bool { b.steps = append(b.steps, "dead"); return isDead(l) },
		Signer: func(alg jose.Algorithm, typ string) (*jose.Signer, error) {
			b.steps = append(b.steps, "sign "+typ)
			if alg == jose.EdDSA {
				return jose.NewSigner("ed", jose.EdDSA, typ, edKey)
			}
			return jose.NewSigner("k1", jose.ES256, typ, private)
		},
		Opaque: box,
		Record: func(_ context.Context, e authority.Event) error {
			b.steps = append(b.steps, "journal")
			b.events = append(b.events, e)
			return b.journalErr
		},
		Recordable: func() error { b.steps = append(b.steps, "ready"); return b.readyErr },
	}
	b.Reader = NewReader(testIssuer, func(kid string, alg jose.Algorithm) (jose.PublicKey, bool) {
		return public, kid == "k1" && alg == jose.ES256
	}, box, isDead, func() time.Time { return b.now })
	return b
}

// decision is a good decision about a person's tokens.
func (b *bench) decision() authority.Authorization {
	signedIn := testNow.Add(-time.Minute)
	grant := authority.Grant{
		ID: authority.NewID(testNow), ClientID: "web", Subject: authority.Subject{Issuer: testIssuer, ID: "ada-id", Kind: authority.SubjectUser},
		Scopes: oauth.MustScopes("openid", "email", "read"), SessionID: authority.NewID(signedIn), AuthTime: signedIn, AMR: []string{"pwd"}, Nonce: "n-0S6",
		State: authority.GrantActive, CreatedAt: testNow, ExpiresAt: testNow.Add(24 * time.Hour),
	}
	return authority.Authorization{
		GrantType: oauth.AuthorizationCode, Client: authority.Client{ID: "web"}, Grant: grant, At: testNow, IDToken: true, RefreshToken: "the refresh token",
		Target: authority.Target{Scopes: oauth.MustScopes("openid", "read"), Resources: []authority.Resource{{ID: testAPI, Format: authority.FormatJWT}}},
		Spend:  func(context.Context) error { b.steps = append(b.steps, "spend"); return nil },
	}
}

func payload(t *testing.T, token string) map[string]any {
	t.Helper()
	_, claims, err := jose.InspectUnverified(token)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(claims.JSON(), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func (b *bench) issue(t *testing.T, a authority.Authorization) Response {
	t.Helper()
	r, err := b.Issue(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestIssueInOrder(t *testing.T) {
	b := newBench(t)
	a := b.decision()
	r := b.issue(t, a)
	want := []string{"user", "dead", "sign at+jwt", "sign JWT", "ready", "spend", "journal"}
	if !slices.Equal(b.steps, want) {
		t.Fatalf("%q, want %q", b.steps, want)
	}
	if r.TokenType != "Bearer" || r.ExpiresIn != 300 || r.RefreshToken != "the refresh token" || r.Scope != "openid read" {
		t.Errorf("%+v", r)
	}
	e := b.events[0]
	claims := payload(t, r.AccessToken)
	if e.Type != authority.EventTokenIssued || e.TokenID.String() != claims["jti"] || e.GrantID != a.Grant.ID || e.ClientID != "web" || e.Subject != a.Grant.Subject ||
		e.TokenHash != HashOf(r.AccessToken) || e.Scope != "openid read" || !slices.Equal(e.Audience, []string{testAPI, testIssuer}) || float64(e.ExpiresAt.Unix()) != claims["exp"] {
		t.Errorf("promise 2: the journal tells another story: %+v of %v", e, claims)
	}
	for _, secret := range []string{r.AccessToken, r.IDToken, r.RefreshToken, strings.Split(r.AccessToken, ".")[2]} {
		if strings.Contains(fmt.Sprintf("%+v", e), secret) {
			t.Error("114: a value is in the journal")
		}
	}
}

func TestIssueToACallerWhoHangsUp(t *testing.T) {
	b := newBench(t)
	ctx, hangUp := context.WithCancel(t.Context())
	alive := func(ctx context.Context) error {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("nothing bounds the wait")
		}
		return ctx.Err()
	}
	a := b.decision()
	a.Spend = func(ctx context.Context) error {
		hangUp()
		return alive(ctx)
	}
	record := b.Record
	b.Record = func(ctx context.Context, e authority.Event) error { return errors.Join(alive(ctx), record(ctx, e)) }
	if _, err := b.Issue(ctx, a); err != nil || len(b.events) != 1 {
		t.Fatalf("what was spent was not recorded: %v, %d events", err, len(b.events))
	}
	a.Spend = func(context.Context) error { t.Error("spent for a caller who was gone before"); return nil }
	if r, err := b.Issue(ctx, a); !errors.Is(err, context.Canceled) || r != (Response{}) || len(b.events) != 1 {
		t.Fatalf("%+v, %v, %d events", r, err, len(b.events))
	}
}

// What is refused or fails hands out nothing; what fails before Spend has
// changed nothing (69).
func TestIssueRefuses(t *testing.T) {
	down := errors.New("the disk is gone")
	for _, row := range []struct {
		name    string
		change  func(*bench, *authority.Authorization)
		want    oauth.Code
		spent   bool
		journal bool
	}{
		{"42: the client is disabled", func(_ *bench, a *authority.Authorization) { a.Client.Disabled = true }, oauth.InvalidClient, false, false},
		{"70: the user is disabled", func(b *bench, _ *authority.Authorization) { b.user.Disabled = true }, oauth.InvalidGrant, false, false},
		{"70: the user is gone", func(b *bench, _ *authority.Authorization) { b.userErr = authority.ErrNotFound }, oauth.InvalidGrant, false, false},
		{"69: the user cannot be read", func(b *bench, _ *authority.Authorization) { b.userErr = down }, oauth.TemporarilyUnavailable, false, false},
		{"68: the grant has been revoked", func(b *bench, _ *authority.Authorization) { b.deadGrant = true }, oauth.InvalidGrant, false, false},
		{"the session has ended", func(b *bench, a *authority.Authorization) { b.dead[a.Grant.SessionID] = true }, oauth.InvalidGrant, false, false},
		{"there is no key", func(b *bench, _ *authority.Authorization) {
			b.Signer = func(jose.Algorithm, string) (*jose.Signer, error) { return nil, down }
		}, oauth.TemporarilyUnavailable, false, false},
		{"there is no key for the ID token", func(b *bench, a *authority.Authorization) {
			a.Client.IDTokenAlg = "RS256"
			signer := b.Signer
			b.Signer = func(alg jose.Algorithm, typ string) (*jose.Signer, error) {
				if alg == jose.RS256 {
					return nil, down
				}
				return signer(alg, typ)
			}
		}, oauth.TemporarilyUnavailable, false, false},
		{"the journal is known to be broken", func(b *bench, _ *authority.Authorization) { b.readyErr = down }, oauth.TemporarilyUnavailable, false, false},
		{"27: it has been spent", func(b *bench, a *authority.Authorization) {
			a.Spend = func(context.Context) error { return oauth.Errorf(oauth.InvalidGrant, "spent") }
		}, oauth.InvalidGrant, false, false},
		{"promise 2: the journal fails", func(b *bench, _ *authority.Authorization) { b.journalErr = down }, oauth.TemporarilyUnavailable, true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t)
			a := b.decision()
			row.change(b, &a)
			r, err := b.Issue(t.Context(), a)
			if err == nil || oauth.AsError(err).Code != row.want || r != (Response{}) {
				t.Fatalf("%+v %v", r, err)
			}
			if slices.Contains(b.steps, "spend") != row.spent || slices.Contains(b.steps, "journal") != row.journal {
				t.Fatalf("%q", b.steps)
			}
		})
	}
}

func TestAccessTokenClaims(t *testing.T) { // RFC 9068 §2.2
	b := newBench(t)
	a := b.decision()
	r := b.issue(t, a)
	header, _, err := jose.InspectUnverified(r.AccessToken)
	if err != nil || header.Type != "at+jwt" || header.KeyID != "k1" || header.Algorithm != jose.ES256 {
		t.Fatalf("%+v %v", header, err)
	}
	got := payload(t, r.AccessToken)
	want := map[string]any{
		"iss": testIssuer, "sub": "ada-id", "aud": []any{testAPI, testIssuer}, "client_id": "web", "scope": "openid read",
		"iat": float64(testNow.Unix()), "nbf": float64(testNow.Unix()), "exp": float64(testNow.Unix() + 300), "jti": got["jti"], "grant_id": a.Grant.ID.String(),
		"sid": a.Grant.SessionID.String(), "auth_time": float64(testNow.Unix() - 60), "amr": []any{"pwd"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if second := payload(t, b.issue(t, a).AccessToken); second["jti"] == got["jti"] {
		t.Error("two tokens have one jti")
	}
	for _, row := range []struct {
		name   string
		change func(*authority.Authorization)
		claim  string
		want   any
	}{
		{"one audience is a string", func(a *authority.Authorization) { a.Target.Scopes = oauth.MustScopes("read") }, "aud", testAPI},
		{"no resource: the issuer alone", func(a *authority.Authorization) { a.Target.Resources = nil }, "aud", testIssuer},
		{"no token outlives its grant", func(a *authority.Authorization) { a.Grant.ExpiresAt = testNow.Add(time.Minute) }, "exp", float64(testNow.Add(time.Minute).Unix())},
		{"a grant that outlives its session has no sid", func(a *authority.Authorization) {
			a.Grant.Scopes = a.Grant.Scopes.Union(oauth.MustScopes("offline_access"))
		}, "sid", nil},
		{"no scope", func(a *authority.Authorization) { a.Target.Scopes = oauth.Scopes{} }, "scope", nil},
		{"no sign-in", func(a *authority.Authorization) { a.Grant.AuthTime = time.Time{} }, "auth_time", nil},
		{"a resource's own lifetime", func(a *authority.Authorization) { a.Target.Resources[0].AccessTTL = time.Minute }, "exp", float64(testNow.Unix() + 60)},
	} {
		a := b.decision()
		row.change(&a)
		r := b.issue(t, a)
		claims := payload(t, r.AccessToken)
		if claims[row.claim] != row.want {
			t.Errorf("%s: %s is %v, want %v", row.name, row.claim, claims[row.claim], row.want)
		}
		if claims["exp"].(float64) != float64(testNow.Unix()+r.ExpiresIn) {
			t.Errorf("%s: expires_in is %d", row.name, r.ExpiresIn)
		}
	}
}

func TestIDTokenClaims(t *testing.T) { // OpenID Connect Core §2
	b := newBench(t)
	a := b.decision()
	a.Target.Scopes = oauth.MustScopes("openid", "email", "profile", "read")
	r := b.issue(t, a)
	got := payload(t, r.IDToken)
	sum := sha256.Sum256([]byte(r.AccessToken))
	want := map[string]any{
		"iss": testIssuer, "sub": "ada-id", "aud": "web", "iat": float64(testNow.Unix()), "exp": float64(testNow.Unix() + 240), "auth_time": float64(testNow.Unix() - 60),
		"nonce": "n-0S6", "sid": a.Grant.SessionID.String(), "amr": []any{"pwd"}, "at_hash": base64.RawURLEncoding.EncodeToString(sum[:16]),
		"name": "Ada", "preferred_username": "ada", "updated_at": float64(testNow.Unix() - 3600), "email": "ada@example.com", "email_verified": true,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	a.Client.IDTokenAlg, a.Target.Scopes = "EdDSA", oauth.MustScopes("openid")
	r = b.issue(t, a)
	header, _, _ := jose.InspectUnverified(r.IDToken)
	sum512 := sha512.Sum512([]byte(r.AccessToken))
	claims := payload(t, r.IDToken)
	if header.Algorithm != jose.EdDSA || header.Type != "JWT" || claims["at_hash"] != base64.RawURLEncoding.EncodeToString(sum512[:32]) {
		t.Errorf("%+v %v", header, claims)
	}
	for _, name := range []string{"email", "email_verified", "name", "preferred_username", "updated_at"} {
		if claims[name] != nil {
			t.Errorf("%s without its scope", name)
		}
	}
	a.IDToken = false
	if r := b.issue(t, a); r.IDToken != "" {
		t.Error("an ID token that nobody asked for")
	}
	b.user.Email = ""
	a.Target.Scopes = oauth.MustScopes("openid", "email")
	if p := ProfileOf(b.user, a.Target.Scopes); p.Email != "" || p.EmailVerified != nil {
		t.Error("email_verified without an address")
	}
}

func TestOpaqueAccessTokens(t *testing.T) {
	b := newBench(t)
	a := b.decision()
	a.Target.Resources[0].Format = authority.FormatOpaque
	token := b.issue(t, a).AccessToken
	if !strings.HasPrefix(token, string(oauth.PrefixAccessToken)) || strings.Contains(token, ".") {
		t.Fatalf("%q", token)
	}
	live, err := b.Live(token)
	if err != nil || live.Lineage.GrantID != a.Grant.ID || live.Lineage.KeyID != "" || !live.GoodAt(testAPI) || live.GoodAt("https://other.example.com") || live.GoodAt("") {
		t.Fatalf("%+v %v", live, err)
	}
	other := NewReader(testIssuer, nil, seal.NewBox([32]byte{1}, "another purpose"), func(authority.Lineage) bool { return false }, func() time.Time { return testNow })
	if _, err := other.Live(token); err == nil {
		t.Error("a value that was sealed for another purpose is an access token")
	}
}

func TestLive(t *testing.T) {
	b := newBench(t)
	a := b.decision()
	token := b.issue(t, a).AccessToken
	first, err := b.Live(token)
	if err != nil {
		t.Fatal(err)
	}
	l := first.Lineage
	if l.GrantID != a.Grant.ID || l.SessionID != a.Grant.SessionID || l.KeyID != "k1" || l.ClientID != "web" || l.Subject != a.Grant.Subject ||
		!l.Granted.Equal(testNow) || !l.SignedIn.Equal(testNow.Add(-time.Minute)) || first.Scopes.String() != "openid read" {
		t.Errorf("%+v", first)
	}
	// A token that was read before is asked about again: only its signature is remembered.
	for name, id := range map[string]authority.ID{"jti": l.TokenID, "grant": l.GrantID, "session": l.SessionID} {
		b.dead[id] = true
		if _, err := b.Live(token); !errors.Is(err, errDead) {
			t.Errorf("the %s has ended: %v", name, err)
		}
		delete(b.dead, id)
	}
	b.now = first.Expires.Add(-time.Nanosecond)
	if _, err := b.Live(token); err != nil {
		t.Errorf("its last moment: %v", err)
	}
	b.now = first.Expires
	if _, err := b.Live(token); !errors.Is(err, errOver) {
		t.Errorf("it is over: %v", err)
	}
	if _, err := newBenchAt(t, b, first.Expires).Live(token); !errors.Is(err, errOver) {
		t.Errorf("it is over, read for the first time within what clocks may differ: %v", err)
	}
}

// newBenchAt is a reader of the same keys that has read nothing yet.
func newBenchAt(t *testing.T, b *bench, now time.Time) *Reader {
	t.Helper()
	public, err := jose.NewPublicKey("k1", jose.ES256, b.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return NewReader(testIssuer, jose.KeySet{public}.Find, b.Opaque, func(authority.Lineage) bool { return false }, func() time.Time { return now })
}

func TestReaderRefuses(t *testing.T) {
	b := newBench(t)
	r := b.issue(t, b.decision())
	good := payload(t, r.AccessToken)
	with := func(pairs ...any) map[string]any {
		claims := maps.Clone(good)
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i+1] == nil {
				delete(claims, pairs[i].(string))
			} else {
				claims[pairs[i].(string)] = pairs[i+1]
			}
		}
		return claims
	}
	sign := func(kid, typ string, key crypto.Signer, claims map[string]any) string {
		signer, err := jose.NewSigner(kid, jose.ES256, typ, key)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := json.Marshal(claims)
		token, err := signer.Sign(body)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	ours := func(claims map[string]any) string { return sign("k1", "at+jwt", b.private, claims) }
	opaque := func(claims map[string]any, until time.Duration) string {
		body, _ := json.Marshal(claims)
		return oauth.EncodeOpaque(oauth.PrefixAccessToken, b.Opaque.Seal(body, testNow.Add(until)))
	}
	stranger := newBench(t)
	in := func(d time.Duration) int64 { return testNow.Add(d).Unix() }
	for _, row := range []struct {
		name, token string
		ok          bool
	}{
		{"as we sign it", ours(with()), true},
		{"as we seal it", opaque(with(), time.Hour), true},
		{"without a scope", ours(with("scope", nil)), true},
		{"without a session", ours(with("sid", nil)), true},
		{"without a sign-in", ours(with("sid", nil, "auth_time", nil)), true},
		{"59: an ID token", r.IDToken, false},
		{"59: an access token's claims under an ID token's type", sign("k1", "JWT", b.private, with()), false},
		{"59: without a type", sign("k1", "", b.private, with()), false},
		{"59: a checkpoint of the journal", sign("k1", "signalbox-journal+jwt", b.private, with()), false},
		{"another issuer", ours(with("iss", "https://evil.example")), false},
		{"the issuer with a slash", ours(with("iss", testIssuer+"/")), false},
		{"another issuer, sealed", opaque(with("iss", "https://evil.example"), time.Hour), false},
		{"60: no iss", ours(with("iss", nil)), false},
		{"60: no exp", ours(with("exp", nil)), false},
		{"60: no aud", ours(with("aud", nil)), false},
		{"60: no audience in aud", ours(with("aud", []string{})), false},
		{"60: a number in aud", ours(with("aud", []any{testAPI, 7})), false},
		{"60: an object as aud", ours(with("aud", map[string]any{"a": testAPI})), false},
		{"no sub", ours(with("sub", nil)), false},
		{"an empty sub", ours(with("sub", "")), false},
		{"no client_id", ours(with("client_id", nil)), false},
		{"no jti", ours(with("jti", nil)), false},
		{"a jti that is no id of ours", ours(with("jti", "x")), false},
		{"no grant_id", ours(with("grant_id", nil)), false},
		{"a grant_id that is no id of ours", ours(with("grant_id", "00000000-0000-0000-0000-000000000000")), false},
		{"a sid that is no id of ours", ours(with("sid", "x")), false},
		{"a number as sid", ours(with("sid", 7)), false},
		{"an array as scope", ours(with("scope", []string{"read"})), false},
		{"a scope with a line break", ours(with("scope", "read\nadmin")), false},
		{"61: exp as text", ours(with("exp", fmt.Sprint(in(time.Minute)))), false},
		{"61: auth_time as text", ours(with("sid", nil, "auth_time", "now")), false},
		{"expired", ours(with("exp", in(-time.Second))), false},
		{"expired, sealed", opaque(with("exp", in(-time.Second)), time.Hour), false},
		{"the seal is over", opaque(with(), -time.Second), false},
		{"61: nbf a minute ahead", ours(with("nbf", in(time.Minute))), false},
		{"61: iat a minute ahead", ours(with("iat", in(time.Minute))), false},
		{"47: an unknown kid", sign("k2", "at+jwt", b.private, with()), false},
		{"no kid", sign("", "at+jwt", b.private, with()), false},
		{"a stranger's key under our kid", sign("k1", "at+jwt", stranger.private, with()), false},
		{"a token in the prefix of an opaque one", string(oauth.PrefixAccessToken) + ours(with()), false},
		{"sealed by another service", oauth.EncodeOpaque(oauth.PrefixAccessToken, seal.NewBox([32]byte{2}, "access token").Seal([]byte("{}"), testNow.Add(time.Hour))), false},
		{"a sealed value that is not JSON", oauth.EncodeOpaque(oauth.PrefixAccessToken, b.Opaque.Seal([]byte("x"), testNow.Add(time.Hour))), false},
		{"a refresh token", oauth.EncodeOpaque(oauth.PrefixRefreshToken, make([]byte, 68)), false},
		{"nothing", "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			for range 2 { // the second time a cache may answer
				if token, err := b.Live(row.token); (err == nil) != row.ok || (token == nil) == row.ok {
					t.Fatalf("%+v %v", token, err)
				}
			}
		})
	}
}

func TestSubjectKind(t *testing.T) {
	b := newBench(t)
	a := b.decision()
	a.Grant.Subject, a.IDToken = authority.Subject{Issuer: testIssuer, ID: "web", Kind: authority.SubjectClient}, false
	a.Grant.AuthTime, a.Grant.SessionID, a.Grant.AMR = time.Time{}, authority.ID{}, nil
	b.userErr = authority.ErrNotFound // a client is no user
	live, err := b.Live(b.issue(t, a).AccessToken)
	if err != nil || live.Lineage.Subject != a.Grant.Subject || !live.Lineage.SignedIn.IsZero() || !live.Lineage.SessionID.IsZero() {
		t.Fatalf("%+v %v", live, err)
	}
}

func TestLineageOfAGrant(t *testing.T) {
	b := newBench(t)
	g := b.decision().Grant
	if l := LineageOf(g); l.SessionID != g.SessionID || l.GrantID != g.ID || l.ClientID != "web" || l.Subject != g.Subject || !l.Granted.Equal(g.CreatedAt) || !l.SignedIn.Equal(g.AuthTime) || !l.TokenID.IsZero() {
		t.Errorf("%+v", l)
	}
	g.Scopes = oauth.MustScopes("openid", "offline_access")
	if l := LineageOf(g); !l.SessionID.IsZero() {
		t.Error("OpenID Connect Core §11: a grant with offline_access dies with the browser")
	}
	g.ID = authority.NewID(g.CreatedAt.Add(-time.Minute))
	if l := LineageOf(g); !l.Granted.Equal(g.ID.Time()) {
		t.Error("a grant is as old as its id, which stands in every token")
	}
}

func TestHashOfIsNoValue(t *testing.T) {
	sum := sha256.Sum256([]byte("token"))
	if got := HashOf("token"); got != fmt.Sprintf("%x", sum[:16]) || HashOf("token2") == got {
		t.Errorf("%s", got)
	}
}

// FuzzAccessToken: nothing but what we signed or sealed is alive, whatever the
// attacker makes of it, and looking never panics.
func FuzzAccessToken(f *testing.F) {
	// Nothing random: every process that fuzzes must have the same keys.
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), slices.Repeat([]byte{4}, 32))
	if err != nil {
		f.Fatal(err)
	}
	b := benchOf(f, private)
	const id = "019ca946-8d2c-7000-8000-000000000001"
	body := []byte(`{"iss":"` + testIssuer + `","sub":"ada-id","aud":"` + testAPI + `","client_id":"web","exp":1772366700,"jti":"` + id + `","grant_id":"` + id + `"}`)
	signer, err := b.Signer("", oauth.TypAccessToken)
	if err != nil {
		f.Fatal(err)
	}
	signed, err := signer.Sign(body)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := b.Live(signed); err != nil {
		f.Fatal(err)
	}
	header, rest, _ := strings.Cut(signed, ".")
	_, signature, _ := strings.Cut(rest, ".")
	f.Add(signed, []byte(`{"alg":"ES256","typ":"at+jwt","kid":"k1"}`), body)
	f.Add("sbx_at_AAAA", []byte(`{"alg":"none","typ":"at+jwt"}`), body)
	f.Add(signed+"=", []byte(`{"alg":"HS256","typ":"at+jwt","kid":"k1"}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, raw string, forgedHeader, forgedBody []byte) {
		encode := base64.RawURLEncoding.EncodeToString
		for _, token := range []string{
			raw,
			header + "." + encode(forgedBody) + "." + signature,
			encode(forgedHeader) + "." + rest,
			encode(forgedHeader) + "." + encode(forgedBody) + ".",
			oauth.EncodeOpaque(oauth.PrefixAccessToken, forgedBody),
		} {
			if live, err := b.Live(token); err == nil && token != signed {
				t.Fatalf("%q is alive: %+v", token, live)
			}
		}
	})
}
