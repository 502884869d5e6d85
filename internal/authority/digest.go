package authority

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/jose"
)

// A digest is of what tokens depend on: words, one for each thing that must not go.
// A key or an audience more is one word more, and ends nothing.

// LosesTrust says that something is gone that made a proof good, so that what came
// from it must end: a word that was in the digest is not in the next one.
func LosesTrust(was, is string) bool {
	words := strings.Fields(is)
	for word := range strings.FieldsSeq(was) {
		if !slices.Contains(words, word) {
			return true
		}
	}
	return false
}

// TrustDigest is of what makes a proof from the cluster good.
func (c Cluster) TrustDigest() string {
	return trustDigest([]string{c.Issuer, string(c.Pods)}, c.Keys, jose.ParseKeySet, c.KeysURI, c.Audiences)
}

// TrustDigest is of what makes a proof of the issuer good.
func (t TrustedIssuer) TrustDigest() string {
	parse := jose.ParseKeySet
	if t.TrustDomain != "" {
		parse = jose.ParseBundle
	}
	return trustDigest([]string{t.Issuer, t.TrustDomain}, t.Keys, parse, t.KeysURI, t.Audiences)
}

// TrustDigest is of everything that the policy says: what it gave before it said
// something else must end.
func (p Policy) TrustDigest() string {
	p.Name = ""
	o, _ := p.object()
	return word(string(o.Body))
}

func trustDigest(alone []string, pasted []byte, parse func([]byte) (jose.KeySet, error), uri string, audiences []string) string {
	words := []string{word(alone...)}
	if prints := thumbprints(pasted, parse); len(prints) == 0 {
		words = append(words, word("keys", uri))
	} else {
		for _, thumbprint := range prints {
			words = append(words, word("key", thumbprint))
		}
	}
	for _, aud := range audiences {
		words = append(words, word("audience", aud))
	}
	if len(audiences) == 0 {
		words = append(words, word("our audience"))
	}
	return strings.Join(words, " ")
}

// thumbprints are those of a pasted key set. One that cannot be read has none:
// Validate says so.
func thumbprints(pasted []byte, parse func([]byte) (jose.KeySet, error)) (prints []string) {
	if len(pasted) == 0 {
		return nil
	}
	set, _ := parse(pasted)
	for _, key := range set {
		prints = append(prints, key.Thumbprint())
	}
	return prints
}

// word is a short digest of texts, whatever is in them.
func word(texts ...string) string {
	sum := sha256.Sum256(marshal(texts))
	return hex.EncodeToString(sum[:16])
}
