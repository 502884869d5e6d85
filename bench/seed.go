//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
)

// seedGrants fills the stopped service's database with count standing grants
// as the code flow leaves them, one for each of count users, made at times
// spread over the last four weeks. It goes through the service's own store, so
// the rows and indexes are the real ones; the store joins concurrent rows into
// one commit, and therefore there are many writers.
func seedGrants(ctx context.Context, storage, issuer string, count int) error {
	db, err := sqldb.Open(ctx, storage)
	if err != nil {
		return err
	}
	scopes, err := oauth.ParseScopes("openid offline_access read")
	if err != nil {
		return errors.Join(err, db.Close())
	}
	now := time.Now()
	const span, writers = 28 * 24 * time.Hour, 256
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(count) || errs[w] != nil {
					return
				}
				made := now.Add(-span + time.Duration(float64(span)*float64(i)/float64(count)))
				g, err := seedGrant(issuer, int(i), scopes, made, now)
				if err == nil {
					err = db.CreateGrant(ctx, g)
				}
				errs[w] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errors.Join(errs...), db.Close())
}

func seedGrant(issuer string, i int, scopes oauth.Scopes, made, now time.Time) (authority.Grant, error) {
	var seed [32]byte
	rand.Read(seed[:])
	verifier := sha256.Sum256(seed[:])
	challenge, err := oauth.ParseChallenge(base64.RawURLEncoding.EncodeToString(verifier[:]), "S256")
	if err != nil {
		return authority.Grant{}, err
	}
	return authority.Grant{
		ID: authority.NewID(made), ClientID: webID,
		Subject: authority.Subject{Issuer: issuer, ID: fmt.Sprintf("seeded-%07d", i), Kind: authority.SubjectUser},
		Scopes:  scopes, Resources: []string{jwtAPI},
		SessionID: authority.NewID(made), AuthTime: made, AMR: []string{"pwd"}, Nonce: rand.Text(),
		Code: authority.Code{Hash: sha256.Sum256(verifier[:]), Challenge: challenge, RedirectURI: redirectURI, ExpiresAt: made.Add(time.Minute)},
		// Refreshed today, so that none is idle for too long and all stay.
		Refresh:   authority.Refresh{Generation: 1 + uint32(i%500), Hash: seed, RotatedAt: now, IdleExpiresAt: now.Add(24 * time.Hour)},
		State:     authority.GrantActive,
		CreatedAt: made, ExpiresAt: now.Add(30 * 24 * time.Hour),
	}, nil
}
