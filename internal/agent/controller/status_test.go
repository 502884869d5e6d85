package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/agent"
	"github.com/signalbox-sts/signalbox/internal/kube"
)

func TestReadySaysWhatBecameOfAToken(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	forbidden := &kube.StatusError{Code: 403}
	away := errors.New("nobody answers")
	for _, row := range []struct {
		sentence           string
		invalid, put, ask  error
		left               time.Duration // of a life of 100 s; 0: there is no token
		want               string        // empty: nothing is known yet
		looksAgainAtNearly bool
	}{
		{"nothing has happened", nil, nil, nil, 0, "", false},
		{"a good token", nil, nil, nil, 60 * time.Second, "True Fresh", false},
		{"a good token while the service is away", nil, nil, away, 60 * time.Second, "True Fresh", true},
		{"nine tenths of a life without an answer", nil, nil, away, 10 * time.Second, "False Unreachable", false},
		{"never an answer", nil, nil, away, 0, "False Unreachable", false},
		{"a decision, while the last token is good", nil, nil, fmt.Errorf("%w: invalid_target", agent.ErrRefused), 60 * time.Second, "False Refused", false},
		{"no pod", nil, nil, fmt.Errorf("%w: %w", agent.ErrRefused, errNoPod), 60 * time.Second, "False NoPod", false},
		{"no right to look for pods", nil, nil, fmt.Errorf("x: %w", forbidden), 60 * time.Second, "False Forbidden", false},
		{"somebody else's Secret", nil, fmt.Errorf("%w: x", agent.ErrSecretTaken), nil, 60 * time.Second, "False Conflict", false},
		{"no right to write", nil, forbidden, nil, 0, "False Forbidden", false},
		{"a write that fails", nil, errors.New("500"), nil, 60 * time.Second, "False Failed", false},
		{"an object that cannot be kept", errors.New("x"), nil, nil, 60 * time.Second, "False Invalid", false},
	} {
		k := &kept{resource: &resource{}, identity: &identity{policy: "p", ask: row.ask}, invalid: row.invalid, put: row.put, secret: "s"}
		k.Metadata.Generation = 3
		if row.left > 0 {
			k.until, k.life = now.Add(row.left), 100*time.Second
		}
		s, known := (&Controller{}).status(k, now)
		got := strings.TrimSpace(s.ready().Status + " " + s.ready().Reason)
		if got != row.want || known != (row.want != "") || known && s.ObservedGeneration != 3 {
			t.Errorf("%s: %q %+v", row.sentence, got, s)
		}
		if k.again.IsZero() == row.looksAgainAtNearly {
			t.Errorf("%s: it looks again at %v", row.sentence, k.again)
		}
		if known && (s.ExpiresAt == nil) != (row.left == 0) {
			t.Errorf("%s: it ends at %v", row.sentence, s.ExpiresAt)
		}
	}
}

func TestTheMomentOfReadyIsThatOfItsChangeAndAnEqualStatusIsNotWritten(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	k := &kept{resource: &resource{}, identity: &identity{}, until: now.Add(time.Minute), life: time.Minute}
	first, _ := (&Controller{}).status(k, now)
	k.Status = first
	second, _ := (&Controller{}).status(k, now.Add(10*time.Second))
	if !same(first, second) || second.ready().LastTransitionTime != now {
		t.Errorf("%+v is not %+v", second, first)
	}
	k.put = errors.New("x")
	third, _ := (&Controller{}).status(k, now.Add(20*time.Second))
	if same(first, third) || third.ready().LastTransitionTime != now.Add(20*time.Second) {
		t.Errorf("%+v", third)
	}
}

func TestTextFromOutsideIsFitForAMessage(t *testing.T) {
	if got := plain("a\x1b[31m\nb" + strings.Repeat("x", 1000)); strings.ContainsAny(got, "\x1b\n") || len(got) > 510 {
		t.Errorf("%q", got)
	}
}

// Whoever can write a SignalboxToken writes what it likes past an old schema.
func FuzzResource(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"a","namespace":"b","uid":"c"},"spec":{"to":{"cluster":"x"},"secret":{"name":"y","kind":"opaque","data":{"k":"{{.Token}}"}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseResource(raw)
		if err != nil {
			return
		}
		if err := r.check("https://sts.example.com"); err == nil && (r.Spec.Secret.Name == "" || (r.Spec.To.Cluster == "") == (r.Spec.To.Resource == "")) {
			t.Errorf("%s is taken", raw)
		}
	})
}

func TestTheSecretOfASignalboxTokenTellsWhereThePrivateCertificatesAre(t *testing.T) {
	c := &Controller{Issuer: "https://sts.example.com", CAFile: "/etc/signalbox/ca.crt"}
	if to := c.outlet(&resource{}).To; to.Issuer != c.Issuer || to.CAFile != c.CAFile {
		t.Errorf("%+v", to)
	}
}
