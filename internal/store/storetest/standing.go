package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// ofWorkload makes a grant as it is made for a workload: as its policy, with its evidence.
func ofWorkload(evidence authority.Evidence) authority.Grant {
	return activeGrant(func(g *authority.Grant) {
		g.Evidence, g.ClientID = evidence, "policy:deploy"
		g.Subject = authority.Subject{Issuer: ada.Issuer, ID: "cluster:hub:ns:shop:sa:orders", Kind: authority.SubjectWorkload}
	})
}

var standingChecks = []check{
	{"a workload has one standing grant for each client and resource", func(t testing.TB, e Engine) {
		s := e.Open(t)
		evidence := pod()
		first := ofWorkload(evidence)
		_, err := s.StandingGrant(t.Context(), first)
		wantError(t, err, authority.ErrNotFound)
		create(t, s, first)
		again := ofWorkload(evidence)
		wantError(t, s.CreateGrant(t.Context(), again), authority.ErrExists)
		_, err = s.Grant(t.Context(), again.ID)
		wantError(t, err, authority.ErrNotFound)

		others := []authority.Grant{ofWorkload(evidence), ofWorkload(evidence), ofWorkload(evidence), ofWorkload(pod()), ofWorkload(authority.Evidence{Kind: authority.EvidenceJob, Key: evidence.Key})}
		others[0].ClientID = "policy:read"
		others[1].Resources = []string{"https://other.example.com"}
		others[2].Resources, others[2].Scopes = nil, oauth.Scopes{} // of a client that the workload proves
		create(t, s, others...)
		for _, g := range append(others, first) {
			found, err := s.StandingGrant(t.Context(), sameAs(g))
			noError(t, err)
			equal(t, found, g)
		}
		sessions := authority.SessionEvidence(authority.NewID(start))
		create(t, s, activeGrant(withEvidence(sessions)), activeGrant(withEvidence(sessions))) // people have as many as they like
	}},
	{"a standing grant that has ended makes room for the next", func(t testing.TB, e Engine) {
		s := e.Open(t)
		first := ofWorkload(pod())
		create(t, s, first)
		_, err := s.EndGrant(t.Context(), first.ID, ending)
		noError(t, err)
		_, err = s.StandingGrant(t.Context(), first)
		wantError(t, err, authority.ErrNotFound)
		next := ofWorkload(first.Evidence)
		create(t, s, next)
		found, err := s.StandingGrant(t.Context(), first)
		noError(t, err)
		equal(t, found, next)

		_, err = s.EndEvidence(t.Context(), first.Evidence, start, ending)
		noError(t, err)
		_, err = s.StandingGrant(t.Context(), first)
		wantError(t, err, authority.ErrNotFound)
		wantError(t, s.CreateGrant(t.Context(), ofWorkload(first.Evidence)), authority.ErrEnded)
	}},
	{"of many who make one standing grant exactly one succeeds", func(t testing.TB, e Engine) {
		a := e.Open(t)
		nodes := []Store{a, e.Again(t, a)}
		evidence := pod()
		results := make([]error, many)
		var wait sync.WaitGroup
		for i := range results {
			wait.Go(func() { results[i] = nodes[i%2].CreateGrant(t.Context(), ofWorkload(evidence)) })
		}
		wait.Wait()
		made := 0
		for _, err := range results {
			if err == nil {
				made++
			} else if !errors.Is(err, authority.ErrExists) {
				t.Errorf("got %v", err)
			}
		}
		equal(t, made, 1)
	}},
}

// sameAs is another grant that stands for the same as g.
func sameAs(g authority.Grant) authority.Grant {
	g.ID, g.Resources = authority.NewID(start), slices.Clone(g.Resources)
	return g
}
