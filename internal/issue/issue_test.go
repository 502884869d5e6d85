package issue

import (
	"bytes"
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
	"reflect"
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
	revoked    map[string]bool // keys of links
	journalErr error
	staleErr   error
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
	b := &bench{private: private, now: testNow, revoked: map[string]bool{}, user: authority.User{
		ID: "ada-id", Username: "ada", Name: "Ada", Email: "ada@example.com", EmailVerified: true, UpdatedAt: testNow.Add(-time.Hour),
	}}
	public, err := jose.NewPublicKey("k1", jose.ES256, private.Public())
	if err != nil {
		t.Fatal(err)
	}
	box := seal.NewBox([32]byte{1}, "access token")
	revoked := func(links []authority.Link) bool {
		return slices.ContainsFunc(links, func(l authority.Link) bool { return b.revoked[l.Key] })
	}
	b.Issuer = &Issuer{
		Settings: func() authority.Issuer {
			return authority.Issuer{URL: testIssuer, AccessTTL: 5 * time.Minute, IDTTL: 4 * time.Minute}
		},
		Account: func(context.Context, authority.Subject) (authority.User, error) {
			b.steps = append(b.steps, "account")
			return b.user, b.userErr
		},
		Revoked: func(links []authority.Link) bool {
			b.steps = append(b.steps, "revoked")
			return revoked(links)
		},
		Signer: func(alg jose.Algorithm, typ string) (*jose.Signer, error) {
			b.steps = append(b.steps, "sign "+typ)
			if alg == jose.EdDSA {
				return jose.NewSigner("ed", jose.EdDSA, typ, edKey)
			}
			return jose.NewSigner("k1", jose.ES256, typ, private)
		},
		ClusterSigner: func(typ string) (*jose.Signer, error) {
			return jose.NewSigner("for-clusters", jose.ES256, typ, private)
		},
		Opaque: box,
		Record: func(_ context.Context, e authority.Event) error {
			b.steps = append(b.steps, "journal")
			b.events = append(b.events, e)
			return b.journalErr
		},
	}
	b.Reader = NewReader(Checks{
		Issuer: testIssuer, Opaque: box, Revoked: revoked, Now: func() time.Time { return b.now },
		Find: func(kid string, alg jose.Algorithm) (jose.PublicKey, bool) {
			return public, kid == "k1" && alg == jose.ES256
		},
		Fresh: func() error { return b.staleErr },
		Alive: func(context.Context, string, authority.Subject) (authority.User, error) { return b.user, b.userErr },
	})
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
	grant.Evidence = authority.SessionEvidence(grant.SessionID)
	return authority.Authorization{
		GrantType: oauth.AuthorizationCode, Client: authority.Client{ID: "web"}, Grant: grant, At: testNow, IDToken: true, RefreshToken: oauth.SecretOf("the refresh token"),
		Target: authority.Target{Scopes: oauth.MustScopes("openid", "read"), Resources: []authority.Resource{{ID: testAPI, Format: authority.FormatJWT}}},
		Format: authority.FormatJWT, Life: 5 * time.Minute,
	}
}

func (b *bench) spend(context.Context) error { b.steps = append(b.steps, "spend"); return nil }

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
	r, err := b.Issue(t.Context(), a, b.spend)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestIssueInOrder(t *testing.T) {
	b := newBench(t)
	a := b.decision()
	r := b.issue(t, a)
	want := []string{"account", "revoked", "sign at+jwt", "sign JWT", "journal", "spend"}
	if !slices.Equal(b.steps, want) {
		t.Fatalf("%q, want %q", b.steps, want)
	}
	if r.TokenType != "Bearer" || r.ExpiresIn != 300 || r.RefreshToken.Reveal() != "the refresh token" || r.Scope != "openid read" {
		t.Errorf("%+v", r)
	}
	e := b.events[0]
	claims := payload(t, r.AccessToken)
	if e.Type != authority.EventTokenIssued || e.TokenID.String() != claims["jti"] || e.GrantID != a.Grant.ID || e.ClientID != "web" || e.Subject != a.Grant.Subject ||
		e.TokenHash != HashOf(r.AccessToken) || e.Scope != "openid read" || !slices.Equal(e.Audience, []string{testAPI, testIssuer}) || float64(e.ExpiresAt.Unix()) != claims["exp"] {
		t.Errorf("promise 2: the journal tells another story: %+v of %v", e, claims)
	}
	for _, secret := range []string{r.AccessToken, r.IDToken, r.RefreshToken.Reveal(), strings.Split(r.AccessToken, ".")[2]} {
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
	record := b.Record
	b.Record = func(ctx context.Context, e authority.Event) error {
		hangUp()
		return errors.Join(alive(ctx), record(ctx, e))
	}
	spent := false
	if _, err := b.Issue(ctx, a, func(ctx context.Context) error { spent = true; return alive(ctx) }); err != nil || len(b.events) != 1 || !spent {
		t.Fatalf("what was recorded was not spent: %v, %d events", err, len(b.events))
	}
	never := func(context.Context) error { t.Error("spent for a caller who was gone before"); return nil }
	if r, err := b.Issue(ctx, a, never); !errors.Is(err, context.Canceled) || r != (Response{}) || len(b.events) != 1 {
		t.Fatalf("%+v, %v, %d events", r, err, len(b.events))
	}
}

// What is refused or fails hands out nothing and spends nothing: a retry finds
// everything as it was (69, B 8).
func TestIssueRefuses(t *testing.T) {
	down := errors.New("the disk is gone")
	for _, row := range []struct {
		name     string
		change   func(*bench, *authority.Authorization)
		want     oauth.Code
		recorded bool
	}{
		{"42: the client is disabled", func(_ *bench, a *authority.Authorization) { a.Client.Disabled = true }, oauth.InvalidClient, false},
		{"70: the account has ended", func(b *bench, _ *authority.Authorization) { b.userErr = authority.ErrEnded }, oauth.InvalidGrant, false},
		{"69: the account cannot be read", func(b *bench, _ *authority.Authorization) { b.userErr = down }, oauth.TemporarilyUnavailable, false},
		{"68: the grant has been revoked", func(b *bench, a *authority.Authorization) { b.revoked[a.Grant.ID.String()] = true }, oauth.InvalidGrant, false},
		{"the session has ended", func(b *bench, a *authority.Authorization) { b.revoked[a.Grant.SessionID.String()] = true }, oauth.InvalidGrant, false},
		{"an ancestor has been revoked", func(b *bench, a *authority.Authorization) {
			root := authority.NewID(testNow)
			a.Grant.Lineage, b.revoked[root.String()] = []authority.Ancestor{{GrantID: root, ClientID: "api"}}, true
		}, oauth.InvalidGrant, false},
		{"there is no key", func(b *bench, _ *authority.Authorization) {
			b.Signer = func(jose.Algorithm, string) (*jose.Signer, error) { return nil, down }
		}, oauth.TemporarilyUnavailable, false},
		{"there is no key for the ID token", func(b *bench, a *authority.Authorization) {
			a.Client.IDTokenAlg = "RS256"
			signer := b.Signer
			b.Signer = func(alg jose.Algorithm, typ string) (*jose.Signer, error) {
				if alg == jose.RS256 {
					return nil, down
				}
				return signer(alg, typ)
			}
		}, oauth.TemporarilyUnavailable, false},
		{"promise 2: the journal fails", func(b *bench, _ *authority.Authorization) { b.journalErr = down }, oauth.TemporarilyUnavailable, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t)
			a := b.decision()
			row.change(b, &a)
			r, err := b.Issue(t.Context(), a, b.spend)
			if err == nil || oauth.AsError(err).Code != row.want || r != (Response{}) {
				t.Fatalf("%+v %v", r, err)
			}
			if slices.Contains(b.steps, "spend") || slices.Contains(b.steps, "journal") != row.recorded {
				t.Fatalf("%q", b.steps)
			}
		})
	}
}

// A token that is on record and cannot be paid for is withheld, and that is on
// record too.
func TestWhatCannotBePaidForIsWithheld(t *testing.T) {
	for name, failure := range map[string]error{
		"27: it has been spent":    oauth.Errorf(oauth.InvalidGrant, "spent"),
		"69: the store has failed": errors.New("the disk is gone"),
	} {
		b := newBench(t)
		r, err := b.Issue(t.Context(), b.decision(), func(context.Context) error { return failure })
		if !errors.Is(err, failure) || r != (Response{}) {
			t.Fatalf("%s: %+v %v", name, r, err)
		}
		if len(b.events) != 2 || b.events[0].Type != authority.EventTokenIssued || b.events[1].Type != authority.EventTokenWithheld ||
			b.events[0].TokenID != b.events[1].TokenID || b.events[1].Reason == "" {
			t.Errorf("%s: %+v", name, b.events)
		}
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
		"iss": testIssuer, "sub": "ada-id", "sub_profile": "user", "aud": []any{testAPI, testIssuer}, "client_id": "web", "scope": "openid read",
		"iat": float64(testNow.Unix()), "nbf": float64(testNow.Unix()), "exp": float64(testNow.Unix() + 300), "jti": got["jti"], "grant_id": a.Grant.ID.String(),
		"sid": a.Grant.SessionID.String(), "auth_time": float64(testNow.Unix() - 60), "acr": "urn:signalbox:acr:password", "amr": []any{"pwd"},
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
		{"a grant that does not depend on its session has no sid", func(a *authority.Authorization) { a.Grant.Evidence = authority.Evidence{} }, "sid", nil},
		{"nor has one that depends on something else", func(a *authority.Authorization) {
			a.Grant.Evidence = authority.Evidence{Kind: authority.EvidencePod, Key: "hub/uid"}
		}, "sid", nil},
		{"no token lives longer than any may", func(a *authority.Authorization) { a.Life, a.Grant.ExpiresAt = 48*time.Hour, testNow.Add(72*time.Hour) }, "exp", float64(testNow.Add(authority.MaxTokenTTL).Unix())},
		{"no scope", func(a *authority.Authorization) { a.Target.Scopes = oauth.Scopes{} }, "scope", nil},
		{"no sign-in", func(a *authority.Authorization) { a.Grant.AuthTime = time.Time{} }, "auth_time", nil},
		{"a resource's own lifetime", func(a *authority.Authorization) { a.Life = time.Minute }, "exp", float64(testNow.Unix() + 60)},
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

// The rarer claims: who acts, what key the token is bound to, what it came from.
func TestClaimsOfAnExchangedToken(t *testing.T) {
	b := newBench(t)
	a := b.decision()
	root, middle := authority.NewID(testNow.Add(-time.Hour)), authority.NewID(testNow.Add(-time.Minute))
	a.Grant.Lineage = []authority.Ancestor{{GrantID: root, ClientID: "web"}, {GrantID: middle, ClientID: "orders"}}
	a.Actor = &authority.Actor{Subject: "billing", Act: &authority.Actor{Subject: "orders"}}
	a.Confirmation = authority.Confirmation{JKT: "thumbprint"}
	token := b.issue(t, a).AccessToken
	got := payload(t, token)
	for claim, want := range map[string]any{
		"lineage":         []any{root.String(), middle.String()},
		"lineage_clients": []any{"web", "orders"},
		"act":             map[string]any{"sub": "billing", "act": map[string]any{"sub": "orders"}}, // RFC 8693 §4.1
		"cnf":             map[string]any{"jkt": "thumbprint"},                                      // RFC 9449 §6.1
	} {
		if !reflect.DeepEqual(got[claim], want) {
			t.Errorf("%s is %v, want %v", claim, got[claim], want)
		}
	}
	if _, err := b.Authenticate(token); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{root.String(), middle.String(), "orders", "web"} { // the clients by their epochs
		b.revoked[end] = true
		if _, err := b.Authenticate(token); !errors.Is(err, ErrRevoked) {
			t.Errorf("%s has ended: %v", end, err)
		}
		delete(b.revoked, end)
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
		"nonce": "n-0S6", "sid": a.Grant.SessionID.String(), "acr": "urn:signalbox:acr:password", "amr": []any{"pwd"}, "at_hash": base64.RawURLEncoding.EncodeToString(sum[:16]),
	}
	if fmt.Sprint(got) != fmt.Sprint(want) { // and nothing that the scopes open at UserInfo
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
	a.IDToken = false
	if r := b.issue(t, a); r.IDToken != "" {
		t.Error("an ID token that nobody asked for")
	}
}

// OpenID Connect Core §5.5: what was asked for by name is where it was asked for.
func TestClaimsThatWereAskedForByName(t *testing.T) {
	b := newBench(t)
	b.user.Claims = authority.StandardClaims{PhoneNumber: "+4930901820", Address: authority.Address{Locality: "Paris"}}
	a := b.decision()
	a.Client.Scopes = oauth.MustScopes("openid", "email", "phone", "read")
	a.Target.Scopes = oauth.MustScopes("openid", "read")
	a.Grant.Claims = authority.RequestedClaims{UserInfo: []string{"address", "phone_number"}, IDToken: []string{"email", "email_verified", "name"}}
	r := b.issue(t, a)
	claims := payload(t, r.IDToken)
	if claims["email"] != "ada@example.com" || claims["email_verified"] != true || claims["phone_number"] != nil {
		t.Errorf("ID token: %v", claims)
	}
	if claims["name"] != nil || claims["address"] != nil {
		t.Errorf("claims of a scope that the client has no longer: %v", claims)
	}
	for _, format := range []authority.TokenFormat{authority.FormatJWT, authority.FormatOpaque} {
		a.Format = format
		token, err := b.Authenticate(b.issue(t, a).AccessToken)
		if err != nil || !slices.Equal(token.UserInfo, []string{"phone_number"}) {
			t.Fatalf("%s: %+v %v", format, token, err)
		}
		if got := ClaimsOf(b.user, token.Scopes, token.UserInfo); fmt.Sprint(got) != "map[phone_number:+4930901820]" {
			t.Errorf("UserInfo: %v", got)
		}
	}
}

func TestWhatIsNotKnownOfAPersonIsNotClaimed(t *testing.T) {
	all := oauth.StandardScopes
	if got := ClaimsOf(authority.User{ID: "u", Username: "ada"}, all, nil); fmt.Sprint(got) != "map[preferred_username:ada]" {
		t.Errorf("%v", got)
	}
	full := authority.User{Username: "ada", Name: "Ada", Email: "a@example.com", UpdatedAt: testNow, Claims: authority.StandardClaims{
		GivenName: "A", FamilyName: "B", MiddleName: "C", Nickname: "D", Profile: "E", Picture: "F", Website: "G", Gender: "H", Birthdate: "I", Zoneinfo: "J", Locale: "K",
		PhoneNumber: "L", Address: authority.Address{Country: "M"},
	}}
	if got := ClaimsOf(full, all, nil); len(got) != len(authority.PersonClaims) {
		t.Errorf("%d claims of %d: %v", len(got), len(authority.PersonClaims), got)
	}
	if got := ClaimsOf(full, oauth.MustScopes("openid", "phone"), nil); fmt.Sprint(got) != "map[phone_number:L phone_number_verified:false]" {
		t.Errorf("%v", got)
	}
}

func TestOpaqueAccessTokens(t *testing.T) {
	b := newBench(t)
	a := b.decision()
	a.Format = authority.FormatOpaque
	token := b.issue(t, a).AccessToken
	if !strings.HasPrefix(token, string(oauth.PrefixAccessToken)) || strings.Contains(token, ".") {
		t.Fatalf("%q", token)
	}
	read, err := b.Authenticate(token)
	if err != nil || read.GrantID != a.Grant.ID || slices.ContainsFunc(read.Links, func(l authority.Link) bool { return l.Kind == authority.RevokeKey }) {
		t.Fatalf("%+v %v", read, err)
	}
	other := newBench(t)
	other.Reader.Opaque = seal.NewBox([32]byte{1}, "another purpose")
	if _, err := other.Authenticate(token); err == nil {
		t.Error("a value that was sealed for another purpose is an access token")
	}
}

// TestAccept: each thing that makes a token worth nothing, one at a time.
func TestAccept(t *testing.T) {
	down := errors.New("the disk is gone")
	good := newBench(t)
	token := good.issue(t, good.decision()).AccessToken
	for _, row := range []struct {
		name     string
		audience string
		change   func(b *bench)
		want     error
	}{
		{"a good one, at its API", testAPI, func(*bench) {}, nil},
		{"at the issuer, since it has openid", testIssuer, func(*bench) {}, nil},
		{"for a caller who decides by itself", AnyAudience, func(*bench) {}, nil},
		{"at another API", "https://other.example.com", func(*bench) {}, ErrAudience},
		{"for a caller who does not say where", "", func(*bench) {}, ErrAudience},
		{"at its API with a slash", testAPI + "/", func(*bench) {}, ErrAudience},
		{"this node does not know what has been revoked", testAPI, func(b *bench) { b.staleErr = down }, down},
		{"it has expired", testAPI, func(b *bench) { b.now = testNow.Add(5 * time.Minute) }, ErrInactive},
		{"it has been revoked", testAPI, func(b *bench) { b.revoked[payload(t, token)["jti"].(string)] = true }, ErrInactive},
		{"its account has ended", testAPI, func(b *bench) { b.userErr = authority.ErrEnded }, ErrInactive},
		{"its account cannot be read", testAPI, func(b *bench) { b.userErr = down }, down},
	} {
		b := benchOf(t, good.private.(*ecdsa.PrivateKey))
		row.change(b)
		accepted, user, err := b.Accept(t.Context(), token, row.audience)
		if !errors.Is(err, row.want) || (err == nil) != (accepted != nil) || err == nil && user.ID != "ada-id" || err != nil && user.ID != "" {
			t.Errorf("%s: %+v %+v %v", row.name, accepted, user, err)
		}
		if errors.Is(row.want, down) && errors.Is(err, ErrInactive) {
			t.Errorf("%s: a failure of ours is said of the token", row.name)
		}
	}
	if _, _, err := good.Accept(t.Context(), "nonsense", testAPI); !errors.Is(err, ErrInactive) {
		t.Error(err)
	}
}

// F 79: without a proof of its key, a bound token is good for nothing but to be told about.
func TestABoundTokenIsNotABearerToken(t *testing.T) {
	b := newBench(t)
	for _, format := range []authority.TokenFormat{authority.FormatJWT, authority.FormatOpaque} {
		a := b.decision()
		a.Confirmation, a.Format = authority.Confirmation{JKT: "thumbprint"}, format
		token := b.issue(t, a).AccessToken
		for audience, want := range map[string]error{testAPI: ErrBound, testIssuer: ErrBound, "https://other.example.com": ErrAudience, AnyAudience: nil} {
			accepted, _, err := b.Accept(t.Context(), token, audience)
			if !errors.Is(err, want) || (accepted == nil) != (want != nil) || want != nil && !errors.Is(err, ErrInactive) {
				t.Errorf("%v at %q: %v", format, audience, err)
			}
		}
	}
	// Whatever cnf names: the thumbprint of a certificate, or what we do not know.
	for _, cnf := range []string{`{"x5t#S256":"thumbprint"}`, `{}`, `null`, `"key"`} {
		claims := payload(t, b.issue(t, b.decision()).AccessToken)
		claims["cnf"] = json.RawMessage(cnf)
		body, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := b.Signer("", oauth.TypAccessToken)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(body)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Accept(t.Context(), signed, testAPI); !errors.Is(err, ErrBound) {
			t.Errorf("cnf %s: %v", cnf, err)
		}
	}
}

func TestAuthenticate(t *testing.T) {
	b := newBench(t)
	a := b.decision()
	token := b.issue(t, a).AccessToken
	first, err := b.Authenticate(token)
	if err != nil {
		t.Fatal(err)
	}
	if first.GrantID != a.Grant.ID || first.SessionID != a.Grant.SessionID || first.ClientID != "web" || first.Subject != a.Grant.Subject || first.Scopes.String() != "openid read" {
		t.Errorf("%+v", first)
	}
	// What the grant depends on, its token does; and on itself and the key.
	want := append(a.Grant.Links(), authority.Link{Kind: authority.RevokeToken, Key: first.ID.String()}, authority.Link{Kind: authority.RevokeKey, Key: "k1"})
	for _, l := range want {
		if !slices.ContainsFunc(first.Links, func(x authority.Link) bool {
			return x.Kind == l.Kind && x.Key == l.Key && x.Born.Equal(l.Born.Truncate(time.Millisecond))
		}) {
			t.Errorf("the token lacks %+v: %+v", l, first.Links)
		}
	}
	if len(first.Links) != len(want) {
		t.Errorf("%d links, want %d", len(first.Links), len(want))
	}
	// A token that was read before is asked about again: only its signature is remembered.
	for _, key := range []string{first.ID.String(), first.GrantID.String(), first.SessionID.String(), "k1", "ada-id", "web"} {
		b.revoked[key] = true
		if _, err := b.Authenticate(token); !errors.Is(err, ErrRevoked) {
			t.Errorf("%s has ended: %v", key, err)
		}
		delete(b.revoked, key)
	}
	b.now = first.Expires.Add(-time.Nanosecond)
	if _, err := b.Authenticate(token); err != nil {
		t.Errorf("its last moment: %v", err)
	}
	b.now = first.Expires
	if _, err := b.Authenticate(token); !errors.Is(err, errExpired) {
		t.Errorf("it is over: %v", err)
	}
	late := benchOf(t, b.private.(*ecdsa.PrivateKey))
	late.now = first.Expires
	if _, err := late.Authenticate(token); !errors.Is(err, errExpired) {
		t.Errorf("it is over, read for the first time within what clocks may differ: %v", err)
	}
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
		{"a client's own token", ours(with("sub_profile", "client")), true},
		{"a workload's", ours(with("sub_profile", "workload")), true},
		{"no sub_profile", ours(with("sub_profile", nil)), false},
		{"a sub_profile that is not known", ours(with("sub_profile", "robot")), false},
		{"a lineage", ours(with("lineage", []string{good["grant_id"].(string)}, "lineage_clients", []string{"web"})), true},
		{"a lineage without its clients", ours(with("lineage", []string{good["grant_id"].(string)})), false},
		{"clients without a lineage", ours(with("lineage_clients", []string{"web"})), false},
		{"a lineage that is longer than any", ours(with("lineage", slices.Repeat([]string{good["grant_id"].(string)}, 9), "lineage_clients", slices.Repeat([]string{"web"}, 9))), false},
		{"an ancestor that is no id of ours", ours(with("lineage", []string{"x"}, "lineage_clients", []string{"web"})), false},
		{"an ancestor of nobody", ours(with("lineage", []string{good["grant_id"].(string)}, "lineage_clients", []string{""})), false},
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
				if token, err := b.Authenticate(row.token); (err == nil) != row.ok || (token == nil) == row.ok {
					t.Fatalf("%+v %v", token, err)
				}
			}
		})
	}
}

// A kube-apiserver verifies no EdDSA, which may be the default.
func TestATokenForAClusterIsSignedForIt(t *testing.T) {
	for resource, want := range map[string]string{
		testAPI: "k1", testIssuer + "/clusters/spoke-a": "for-clusters", testIssuer + "/clusters": "k1", "https://other.example.com/clusters/spoke-a": "k1",
	} {
		b := newBench(t)
		a := b.decision()
		a.Target.Resources[0].ID = resource
		header, _, err := jose.InspectUnverified(b.issue(t, a).AccessToken)
		if err != nil || header.KeyID != want {
			t.Errorf("%s: %+v %v", resource, header, err)
		}
	}
}

// The groups and the policy of a token are read back, and only as we write them.
func TestGroupsAndPolicyAreReadBack(t *testing.T) {
	b := newBench(t)
	a := b.decision()
	a.Groups, a.Policy = []string{"deployers", "viewers"}, "deploy"
	token, err := b.Authenticate(b.issue(t, a).AccessToken)
	if err != nil || !slices.Equal(token.Groups, a.Groups) || token.Policy != a.Policy {
		t.Errorf("%+v %v", token, err)
	}
}

func TestSubjectKind(t *testing.T) {
	b := newBench(t)
	a := b.decision()
	a.Grant.Subject, a.IDToken = authority.Subject{Issuer: testIssuer, ID: "web", Kind: authority.SubjectClient}, false
	a.Grant.AuthTime, a.Grant.SessionID, a.Grant.AMR, a.Grant.Evidence = time.Time{}, authority.ID{}, nil, authority.Evidence{}
	b.userErr = authority.ErrEnded // a client is no user
	read, err := b.Authenticate(b.issue(t, a).AccessToken)
	if err != nil || read.Subject != a.Grant.Subject || !read.SessionID.IsZero() {
		t.Fatalf("%+v %v", read, err)
	}
	// The kind is said, not guessed: a person whose sub is the client's id is a person.
	a.Grant.Subject.Kind = authority.SubjectUser
	if _, err := b.Issue(t.Context(), a, nil); oauth.AsError(err).Code != oauth.InvalidGrant {
		t.Errorf("%v", err)
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
	body := []byte(`{"iss":"` + testIssuer + `","sub":"ada-id","sub_profile":"user","aud":"` + testAPI + `","client_id":"web","exp":1772366700,"jti":"` + id + `","grant_id":"` + id + `"}`)
	signer, err := b.Signer("", oauth.TypAccessToken)
	if err != nil {
		f.Fatal(err)
	}
	signed, err := signer.Sign(body)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := b.Authenticate(signed); err != nil {
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
			if live, err := b.Authenticate(token); err == nil && token != signed {
				t.Fatalf("%q is alive: %+v", token, live)
			}
		}
	})
}

// FuzzClaims: a token that is authentic may come from a node of another version. Reading
// it never panics, and what is read is whole: a kind of subject that is known, an
// audience, a lineage whose every grant and client is among the links.
func FuzzClaims(f *testing.F) {
	b := benchOf(f, func() *ecdsa.PrivateKey {
		private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), slices.Repeat([]byte{4}, 32))
		if err != nil {
			f.Fatal(err)
		}
		return private
	}())
	const id = "019ca946-8d2c-7000-8000-000000000001"
	const most = `"iss":"` + testIssuer + `","sub":"ada-id","sub_profile":"user","aud":"` + testAPI + `","client_id":"web","exp":1772366700,"jti":"` + id + `","grant_id":"` + id + `"`
	f.Add([]byte(`{` + most + `}`))
	f.Add([]byte(`{` + most + `,"lineage":["` + id + `"],"lineage_clients":["web"],"sid":"` + id + `","scope":"a b"}`))
	f.Add([]byte(`{` + most + `,"lineage":"` + id + `","lineage_clients":[],"auth_time":1e9}`))
	f.Add([]byte(`{` + most + `,"lineage":null}`))
	f.Add(bytes.Replace([]byte(`{`+most+`}`), []byte(`"`+testAPI+`"`), []byte(`["`+testAPI+`",""]`), 1))
	f.Fuzz(func(t *testing.T, body []byte) {
		sealed := oauth.EncodeOpaque(oauth.PrefixAccessToken, b.Opaque.Seal(body, testNow.Add(time.Hour)))
		token, err := b.Authenticate(sealed)
		if err != nil {
			return
		}
		if _, err := authority.ParseSubjectKind(string(token.Subject.Kind)); err != nil || token.Subject.ID == "" || token.Subject.Issuer != testIssuer ||
			token.ClientID == "" || len(token.Audience) == 0 || slices.Contains(token.Audience, "") || token.GrantID.IsZero() || token.ID.IsZero() {
			t.Fatalf("%s is read as %+v", body, token)
		}
		var claims struct {
			Lineage []string `json:"lineage"`
			Clients []string `json:"lineage_clients"`
		}
		if json.Unmarshal(body, &claims) != nil {
			return // one string where a list may be
		}
		for _, want := range []struct {
			kind authority.RevocationKind
			keys []string
		}{{authority.RevokeGrant, claims.Lineage}, {authority.EpochClient, claims.Clients}} {
			for _, key := range want.keys {
				if !slices.ContainsFunc(token.Links, func(l authority.Link) bool { return l.Kind == want.kind && l.Key == key }) {
					t.Fatalf("%s outlives %s %q", body, want.kind, key)
				}
			}
		}
	})
}
