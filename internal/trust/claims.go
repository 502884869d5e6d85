package trust

// What a token must say after its signature has been found good: Kubernetes service-account
// tokens, OpenID Connect Core §3.1.3.7, SPIFFE JWT-SVID §3.

import (
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

type kind uint8

const (
	kubernetes kind = iota
	openID
	spiffe
)

// expects says which headers a kind of token may have. Kubernetes signs with RS256 or ES256 to
// ES512 and writes no typ; JWT-SVID §2.2 allows typ JWT and JOSE. Types of their own, such as at+jwt, are tokens
// for another purpose (docs/security/threats.md D 59).
var expects = [...]jose.Expect{
	kubernetes: {Types: []string{"", "JWT"}, Algorithms: []jose.Algorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}},
	openID:     {Types: []string{"", "JWT"}, Algorithms: jose.Algorithms()},
	spiffe: {Types: []string{"", "JWT", "JOSE"}, Algorithms: []jose.Algorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512,
		jose.PS256, jose.PS384, jose.PS512}},
}

const spiffeScheme = "spiffe://"

// read makes a proof of the claims of a token that the origin's key has signed.
func (o *origin) read(c jose.Claims, ours string, now time.Time) (authority.Proof, *Refusal) {
	p := authority.Proof{Cluster: o.cluster.Name, TrustedIssuer: o.issuer.Name, Issuer: o.iss}
	f := fields{claims: c}
	if o.kind != spiffe { // a trust domain is named by sub, and its iss means nothing
		if iss := f.text("iss"); f.err == nil && iss != o.iss {
			return p, notComplete.because(reasonf("its iss is %s", shown(iss)))
		}
	}
	p.Subject, p.ID = f.text("sub"), f.optional("jti")
	if f.err != nil {
		return p, notComplete.because(f.err)
	}

	times, err := c.CheckTimes(now, jose.TimeRules{Leeway: authority.Leeway, MaxLife: authority.MaxTokenTTL})
	if err != nil {
		return p, notInTime.because(err)
	}
	if times.IssuedAt.IsZero() && o.kind != spiffe {
		return p, notComplete.because(reasonf("it has no iat"))
	}
	p.IssuedAt, p.Expires = times.IssuedAt, times.Expires

	// Exactly one audience: whoever else is in aud could show the token here in its bearer's
	// name. So azp needs no rule: a policy may pin it like any other claim.
	p.Audience, _, err = c.Strings("aud")
	switch {
	case err != nil:
		return p, notComplete.because(err)
	case len(p.Audience) != 1:
		return p, notForUs.because(reasonf("its aud has %d values", len(p.Audience)))
	case !o.accepts(p.Audience[0], ours):
		return p, notForUs.because(reasonf("its aud is %s", shown(p.Audience[0])))
	}

	var refused *Refusal
	switch o.kind {
	case kubernetes:
		refused = readPod(&p, c)
	case spiffe:
		refused = readSPIFFE(p.Subject, o.issuer.TrustDomain)
	}
	if refused != nil {
		return p, refused
	}
	p.Claims = c.JSON()
	if err := p.Check(); err != nil {
		return p, notComplete.because(err)
	}
	return p, nil
}

// readPod reads the private claims of a token that is bound to a pod. The legacy tokens of
// Secrets have none of them, and never end by themselves.
func readPod(p *authority.Proof, c jose.Claims) *Refusal {
	if p.Audience[0] == p.Issuer {
		return notForUs.because(reasonf("its aud is the cluster's own issuer: it is for the API server"))
	}
	private, ok, err := c.Object("kubernetes.io")
	switch {
	case err != nil:
		return notComplete.because(err)
	case !ok && c.Has("kubernetes.io/serviceaccount/secret.name"):
		return notOfAPod.because(reasonf("it is a token of a Secret (legacy)"))
	case !ok:
		return notComplete.because(reasonf("it has no claim kubernetes.io"))
	case private.Has("secret"):
		return notOfAPod.because(reasonf("it is bound to a Secret"))
	}
	f := fields{claims: private}
	p.Namespace = f.text("namespace")
	p.ServiceAccount = f.object("serviceaccount", true).Name
	if f.err != nil {
		return notComplete.because(f.err)
	}
	// Exactly, and never by a prefix: prod is not prod-evil (docs/security/threats.md G 91).
	if want := "system:serviceaccount:" + p.Namespace + ":" + p.ServiceAccount; p.Subject != want {
		return notComplete.because(reasonf("its sub is %s, and its other claims say %s", shown(p.Subject), shown(want)))
	}
	if !private.Has("pod") {
		return notOfAPod.because(reasonf("it is bound to the service account or a node alone"))
	}
	p.Pod, p.Node = f.object("pod", true), f.object("node", false)
	if f.err != nil {
		return notComplete.because(f.err)
	}
	return nil
}

// readSPIFFE holds a subject to the form of a SPIFFE ID with a path, in this trust domain.
func readSPIFFE(sub, domain string) *Refusal {
	path, ok := strings.CutPrefix(sub, spiffeScheme+domain+"/")
	if !ok {
		return notComplete.because(reasonf("its sub %s is not in the trust domain", shown(sub)))
	}
	for segment := range strings.SplitSeq(path, "/") {
		plain := segment != "" && segment != "." && segment != ".."
		for i := range len(segment) {
			c := segment[i]
			plain = plain && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_')
		}
		if !plain {
			return notComplete.because(reasonf("its sub %s is not a SPIFFE ID", shown(sub)))
		}
	}
	return nil
}

// fields reads claims and keeps the first failure.
type fields struct {
	claims jose.Claims
	err    error
}

func (f *fields) text(name string) string {
	value := f.optional(name)
	if value == "" && f.err == nil {
		f.err = reasonf("its %s is missing or empty", name)
	}
	return value
}

func (f *fields) optional(name string) string {
	value, _, err := f.claims.String(name)
	if err != nil && f.err == nil {
		f.err = err
	}
	return value
}

// object reads {"name": …, "uid": …}. Where a node's object is gone, Kubernetes omits its uid;
// authority.Proof.Check asks for that of the pod.
func (f *fields) object(name string, needed bool) authority.ObjectRef {
	object, ok, err := f.claims.Object(name)
	switch {
	case f.err != nil, err == nil && !ok && !needed:
		return authority.ObjectRef{}
	case err != nil, !ok:
		f.err = reasonf("its kubernetes.io.%s is missing or not an object", name)
		return authority.ObjectRef{}
	}
	inner := fields{claims: object}
	ref := authority.ObjectRef{Name: inner.text("name"), UID: inner.optional("uid")}
	f.err = inner.err
	return ref
}
