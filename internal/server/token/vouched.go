// RFC 7523 §2.2: what a client gets that another issuer vouches for.
package token

import (
	"context"
	"errors"
	"slices"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// vouch makes what a client gets for itself, or as an actor, die with the pod or the job
// by which it has proved itself: it comes below a grant of that workload, which stands for as long
// as the pod lives, and the token names the workload, whose epochs end it. A person's grant stays as it is:
// it is the client's, whichever of its pods asks.
func (h *Handler) vouch(ctx context.Context, req *request, a *authority.Authorization) error {
	if req.proof.Subject == "" {
		return nil
	}
	wanted := h.standingGrant(req, req.proof, req.client.ID, oauth.Scopes{}, nil)
	parent, err := h.Standing.For(ctx, wanted, authority.Event{At: req.at, Assertion: req.assertion})
	var refused *oauth.Error
	if errors.As(err, &refused) {
		return oauth.Errorf(oauth.InvalidClient, "client authentication failed").Because(err)
	}
	if err != nil {
		return err
	}
	g := &a.Grant
	if !g.ComesFrom(parent.ID) {
		if len(g.Lineage) >= authority.MaxLineage {
			return errTooOften
		}
		g.Lineage = slices.Insert(slices.Clone(g.Lineage), 0, authority.Ancestor{GrantID: parent.ID, ClientID: parent.ClientID})
	}
	if workload := parent.Subject.ID; !slices.Contains(g.Workloads, workload) {
		g.Workloads = append(slices.Clone(g.Workloads), workload)
	}
	if parent.ExpiresAt.Before(g.ExpiresAt) {
		g.ExpiresAt = parent.ExpiresAt
	}
	a.Life = min(a.Life, req.proof.MaxLife(req.at))
	return nil
}
