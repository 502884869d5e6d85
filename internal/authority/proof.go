package authority

import (
	"encoding/json"
	"strings"
	"time"
)

// Proof is what a token of another issuer says, after it has been verified:
// who its bearer is. It is no token of ours, and gives nothing by itself.
type Proof struct {
	Cluster        string // the name of the cluster whose key set verified it; empty for others
	TrustedIssuer  string // the name of the trusted issuer; empty for clusters
	Issuer         string // `iss`
	Subject        string // `sub`
	Audience       []string
	ID             string // `jti`; empty where it has none
	Hash           string // what the journal knows it by
	Claims         json.RawMessage
	IssuedAt       time.Time
	Expires        time.Time
	Namespace      string // of a cluster's
	ServiceAccount string
	Pod            ObjectRef
	Node           ObjectRef
}

// ObjectRef is an object of Kubernetes: a name may return, a UID does not.
type ObjectRef struct{ Name, UID string }

// The beginnings of workloads' subject ids. No registered client or user may
// have one of them.
const (
	clusterSubject = "cluster:"
	issuerSubject  = "issuer:"
)

// WorkloadID is the `sub` of the tokens of whoever has this proof. It names
// where the proof is from, so that two issuers can never produce the same one.
func (p Proof) WorkloadID() string {
	if p.Cluster != "" {
		return clusterSubject + p.Cluster + ":ns:" + p.Namespace + ":sa:" + p.ServiceAccount
	}
	return issuerSubject + p.TrustedIssuer + ":" + p.Subject
}

// Evidence is what a grant that comes from the proof dies with: the pod, or
// the one job that the token was made for.
func (p Proof) Evidence() Evidence {
	if p.Cluster != "" {
		return PodEvidence(p.Cluster, p.Pod.UID)
	}
	key := p.ID
	if key == "" {
		key = p.Hash
	}
	return Evidence{EvidenceJob, p.TrustedIssuer + "/" + key}
}

// PodEvidence is a pod as evidence.
func PodEvidence(cluster, uid string) Evidence { return Evidence{EvidencePod, cluster + "/" + uid} }

// workloadOf takes a workload's id apart: the cluster with the prefix that
// names its namespace, or the trusted issuer.
func workloadOf(id string) (cluster, namespace, issuer string) {
	if rest, is := strings.CutPrefix(id, clusterSubject); is {
		cluster, rest, _ = strings.Cut(rest, ":ns:")
		ns, _, _ := strings.Cut(rest, ":sa:")
		return cluster, clusterSubject + cluster + ":ns:" + ns, ""
	}
	if rest, is := strings.CutPrefix(id, issuerSubject); is {
		issuer, _, _ = strings.Cut(rest, ":")
	}
	return "", "", issuer
}
