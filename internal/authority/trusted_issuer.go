package authority

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/jose"
)

// TrustedIssuerMetadata is another issuer whose tokens count as proof, as
// somebody writes it in the file.
type TrustedIssuerMetadata struct {
	Name        string          `json:"name"`
	Issuer      string          `json:"issuer,omitempty"`
	TrustDomain string          `json:"trust_domain,omitempty"` // SPIFFE: instead of issuer
	JWKS        json.RawMessage `json:"jwks,omitempty"`
	JWKSURI     string          `json:"jwks_uri,omitempty"`
	Audiences   []string        `json:"audiences,omitempty"`
}

// TrustedIssuer is another issuer whose tokens count as proof: an OpenID
// Connect issuer by its `iss`, or a SPIFFE trust domain by its bundle.
type TrustedIssuer struct {
	Name        string
	Issuer      string   // empty for a trust domain, whose tokens need no iss
	TrustDomain string   // of the `sub`, spiffe://TRUST_DOMAIN/…; empty for OpenID Connect
	Keys        []byte   // its key set, where it was pasted
	KeysURI     string   // or where it is fetched; neither: what its discovery says
	Audiences   []string // what `aud` of its tokens may be; empty: our issuer
}

// NewTrustedIssuer makes a TrustedIssuer of what was written. The error is Problems.
func NewTrustedIssuer(m TrustedIssuerMetadata) (TrustedIssuer, error) {
	if found := m.Validate(); len(found) > 0 {
		return TrustedIssuer{}, Problems(found)
	}
	return TrustedIssuer{m.Name, m.Issuer, m.TrustDomain, m.JWKS, m.JWKSURI, m.Audiences}, nil
}

// Metadata is the trusted issuer as it is written.
func (t TrustedIssuer) Metadata() TrustedIssuerMetadata {
	return TrustedIssuerMetadata{t.Name, t.Issuer, t.TrustDomain, slices.Clone(t.Keys), t.KeysURI, slices.Clone(t.Audiences)}
}

func (t TrustedIssuer) object() (Object, []Problem) {
	m := t.Metadata()
	return Object{Kind: KindTrustedIssuer, ID: t.Name, Body: marshal(m)}, m.Validate()
}

// Accepts says whether a proof that is meant for aud is meant for us.
func (t TrustedIssuer) Accepts(aud, issuer string) bool {
	if len(t.Audiences) == 0 {
		return aud == issuer
	}
	return slices.Contains(t.Audiences, aud)
}

// Validate finds what breaks a rule, without asking about other objects.
func (m TrustedIssuerMetadata) Validate() []Problem {
	var found Problems
	found.at("name", checkClusterName(m.Name))
	parse := jose.ParseKeySet
	switch {
	case m.TrustDomain == "":
		found.issuerOfOthers(m.Issuer, true)
		if tenant := everyTenant(m.Issuer); tenant != "" {
			found.add("issuer", "has "+tenant+" in place of a tenant, which is in no token", "write your own tenant's id, as in the iss of its tokens")
		}
		if len(m.JWKS) == 0 && m.JWKSURI == "" && m.Issuer != "" {
			if p := checkFetched(m.Issuer); p != nil {
				found.add("issuer", p.Text+", and its discovery document says where its keys are", "add jwks_file or jwks_uri")
			}
		}
	case m.Issuer != "":
		found.add("issuer", "is beside trust_domain", "keep one of the two: a JWT-SVID is known by its sub")
	default:
		parse = jose.ParseBundle
		found.at("trust_domain", checkTrustDomain(m.TrustDomain))
		if len(m.JWKS) == 0 && m.JWKSURI == "" {
			found.add("jwks", "is missing", "add jwks_file with the trust domain's bundle, or jwks_uri with its bundle endpoint")
		}
	}
	found.keySet(m.JWKS, m.JWKSURI, parse)
	if found.list("audiences", m.Audiences, maxMembers) {
		found.each("audiences", m.Audiences, checkAudience)
	}
	return found
}

// CheckReferences finds what does not fit the other objects.
func (m TrustedIssuerMetadata) CheckReferences(r References) ([]Problem, error) {
	var found Problems
	if m.Issuer != "" && m.Issuer == r.Issuer {
		found.add("issuer", "is our own", "our own tokens are subject tokens of type access_token and need no entry")
	}
	for _, thumbprint := range m.KeyThumbprints() {
		owner, there, err := known(r.KeyOwner, thumbprint)
		if err != nil {
			return nil, err
		}
		if there {
			found.add("jwks", "has a key that the cluster "+quote(owner)+" has too", "register it once: a token could be of both")
		}
	}
	return found, nil
}

// KeyThumbprints are those of the keys of a pasted key set or bundle.
func (m TrustedIssuerMetadata) KeyThumbprints() []string {
	if m.TrustDomain != "" {
		return thumbprints(m.JWKS, jose.ParseBundle)
	}
	return thumbprints(m.JWKS, jose.ParseKeySet)
}

// checkTrustDomain: SPIFFE ID §2.1.
func checkTrustDomain(s string) *Problem {
	ok := s != "" && len(s) <= 255
	for i := range len(s) {
		ok = ok && (s[i] >= 'a' && s[i] <= 'z' || s[i] >= '0' && s[i] <= '9' || strings.IndexByte(".-_", s[i]) >= 0)
	}
	if !ok {
		return problem(quote(s)+" is not a trust domain", "write it without spiffe://, such as prod.example.com")
	}
	return nil
}
