package signalboxtest

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// RevokeToken ends one access token.
func (i *Issuer) RevokeToken(accessToken string) {
	i.helper()
	i.revoke(object{"token": accessToken})
}

// RevokeGrant ends the grant of an access token, and with it every token that
// came from it.
func (i *Issuer) RevokeGrant(accessToken string) {
	i.helper()
	i.revoke(object{"token": accessToken, "with_grant": true})
}

// RevokeUser ends every token of a user, and signs the user out. Tokens that are
// issued afterwards are good.
func (i *Issuer) RevokeUser(username string) {
	i.helper()
	i.revoke(object{"username": i.user(username).Username})
}

// RevokeClient ends every token of a client. Tokens that are issued afterwards
// are good.
func (i *Issuer) RevokeClient(clientID string) {
	i.helper()
	i.revoke(object{"client_id": i.client(clientID).ID})
}

// revoke is in force when it returns. What comes next is younger than the mark
// that it sets, which has whole milliseconds.
func (i *Issuer) revoke(body object) {
	i.helper()
	i.admin(http.MethodPost, "/revocations", body, nil)
	i.ahead.Add(int64(2 * time.Millisecond))
}

// RotateKeys signs with a new key from now on, and returns its `kid`. Tokens of
// the old key stay good. A key signs only when verifiers have had the time to
// see it: the first rotation works at once, a later one 10 minutes after the one
// before it.
func (i *Issuer) RotateKeys() (kid string) {
	i.helper()
	var key struct {
		ID string `json:"kid"`
	}
	i.admin(http.MethodPost, "/keys/rotate", object{"alg": "ES256"}, &key)
	return key.ID
}

// admin calls the admin API and wants success.
func (i *Issuer) admin(method, path string, body object, into any) {
	i.helper()
	token, err := i.node.Mint(context.Background(), adminClient, authority.AdminResource, 0)
	if err != nil {
		i.fail("signalboxtest: %v", err)
	}
	text, err := json.Marshal(body)
	if err != nil {
		i.fail("signalboxtest: %v", err)
	}
	request, err := http.NewRequest(method, i.adminURL+"/admin/v1"+path, bytes.NewReader(text))
	if err != nil {
		i.fail("signalboxtest: %v", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	i.do(i.http, request, into)
}
