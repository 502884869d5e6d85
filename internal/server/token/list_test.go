package token

import (
	"testing"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// The endpoint has a function for each grant type of the one list, and no other.
func TestOneListOfGrantTypes(t *testing.T) {
	for _, g := range oauth.GrantTypes {
		if grants[g] == nil {
			t.Errorf("%s has no function", g)
		}
	}
	if len(grants) != len(oauth.GrantTypes) {
		t.Errorf("%d functions, %d grant types", len(grants), len(oauth.GrantTypes))
	}
}
