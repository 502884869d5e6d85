package agent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/signalbox-sts/signalbox/internal/agent/secret"
	"github.com/signalbox-sts/signalbox/internal/kube"
)

// What a Secret of ours says about itself. A Secret that does not say all of it with
// the same owner is somebody else's.
const (
	writtenFor   = "signalbox.dev/written-for"
	expiresAtKey = "signalbox.dev/expires-at"
)

// ErrSecretTaken is matched by the error of a Put into a Secret that is somebody else's, in
// whole or in part.
var ErrSecretTaken = errors.New("the Secret belongs to somebody else")

// Secret is a Kubernetes Secret as an outlet. It is written by server-side apply
// without force, so that a value which another field manager set is never replaced.
type Secret struct {
	Client          *kube.Client
	Namespace, Name string
	Spec            secret.Spec
	To              secret.Target
	// For says who wants it: "SignalboxToken shop/spoke-a", "token spoke-a".
	For string
	// Owner is an owner reference, for whoever collects what owners leave. nil: none.
	Owner map[string]any
}

func (s *Secret) object() kube.Object {
	return kube.Object{Resource: kube.Secrets, Namespace: s.Namespace, Name: s.Name}
}

func (s *Secret) String() string { return "secret " + s.Namespace + "/" + s.Name }

// look finds the Secret. ours is false if there is none.
func (s *Secret) look(ctx context.Context) (m kube.Metadata, there, ours bool, err error) {
	m, err = s.Client.Metadata(ctx, s.object())
	switch {
	case kube.IsNotFound(err):
		return m, false, false, nil
	case err != nil:
		return m, false, false, err
	}
	return m, true, m.Labels[secret.ManagedBy] == secret.Manager && m.Annotations[writtenFor] == s.For, nil
}

// Put writes the Secret.
func (s *Secret) Put(ctx context.Context, token Token) (changed bool, err error) {
	before, there, ours, err := s.look(ctx)
	switch {
	case err != nil:
		return false, err
	case there && !ours && before.Labels[secret.ManagedBy] == secret.Manager && before.Annotations[writtenFor] != "":
		return false, fmt.Errorf("%w: it is written for %.200q", ErrSecretTaken, before.Annotations[writtenFor])
	case there && !ours:
		return false, fmt.Errorf("%w: it was there before; choose another name, or delete it", ErrSecretTaken)
	}
	body, err := s.body(token, before.UID)
	if err != nil {
		return false, err
	}
	after, created, err := s.Client.Apply(ctx, s.object(), body)
	var refused *kube.StatusError
	switch {
	case there && errors.As(err, &refused) && refused.Code == http.StatusUnprocessableEntity:
		// The type of a Secret cannot be changed: it has another kind by now.
		if err := s.Client.Delete(ctx, s.object(), before); err != nil {
			return false, err
		}
		return s.Put(ctx, token)
	case there && kube.IsConflict(err):
		return false, fmt.Errorf("%w: %w", ErrSecretTaken, err)
	case err != nil:
		return false, err
	case !there && !created:
		// Somebody made it since we looked. Without our members it is theirs again.
		_, _, err := s.Client.Apply(ctx, s.object(), map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": s.Name}})
		return false, errors.Join(fmt.Errorf("%w: it was made at this moment", ErrSecretTaken), err)
	}
	return after.Version != before.Version, nil
}

func (s *Secret) body(token Token, uid string) (map[string]any, error) {
	expires := token.Expires()
	r, err := s.Spec.Render(s.To, secret.Token{Value: token.Value, Expires: expires})
	if err != nil {
		return nil, err
	}
	r.Labels[secret.ManagedBy] = secret.Manager
	annotations := map[string]string{writtenFor: s.For}
	if r.Expires {
		annotations[expiresAtKey] = expires.UTC().Format(time.RFC3339)
	}
	metadata := map[string]any{"name": s.Name, "labels": r.Labels, "annotations": annotations}
	if uid != "" {
		metadata["uid"] = uid
	}
	if s.Owner != nil {
		metadata["ownerReferences"] = []any{s.Owner}
	}
	data := map[string]string{}
	for key, value := range r.Data {
		data[key] = base64.StdEncoding.EncodeToString(value)
	}
	return map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": r.Type, "data": data}, nil
}

// Found says how long the token of an earlier run lives.
func (s *Secret) Found(ctx context.Context) (time.Time, error) {
	m, _, ours, err := s.look(ctx)
	if err != nil || !ours {
		return time.Time{}, err
	}
	until, err := time.Parse(time.RFC3339, m.Annotations[expiresAtKey])
	if err != nil { // it holds no token, or nobody knows until when: nothing is lost with it
		return time.Unix(1, 0), nil
	}
	return until, nil
}

// Remove deletes the Secret if it is ours, and as it is now.
func (s *Secret) Remove(ctx context.Context) error {
	m, _, ours, err := s.look(ctx)
	if err != nil || !ours {
		return err
	}
	if err := s.Client.Delete(ctx, s.object(), m); err != nil && !kube.IsNotFound(err) {
		return err
	}
	return nil
}
