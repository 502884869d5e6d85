package node

import (
	"errors"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// The sub of a token must mean one person or machine for ever.
func TestIDsNeverReturn(t *testing.T) {
	n, file := openTest(t)
	clients := authority.Clients(n.db)
	machine := func(id string) authority.Client {
		return authority.Client{ID: id, AuthMethod: oauth.AuthClientSecretBasic, Secrets: make([]authority.ClientSecret, 1)}
	}
	if err := clients.Create(t.Context(), machine("u-gone")); err != nil {
		t.Fatal(err)
	}
	gone, err := clients.Get(t.Context(), "u-gone")
	if err != nil {
		t.Fatal(err)
	}
	if err := clients.Delete(t.Context(), gone, n.now()); err != nil {
		t.Fatal(err)
	}
	edit(t, file, "username: ada\n", "username: ada\n    sub: u-gone\n")
	if err := reload(n, file); err == nil || errors.Is(err, errTryAgain) || !strings.Contains(err.Error(), `"u-gone"`) {
		t.Fatalf("a user of the file got the id of a deleted client: %v", err)
	}
	edit(t, file, "sub: u-gone", "sub: u-first")
	mustReload(t, n, file)
	edit(t, file, "sub: u-first", "sub: u-second")
	mustReload(t, n, file)
	for _, id := range []string{"u-first", "u-second"} {
		if err := clients.Create(t.Context(), machine(id)); !errors.Is(err, authority.ErrRetired) {
			t.Errorf("%s, the sub of a person of the file, can become a client: %v", id, err)
		}
	}
}

// Who knows a username does not know the sub, and so cannot take it beforehand.
func TestTheSubOfADeclaredUserIsNotPredictable(t *testing.T) {
	one, other := keys.GenerateMasterKey(), keys.GenerateMasterKey()
	sub := subOf("ada", one)
	if !strings.HasPrefix(sub, "u_") || len(sub) != 34 || subOf("ada", one) != sub || subOf("bob", one) == sub || subOf("ada", other) == sub {
		t.Errorf("%q", sub)
	}
}
