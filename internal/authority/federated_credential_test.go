package authority

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// argocd is a client that proves itself by the pods of a service account.
func argocd(change func(*ClientMetadata)) ClientMetadata {
	return goodClient(func(m *ClientMetadata) {
		m.ClientID, m.TokenEndpointAuthMethod, m.ClientSecrets = "argocd", "federated_jwt", nil
		m.FederatedCredential = FederatedCredential{Cluster: "hub", Namespace: "argocd", ServiceAccount: "argocd-server"}
		change(m)
	})
}

func TestTheRulesOfAFederatedCredential(t *testing.T) {
	job := FederatedCredential{TrustedIssuer: "ci", Subject: "repo:acme/app:ref:refs/heads/main"}
	of := func(change func(*FederatedCredential)) func(*ClientMetadata) {
		return func(m *ClientMetadata) { change(&m.FederatedCredential) }
	}
	for _, row := range []struct {
		name   string
		change func(*ClientMetadata)
		field  string
		text   string
	}{
		{"a service account", func(*ClientMetadata) {}, "", ""},
		{"a CI job", func(m *ClientMetadata) { m.FederatedCredential = job }, "", ""},
		{"none", func(m *ClientMetadata) { m.FederatedCredential = FederatedCredential{} }, "federated_credential", "is missing"},
		{"a cluster and an issuer", of(func(f *FederatedCredential) { f.TrustedIssuer = "ci" }), "federated_credential", "a cluster and a trusted issuer"},
		{"a public client", func(m *ClientMetadata) { m.TokenEndpointAuthMethod = "none" }, "federated_credential", "no use with token_endpoint_auth_method none"},
		{"beside a secret", func(m *ClientMetadata) {
			m.TokenEndpointAuthMethod, m.ClientSecrets = "client_secret_basic", make([]ClientSecret, 1)
		}, "federated_credential", "no use"},
		{"a secret beside it", func(m *ClientMetadata) { m.ClientSecrets = make([]ClientSecret, 1) }, "client_secret", "no use"},
		{"keys beside it", func(m *ClientMetadata) { m.JWKS = []byte(publicKey) }, "jwks", "no use"},
		{"a cluster with a subject", of(func(f *FederatedCredential) { f.Subject = "x" }), "federated_credential.subject", "trusted_issuer only"},
		{"an issuer with a namespace", func(m *ClientMetadata) { m.FederatedCredential = job; m.FederatedCredential.Namespace = "x" }, "federated_credential", "beside trusted_issuer"},
		{"no namespace", of(func(f *FederatedCredential) { f.Namespace = "" }), "federated_credential.namespace", ""},
		{"no service account", of(func(f *FederatedCredential) { f.ServiceAccount = "" }), "federated_credential.service_account", ""},
		{"every service account", of(func(f *FederatedCredential) { f.ServiceAccount = "*" }), "federated_credential.service_account", ""},
		{"a service account that reads like another", of(func(f *FederatedCredential) { f.Namespace = "argocd:sa:x" }), "federated_credential.namespace", ""},
		{"a cluster that reads like another", of(func(f *FederatedCredential) { f.Cluster = "hub:ns:x" }), "federated_credential.cluster", ""},
		{"an issuer that reads like another", func(m *ClientMetadata) { m.FederatedCredential = job; m.FederatedCredential.TrustedIssuer = "ci:repo" }, "federated_credential.trusted_issuer", ""},
		{"no subject", func(m *ClientMetadata) { m.FederatedCredential = job; m.FederatedCredential.Subject = "" }, "federated_credential.subject", "missing"},
		{"a subject of nobody", func(m *ClientMetadata) { m.FederatedCredential = FederatedCredential{Subject: "x"} }, "federated_credential", "no cluster and no trusted issuer"},
		{"a subject with a wildcard", func(m *ClientMetadata) { m.FederatedCredential = job; m.FederatedCredential.Subject = "repo:acme/*" }, "federated_credential.subject", "wildcards"},
		{"a subject that no proof can have", func(m *ClientMetadata) {
			m.FederatedCredential = job
			m.FederatedCredential.Subject = strings.Repeat("x", 513)
		}, "federated_credential.subject", "512"},
		{"the admin API", func(m *ClientMetadata) {
			m.GrantTypes, m.Resources, m.Scope = []string{"client_credentials"}, []string{AdminResource}, "keys:read"
		}, "resources[0]", "no proof of others leads there"},
	} {
		t.Run(row.name, func(t *testing.T) { wants(t, argocd(row.change).Validate(), row.field, row.text) })
	}
}

func TestWhatAFederatedCredentialMayReferTo(t *testing.T) {
	refs := references()
	for _, row := range []struct {
		name        string
		credential  FederatedCredential
		field, text string
	}{
		{"a cluster", FederatedCredential{Cluster: "hub", Namespace: "a", ServiceAccount: "b"}, "", ""},
		{"an issuer", FederatedCredential{TrustedIssuer: "github", Subject: "x"}, "", ""},
		{"a cluster of nobody", FederatedCredential{Cluster: "hab", Namespace: "a", ServiceAccount: "b"}, "federated_credential.cluster", "no cluster"},
		{"a cluster that is only a place", FederatedCredential{Cluster: "spoke", Namespace: "a", ServiceAccount: "b"}, "federated_credential.cluster", "no issuer"},
		{"an issuer of nobody", FederatedCredential{TrustedIssuer: "cd", Subject: "x"}, "federated_credential.trusted_issuer", "no trusted issuer"},
		{"a SPIFFE ID of the trust domain", FederatedCredential{TrustedIssuer: "mesh", Subject: "spiffe://prod.example.com/argocd"}, "", ""},
		{"a SPIFFE ID of another trust domain", FederatedCredential{TrustedIssuer: "mesh", Subject: "spiffe://prod.example.com.evil/argocd"}, "federated_credential.subject", "not in the trust domain"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := argocd(func(m *ClientMetadata) { m.FederatedCredential = row.credential })
			found, err := m.CheckReferences(refs)
			if err != nil {
				t.Fatal(err)
			}
			wants(t, found, row.field, row.text)
		})
	}
}

// One workload is one client, in the file, in the database, and between the two.
func TestOneWorkloadIsOneClient(t *testing.T) {
	s := fewRows(t, nil)
	stored, _ := NewClient(argocd(func(m *ClientMetadata) { m.ClientID = "stored-argocd" }))
	if err := Clients(s).Create(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	const workload = "cluster:hub:ns:argocd:sa:argocd-server"
	d := newReloading(s)
	client := func(id string, f FederatedCredential) Client { return Client{ID: id, Federated: f, Source: FromFile} }
	free := FederatedCredential{TrustedIssuer: "ci", Subject: "cluster:hub:ns:argocd:sa:argocd-server"} // reads like the other, and is not
	if err := d.Declare(t.Context(), StaticObjects{Clients: map[string]Client{"job": client("job", free)}}); err != nil {
		t.Fatal(err)
	}
	if c, err := d.ClientOf(t.Context(), workload); err != nil || c.ID != "stored-argocd" {
		t.Errorf("%q %v", c.ID, err)
	}
	if c, err := d.ClientOf(t.Context(), free.WorkloadID()); err != nil || c.ID != "job" {
		t.Errorf("%q %v", c.ID, err)
	}
	for _, nobody := range []string{workload + "x", "issuer:ci:x"} {
		if c, err := d.ClientOf(t.Context(), nobody); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q is %q", nobody, c.ID)
		}
	}
	if err := d.Declare(t.Context(), StaticObjects{Clients: map[string]Client{"again": client("again", stored.Federated)}}); !errors.Is(err, ErrOverlap) {
		t.Errorf("the file and the database: %v", err)
	}
	if _, err := (StaticObjects{Clients: map[string]Client{"a": client("a", free), "b": client("b", free)}}).Complete(); err == nil || !strings.Contains(err.Error(), `"a" and "b"`) {
		t.Errorf("two of the file: %v", err)
	}
}

func TestAClientOfEveryPullRequestIsWarnedOf(t *testing.T) {
	f := FederatedCredential{TrustedIssuer: "github", Subject: "repo:acme/app:pull_request"}
	wants(t, f.Warnings("https://token.actions.githubusercontent.com"), "federated_credential.subject", "every pull request")
	wants(t, f.Warnings("https://ci.example.com"), "", "")
	f.Subject = "repo:acme/app:environment:production"
	wants(t, f.Warnings("https://token.actions.githubusercontent.com"), "", "")
}

func TestFederatedCredentialsThereAndBack(t *testing.T) {
	for _, m := range []ClientMetadata{
		argocd(func(*ClientMetadata) {}),
		argocd(func(m *ClientMetadata) {
			m.FederatedCredential = FederatedCredential{TrustedIssuer: "ci", Subject: "a:b :c"}
		}),
	} {
		c, err := NewClient(m)
		if err != nil {
			t.Fatal(err)
		}
		o, _ := c.object()
		back, err := readClient(o)
		if err != nil || !reflect.DeepEqual(back.Federated, m.FederatedCredential) || o.Name != m.FederatedCredential.WorkloadID() {
			t.Errorf("%+v %q %v", back.Federated, o.Name, err)
		}
		if parsed, err := ParseFederatedCredential(o.Name); err != nil || parsed != m.FederatedCredential {
			t.Errorf("%+v %v", parsed, err)
		}
	}
	for _, text := range []string{"", "cluster:hub", "cluster:hub:ns:a", "issuer:ci", "system:serviceaccount:a:b"} {
		if f, err := ParseFederatedCredential(text); err == nil {
			t.Errorf("%q is %+v", text, f)
		}
	}
}
