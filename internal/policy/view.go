package policy

import (
	"errors"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"github.com/signalbox-sts/signalbox/internal/jose"
)

var (
	errOurs = errors.New("the subject token is one of ours: it has no claims here")
	errSize = errors.New("the proof has more than 64 KiB of claims")
)

// view is one request as policies see it. It reads the claims when the first
// policy asks.
type view struct {
	*Request
	rule *rule // whose `when` is being evaluated

	read   bool
	claims jose.Claims
	err    error
	shown  *claimMap
}

func (v *view) allClaims() (jose.Claims, error) {
	if !v.read {
		v.read = true
		switch {
		case v.Proof == nil:
			v.err = errOurs
		case len(v.Proof.Claims) > maxClaims:
			v.err = errSize
		default:
			v.claims, v.err = jose.ParseClaims(v.Proof.Claims)
		}
	}
	return v.claims, v.err
}

// claim is the normal form of a claim. What cannot be read matches nothing.
func (v *view) claim(name string) (string, bool) {
	claims, err := v.allClaims()
	if err != nil {
		return "", false
	}
	return normal(claims, name)
}

// pin is what a rule of a trusted issuer is found by. The subject is the one
// that was verified.
func (v *view) pin(name string) (string, bool) {
	if name == claimSubject {
		return v.Proof.Subject, true
	}
	return v.claim(name)
}

// ResolveName gives `when` its variables. Those of a cluster are declared for
// policies about a cluster only, so there the proof is there.
func (v *view) ResolveName(name string) (any, bool) {
	switch name {
	case "claims":
		claims, err := v.allClaims()
		if err != nil {
			return types.WrapErr(err), true
		}
		if v.shown == nil {
			v.shown = &claimMap{claims: claims}
		}
		return v.shown, true
	case "now":
		return types.Timestamp{Time: v.Now}, true
	case "request.scope":
		granted, outside := v.rule.grants(v)
		if outside != "" {
			granted = v.Scopes
		}
		return granted.List(), true
	case "request.audience":
		return types.String(v.Target), true
	}
	if v.Proof == nil {
		switch name {
		case "subject":
			return types.String(v.Subject.ID), true
		case "issuer":
			return types.String(v.Subject.Issuer), true
		}
		return nil, false
	}
	s, ok := v.ofProof(name)
	return types.String(s), ok
}

func (v *view) ofProof(name string) (string, bool) {
	switch p := v.Proof; name {
	case "subject":
		return p.Subject, true
	case "issuer":
		return p.Issuer, true
	case "cluster":
		return p.Cluster, true
	case namespace:
		return p.Namespace, true
	case "service_account":
		return p.ServiceAccount, true
	case "pod.name":
		return p.Pod.Name, true
	case "pod.uid":
		return p.Pod.UID, true
	case "node.name":
		return p.Node.Name, true
	case "node.uid":
		return p.Node.UID, true
	}
	return "", false
}

// Parent is none.
func (v *view) Parent() interpreter.Activation { return nil }

var _ interpreter.Activation = (*view)(nil)
