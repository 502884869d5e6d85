package authority

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func goodCluster(change func(*ClusterMetadata)) ClusterMetadata {
	m := ClusterMetadata{
		Name: "hub", Issuer: "https://kubernetes.default.svc", JWKS: json.RawMessage(publicKey), APIServer: "https://10.0.0.1:6443",
		Credential: "self", Pods: "watch", TerminatingPods: "grace", Audiences: []string{"https://sts.example.com"},
	}
	change(&m)
	return m
}

func TestTheRulesOfACluster(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*ClusterMetadata)
		field  string
		text   string
	}{
		{"a good cluster", func(*ClusterMetadata) {}, "", ""},
		{"only a place", func(m *ClusterMetadata) { *m = ClusterMetadata{Name: "spoke-a"} }, "", ""},
		{"a place whose API server asks", func(m *ClusterMetadata) { *m = ClusterMetadata{Name: "spoke-a", Webhook: &Webhook{"api"}} }, "", ""},
		{"a key set alone", func(m *ClusterMetadata) {
			*m = ClusterMetadata{Name: "hub", Issuer: "https://kubernetes.default.svc", JWKS: json.RawMessage(publicKey)}
		}, "", ""},
		{"keys that the API server tells", func(m *ClusterMetadata) { m.JWKS = nil }, "", ""},
		{"keys that are fetched", func(m *ClusterMetadata) { m.JWKS, m.JWKSURI = nil, "https://keys.example.com/hub" }, "", ""},
		{"a kubeconfig alone", func(m *ClusterMetadata) { m.APIServer, m.Credential, m.Kubeconfig = "", "", []byte("x") }, "", ""},
		{"pods that nobody watches although he could", func(m *ClusterMetadata) { m.Pods, m.TerminatingPods = "offline", "" }, "", ""},
		{"no name", func(m *ClusterMetadata) { m.Name = "" }, "name", "missing"},
		{"a name in capitals", func(m *ClusterMetadata) { m.Name = "Hub" }, "name", "not a name"},
		{"a name that a subject would take apart", func(m *ClusterMetadata) { m.Name = "hub:ns:kube-system" }, "name", "not a name"},
		{"a name that a path would take apart", func(m *ClusterMetadata) { m.Name = "hub/x" }, "name", "not a name"},
		{"a name of 64", func(m *ClusterMetadata) { m.Name = strings.Repeat("a", 64) }, "name", "not a name"},
		{"an issuer with a space", func(m *ClusterMetadata) { m.Issuer = "https://a b" }, "issuer", "not an issuer"},
		{"keys without an issuer", func(m *ClusterMetadata) { *m = ClusterMetadata{Name: "hub", JWKS: json.RawMessage(publicKey)} }, "issuer", "jwks is about"},
		{"audiences without an issuer", func(m *ClusterMetadata) { *m = ClusterMetadata{Name: "hub", Audiences: []string{"x"}} }, "issuer", "audiences is about"},
		{"an issuer whose keys are nowhere", func(m *ClusterMetadata) { *m = ClusterMetadata{Name: "hub", Issuer: "https://kubernetes.default.svc"} }, "issuer", "where its keys are"},
		{"keys in two places", func(m *ClusterMetadata) { m.JWKSURI = "https://keys.example.com/hub" }, "jwks", "beside jwks_uri"},
		{"keys that are none", func(m *ClusterMetadata) { m.JWKS = json.RawMessage(`{"keys":[]}`) }, "jwks", "no key"},
		{"a private key", func(m *ClusterMetadata) {
			m.JWKS = json.RawMessage(strings.Replace(publicKey, `"x"`, `"d":"AA","x"`, 1))
		}, "jwks", "private"},
		{"keys in plain HTTP", func(m *ClusterMetadata) { m.JWKS, m.JWKSURI = nil, "http://keys.example.com/hub" }, "jwks_uri", "https"},
		{"an API server in plain HTTP", func(m *ClusterMetadata) { m.APIServer = "http://10.0.0.1:6443" }, "api_server", "https"},
		{"certificates that are none", func(m *ClusterMetadata) { m.CA = "x" }, "ca", "no certificate"},
		{"a static credential", func(m *ClusterMetadata) { m.Credential = "token" }, "credential", "not accepted"},
		{"a credential that only a kubeconfig has", func(m *ClusterMetadata) { m.Credential = "kubeconfig" }, "credential", "not accepted"},
		{"two credentials", func(m *ClusterMetadata) { m.Kubeconfig = []byte("x") }, "credential", "beside kubeconfig_file"},
		{"a credential for nobody", func(m *ClusterMetadata) { m.APIServer, m.Pods, m.TerminatingPods = "", "", "" }, "credential", "no api_server"},
		{"an API server without a credential", func(m *ClusterMetadata) { m.Credential = "" }, "api_server", "how we prove ourselves"},
		{"a watch without an API server", func(m *ClusterMetadata) { m.APIServer, m.Credential, m.TerminatingPods = "", "", "" }, "pods", "needs the API server"},
		{"a grace that nobody sees", func(m *ClusterMetadata) { m.Pods = "offline" }, "terminating_pods", "no meaning"},
		{"a mode of nobody", func(m *ClusterMetadata) { m.Pods = "maybe" }, "pods", "not accepted"},
		{"an end of nobody", func(m *ClusterMetadata) { m.TerminatingPods = "later" }, "terminating_pods", "not accepted"},
		{"an empty audience", func(m *ClusterMetadata) { m.Audiences = []string{""} }, "audiences[0]", "not an audience"},
		{"an audience twice", func(m *ClusterMetadata) { m.Audiences = []string{"a", "a"} }, "audiences[1]", "twice"},
		{"a webhook of nobody", func(m *ClusterMetadata) { m.Webhook = &Webhook{} }, "webhook.caller", "missing"},
		{"a workload that introspects", func(m *ClusterMetadata) { m.IntrospectionClients = []string{"policy:x"} }, "introspection_clients[0]", "policy:"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := goodCluster(row.change)
			wants(t, m.Validate(), row.field, row.text)
			c, err := NewCluster(m)
			if (err == nil) != (row.field == "") {
				t.Fatalf("NewCluster: %v", err)
			}
			if err != nil {
				return
			}
			again, err := NewCluster(c.Metadata())
			if err != nil || !reflect.DeepEqual(again, c) {
				t.Errorf("there and back: %v\n%+v\n%+v", err, c, again)
			}
			if o, found := c.object(); len(found) > 0 || strings.Contains(string(o.Body), "kubeconfig") {
				t.Errorf("stored: %s %v", o.Body, found)
			}
		})
	}
}

func TestWhatAClusterMayReferTo(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*ClusterMetadata)
		field  string
		text   string
	}{
		{"a good cluster", func(*ClusterMetadata) {}, "", ""},
		{"a caller with a secret", func(m *ClusterMetadata) { m.Webhook = &Webhook{"api"} }, "", ""},
		{"our own issuer", func(m *ClusterMetadata) { m.Issuer = "https://sts.example.com" }, "issuer", "our own"},
		{"a key of another cluster", func(m *ClusterMetadata) { m.Name = "evil" }, "jwks", `"hub" has too`},
		{"a caller that is not there", func(m *ClusterMetadata) { m.Webhook = &Webhook{"nobody"} }, "webhook.caller", "no client"},
		{"a caller that anybody can be", func(m *ClusterMetadata) { m.Webhook = &Webhook{"spa"} }, "webhook.caller", "public client"},
		{"an auditor that is not there", func(m *ClusterMetadata) { m.IntrospectionClients = []string{"api", "nobody"} }, "introspection_clients[1]", "no client"},
		{"an auditor that anybody can be", func(m *ClusterMetadata) { m.IntrospectionClients = []string{"spa"} }, "introspection_clients[0]", "public client"},
	} {
		t.Run(row.name, func(t *testing.T) {
			found, err := goodCluster(row.change).CheckReferences(references())
			if err != nil {
				t.Fatal(err)
			}
			wants(t, found, row.field, row.text)
		})
	}
	if _, err := goodCluster(func(m *ClusterMetadata) { m.Webhook = &Webhook{"lost"} }).CheckReferences(references()); err == nil {
		t.Error("a store that fails is no answer")
	}
}

func TestAClusterIsAResourceForItsCallersAlone(t *testing.T) {
	c, err := NewCluster(ClusterMetadata{Name: "spoke", Webhook: &Webhook{"apiserver"}, IntrospectionClients: []string{"audit"}})
	if err != nil {
		t.Fatal(err)
	}
	r := c.Resource("https://sts.example.com")
	if r.ID != "https://sts.example.com/clusters/spoke" || !r.MayIntrospect("apiserver") || !r.MayIntrospect("audit") || r.MayIntrospect("web") || !r.Scopes.IsEmpty() {
		t.Errorf("%+v", r)
	}
}
