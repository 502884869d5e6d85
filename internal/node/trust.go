package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/kube"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/policy"
	"github.com/signalbox-sts/signalbox/internal/trust"
)

// PoliciesOf compiles the trust policies of a configuration. An error has its place
// in the file.
func PoliciesOf(cfg *config.Config) (*policy.Set, error) {
	var list []authority.Policy
	for _, p := range cfg.Policies {
		one, err := authority.NewPolicy(p.PolicyMetadata)
		if err != nil {
			return nil, fmt.Errorf("policy %q: %w", p.Name, err)
		}
		list = append(list, one)
	}
	set, err := policy.Compile(cfg.Issuer, list)
	var problems authority.Problems
	if errors.As(err, &problems) {
		return nil, cfg.RefuseAll(problems)
	}
	return set, err
}

// openTrust makes what verifies the proofs of others.
func (n *Node) openTrust(ctx context.Context) error {
	url := n.config().Issuer
	n.clusters = &kube.Manager{
		Leases: n.db, Evidence: n.store.EvidenceKeys, End: n.endPod, Self: n.selfToken,
		Node: n.journal.Node() + " " + rand.Text(), Issuer: url, Now: n.now, Log: n.log,
	}
	n.verifier = trust.New(trust.Options{Issuer: url, Outbound: n.outbound, APIKeys: n.clusters.Keys, Now: n.now, Log: n.log})
	return n.retrust(ctx)
}

// watchClusters begins to watch the pods of the registered clusters, and keeps
// the keys of all who are trusted fresh, until ctx ends.
func (n *Node) watchClusters(ctx context.Context) {
	n.trusting.Lock()
	n.watching = true
	n.trusting.Unlock()
	if err := n.retrust(ctx); err != nil { // followDeclaration tries it again
		n.log.Warn("the registered clusters cannot be watched yet", "error", err)
	}
	n.verifier.Run(ctx)
	n.clusters.Close()
}

// retrust puts in force what is registered now. It is cheap where nothing has changed.
func (n *Node) retrust(ctx context.Context) error {
	n.trusting.Lock()
	defer n.trusting.Unlock()
	clusters, issuers, _, err := n.directory.Trust(ctx)
	if err != nil {
		return err
	}
	if n.watching {
		if err := n.clusters.Use(clusters); err != nil {
			return err
		}
	}
	return n.verifier.Use(clusters, issuers)
}

// endPod ends a pod, and with it all that came from it.
func (n *Node) endPod(ctx context.Context, cluster, uid string, proofUntil time.Time) error {
	pod := authority.PodEvidence(cluster, uid)
	_, err := n.endings.EndEvidence(ctx, pod, proofUntil, authority.Event{
		Type: authority.EventEvidenceEnded, At: n.now(), Actor: "signalbox", Target: string(pod.Kind) + " " + pod.Key, Reason: "the pod is gone",
	})
	return err
}

// selfLife is how long a token lives that this service issues to itself.
const selfLife = 5 * time.Minute

// selfToken is a token for a cluster's API server, which trusts it like any other.
func (n *Node) selfToken(ctx context.Context, name string) (string, time.Time, error) {
	cluster, err := n.directory.Cluster(ctx, name)
	if err != nil {
		return "", time.Time{}, err
	}
	now, url := n.now(), n.config().Issuer
	target := authority.Target{Resources: []authority.Resource{cluster.Resource(url)}}
	response, err := n.issuer.Issue(ctx, authority.Authorization{
		GrantType: oauth.ClientCredentials, Client: authority.Client{ID: authority.SelfClientID},
		Grant: authority.Grant{
			ID: authority.NewID(now), ClientID: authority.SelfClientID, Resources: target.ResourceIDs(),
			Subject: authority.Subject{Issuer: url, ID: authority.SelfClientID, Kind: authority.SubjectClient},
			State:   authority.GrantActive, CreatedAt: now, ExpiresAt: now.Add(selfLife),
		},
		Target: target, Format: target.Format(), Life: selfLife, At: now,
	}, nil)
	return response.AccessToken, now.Add(time.Duration(response.ExpiresIn) * time.Second), err
}

// prove is the one way to accept a token of another issuer: this node knows what has
// ended, the token is authentic, in time and for us, the pod that it is bound to lives,
// and no epoch has ended what is as old as it. See token.Handler for what comes with a
// refusal.
func (n *Node) prove(ctx context.Context, raw string) (authority.Proof, error) {
	if err := n.follower.Fresh(); err != nil {
		return authority.Proof{}, err
	}
	proof, err := n.verifier.Verify(ctx, raw)
	var refused *trust.Refusal
	switch {
	case errors.As(err, &refused) && refused.Unavailable:
		return authority.Proof{}, fmt.Errorf("proof of another issuer: %w", err)
	case errors.As(err, &refused):
		no := oauth.Errorf(oauth.InvalidRequest, "%s", refused.Public).Because(refused.Unwrap())
		switch {
		case refused.Cluster != "":
			return authority.Proof{Hash: issue.HashOf(raw)}, no.Because(fmt.Errorf("cluster %s: %w", refused.Cluster, refused.Unwrap()))
		case refused.TrustedIssuer != "":
			return authority.Proof{Hash: issue.HashOf(raw)}, no.Because(fmt.Errorf("trusted issuer %s: %w", refused.TrustedIssuer, refused.Unwrap()))
		}
		return authority.Proof{}, no
	}
	if err == nil && proof.Cluster != "" {
		proof.Pods, err = n.living(ctx, proof, raw)
	}
	if err != nil {
		return proof, err
	}
	links := append(proof.Workload(n.config().Issuer).Epochs(proof.IssuedAt), proof.Evidence().Link())
	if n.follower.View.Revoked(links) {
		return proof, oauth.Errorf(oauth.InvalidRequest, "what the token comes from has ended")
	}
	return proof, nil
}

// living asks whether the pod of a proof lives, and says how its end is learned.
func (n *Node) living(ctx context.Context, proof authority.Proof, raw string) (authority.PodMode, error) {
	cluster, err := n.directory.Cluster(ctx, proof.Cluster)
	if errors.Is(err, authority.ErrNotFound) { // removed, and the verifier has not heard of it yet
		return "", oauth.Errorf(oauth.InvalidRequest, "the token's cluster is not trusted any more").Because(err)
	}
	if err != nil {
		return "", err
	}
	err = n.clusters.Check(ctx, cluster, proof, raw)
	if errors.Is(err, kube.ErrDead) {
		return "", oauth.Errorf(oauth.InvalidRequest, "the pod that the token is bound to does not live").Because(err)
	}
	return cluster.Pods, err
}

// decide asks the trust policies. One that a newer file of another node has
// removed or changed gives nothing.
func (n *Node) decide(req policy.Request) policy.Decision {
	now := n.current.Load()
	d := now.policies.Decide(req)
	if _, in := now.static.Policies[d.Policy.Name]; !in {
		d.Policy, d.Outside = authority.Policy{}, ""
	}
	return d
}
