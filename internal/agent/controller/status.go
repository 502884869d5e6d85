package controller

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/signalbox-sts/signalbox/internal/agent"
	"github.com/signalbox-sts/signalbox/internal/kube"
)

// Reasons of the condition Ready. People's scripts compare them.
const (
	ReasonFresh       = "Fresh"       // True: the Secret holds a token that is renewed in time
	ReasonNoPod       = "NoPod"       // no pod of the service account runs
	ReasonRefused     = "Refused"     // the service has decided: no policy allows it
	ReasonUnreachable = "Unreachable" // the service does not answer, and the last token is nearly over
	ReasonConflict    = "Conflict"    // the Secret belongs to somebody else
	ReasonForbidden   = "Forbidden"   // the API server does not let the agent do it
	ReasonFailed      = "Failed"      // the API server could not do it
	ReasonInvalid     = "Invalid"     // the object says what cannot be done
)

// report writes statuses until ctx ends.
func (c *Controller) report(ctx context.Context) {
	for ctx.Err() == nil {
		wait := time.Hour
		for _, w := range c.due(&wait) {
			err := c.Client.ApplyStatus(ctx, w.object, map[string]any{
				"apiVersion": kube.SignalboxTokens.APIVersion(), "kind": "SignalboxToken",
				"metadata": map[string]any{"name": w.object.Name}, "status": w.status,
			})
			c.wrote(w, err)
			if err != nil && !kube.IsNotFound(err) && ctx.Err() == nil {
				c.Log.Warn("the status of a SignalboxToken could not be written", "object", w.object.Namespace+"/"+w.object.Name, "error", err)
				wait = min(wait, again)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-c.news:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// write is a status to be written.
type write struct {
	object kube.Object
	uid    string
	status status
}

// due collects the statuses that have to be written, and lowers wait to when one may
// have to be.
func (c *Controller) due(wait *time.Duration) (all []write) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Clock().Wall
	for _, k := range c.objects {
		if !k.again.IsZero() && !now.Before(k.again) {
			k.dirty = true
		}
		if k.dirty && !k.deleted() {
			k.dirty, k.again = false, time.Time{}
			if s, known := c.status(k, now); known && !same(s, k.Status) {
				all = append(all, write{k.object(), k.Metadata.UID, s})
			}
		}
		if !k.again.IsZero() {
			*wait = min(*wait, k.again.Sub(now))
		}
	}
	return all
}

// wrote notes what came of it. What failed is tried again.
func (c *Controller) wrote(w write, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.objects[w.object.Namespace+"/"+w.object.Name]
	switch {
	case k == nil || k.Metadata.UID != w.uid:
	case err == nil:
		k.Status = w.status
	case !kube.IsNotFound(err):
		k.again = c.Clock().Wall.Add(again)
	}
}

// same compares statuses but for moments that are the same to the second.
func same(a, b status) bool {
	equal := a.ExpiresAt == b.ExpiresAt || a.ExpiresAt != nil && b.ExpiresAt != nil && a.ExpiresAt.Equal(*b.ExpiresAt)
	x, y := a.ready(), b.ready()
	x.LastTransitionTime, y.LastTransitionTime = time.Time{}, time.Time{}
	a.ExpiresAt, b.ExpiresAt, a.Conditions, b.Conditions = nil, nil, nil, nil
	return equal && x == y && reflect.DeepEqual(a, b)
}

// status is what the status of an object is now. known is false as long as nothing
// has come of it. The caller holds the lock.
func (c *Controller) status(k *kept, now time.Time) (s status, known bool) {
	ready := condition{Type: "Ready", Status: "False", ObservedGeneration: k.Metadata.Generation, LastTransitionTime: now.UTC().Truncate(time.Second)}
	var ask error
	if k.identity != nil {
		ask = k.identity.ask
	}
	nearlyOver := k.until.Add(-k.life / 10)
	explain := func(reason string, err error) { ready.Reason, ready.Message = reason, plain(err.Error()) }
	switch {
	case k.invalid != nil:
		explain(ReasonInvalid, k.invalid)
	case errors.Is(k.put, agent.ErrSecretTaken):
		explain(ReasonConflict, k.put)
	case kube.IsForbidden(k.put):
		explain(ReasonForbidden, k.put)
	case k.put != nil:
		explain(ReasonFailed, k.put)
	case errors.Is(ask, errNoPod):
		explain(ReasonNoPod, ask)
	case errors.Is(ask, agent.ErrRefused):
		explain(ReasonRefused, ask)
	case kube.IsForbidden(ask):
		explain(ReasonForbidden, ask)
	case ask != nil && !now.Before(nearlyOver):
		explain(ReasonUnreachable, ask)
	case k.until.IsZero():
		return s, false
	default:
		ready.Status, ready.Reason = "True", ReasonFresh
		ready.Message = "the Secret " + k.Spec.Secret.Name + " is kept fresh"
		if ask != nil {
			ready.Message = plain("the last token is used, since another one cannot be had: " + ask.Error())
			k.again = nearlyOver
		}
	}
	if before := k.Status.ready(); before.Status == ready.Status {
		ready.LastTransitionTime = before.LastTransitionTime
	}
	s = status{ObservedGeneration: k.Metadata.Generation, SecretName: k.secret, Conditions: []condition{ready}}
	if !k.until.IsZero() {
		until := k.until.UTC().Truncate(time.Second)
		s.ExpiresAt = &until
		if k.identity != nil {
			s.Policy = k.identity.policy
		}
	}
	return s, true
}

// plain makes text that came from outside fit for a message.
func plain(s string) string {
	const most = 500
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
