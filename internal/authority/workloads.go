package authority

import "strings"

// Workloads are workloads that an administrator names at once: to see their
// grants, or to end what they have.
type Workloads struct {
	Epoch  RevocationKind // what ends everything of theirs that is older
	Key    string
	Grants GrantFilter
}

// WorkloadsOfCluster are all that have proved themselves in a cluster, which may be gone.
func WorkloadsOfCluster(name string) (Workloads, *Problem) {
	return Workloads{EpochCluster, name, GrantFilter{SubjectPrefix: clusterSubject + name + ":"}}, checkClusterName(name)
}

// WorkloadsOfIssuer are all that a trusted issuer vouches for, which may be gone.
func WorkloadsOfIssuer(name string) (Workloads, *Problem) {
	return Workloads{EpochIssuer, name, GrantFilter{SubjectPrefix: issuerSubject + name + ":"}}, checkClusterName(name)
}

// WorkloadsOfNamespace are those of one namespace, or with an account of that one.
func WorkloadsOfNamespace(cluster, namespace, account string) (Workloads, *Problem) {
	if p := checkClusterName(cluster); p != nil {
		return Workloads{}, p
	}
	if p := checkKubernetesName(namespace); p != nil {
		return Workloads{}, p
	}
	key := clusterSubject + cluster + ":ns:" + namespace
	if account == "" {
		return Workloads{EpochWorkload, key, GrantFilter{SubjectPrefix: key + ":"}}, nil
	}
	id := Proof{Cluster: cluster, Namespace: namespace, ServiceAccount: account}.WorkloadID()
	return Workloads{EpochWorkload, id, GrantFilter{SubjectID: id}}, checkKubernetesName(account)
}

// ParseWorkloads reads the subject of a workload, or its beginning up to the
// namespace.
func ParseWorkloads(s string) (Workloads, *Problem) {
	wrong := problem(quote(s)+" is not a workload", "write cluster:NAME:ns:NAMESPACE, with :sa:ACCOUNT for one service account; or issuer:NAME:SUBJECT")
	if rest, is := strings.CutPrefix(s, clusterSubject); is {
		cluster, rest, there := strings.Cut(rest, ":ns:")
		namespace, account, one := strings.Cut(rest, ":sa:")
		if !there || one && account == "" {
			return Workloads{}, wrong
		}
		return WorkloadsOfNamespace(cluster, namespace, account)
	}
	rest, is := strings.CutPrefix(s, issuerSubject)
	issuer, subject, there := strings.Cut(rest, ":")
	if !is || !there || checkClusterName(issuer) != nil || subject == "" || len(subject) > maxProofSubject || !printable(subject) {
		return Workloads{}, wrong
	}
	return Workloads{EpochWorkload, s, GrantFilter{SubjectID: s}}, nil
}
