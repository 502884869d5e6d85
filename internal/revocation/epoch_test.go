package revocation

import (
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

func TestNewestEpoch(t *testing.T) {
	v := NewView()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ask := func(want time.Time) {
		t.Helper()
		if got := v.NewestEpoch("web", "ada"); !got.Equal(want) {
			t.Errorf("%v; want %v", got, want)
		}
	}
	mark := func(kind authority.RevocationKind, key string, at time.Time) {
		v.Apply(authority.Revocation{Kind: kind, Key: key, NotBefore: at, ExpiresAt: at.Add(time.Hour)})
	}
	ask(time.Time{})
	mark(authority.EpochClient, "cli", at)
	mark(authority.EpochClient, "ada", at) // a client of that name is not the person
	mark(authority.EpochUser, "web", at)
	mark(authority.EpochUser, "bob", at)
	mark(authority.RevokeGrant, "web", at)
	ask(time.Time{})
	mark(authority.EpochUser, "ada", at)
	ask(at)
	mark(authority.EpochClient, "web", at.Add(time.Second))
	ask(at.Add(time.Second))
	mark(authority.EpochEverything, "", at.Add(time.Minute))
	ask(at.Add(time.Minute))
}
