package signalboxtest

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Admin is the admin API of the issuer, as an administrator who may do everything.
func (i *Issuer) Admin() *admin.API { return i.admin }

// newAdmin makes the client of the admin API, with a token of its own for each request.
func (i *Issuer) newAdmin(url string) (*admin.API, error) {
	return admin.New(url, admin.Options{HTTPClient: i.http, Token: func(ctx context.Context, _ string) (string, error) {
		return i.node.Mint(ctx, adminClient, authority.AdminResource, 0)
	}})
}

// must ends the test for a request that was refused.
func (i *Issuer) must(err error) {
	i.helper()
	if err != nil {
		i.fail("signalboxtest: %v", err)
	}
}

// RevokeToken ends one access token.
func (i *Issuer) RevokeToken(accessToken string) {
	i.helper()
	i.revoke(admin.Revoke{Token: accessToken})
}

// RevokeGrant ends the grant of an access token, and with it every token that
// came from it.
func (i *Issuer) RevokeGrant(accessToken string) {
	i.helper()
	i.revoke(admin.Revoke{Token: accessToken, WithGrant: true})
}

// RevokeUser ends every token of a user, and signs the user out. Tokens that are
// issued afterwards are good.
func (i *Issuer) RevokeUser(username string) {
	i.helper()
	i.revoke(admin.Revoke{Username: i.user(username).Username})
}

// RevokeClient ends every token of a client. Tokens that are issued afterwards
// are good.
func (i *Issuer) RevokeClient(clientID string) {
	i.helper()
	i.revoke(admin.Revoke{ClientID: i.client(clientID).ID})
}

// revoke is in force when it returns. What comes next is younger than the mark
// that it sets, which has whole milliseconds.
func (i *Issuer) revoke(what admin.Revoke) {
	i.helper()
	_, err := i.admin.Revoke(context.Background(), what)
	i.must(err)
	i.ahead.Add(int64(2 * time.Millisecond))
}

// RotateKeys signs with a new key from now on, and returns its `kid`. Tokens of
// the old key stay good. A key signs only when verifiers have had the time to
// see it: the first rotation works at once, a later one 10 minutes after the one
// before it.
func (i *Issuer) RotateKeys() (kid string) {
	i.helper()
	key, err := i.admin.RotateKey(context.Background(), admin.RotateKey{Algorithm: "ES256"})
	i.must(err)
	return key.KeyID
}
