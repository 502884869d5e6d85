package authority

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 300e6, time.UTC)

var (
	scopeNames  = []string{"read", "write", "admin", "openid", "offline_access", "email"}
	resourceIDs = []string{"https://a.example", "https://b.example", "https://c.example", AdminResource}
)

func someOf(values []string) *rapid.Generator[[]string] {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(values), 0, len(values), rapid.ID)
}

func seconds(t *rapid.T, name string, from, to int) time.Duration {
	return time.Duration(rapid.IntRange(from, to).Draw(t, name)) * time.Second
}

// TestNarrowOnlyShrinks: whatever is asked of a grant, a token has no more scope and no more
// resources than it, and gets what was asked for or nothing (docs/security/threats.md G 85).
func TestNarrowOnlyShrinks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := Grant{Scopes: oauth.MustScopes(someOf(scopeNames).Draw(t, "scopes")...), Resources: someOf(resourceIDs).Draw(t, "resources")}
		asked, where := oauth.MustScopes(someOf(scopeNames).Draw(t, "asked scopes")...), someOf(resourceIDs).Draw(t, "asked resources")
		scopes, resources, err := g.Narrow(asked, where)
		within := g.Scopes.Covers(asked) && !slices.ContainsFunc(where, func(r string) bool { return !slices.Contains(g.Resources, r) })
		if (err == nil) != within {
			t.Fatalf("asked %q %q of %q %q: %v", asked, where, g.Scopes, g.Resources, err)
		}
		if err != nil {
			if refused := oauth.AsError(err); refused.Code != oauth.InvalidScope && refused.Code != oauth.InvalidTarget || !scopes.IsEmpty() || resources != nil {
				t.Fatalf("%q %q %v", scopes, resources, err)
			}
			return
		}
		if !g.Scopes.Covers(scopes) || slices.ContainsFunc(resources, func(r string) bool { return !slices.Contains(g.Resources, r) }) {
			t.Fatalf("%q %q of %q %q", scopes, resources, g.Scopes, g.Resources)
		}
		if !asked.IsEmpty() && !asked.Covers(scopes) || len(where) > 0 && !slices.Equal(where, resources) {
			t.Fatalf("more than was asked for: %q %q", scopes, resources)
		}
		if len(resources) > 0 {
			resources[0] = "https://evil.example"
			if slices.Contains(g.Resources, "https://evil.example") {
				t.Fatal("the grant and what is narrowed share their memory")
			}
		}
	})
}

// TestLinks: whatever ends an ancestor, by itself or by its client's or its
// person's epoch, is among the links of every descendant; and a link that is
// none of the family's is not there.
func TestLinks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := []Grant{{
			ID: NewID(testNow), ClientID: "c0", Subject: Subject{ID: "ada", Kind: SubjectUser}, Evidence: SessionEvidence(NewID(testNow)),
			AuthTime: testNow.Add(-seconds(t, "signed in", 0, 100)), State: GrantActive, CreatedAt: testNow, ExpiresAt: testNow.Add(time.Hour),
		}}
		for i := range rapid.IntRange(0, MaxLineage).Draw(t, "depth") {
			now := testNow.Add(time.Duration(i+1) * time.Second)
			parent := line[i]
			line = append(line, Grant{
				ID: NewID(now), Lineage: append(slices.Clone(parent.Lineage), Ancestor{parent.ID, parent.ClientID}), ClientID: fmt.Sprintf("c%d", i+1),
				Subject: parent.Subject, AuthTime: parent.AuthTime, State: GrantActive, CreatedAt: now, ExpiresAt: testNow.Add(time.Hour),
			})
		}
		for i, g := range line {
			links := g.Links()
			var want []Link
			for _, a := range line[:i+1] {
				want = append(want, Link{Kind: RevokeGrant, Key: a.ID.String()}, Link{Kind: EpochClient, Key: a.ClientID, Born: a.ID.Time()})
			}
			oldest := line[0].ID.Time() // the sign-in or the root, whichever is older
			if g.AuthTime.Before(oldest) {
				oldest = g.AuthTime
			}
			want = append(want, Link{Kind: EpochEverything, Born: oldest}, Link{Kind: EpochUser, Key: "ada", Born: oldest})
			if i == 0 {
				want = append(want, g.Evidence.Link())
			}
			for _, l := range want {
				if !slices.ContainsFunc(links, func(x Link) bool { return x.Kind == l.Kind && x.Key == l.Key && x.Born.Equal(l.Born) }) {
					t.Fatalf("generation %d lacks %+v: %+v", i, l, links)
				}
			}
			if len(links) != len(want) {
				t.Fatalf("generation %d has %d links, want %d: %+v", i, len(links), len(want), links)
			}
		}
	})
}

func TestEveryKindOfSubjectHasItsEpoch(t *testing.T) {
	for kind, epoch := range map[SubjectKind]RevocationKind{SubjectUser: EpochUser, SubjectClient: EpochClient, SubjectWorkload: EpochWorkload} {
		links := Subject{ID: "x", Kind: kind}.Epochs(testNow)
		if !slices.Contains(links, Link{epoch, "x", testNow}) || !slices.Contains(links, Link{EpochEverything, "", testNow}) {
			t.Errorf("%s: %+v", kind, links)
		}
		if got, err := ParseSubjectKind(string(kind)); err != nil || got != kind {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, kind := range []string{"", "User", "robot"} {
		if _, err := ParseSubjectKind(kind); err == nil {
			t.Errorf("%q is a kind", kind)
		}
	}
}

func TestGrantAlive(t *testing.T) {
	for _, row := range []struct {
		name  string
		grant Grant
		want  bool
	}{
		{"active and in time", Grant{State: GrantActive, ExpiresAt: testNow.Add(time.Nanosecond)}, true},
		{"at its last moment", Grant{State: GrantActive, ExpiresAt: testNow}, false},
		{"pending", Grant{State: GrantPending, ExpiresAt: testNow.Add(time.Hour)}, false},
		{"ended", Grant{State: GrantEnded, ExpiresAt: testNow.Add(time.Hour)}, false},
		{"the zero grant", Grant{}, false},
	} {
		if row.grant.Alive(testNow) != row.want {
			t.Errorf("%s: alive is %v", row.name, !row.want)
		}
	}
}

// Whatever is asked, a token is good only where the request may go,
// and only for scopes that were settled before and that a target owns.
func TestResolveTargetNeverGivesMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var reach []Resource
		for _, id := range someOf(resourceIDs).Draw(t, "reach") {
			reach = append(reach, Resource{
				ID: id, Scopes: oauth.MustScopes(someOf([]string{"read", "write", "admin"}).Draw(t, "owned")...),
				Format: rapid.SampledFrom([]TokenFormat{FormatJWT, FormatJWT, FormatJWT, FormatOpaque}).Draw(t, "format"),
			})
		}
		scopes := oauth.MustScopes(someOf(scopeNames).Draw(t, "scopes")...)
		explicit := rapid.Bool().Draw(t, "explicit")
		asked := rapid.SliceOfN(rapid.SampledFrom(resourceIDs), 0, 3).Draw(t, "asked")

		several := rapid.Bool().Draw(t, "several")

		target, err := ResolveTarget(TargetRequest{scopes, explicit, reach, asked, several})
		if err != nil {
			if code := oauth.AsError(err).Code; code != oauth.InvalidScope && code != oauth.InvalidTarget {
				t.Fatal(err)
			}
			if !target.Scopes.IsEmpty() || len(target.Resources) > 0 {
				t.Fatalf("refused, and yet %+v", target)
			}
			return
		}
		ids := target.ResourceIDs()
		if len(ids) > 1 && (!several || slices.Contains(ids, AdminResource)) {
			t.Fatalf("good at %q at once", ids)
		}
		owned := oauth.StandardScopes
		for _, r := range target.Resources {
			i := slices.IndexFunc(reach, func(x Resource) bool { return x.ID == r.ID })
			if i < 0 {
				t.Fatalf("good at %s, which was not allowed", r.ID)
			}
			if r.Format != target.Format() {
				t.Fatalf("one token of two formats: %+v", target)
			}
			owned = owned.Union(reach[i].Scopes)
		}
		if len(slices.Compact(slices.Sorted(slices.Values(ids)))) != len(ids) {
			t.Fatalf("an audience twice: %q", ids)
		}
		if !scopes.Covers(target.Scopes) {
			t.Fatalf("scope %q grew out of %q", target.Scopes, scopes)
		}
		if !owned.Covers(target.Scopes) {
			t.Fatalf("scope %q is owned by none of %q", target.Scopes, ids)
		}
		if explicit && !target.Scopes.Covers(scopes) {
			t.Fatalf("asked by name for %q and got %q without a word", scopes, target.Scopes)
		}
		if len(asked) > 0 {
			if slices.ContainsFunc(asked, func(id string) bool { return !slices.Contains(ids, id) }) || slices.ContainsFunc(ids, func(id string) bool { return !slices.Contains(asked, id) }) {
				t.Fatalf("asked for %q, got %q", asked, ids)
			}
		} else if len(reach) > 1 && !scopes.IsEmpty() {
			for _, r := range target.Resources {
				if r.Scopes.Intersect(target.Scopes).IsEmpty() {
					t.Fatalf("good at %s, where it has nothing to do", r.ID)
				}
			}
		}
		aud := target.Audience("https://sts.example.com")
		if slices.Contains(aud, AdminResource) && len(aud) > 1 {
			t.Fatalf("a token for the admin API is good elsewhere: %q", aud)
		}
		if atIssuer := slices.Contains(aud, "https://sts.example.com"); atIssuer != (len(ids) == 0 || target.Scopes.Has("openid")) || len(aud) == 0 {
			t.Fatalf("audience %q for %q at %q", aud, target.Scopes, ids)
		}
	})
}

func TestResolveTarget(t *testing.T) {
	a := Resource{ID: "https://a.example", Scopes: oauth.MustScopes("read", "write"), Format: FormatJWT}
	b := Resource{ID: "https://b.example", Scopes: oauth.MustScopes("read", "b"), Format: FormatJWT}
	opaque := Resource{ID: "https://o.example", Scopes: oauth.MustScopes("o"), Format: FormatOpaque}
	admin := Resource{ID: AdminResource, Scopes: AdminScopes, Format: FormatJWT}
	const several = true
	for _, row := range []struct {
		name     string
		scopes   string
		explicit bool
		reach    []Resource
		asked    []string
		several  bool
		want     string // "scopes @ resources", or the error
	}{
		{"all that the scopes open", "write", true, []Resource{a, b}, nil, false, "write @ https://a.example"},
		{"a scope that two own", "read", true, []Resource{a, b}, nil, false, "invalid_target"},
		{"a scope that two own, for a grant", "read", true, []Resource{a, b}, nil, several, "read @ https://a.example https://b.example"},
		{"two resources", "read", true, []Resource{a, b}, []string{a.ID, b.ID}, false, "invalid_target"},
		{"two resources, for a grant", "read b", true, []Resource{a, b}, []string{a.ID, b.ID}, several, "read b @ https://a.example https://b.example"},
		{"the admin API and another, by their scopes", "read keys:read", true, []Resource{a, admin}, nil, false, "invalid_target"},
		{"the admin API and another, even where several may be", "read keys:read", true, []Resource{a, admin}, nil, several, "invalid_target"},
		{"the admin API and another, by name", "", false, []Resource{a, admin}, []string{a.ID, admin.ID}, several, "invalid_target"},
		{"the admin API alone", "read keys:read openid", false, []Resource{a, admin}, []string{admin.ID}, false, "keys:read @ " + AdminResource},
		{"the admin API and UserInfo", "keys:read openid", true, []Resource{admin}, nil, false, "invalid_scope"},
		{"a scope that nobody owns, by name", "x", true, []Resource{a}, nil, false, "invalid_scope"},
		{"a scope that nobody owns, from a list", "x read", false, []Resource{a}, nil, false, "read @ https://a.example"},
		{"71: the scope of another resource, by name", "b", true, []Resource{a, b}, []string{a.ID}, false, "invalid_scope"},
		{"the scope of another resource, from a list", "b write", false, []Resource{a, b}, []string{a.ID}, false, "write @ https://a.example"},
		{"84: a resource out of reach", "read", true, []Resource{a}, []string{b.ID}, false, "invalid_target"},
		{"84: a resource out of reach beside one in reach", "read", true, []Resource{a}, []string{a.ID, b.ID}, false, "invalid_target"},
		{"one resource twice", "read", true, []Resource{a, b}, []string{a.ID, a.ID}, false, "read @ https://a.example"},
		{"two kinds of token", "read o", true, []Resource{a, opaque}, nil, false, "invalid_target"},
		{"two kinds of token in reach, one asked for", "o", true, []Resource{a, opaque}, []string{opaque.ID}, false, "o @ https://o.example"},
		{"no scope, one resource", "", false, []Resource{a}, nil, false, " @ https://a.example"},
		{"no scope, two resources", "", false, []Resource{a, b}, nil, false, "invalid_target"},
		{"openid alone is good at the issuer alone", "openid", true, []Resource{a}, nil, false, "openid @ "},
	} {
		t.Run(row.name, func(t *testing.T) {
			scopes, err := oauth.ParseScopes(row.scopes)
			if err != nil {
				t.Fatal(err)
			}
			target, err := ResolveTarget(TargetRequest{scopes, row.explicit, row.reach, row.asked, row.several})
			got := target.Scopes.String() + " @ " + strings.Join(target.ResourceIDs(), " ")
			if err != nil {
				got = string(oauth.AsError(err).Code)
			}
			if got != row.want {
				t.Fatalf("%q, want %q", got, row.want)
			}
		})
	}
}

func TestAccessTTLIsTheShortest(t *testing.T) {
	issuer := Issuer{AccessTTL: 5 * time.Minute}
	with := func(ttls ...time.Duration) (target Target) {
		for i, ttl := range ttls {
			target.Resources = append(target.Resources, Resource{ID: fmt.Sprint(i), AccessTTL: ttl})
		}
		return target
	}
	for _, row := range []struct {
		name   string
		target Target
		want   time.Duration
	}{
		{"no resource: the issuer's", with(), 5 * time.Minute},
		{"a resource without its own", with(0), 5 * time.Minute},
		{"a shorter one", with(time.Minute), time.Minute},
		{"a longer one", with(time.Hour), time.Hour},
		{"a longer one beside the issuer's", with(time.Hour, 0), 5 * time.Minute},
		{"the issuer's beside a longer one", with(0, time.Hour), 5 * time.Minute},
		{"the shortest of three", with(time.Hour, time.Second, time.Minute), time.Second},
		{"never longer than any", with(100 * time.Hour), MaxTokenTTL},
	} {
		if got := row.target.AccessTTL(issuer); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
}

func TestClient(t *testing.T) {
	secret := oauth.NewSecret(oauth.PrefixClientSecret)
	c := Client{GrantTypes: []oauth.GrantType{oauth.RefreshToken}, Resources: []string{"https://a.example"}, AuthMethod: oauth.AuthClientSecretBasic}
	if !c.MayUse(oauth.RefreshToken) || c.MayUse(oauth.ClientCredentials) || !c.MayReach("https://a.example") || c.MayReach("https://a.example/") || c.IsPublic() {
		t.Error("a client may do something else than what it is registered for")
	}
	if c.AcceptsSecret(secret, testNow) || c.AcceptsSecret(oauth.Secret{}, testNow) {
		t.Error("a client without a secret accepts one")
	}
	c.Secrets = []ClientSecret{{Hash: secret.Hash()}, {Hash: secret.Hash()}}
	if !c.AcceptsSecret(secret, testNow) || c.AcceptsSecret(oauth.SecretOf(secret.Reveal()+" "), testNow) {
		t.Error("the same secret twice")
	}
	c.Secrets = []ClientSecret{{Hash: secret.Hash(), ExpiresAt: testNow}} // 41
	if c.AcceptsSecret(secret, testNow) || !c.AcceptsSecret(secret, testNow.Add(-1)) {
		t.Error("a secret does not end on time")
	}
	redirect, err := ParseRedirectURI("https://app.example/callback")
	if err != nil {
		t.Fatal(err)
	}
	c.RedirectURIs = []RedirectURI{redirect}
	if !c.AllowsRedirect("https://app.example/callback") || c.AllowsRedirect("") || c.AllowsRedirect("https://app.example/callback?x") || (Client{}).AllowsRedirect("") {
		t.Error("1: redirect")
	}
}

func TestResourceID(t *testing.T) {
	for id, ok := range map[string]bool{
		"https://api.example.com": true, "https://api.example.com/v1?x=y": true, "urn:signalbox:admin": true, "api://x": true,
		"": false, "api": false, "/v1": false, "//api.example.com": false, "https://": false, "https://a.example/#x": false, "https:///path": false, "ht tp://x": false,
		"https://a.example/" + strings.Repeat("a", 2048): false,
	} {
		if got, err := ParseResourceID(id); (err == nil) != ok || ok && got != id {
			t.Errorf("%.60q: %q %v", id, got, err)
		}
	}
	r := Resource{IntrospectionClients: []string{"api"}}
	if !r.MayIntrospect("api") || r.MayIntrospect("") || r.MayIntrospect("ap") {
		t.Error("74: who may introspect")
	}
}

func TestIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Int64Range(0, 1<<48-1)
		at, later := time.UnixMilli(ms.Draw(t, "at")), time.UnixMilli(ms.Draw(t, "later"))
		id, other := NewID(at), NewID(later)
		if !id.Time().Equal(at) || id.IsZero() {
			t.Fatalf("%v carries %v", at, id.Time())
		}
		for name, read := range map[string]func() (ID, error){
			"text": func() (ID, error) { return ParseID(id.String()) }, "bytes": func() (ID, error) { return IDFromBytes(id.Bytes()) },
		} {
			if again, err := read(); err != nil || again != id {
				t.Fatalf("%s of %s is %s %v", name, id, again, err)
			}
		}
		if c := at.Compare(later); c != 0 && (strings.Compare(id.String(), other.String()) != c || slices.Compare(id.Bytes(), other.Bytes()) != c) {
			t.Fatalf("%s and %s do not sort as %v and %v", id, other, at, later)
		}
		if NewID(at) == id {
			t.Fatal("two are the same")
		}
	})
	at := testNow.Add(999 * time.Microsecond)
	if id := NewID(at); !id.Time().Equal(testNow) { // finer than iat, and never later than it was
		t.Errorf("%v carries %v", at, id.Time())
	}
	id := NewID(testNow).String()
	for name, text := range map[string]string{
		"nothing": "", "upper case": strings.ToUpper(id), "in braces": "{" + id + "}", "urn": "urn:uuid:" + id, "without dashes": strings.ReplaceAll(id, "-", ""),
		"version 4": id[:14] + "4" + id[15:], "cut off": id[:35], "a space after": id + " ", "the zero UUID": "00000000-0000-0000-0000-000000000000",
	} {
		if text == id {
			t.Fatalf("%s is the same", name)
		}
		if got, err := ParseID(text); err == nil {
			t.Errorf("%s: %q is %s", name, text, got)
		}
	}
	for _, b := range [][]byte{nil, make([]byte, 15), make([]byte, 16), make([]byte, 17), append(NewID(testNow).Bytes(), 0)} {
		if got, err := IDFromBytes(b); err == nil {
			t.Errorf("%x is %s", b, got)
		}
	}
	if (ID{}).String() != "" || !(ID{}).IsZero() {
		t.Error("no id has a text")
	}
}

func TestCodes(t *testing.T) {
	id := NewID(testNow)
	code := NewAuthorizationCode(id)
	again, err := ParseAuthorizationCode(code.Reveal())
	if err != nil || again != code || again.GrantID != id {
		t.Fatalf("%v", err)
	}
	if g := (Grant{Code: Code{Hash: code.Hash()}}); !g.Matches(code) || g.Matches(NewAuthorizationCode(id)) {
		t.Error("28: a code matches another")
	}
	if (Grant{}).Matches(code) {
		t.Error("a grant without a code has one")
	}
	for _, printed := range []string{fmt.Sprint(code), fmt.Sprintf("%v %+v %s", code, code, code)} {
		if !strings.Contains(printed, "[redacted]") || strings.Contains(printed, fmt.Sprint(code.secret[:4])) {
			t.Errorf("32: %s", printed)
		}
	}
}

// FuzzAuthorizationCode: what is accepted has one spelling, and names a grant.
func FuzzAuthorizationCode(f *testing.F) {
	f.Add(NewAuthorizationCode(NewID(testNow)).Reveal())
	f.Add(oauth.EncodeOpaque(oauth.PrefixAuthorizationCode, make([]byte, 40)))
	f.Add(oauth.EncodeOpaque(oauth.PrefixAuthorizationCode, NewID(testNow).Bytes()))
	f.Fuzz(func(t *testing.T, s string) {
		code, err := ParseAuthorizationCode(s)
		if err != nil {
			if code != (AuthorizationCode{}) {
				t.Fatal("refused, and yet a code")
			}
			return
		}
		if code.Reveal() != s {
			t.Fatalf("%q is another spelling of %q", s, code.Reveal())
		}
		if _, err := ParseID(code.GrantID.String()); err != nil {
			t.Fatal(err)
		}
	})
}
