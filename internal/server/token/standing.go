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
// and never used again. oauth.InvalidRequest if the evidence has ended.
func (s *Standing) For(ctx context.Context, wanted authority.Grant, event authority.Event) (authority.Grant, error) {
	key := standingKey(wanted)
	if g, ok := s.known.GetIfPresent(key); ok && s.lives(g) {
		return g, nil
	}
	for range standingTries {
		g, err := s.Grants.StandingGrant(ctx, wanted)
		switch {
		case errors.Is(err, authority.ErrNotFound):
			if g, err = wanted, s.make(ctx, wanted, event); errors.Is(err, authority.ErrExists) {
				continue // somebody was faster
			}
		case err == nil && !s.lives(g):
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

func (s *Standing) lives(g authority.Grant) bool {
	return g.Alive(s.Now()) && !s.Endings.Follower.View.Revoked(g.Links())
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
