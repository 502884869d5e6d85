package authority

import (
	"errors"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// FederatedCredential is what a client proves itself with that has no secret and no key: a token that
// a registered cluster or a trusted issuer makes for one workload (RFC 7523 §2.2). The names are those of
// a policy's from. The zero value is none.
type FederatedCredential struct {
	Cluster        string `json:"cluster,omitempty"`
	Namespace      string `json:"namespace,omitempty"`
	ServiceAccount string `json:"service_account,omitempty"`
	TrustedIssuer  string `json:"trusted_issuer,omitempty"`
	Subject        string `json:"subject,omitempty"` // `sub`, exactly
}

// IsZero says that there is none.
func (f FederatedCredential) IsZero() bool { return f == FederatedCredential{} }

// WorkloadID is the one workload whose proof it is: see Proof.WorkloadID. Empty for the zero value.
func (f FederatedCredential) WorkloadID() string {
	if f.IsZero() {
		return ""
	}
	return Proof{Cluster: f.Cluster, Namespace: f.Namespace, ServiceAccount: f.ServiceAccount, TrustedIssuer: f.TrustedIssuer, Subject: f.Subject}.WorkloadID()
}

// ParseFederatedCredential reads a workload's id. The rule book has the last word on what is in it.
func ParseFederatedCredential(id string) (FederatedCredential, error) {
	if rest, is := strings.CutPrefix(id, clusterSubject); is {
		cluster, rest, there := strings.Cut(rest, ":ns:")
		namespace, account, one := strings.Cut(rest, ":sa:")
		if there && one {
			return FederatedCredential{Cluster: cluster, Namespace: namespace, ServiceAccount: account}, nil
		}
	}
	if rest, is := strings.CutPrefix(id, issuerSubject); is {
		if issuer, subject, there := strings.Cut(rest, ":"); there {
			return FederatedCredential{TrustedIssuer: issuer, Subject: subject}, nil
		}
	}
	return FederatedCredential{}, errors.New("write cluster:NAME:ns:NAMESPACE:sa:ACCOUNT or issuer:NAME:SUBJECT")
}

func (m *ClientMetadata) validateFederatedCredential(found *Problems) {
	const field, form = "federated_credential", "write cluster, namespace and service_account; or trusted_issuer and subject"
	f := m.FederatedCredential
	switch federated := m.authenticates(oauth.AuthFederatedJWT); {
	case !federated && f.IsZero():
		return
	case !federated:
		found.add(field, "has no use with token_endpoint_auth_method "+m.TokenEndpointAuthMethod, "remove it, or use "+string(oauth.AuthFederatedJWT))
		return
	case f.IsZero():
		found.add(field, "is missing: "+m.TokenEndpointAuthMethod+" needs the workload whose tokens prove the client", form)
		return
	case (f.Cluster == "") == (f.TrustedIssuer == ""):
		found.add(field, "names "+map[bool]string{true: "no cluster and no trusted issuer", false: "a cluster and a trusted issuer"}[f.Cluster == ""], form)
		return
	case f.Cluster != "" && f.Subject != "":
		found.add(field+".subject", "has a meaning with trusted_issuer only", "write namespace and service_account")
		return
	case f.TrustedIssuer != "" && (f.Namespace != "" || f.ServiceAccount != ""):
		found.add(field, "has namespace or service_account beside trusted_issuer", "write subject alone")
		return
	case f.Cluster != "":
		found.at(field+".cluster", checkClusterName(f.Cluster))
		found.at(field+".namespace", checkKubernetesName(f.Namespace))
		found.at(field+".service_account", checkKubernetesName(f.ServiceAccount))
	default:
		found.at(field+".trusted_issuer", checkClusterName(f.TrustedIssuer))
		found.at(field+".subject", checkProofSubject(f.Subject))
	}
	for i, id := range m.Resources {
		// Who may change a cluster could be every such client, as who may write policies could: see checkPolicyResource.
		if id == AdminResource {
			found.add(member("resources", i), AdminResource+" is beside federated_credential, and no proof of others leads there", "give administrators a client with a secret or a key of its own")
		}
	}
}

// checkProofSubject is for a subject that Proof.Check accepts, character by character.
func checkProofSubject(s string) *Problem {
	const form = "write the sub in full, as it is in the token"
	switch {
	case s == "":
		return problem("is missing", form)
	case len(s) > maxProofSubject || !printable(s):
		return problem("is longer than 512 bytes, or has a character that does not print", form)
	case strings.Contains(s, "*"):
		return problem(quote(s)+" has a *, and wildcards are not supported", form)
	}
	return nil
}

// checkFederatedCredential finds what does not fit the cluster or the issuer.
func (m *ClientMetadata) checkFederatedCredential(r References, found *Problems) error {
	const field = "federated_credential"
	switch f := m.FederatedCredential; {
	case f.Cluster != "":
		cluster, there, err := known(r.Cluster, f.Cluster)
		switch {
		case err != nil:
			return err
		case !there:
			found.add(field+".cluster", "there is no cluster "+quote(f.Cluster), "register the cluster first")
		case cluster.Issuer == "":
			found.add(field+".cluster", "the cluster "+quote(f.Cluster)+" has no issuer, so its pods cannot prove themselves", "give it issuer and keys")
		}
	case f.TrustedIssuer != "":
		issuer, there, err := known(r.TrustedIssuer, f.TrustedIssuer)
		switch {
		case err != nil:
			return err
		case !there:
			found.add(field+".trusted_issuer", "there is no trusted issuer "+quote(f.TrustedIssuer), "add it to trusted_issuers")
		case issuer.TrustDomain != "" && !strings.HasPrefix(f.Subject, "spiffe://"+issuer.TrustDomain+"/"):
			found.add(field+".subject", quote(f.Subject)+" is not in the trust domain "+issuer.TrustDomain, "write the whole SPIFFE ID: spiffe://"+issuer.TrustDomain+"/…")
		}
	}
	return nil
}
