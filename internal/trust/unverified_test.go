package trust

import (
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// For an explanation, a token is held to everything but its signature, and could
// be of every cluster with its issuer.
func TestReadUnverifiedHoldsATokenToAllButItsSignature(t *testing.T) {
	var c clock
	v := New(Options{Issuer: ours, Now: c.now})
	clusters := []authority.Cluster{{Name: "hub", Issuer: clusterIssuer}, {Name: "spoke", Issuer: clusterIssuer}, {Name: "place"}}
	if err := v.Use(clusters, nil); err != nil {
		t.Fatal(err)
	}
	nobody := ecKey(t, "nobody")
	proofs, err := v.ReadUnverified(nobody.sign(t, podClaims()))
	if err != nil || len(proofs) != 2 || proofs[0].Cluster != "hub" || proofs[1].Cluster != "spoke" || proofs[0].Namespace == "" || proofs[0].Hash == "" {
		t.Fatalf("%v, %v", proofs, err)
	}
	for name, change := range map[string][2]any{
		"another issuer": {"iss", "https://evil.example"}, "another audience": {"aud", "https://other.example"}, "expired": {"exp", c.now().Unix() - 3600},
		"a subject with a suffix": {"sub", podClaims()["sub"].(string) + "-evil"},
	} {
		if proofs, err := v.ReadUnverified(nobody.sign(t, podClaims().with(change[0].(string), change[1]))); err == nil {
			t.Errorf("%s: %v", name, proofs)
		}
	}
	if _, err := v.ReadUnverified("abc"); err == nil {
		t.Error("abc is a token")
	}
}
