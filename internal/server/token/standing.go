package token

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/revocation"
)

// Standing finds or makes the one grant that a workload has by its evidence.
// It remembers those in use: a workload that comes again costs no question to
// the database, since the end of its grant arrives in the revocation view.
type Standing struct {
	Grants  authority.GrantStore
	Endings *revocation.Endings
	Record  func(ctx context.Context, e authority.Event) error
	Now     func() time.Time
	known   *otter.Cache[string, authority.Grant]
}

// standingSize times about 1 KiB is what is remembered at most.
const standingSize = 8192

// NewStanding makes one.
func NewStanding(grants authority.GrantStore, endings *revocation.Endings, record func(context.Context, authority.Event) error, now func() time.Time) *Standing {
	return &Standing{grants, endings, record, now, otter.Must(&otter.Options[string, authority.Grant]{
		MaximumSize: standingSize,
		Executor:    func(task func()) { task() },
	})}
}

// standingTries bounds how often others may be faster: each time there is one more grant.
const standingTries = 4

// For returns the living grant that stands for the same as wanted, or makes
// wanted that grant. A grant that is over, by its time or by an epoch, is ended
// and never used again. oauth.InvalidRequest if the evidence has ended, or is
// somebody else's.
func (s *Standing) For(ctx context.Context, wanted authority.Grant, event authority.Event) (authority.Grant, error) {
	key := standingKey(wanted)
	if g, ok := s.known.GetIfPresent(key); ok && g.Subject == wanted.Subject && s.serves(g, wanted) {
		return g, nil
	}
	for range standingTries {
		g, err := s.Grants.StandingGrant(ctx, wanted)
		switch {
		case errors.Is(err, authority.ErrNotFound):
			if g, err = wanted, s.make(ctx, wanted, event); errors.Is(err, authority.ErrExists) {
				continue // somebody was faster
			}
		case err == nil && g.Subject != wanted.Subject:
			return authority.Grant{}, errForeign
		case err == nil && !s.serves(g, wanted):
			if err := s.end(ctx, g); err != nil {
				return authority.Grant{}, err
			}
			continue
		}
		if errors.Is(err, authority.ErrEnded) {
			return authority.Grant{}, errEvidence.Because(err)
		}
		if err != nil {
			return authority.Grant{}, err
		}
		s.known.Set(key, g)
		return g, nil
	}
	return authority.Grant{}, fmt.Errorf("the standing grant of %s changes all the time", wanted.Evidence.Key)
}

var errEvidence = oauth.Errorf(oauth.InvalidRequest, "what the subject token comes from has ended")

// errForeign: not every issuer keeps its promise that a jti is one token's alone. The
// grant says who its tokens are about, so it must not be shared.
var errForeign = oauth.Errorf(oauth.InvalidRequest, "the jti of the subject token is that of another subject's")

// almostOver is how much of its life a grant must have left to be used once more,
// where a new one would live longer: nobody can use a token of a moment. The other
// way round, tokens of the old grant lose at most as much.
const almostOver = 10 * time.Second

func (s *Standing) serves(g, wanted authority.Grant) bool {
	now := s.Now()
	if g.ExpiresAt.Before(wanted.ExpiresAt) && g.ExpiresAt.Sub(now) < almostOver {
		return false
	}
	return g.Alive(now) && !s.Endings.Follower.View.Revoked(g.Links())
}

// make stores and records a grant. One that could not be recorded stays: by
// itself it gives nothing, and the next exchange finds it.
func (s *Standing) make(ctx context.Context, g authority.Grant, event authority.Event) error {
	ctx, cancel := authority.Settle(ctx)
	defer cancel()
	if err := s.Grants.CreateGrant(ctx, g); err != nil {
		return err
	}
	event.Type, event.GrantID, event.ClientID, event.Subject = authority.EventGrantCreated, g.ID, g.ClientID, g.Subject
	event.Reason = string(g.Evidence.Kind) + " " + g.Evidence.Key
	return s.Record(ctx, event)
}

func (s *Standing) end(ctx context.Context, g authority.Grant) error {
	_, err := s.Endings.EndGrant(ctx, g.ID, authority.Event{
		Type: authority.EventGrantEnded, At: s.Now(), ClientID: g.ClientID, Subject: g.Subject, GrantID: g.ID,
		Reason: "it is over, and its workload asks again",
	})
	return err
}

func standingKey(g authority.Grant) string {
	return strings.Join(append([]string{string(g.Evidence.Kind), g.Evidence.Key, g.ClientID}, g.Resources...), "\x00")
}
