package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/outbound"
	"github.com/signalbox-sts/signalbox/internal/policy"
	"github.com/signalbox-sts/signalbox/internal/trust"
)

// compilePolicies compiles the trust policies of a configuration. An error has
// its place in the file.
func compilePolicies(cfg *config.Config, static *authority.StaticObjects) (*policy.Set, error) {
	var list []authority.Policy // in the order of the file, for the places of errors
	for _, p := range cfg.Policies {
		list = append(list, static.Policies[p.Name])
	}
	if len(list) != len(static.Policies) { // a test declares its own
		list = slices.Collect(maps.Values(static.Policies))
	}
	set, err := policy.Compile(cfg.Issuer, list)
	var problems authority.Problems
	if !errors.As(err, &problems) {
		return set, err
	}
	var all config.Errors
	for _, p := range problems {
		var refused config.Errors
		if errors.As(cfg.Refuse(p.Field, p.Text, p.Fix), &refused) {
			all = append(all, refused...)
		}
	}
	return nil, all
}

// openTrust makes what verifies the proofs of others.
func (n *Node) openTrust(ctx context.Context) error {
	out := n.config().Outbound
	options := outbound.Options{AllowLoopback: out.AllowLoopback}
	if len(out.CA) > 0 {
		options.CAs = x509.NewCertPool()
		options.CAs.AppendCertsFromPEM(out.CA) // validated
	}
	n.verifier = trust.New(trust.Options{Issuer: n.config().Issuer, Outbound: outbound.New(options), Now: n.now, Log: n.log})
	return n.retrust(ctx)
}

// retrust puts in force what is registered now. It is cheap where nothing has changed.
func (n *Node) retrust(ctx context.Context) error {
	n.trusting.Lock()
	defer n.trusting.Unlock()
	clusters, issuers, _, err := n.directory.Trust(ctx)
	if err != nil {
		return err
	}
	return n.verifier.Use(clusters, issuers)
}

// prove verifies a token of another issuer, and that what it is bound to lives.
func (n *Node) prove(ctx context.Context, raw string) (authority.Proof, error) {
	proof, err := n.verifier.Verify(ctx, raw)
	var refused *trust.Refusal
	switch {
	case errors.As(err, &refused) && refused.Unavailable:
		return authority.Proof{}, fmt.Errorf("proof of another issuer: %w", err)
	case errors.As(err, &refused):
		return authority.Proof{}, oauth.Errorf(oauth.InvalidRequest, "%s", refused.Public).Because(err)
	}
	return proof, err
}

// decide asks the trust policies. One that a newer file of another node has
// removed or changed gives nothing.
func (n *Node) decide(req policy.Request) policy.Decision {
	now := n.current.Load()
	d := now.policies.Decide(req)
	if _, in := now.static.Policies[d.Policy.Name]; !in {
		d.Policy = authority.Policy{}
	}
	return d
}
