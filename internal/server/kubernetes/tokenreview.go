// Package kubernetes answers the token webhook of kube-apiserver: a TokenReview of
// authentication.k8s.io/v1. An API server that asks hears of a revocation, which one
// that verifies by itself does not.
package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/clientauth"
	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Handler serves the endpoint. All fields are required.
type Handler struct {
	Settings  func() authority.Issuer
	Directory *authority.Directory
	Clients   *clientauth.Authenticator
	Tokens    *issue.Reader
	// Record returns when the entry is on disk; Tally does not wait and counts
	// repeats, for callers who have not proved who they are.
	Record func(ctx context.Context, e authority.Event) error
	Tally  func(ctx context.Context, e authority.Event)
	Now    func() time.Time
}

// TokenReview is POST /kubernetes/tokenreview. A caller is told of the tokens for its
// own clusters; every other token is what noise is.
func (h *Handler) TokenReview(w http.ResponseWriter, r *http.Request) {
	at := h.Now()
	caller, status, err := h.review(r)
	if err != nil {
		h.recordRefusal(r.Context(), at, caller, err)
		challenge(w, err)
		httpx.Error(w, r, err)
		return
	}
	httpx.JSON(w, http.StatusOK, answer{apiVersion, kind, status})
}

// review returns the caller as soon as it has proved itself.
func (h *Handler) review(r *http.Request) (caller string, s status, err error) {
	ctx := r.Context()
	if caller, err = h.authenticate(r); err != nil {
		return "", status{}, err
	}
	body, err := httpx.ReadJSON(r)
	if err != nil {
		return caller, status{}, err
	}
	raw, err := parse(body)
	if err != nil {
		return caller, status{}, err
	}
	token, err := h.accept(ctx, caller, raw)
	if errors.Is(err, issue.ErrInactive) {
		calls, failed := h.Directory.CallsWebhook(ctx, caller)
		switch {
		case failed != nil:
			return caller, status{}, failed
		case !calls:
			return caller, status{}, oauth.Errorf(oauth.AccessDenied, "the client is not the webhook.caller of a cluster")
		}
		httpx.RequestOf(ctx).Log.Cause = err // for whoever asks why kubectl is told Unauthorized
		return caller, status{Error: "the token is not valid for this cluster"}, nil
	}
	if err != nil {
		return caller, status{}, err
	}
	return caller, statusOf(token), nil
}

// accept is a token that is good at a cluster of the caller's, and nowhere else. Any
// error but issue.ErrInactive is a failure of ours: nothing may be said about the token.
func (h *Handler) accept(ctx context.Context, caller, raw string) (*issue.AccessToken, error) {
	token, _, err := h.Tokens.Accept(ctx, raw, issue.AnyAudience)
	switch {
	case err != nil:
		return nil, err
	case token.Bound: // a kube-apiserver takes it as a bearer token
		return nil, issue.ErrBound
	case len(token.Audience) != 1:
		return nil, issue.ErrAudience
	}
	name, is := authority.ClusterOf(token.Audience[0], h.Settings().URL)
	if !is {
		return nil, issue.ErrAudience
	}
	cluster, err := h.Directory.Cluster(ctx, name)
	switch {
	case errors.Is(err, authority.ErrNotFound) || err == nil && cluster.WebhookCaller != caller:
		return nil, issue.ErrAudience
	case err != nil:
		return nil, err
	}
	for _, name := range append([]string{token.Subject.ID}, token.Groups...) {
		if strings.HasPrefix(name, "system:") { // harmless behind our prefix, and no name of ours
			return nil, fmt.Errorf("%w: it names %.100q", issue.ErrInactive, name)
		}
	}
	return token, nil
}

// recordRefusal puts a refusal into the journal. One of a caller who is known waits
// for the disk; if that fails there is nothing more to refuse.
func (h *Handler) recordRefusal(ctx context.Context, at time.Time, caller string, err error) {
	refused := oauth.AsError(err)
	event := authority.Event{
		Type: authority.EventTokenRefused, At: at, ClientID: caller, Error: string(refused.Code), Reason: refused.Description,
	}
	if caller == "" {
		h.Tally(ctx, event)
		return
	}
	_ = h.Record(ctx, event)
}
