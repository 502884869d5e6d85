package trust

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

func TestAPodProvesItself(t *testing.T) {
	k := ecKey(t, "k1")
	r := newRig(t)
	r.use(t, []authority.Cluster{cluster("hub", jwks(t, k)), {Name: "a-place-only"}})
	token := k.sign(t, podClaims())
	p := r.accepts(t, token)
	if p.Cluster != "hub" || p.TrustedIssuer != "" || p.Issuer != clusterIssuer || p.Namespace != "argocd" || p.ServiceAccount != "controller" ||
		p.Pod != (authority.ObjectRef{Name: "controller-0", UID: "7d3b1c5e-2222-4f6e-8a55-d3c4a1b2c3d4"}) || p.Node.Name != "node-1" ||
		p.ID != "6c1f0f3e-0c5c-4b5e-9c59-7a8d7c5c2a11" || len(p.Audience) != 1 || p.Audience[0] != ours ||
		!p.IssuedAt.Equal(start) || !p.Expires.Equal(start.Add(time.Hour)) || p.WorkloadID() != "cluster:hub:ns:argocd:sa:controller" {
		t.Errorf("%+v", p)
	}
	sum := sha256.Sum256([]byte(token))
	if p.Hash != hex.EncodeToString(sum[:16]) {
		t.Errorf("hash %q", p.Hash)
	}
	var all map[string]any
	if err := json.Unmarshal(p.Claims, &all); err != nil || all["sub"] != p.Subject {
		t.Errorf("claims %s: %v", p.Claims, err)
	}
}

func TestAJobProvesItself(t *testing.T) {
	k := rsaKey(t, "k1", jose.RS256, "JWT")
	r := newRig(t)
	r.use(t, nil, github(jwks(t, k)))
	p := r.accepts(t, k.sign(t, jobClaims()))
	if p.TrustedIssuer != "github" || p.Cluster != "" || p.Issuer != githubIssuer || p.Subject != "repo:acme/app:ref:refs/heads/main" || p.ID != "job-1" {
		t.Errorf("%+v", p)
	}
	// A provider that signs with one key for all its tenants is told apart by iss.
	tenants := func(id string) authority.TrustedIssuer {
		return authority.TrustedIssuer{Name: "azure-" + id, Issuer: "https://sts.windows.net/" + id, Keys: jwks(t, k)}
	}
	r.use(t, nil, tenants("a"), tenants("b"))
	if p := r.accepts(t, k.sign(t, jobClaims().with("iss", "https://sts.windows.net/b"))); p.TrustedIssuer != "azure-b" {
		t.Errorf("of %s", p.TrustedIssuer)
	}
	r.refuses(t, "another tenant", k.sign(t, jobClaims().with("iss", "https://sts.windows.net/c")), notSigned, "not registered")
}

func TestAWorkloadWithASVIDProvesItself(t *testing.T) {
	for _, typ := range []string{"", "JWT", "JOSE"} {
		k := rsaKey(t, "k1", jose.RS256, typ)
		r := newRig(t)
		r.use(t, nil, trustDomain(bundle(t, k)))
		p := r.accepts(t, k.sign(t, svidClaims().with("iss", "whatever SPIRE calls itself")))
		if p.TrustedIssuer != "prod" || p.Issuer != "spiffe://prod.example.com" || p.Subject != "spiffe://prod.example.com/ns/shop/sa/web" || !p.IssuedAt.IsZero() {
			t.Errorf("%+v", p)
		}
		r.accepts(t, k.sign(t, svidClaims()))
	}
}

// docs/security/threats.md G 91: what a cluster that lies, or one of its pods, can bring.
func TestTokensOfAClusterThatAreNoProof(t *testing.T) {
	k, stranger := ecKey(t, "k1"), ecKey(t, "k1")
	r := newRig(t)
	r.use(t, []authority.Cluster{cluster("hub", jwks(t, k))})
	at := func(d time.Duration) int64 { return start.Add(d).Unix() }
	legacy := claims{
		"iss": clusterIssuer, "sub": "system:serviceaccount:argocd:controller", "aud": ours, "iat": at(0), "exp": at(time.Hour),
		"kubernetes.io/serviceaccount/namespace": "argocd", "kubernetes.io/serviceaccount/secret.name": "controller-token-abcde",
		"kubernetes.io/serviceaccount/service-account.name": "controller", "kubernetes.io/serviceaccount/service-account.uid": "0d5e9c1a",
	}
	for _, row := range []struct {
		name   string
		claims claims
		want   Refusal
		why    string
	}{
		{"a wrong iss", podClaims().with("iss", "https://kubernetes.default.svc.evil"), notSigned, "not registered"},
		{"an iss with a slash", podClaims().with("iss", clusterIssuer+"/"), notSigned, "not registered"},
		{"an iss that is a list", podClaims().with("iss", []string{clusterIssuer}), notJWT, "iss"},
		{"no iss", podClaims().without("iss"), notSigned, "not registered"},
		{"our own iss", podClaims().with("iss", ours), notSigned, "names us"},
		{"another's namespace in sub", podClaims().with("sub", "system:serviceaccount:kube-system:controller"), notComplete, "sub"},
		{"another's namespace in the claim", podClaims().in("namespace", "kube-system"), notComplete, "sub"},
		{"a sub with a suffix", podClaims().with("sub", "system:serviceaccount:argocd:controller-evil"), notComplete, "sub"},
		{"a sub with a prefix", podClaims().with("sub", "xsystem:serviceaccount:argocd:controller"), notComplete, "sub"},
		{"a sub in capitals", podClaims().with("sub", "system:serviceaccount:ARGOCD:controller"), notComplete, "sub"},
		{"a sub that is no service account", podClaims().with("sub", "system:node:node-1"), notComplete, "sub"},
		{"an account with colons", podClaims().in("namespace", "argocd:sa:x").with("sub", "system:serviceaccount:argocd:sa:x:controller"), notComplete, "name of Kubernetes"},
		{"no sub", podClaims().without("sub"), notComplete, "sub"},
		{"no namespace", podClaims().in("namespace", nil), notComplete, "namespace"},
		{"a namespace that is a number", podClaims().in("namespace", 1), notComplete, "namespace"},
		{"no service account", podClaims().in("serviceaccount", nil), notComplete, "serviceaccount"},
		{"no claim of Kubernetes", podClaims().without("kubernetes.io"), notComplete, "kubernetes.io"},
		{"a claim of Kubernetes that is text", podClaims().with("kubernetes.io", "{}"), notComplete, "kubernetes.io"},
		{"a legacy token of a Secret", legacy, notOfAPod, "legacy"},
		{"a token that is bound to a Secret", podClaims().in("pod", nil).in("secret", claims{"name": "s", "uid": "u"}), notOfAPod, "Secret"},
		{"a pod and a Secret at once", podClaims().in("secret", claims{"name": "s", "uid": "u"}), notOfAPod, "Secret"},
		{"a token that is bound to nothing", podClaims().in("pod", nil).in("node", nil), notOfAPod, "alone"},
		{"a token that is bound to a node", podClaims().in("pod", nil), notOfAPod, "alone"},
		{"a pod without uid", podClaims().in("pod", claims{"name": "controller-0"}), notComplete, "uid"},
		{"a pod with an empty uid", podClaims().in("pod", claims{"name": "controller-0", "uid": ""}), notComplete, "uid"},
		{"a pod without name", podClaims().in("pod", claims{"uid": "u"}), notComplete, "name"},
		{"a pod whose uid leads elsewhere", podClaims().in("pod", claims{"name": "controller-0", "uid": "a/b"}), notComplete, "uid"},
		{"a pod that is null", podClaims().in("pod", json.RawMessage("null")), notComplete, "pod"},
		{"another audience", podClaims().with("aud", []string{"https://other.example.com"}), notForUs, "other.example.com"},
		{"an audience with a suffix", podClaims().with("aud", ours+"/"), notForUs, "aud"},
		{"several audiences, ours among them", podClaims().with("aud", []string{ours, "https://other.example.com"}), notForUs, "2 values"},
		{"our audience twice", podClaims().with("aud", []string{ours, ours}), notForUs, "2 values"},
		{"an empty list of audiences", podClaims().with("aud", []string{}), notForUs, "0 values"},
		{"no audience", podClaims().without("aud"), notForUs, "0 values"},
		{"an audience that is no text", podClaims().with("aud", []any{1}), notComplete, "aud"},
		{"a token for the API server", podClaims().with("aud", []string{clusterIssuer}), notForUs, clusterIssuer},
		{"expired", podClaims().with("exp", at(-authority.Leeway)), notInTime, "expired"},
		{"no exp", podClaims().without("exp"), notInTime, "exp"},
		{"an exp that is text", podClaims().with("exp", "never"), notInTime, "exp"},
		{"an exp without end", podClaims().with("exp", at(authority.MaxTokenTTL+authority.Leeway+time.Second)), notInTime, "too long"},
		{"not valid yet", podClaims().with("nbf", at(authority.Leeway+time.Second)), notInTime, "yet"},
		{"issued in the future", podClaims().with("iat", at(authority.Leeway+time.Second)), notInTime, "yet"},
		{"no iat", podClaims().without("iat"), notComplete, "iat"},
	} {
		refused := r.refuses(t, row.name, k.sign(t, row.claims), row.want, row.why)
		known := row.want.Public != notJWT.Public && row.want.Public != notSigned.Public
		if known != (refused.Cluster == "hub") {
			t.Errorf("%s: of cluster %q", row.name, refused.Cluster)
		}
		// A signature that is not good decides before anything that the claims say (D 62).
		if known {
			r.refuses(t, row.name+", signed by a stranger", stranger.sign(t, row.claims), notSigned, "signature")
		}
	}
	r.accepts(t, k.sign(t, podClaims().with("exp", at(-authority.Leeway+time.Second))))
	r.accepts(t, k.sign(t, podClaims().with("exp", at(authority.MaxTokenTTL))))
	r.accepts(t, k.sign(t, podClaims().in("node", nil)))
	r.accepts(t, k.sign(t, podClaims().in("node", claims{"name": "node-1"}))) // its node's object is gone
	r.accepts(t, k.sign(t, podClaims().with("aud", ours)))
}

func TestTheAudienceOfTheAPIServerIsNeverOurs(t *testing.T) {
	k := ecKey(t, "k1")
	c := cluster("hub", jwks(t, k))
	c.Audiences = []string{clusterIssuer, "sts"}
	r := newRig(t)
	r.use(t, []authority.Cluster{c})
	r.accepts(t, k.sign(t, podClaims().with("aud", []string{"sts"})))
	r.refuses(t, "the API server's", k.sign(t, podClaims().with("aud", []string{clusterIssuer})), notForUs, "API server")
	r.refuses(t, "ours, which is not in the list", k.sign(t, podClaims()), notForUs, ours)
}

// docs/security/threats.md D 43 to 62, and scenario 21: refused, and nobody is asked for anything.
func TestHeadersThatAreNoProof(t *testing.T) {
	k := rsaKey(t, "k1", jose.RS256, "")
	r := newRig(t)
	issuer := newIssuer(t)
	r.use(t, []authority.Cluster{cluster("hub", jwks(t, k)), reachable("spoke")}, authority.TrustedIssuer{Name: "fetched", Issuer: issuer.URL})
	r.apiKeys = func(context.Context, authority.Cluster) ([]byte, error) { return jwks(t, ecKey(t, "k2")), nil }
	r.refresh()
	r.settled(t)
	r.asked.Store(0)
	issuer.asked.Store(0)
	r.clock.pass(time.Minute) // so that a fetch would be due

	der, err := x509.MarshalPKIXPublicKey(rsaPrivate().Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	hs := func(header string) string {
		unsigned := forge(header, podClaims().text(), nil)
		mac := hmac.New(sha256.New, public)
		mac.Write([]byte(strings.TrimSuffix(unsigned, ".")))
		return unsigned + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	good := k.sign(t, podClaims())
	signature, _ := base64.RawURLEncoding.DecodeString(good[strings.LastIndexByte(good, '.')+1:])
	anySignature := func(header string) string { return forge(header, podClaims().text(), signature) }
	for _, row := range []struct {
		name, token string
		want        Refusal
	}{
		{"alg none", forge(`{"alg":"none","kid":"k1"}`, podClaims().text(), nil), notSigned},
		{"alg nOnE", forge(`{"alg":"nOnE","kid":"k1"}`, podClaims().text(), nil), notSigned},
		{"alg none with a kid that nobody knows", forge(`{"alg":"none","kid":"k9"}`, podClaims().text(), nil), notSigned},
		{"no alg", forge(`{"kid":"k1"}`, podClaims().text(), nil), notJWT},
		{"HS256 with the public key", hs(`{"alg":"HS256","kid":"k1"}`), notSigned},
		{"HS256 with a kid that nobody knows", hs(`{"alg":"HS256","kid":"k9"}`), notSigned},
		{"another algorithm of the same key", anySignature(`{"alg":"PS256","kid":"k1"}`), notSigned},
		{"an algorithm of another key", anySignature(`{"alg":"ES256","kid":"k1"}`), notSigned},
		{"EdDSA, which no cluster signs with", anySignature(`{"alg":"EdDSA","kid":"k9"}`), notSigned},
		{"no kid", anySignature(`{"alg":"RS256"}`), notSigned},
		{"a kid with a line break", anySignature(`{"alg":"RS256","kid":"k1\n"}`), notJWT},
		{"a kid without end", anySignature(`{"alg":"RS256","kid":"` + strings.Repeat("k", 300) + `"}`), notJWT},
		{"a kid that is a number", anySignature(`{"alg":"RS256","kid":1}`), notJWT},
		{"a header that was changed", anySignature(`{"alg":"RS256","kid":"k1","x":1}`), notSigned},
		{"crit", anySignature(`{"alg":"RS256","kid":"k9","crit":["exp"]}`), notSigned},
		{"an access token", anySignature(`{"alg":"RS256","kid":"k9","typ":"at+jwt"}`), notSigned},
		{"a logout token", anySignature(`{"alg":"RS256","kid":"k9","typ":"logout+jwt"}`), notSigned},
		{"JOSE, which is for SPIFFE", anySignature(`{"alg":"RS256","kid":"k9","typ":"JOSE"}`), notSigned},
		{"jku", anySignature(`{"alg":"RS256","kid":"k1","jku":"` + issuer.URL + `/jku"}`), notSigned},
		{"x5u and jwk", anySignature(`{"alg":"RS256","kid":"k1","x5u":"` + issuer.URL + `/x5u","jwk":` + string(must(k.PublicKey().MarshalJSON())) + `}`), notSigned},
		{"an issuer at a link-local address", forge(`{"alg":"RS256","kid":"k1"}`, podClaims().with("iss", "http://169.254.169.254").text(), signature), notSigned},
		{"an issuer below a registered one", forge(`{"alg":"RS256","kid":"k1"}`, podClaims().with("iss", issuer.URL+"/x").text(), signature), notSigned},
		{"nothing", "", notJWT},
		{"no JWT", "sbx_at_abc", notJWT},
		{"two parts", "e30.e30", notJWT},
		{"too large", strings.Repeat("a", 20<<10), notJWT},
		{"a name twice", forge(`{"alg":"RS256","kid":"k1"}`, `{"iss":"x","iss":"`+clusterIssuer+`"}`, signature), notJWT},
		{"no signature", good[:strings.LastIndexByte(good, '.')+1], notSigned},
		{"a signature that was cut", good[:len(good)-4], notSigned},
	} {
		r.refuses(t, row.name, row.token, row.want, "")
	}
	if n, m := r.asked.Load(), issuer.asked.Load(); n+m > 0 {
		t.Errorf("%d requests to API servers and %d elsewhere", n, m)
	}
	r.accepts(t, good)
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestATokenBelongsToTheClusterWhoseKeyHasSignedIt(t *testing.T) {
	a, b := ecKey(t, "k"), ecKey(t, "k") // one kid, which proves nothing
	r := newRig(t)
	r.use(t, []authority.Cluster{cluster("a", jwks(t, a)), cluster("b", jwks(t, b))})
	if p := r.accepts(t, a.sign(t, podClaims())); p.Cluster != "a" {
		t.Errorf("a's token is of %s", p.Cluster)
	}
	if p := r.accepts(t, b.sign(t, podClaims())); p.Cluster != "b" {
		t.Errorf("b's token is of %s", p.Cluster)
	}
	// With issuers of their own, the key of one signs nothing for the other.
	other := cluster("b", jwks(t, b))
	other.Issuer = "https://b.example.com"
	r.use(t, []authority.Cluster{cluster("a", jwks(t, a)), other})
	r.refuses(t, "b signs as a", b.sign(t, podClaims()), notSigned, "signature")
	r.refuses(t, "a signs as b", a.sign(t, podClaims().with("iss", "https://b.example.com")), notSigned, "signature")
}

func TestOneKeyInTwoPlacesIsRefused(t *testing.T) {
	k, other, svid := ecKey(t, "k"), ecKey(t, "k"), ecKey(t, "s")
	renamed := strings.ReplaceAll(string(jwks(t, k)), `"kid":"k"`, `"kid":"other"`)
	for _, row := range []struct {
		name     string
		clusters []authority.Cluster
		issuers  []authority.TrustedIssuer
		want     string
	}{
		{"two clusters", []authority.Cluster{cluster("a", jwks(t, k)), cluster("b", jwks(t, k))}, nil, "same key"},
		{"two clusters, with another kid", []authority.Cluster{cluster("a", jwks(t, k)), cluster("b", []byte(renamed))}, nil, "same key"},
		{"a cluster and an issuer", []authority.Cluster{cluster("a", jwks(t, k))}, []authority.TrustedIssuer{github(jwks(t, k))}, "same key"},
		{"an issuer and a trust domain", nil, []authority.TrustedIssuer{github(jwks(t, k)), trustDomain(bundle(t, k))}, "same key"},
		{"two clusters of one name", []authority.Cluster{cluster("a", jwks(t, k)), cluster("a", jwks(t, other))}, nil, "same name"},
		{"two issuers of one iss", nil, []authority.TrustedIssuer{github(jwks(t, k)), {Name: "again", Issuer: githubIssuer, Keys: jwks(t, other)}}, "same name or issuer"},
		{"two entries of one trust domain", nil, []authority.TrustedIssuer{trustDomain(bundle(t, k)), {Name: "again", TrustDomain: "prod.example.com", Keys: bundle(t, other)}}, "same name or issuer"},
		{"a set that is none", []authority.Cluster{cluster("a", []byte(`{"keys":1}`))}, nil, "key set"},
		{"a set without keys", []authority.Cluster{cluster("a", []byte(`{"keys":[]}`))}, nil, "no key"},
		{"a bundle without keys for tokens", nil, []authority.TrustedIssuer{trustDomain(jwks(t, k))}, "no key"},
		{"a cluster and an issuer of one name and issuer, with keys of their own", []authority.Cluster{cluster("github", jwks(t, k))}, []authority.TrustedIssuer{{Name: "github", Issuer: clusterIssuer, Keys: jwks(t, other)}, trustDomain(bundle(t, svid))}, ""},
	} {
		err := newRig(t).Use(row.clusters, row.issuers)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	// What is refused changes nothing.
	r := newRig(t)
	r.use(t, []authority.Cluster{cluster("a", jwks(t, k))})
	if err := r.Use([]authority.Cluster{cluster("b", jwks(t, other)), cluster("c", jwks(t, other))}, nil); err == nil {
		t.Error("accepted")
	}
	r.accepts(t, k.sign(t, podClaims()))
	r.refuses(t, "of a registration that was refused", other.sign(t, podClaims()), notSigned, "")
}

func TestTokensOfAnIssuerThatAreNoProof(t *testing.T) {
	k, svid := rsaKey(t, "k1", jose.RS256, "JWT"), ecKey(t, "s1")
	unnamed := ecKey(t, "")
	r := newRig(t)
	r.use(t, []authority.Cluster{cluster("hub", jwks(t, unnamed, ecKey(t, "h")))}, github(jwks(t, k)), trustDomain(bundle(t, svid)))
	for _, row := range []struct {
		name   string
		key    key
		claims claims
		want   Refusal
		why    string
	}{
		{"several audiences", k, jobClaims().with("aud", []string{ours, "https://other.example.com"}), notForUs, "2 values"},
		{"another audience", k, jobClaims().with("aud", "https://github.com/acme"), notForUs, "github.com/acme"},
		{"several audiences and an azp", k, jobClaims().with("aud", []string{ours, "x"}).with("azp", ours), notForUs, "2 values"},
		{"no sub", k, jobClaims().without("sub"), notComplete, "sub"},
		{"a sub that a terminal obeys", k, jobClaims().with("sub", "repo:\x1b[2J"), notComplete, "print"},
		{"a sub that reads backwards", k, jobClaims().with("sub", "repo:\u202eemca"), notComplete, "print"},
		{"a sub without end", k, jobClaims().with("sub", strings.Repeat("a", 513)), notComplete, "512"},
		{"a jti without end", k, jobClaims().with("jti", strings.Repeat("a", 256)), notComplete, "255"},
		{"a jti that is a number", k, jobClaims().with("jti", 1), notComplete, "jti"},
		{"no iat", k, jobClaims().without("iat"), notComplete, "iat"},
		{"a life of two days", k, jobClaims().with("exp", start.Add(48*time.Hour).Unix()), notInTime, "long"},
		{"an SVID of another trust domain", svid, svidClaims().with("sub", "spiffe://prod.example.com.evil/x"), notSigned, "not registered"},
		{"an SVID below the trust domain", svid, svidClaims().with("sub", "spiffe://a.prod.example.com/x"), notSigned, "not registered"},
		{"an SVID of the trust domain itself", svid, svidClaims().with("sub", "spiffe://prod.example.com"), notComplete, "trust domain"},
		{"an SVID without a path", svid, svidClaims().with("sub", "spiffe://prod.example.com/"), notComplete, "SPIFFE ID"},
		{"an SVID that climbs", svid, svidClaims().with("sub", "spiffe://prod.example.com/a/../b"), notComplete, "SPIFFE ID"},
		{"an SVID with an escape", svid, svidClaims().with("sub", "spiffe://prod.example.com/a%2fb"), notComplete, "SPIFFE ID"},
		{"an SVID with a query", svid, svidClaims().with("sub", "spiffe://prod.example.com/a?b"), notComplete, "SPIFFE ID"},
		{"an SVID in capitals", svid, svidClaims().with("sub", "SPIFFE://prod.example.com/a"), notSigned, "not registered"},
		{"an SVID with a slash at the end", svid, svidClaims().with("sub", "spiffe://prod.example.com/a/"), notComplete, "SPIFFE ID"},
		{"an SVID without an audience", svid, svidClaims().without("aud"), notForUs, "0 values"},
		{"an SVID without an end", svid, svidClaims().without("exp"), notInTime, "exp"},
		{"the key of a trust domain signs for an issuer", svid, jobClaims(), notSigned, "not known"},
		{"the key of an issuer signs for a trust domain", k, svidClaims(), notSigned, "not known"},
		{"the key of an issuer signs for a cluster", k, podClaims(), notSigned, "not known"},
		{"a pod's token without a kid, of a key without one", unnamed, podClaims(), notSigned, "no kid"},
	} {
		r.refuses(t, row.name, row.key.sign(t, row.claims), row.want, row.why)
	}
	r.accepts(t, k.sign(t, jobClaims().without("jti")))
	r.accepts(t, k.sign(t, jobClaims().with("aud", []string{ours}).with("azp", "whoever asked for it").with("sub", "repo:acme/app:environment:Prüfung 1")))
}

func TestThePublicTextTellsAStrangerNothing(t *testing.T) {
	k, stranger := ecKey(t, "k1"), ecKey(t, "k1")
	r := newRig(t)
	r.use(t, []authority.Cluster{cluster("hub", jwks(t, k))})
	texts := map[string]bool{}
	for _, token := range []string{
		stranger.sign(t, podClaims()), ecKey(t, "other").sign(t, podClaims()), stranger.sign(t, podClaims().with("iss", "https://elsewhere")),
		stranger.sign(t, podClaims().with("exp", 1)), stranger.sign(t, podClaims().without("aud")),
	} {
		_, err := r.Verify(t.Context(), token)
		var refused *Refusal
		if !errors.As(err, &refused) || refused.Cluster != "" {
			t.Fatalf("%v", err)
		}
		texts[refused.Public] = true
	}
	if len(texts) != 1 {
		t.Errorf("a stranger can tell apart %v", texts)
	}
}

func TestTheSameProofAgain(t *testing.T) {
	k, next := ecKey(t, "k1"), ecKey(t, "k2")
	token := k.sign(t, podClaims())
	hub := reachable("hub")
	r := newRig(t)
	set := jwks(t, k)
	r.apiKeys = func(context.Context, authority.Cluster) ([]byte, error) { return set, nil }
	refetch := func() {
		r.clock.pass(defaultAge)
		r.refresh()
		r.settled(t)
	}
	r.use(t, []authority.Cluster{hub})
	first := r.accepts(t, token)
	if again := r.accepts(t, token); &again.Claims[0] != &first.Claims[0] {
		t.Error("the same proof was verified twice")
	}
	set = jwks(t, next, k)
	refetch()
	if again := r.accepts(t, token); &again.Claims[0] != &first.Claims[0] {
		t.Error("a new key beside the old one made the proof new")
	}
	r.use(t, []authority.Cluster{hub, cluster("other", jwks(t, ecKey(t, "o")))})
	if again := r.accepts(t, token); &again.Claims[0] != &first.Claims[0] {
		t.Error("a neighbour made the proof new")
	}
	// Another registration of the same cluster judges it again.
	strict := hub
	strict.Audiences = []string{"https://elsewhere.example.com"}
	r.use(t, []authority.Cluster{strict})
	r.refuses(t, "an audience that is accepted no more", token, notForUs, ours)
	r.use(t, []authority.Cluster{hub})
	r.accepts(t, token)
	if n := r.asked.Load(); n != 2 {
		t.Errorf("%d fetches: a registration with the same keys has forgotten them", n)
	}
	// A key that leaves the set takes its proofs along.
	set = jwks(t, next)
	refetch()
	r.refuses(t, "a key that has left", token, notSigned, "not known")
	set = jwks(t, k)
	refetch()
	r.accepts(t, token)
	set = []byte(`{"keys":[]}`)
	refetch()
	r.refuses(t, "every key has left", token, notSigned, "")
	set = jwks(t, k)
	refetch()
	r.accepts(t, token)
	// A key of the same kid that is another one, too.
	set = jwks(t, ecKey(t, "k1"))
	refetch()
	r.refuses(t, "another key of that kid", token, notSigned, "signature")

	set = jwks(t, k)
	refetch()
	r.accepts(t, token)
	r.clock.pass(time.Hour)
	r.refuses(t, "expired since", token, notInTime, "expired")

	r.use(t, nil)
	r.refuses(t, "a cluster that is gone", token, notSigned, "not registered")
}

func TestATokenIsHeldToABoundedNumberOfKeys(t *testing.T) {
	r := newRig(t)
	var clusters []authority.Cluster
	honest := ecKey(t, "k")
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		clusters = append(clusters, cluster(name, jwks(t, ecKey(t, "k"))))
	}
	r.use(t, append(clusters, cluster("honest", jwks(t, honest))))
	r.accepts(t, honest.sign(t, podClaims()))
	clusters = append(clusters, cluster("h", jwks(t, ecKey(t, "k"))))
	r.use(t, append(clusters, cluster("honest", jwks(t, honest))))
	s := search{verifier: r.Verifier, token: must2(inspect(honest.sign(t, podClaims()))), now: r.now()}
	if _, refused := s.run(t.Context()); refused == nil || len(s.checked) != maxChecks {
		t.Errorf("%d signatures were checked: %v", len(s.checked), refused)
	}
}

func must2(u unverified, err error) unverified {
	if err != nil {
		panic(err)
	}
	return u
}

func TestStatus(t *testing.T) {
	k, stranger := ecKey(t, "k1"), ecKey(t, "k1")
	r := newRig(t)
	r.use(t, []authority.Cluster{cluster("hub", jwks(t, k))}, github(jwks(t, ecKey(t, "g1"))))
	if s := r.Status("hub"); len(s.KeyIDs) != 1 || s.KeyIDs[0] != "k1" || !s.FetchedAt.IsZero() || s.LastError != "" || s.LastRefusal != "" {
		t.Errorf("%+v", s)
	}
	if s := r.IssuerStatus("github"); len(s.KeyIDs) != 1 || s.KeyIDs[0] != "g1" {
		t.Errorf("%+v", s)
	}
	if s := r.Status("github"); len(s.KeyIDs) != 0 {
		t.Errorf("an issuer is no cluster: %+v", s)
	}
	r.refuses(t, "a stranger", stranger.sign(t, podClaims()), notSigned, "")
	if s := r.Status("hub"); !strings.Contains(s.LastRefusal, "signature") || !s.LastRefusalAt.Equal(start) {
		t.Errorf("%+v", s)
	}
	r.refuses(t, "one of its own", k.sign(t, podClaims().with("aud", "x")), notForUs, "")
	r.refuses(t, "a stranger", stranger.sign(t, podClaims()), notSigned, "")
	if s := r.Status("hub"); !strings.Contains(s.LastRefusal, "aud") {
		t.Errorf("a stranger has replaced what a bearer is told: %+v", s)
	}
}

func TestTheMirrorShowsOnlyWhatWasRead(t *testing.T) {
	k := ecKey(t, "k1")
	set := strings.Replace(string(jwks(t, k)), `"use":"sig"`, `"use":"sig","x5c":["AAAA"],"note":"internal"`, 1)
	set = strings.Replace(set, `{"keys"`, `{"secret":"internal","keys"`, 1)
	r := newRig(t)
	r.use(t, []authority.Cluster{cluster("hub", []byte(set)), reachable("spoke")}, github(jwks(t, ecKey(t, "g1"))))
	got, err := r.Keys("hub")
	if err != nil || string(got) != string(jwks(t, k)) {
		t.Errorf("%s, %v", got, err)
	}
	for _, name := range []string{"github", "nobody", ""} {
		if _, err := r.Keys(name); !errors.Is(err, authority.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var refused *Refusal
	if _, err := r.Keys("spoke"); !errors.As(err, &refused) || !refused.Unavailable {
		t.Errorf("keys that are not known: %v", err)
	}
}
