package authority

import (
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Proof is what a token of another issuer says, after it has been verified:
// who its bearer is. It is no token of ours, and gives nothing by itself.
type Proof struct {
	Cluster        string // the name of the cluster whose key set verified it; empty for others
	TrustedIssuer  string // the name of the trusted issuer; empty for clusters
	Issuer         string // `iss`; of a JWT-SVID, spiffe:// and its trust domain
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
	Pods           PodMode // how the end of the pod is learned; empty for others
	Node           ObjectRef
}

const (
	maxProofSubject = 512
	maxProofID      = 255
	maxObjectUID    = 64
)

// Check holds a proof to what the subject of a token, the key of a piece of
// evidence and a line of the journal can name. Its issuer vouches for what it
// says, and for nothing else: a cluster that lies must not write a subject that
// reads like another one.
func (p Proof) Check() error {
	switch {
	case (p.Cluster == "") == (p.TrustedIssuer == ""):
		return errors.New("a proof is of one cluster or one trusted issuer")
	case p.Subject == "" || len(p.Subject) > maxProofSubject || !printable(p.Subject):
		return errors.New("its sub is empty, longer than 512 bytes, or has a character that does not print")
	case len(p.ID) > maxProofID || !printable(p.ID):
		return errors.New("its jti is longer than 255 bytes, or has a character that does not print")
	case p.Cluster == "":
		return nil
	case len(p.Namespace) > maxClusterName || checkKubernetesName(p.Namespace) != nil || checkKubernetesName(p.ServiceAccount) != nil:
		return errors.New("its namespace or service account is not a name of Kubernetes")
	case checkKubernetesName(p.Pod.Name) != nil || !IsUID(p.Pod.UID):
		return errors.New("its pod has no name or no uid")
	case p.Node != ObjectRef{} && (checkKubernetesName(p.Node.Name) != nil || p.Node.UID != "" && !IsUID(p.Node.UID)):
		return errors.New("its node has no name, or a uid that is none")
	}
	return nil
}

// printable says that text is UTF-8 on one line, and reads in one direction.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || turnsText(r) })
}

// IsUID says whether s is what the uid of an object of Kubernetes may be here: it
// writes UUIDs, and promises no more than that they are unique. Keys of evidence are
// made of them, and one is remembered for each pod.
func IsUID(s string) bool {
	ok := s != "" && len(s) <= maxObjectUID
	for i := range len(s) {
		ok = ok && (s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' || isDigit(s[i]) || s[i] == '-')
	}
	return ok
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

// Workload is whoever has this proof, as the subject of tokens.
func (p Proof) Workload(issuer string) Subject {
	return Subject{Issuer: issuer, ID: p.WorkloadID(), Kind: SubjectWorkload}
}

// MaxLife bounds the life of what the proof gets at a moment: nothing outlives it, and
// it is short where nobody hears of the end of the pod or the job.
func (p Proof) MaxLife(at time.Time) time.Duration { return min(p.Expires.Sub(at), p.Pods.MaxTTL()) }

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
