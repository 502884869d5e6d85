package authority

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func goodPolicy(change func(*PolicyMetadata)) PolicyMetadata {
	m := PolicyMetadata{
		Name: "deploys", From: PolicyFrom{Cluster: "hub", Namespace: "argocd", ServiceAccount: "controller"},
		To: PolicyTo{Cluster: "spoke"}, Groups: []string{"deployers"}, TTL: SecondsOf(300),
	}
	change(&m)
	return m
}

func TestTheRulesOfATrustPolicy(t *testing.T) {
	github := PolicyFrom{TrustedIssuer: "github", Subject: "repo:acme/app:ref:refs/heads/main"}
	with := func(from PolicyFrom, change func(*PolicyFrom)) func(*PolicyMetadata) {
		return func(m *PolicyMetadata) { change(&from); m.From = from }
	}
	same := func(*PolicyFrom) {}
	api := func(scopes ...string) func(*PolicyMetadata) {
		return func(m *PolicyMetadata) { m.To = PolicyTo{Resource: "https://api.example.com", Scopes: scopes} }
	}
	for _, row := range []struct {
		name   string
		change func(*PolicyMetadata)
		field  string
		text   string
	}{
		{"a pod that reaches a cluster", func(*PolicyMetadata) {}, "", ""},
		{"a CI job", with(github, same), "", ""},
		{"a CI job by its claims", with(PolicyFrom{TrustedIssuer: "github", Claims: map[string]string{"repository": "acme/app"}}, same), "", ""},
		{"people by group", with(PolicyFrom{UserGroup: "sre"}, same), "", ""},
		{"a client for a person", with(PolicyFrom{Client: "orders", OnBehalfOf: "user"}, same), "", ""},
		{"a client for everybody", with(PolicyFrom{Client: "orders", OnBehalfOf: "any"}, same), "", ""},
		{"a resource with scopes", api("orders:read", "orders:write"), "", ""},
		{"a trial", func(m *PolicyMetadata) { m.Mode = "audit" }, "", ""},
		{"the default service account, by name", func(m *PolicyMetadata) { m.From.ServiceAccount = "default" }, "", ""},

		{"no name", func(m *PolicyMetadata) { m.Name = "" }, "name", "missing"},
		{"a name with a space", func(m *PolicyMetadata) { m.Name = "a b" }, "name", "not an id"},
		{"a name that would double the prefix", func(m *PolicyMetadata) { m.Name = "policy:x" }, "name", "policy:"},
		{"from nobody", with(PolicyFrom{}, same), "from", "nobody"},
		{"from two", with(github, func(f *PolicyFrom) { f.Cluster = "hub" }), "from", "cluster and trusted_issuer"},
		{"from a client and a group", with(PolicyFrom{Client: "orders", UserGroup: "sre"}, same), "from", "client and user_group"},
		{"a cluster's name with a dot", func(m *PolicyMetadata) { m.From.Cluster = "h.b" }, "from.cluster", "not a name"},
		{"every namespace", func(m *PolicyMetadata) { m.From.Namespace = "" }, "from.namespace", "missing"},
		{"every service account", func(m *PolicyMetadata) { m.From.ServiceAccount = "" }, "from.service_account", "missing"},
		{"a namespace with a star", func(m *PolicyMetadata) { m.From.Namespace = "argo*" }, "from.namespace", "not a name"},
		{"a service account with a star", func(m *PolicyMetadata) { m.From.ServiceAccount = "*" }, "from.service_account", "not a name"},
		{"a namespace that ends another field", func(m *PolicyMetadata) { m.From.Namespace = "a:sa:b" }, "from.namespace", "not a name"},
		{"an account that would reach into another namespace", func(m *PolicyMetadata) { m.From.ServiceAccount = "b:sa:c" }, "from.service_account", "not a name"},
		{"people for somebody", with(PolicyFrom{UserGroup: "sre", OnBehalfOf: "user"}, same), "from.on_behalf_of", "client only"},
		{"a subject of a cluster", func(m *PolicyMetadata) { m.From.Subject = "system:serviceaccount:argocd:x" }, "from.subject", "trusted_issuer only"},
		{"a namespace of a CI job", with(github, func(f *PolicyFrom) { f.Namespace = "argocd" }), "from.namespace", "cluster only"},
		{"a service account of a CI job", with(github, func(f *PolicyFrom) { f.ServiceAccount = "x" }), "from.service_account", "cluster only"},
		{"on behalf of, without a client", with(github, func(f *PolicyFrom) { f.OnBehalfOf = "user" }), "from.on_behalf_of", "client only"},
		{"everybody at a public issuer", with(PolicyFrom{TrustedIssuer: "github"}, same), "from.subject", "missing"},
		{"a subject with a star", with(github, func(f *PolicyFrom) { f.Subject = "repo:acme/*" }), "from.subject", "wildcards"},
		{"a subject with a line break", with(github, func(f *PolicyFrom) { f.Subject = "repo:acme\n" }), "from.subject", "control"},
		{"a long subject", with(github, func(f *PolicyFrom) { f.Subject = strings.Repeat("a", maxURI+1) }), "from.subject", "overlong"},
		{"a claim with a star", with(github, func(f *PolicyFrom) { f.Claims = map[string]string{"repository": "acme/*"} }), "from.claims.repository", "wildcards"},
		{"a claim without a value", with(github, func(f *PolicyFrom) { f.Claims = map[string]string{"repository": ""} }), "from.claims.repository", "empty"},
		{"a claim without a name", with(github, func(f *PolicyFrom) { f.Claims = map[string]string{"": "x"} }), "from.claims", "not the name"},
		{"claims of a group", with(PolicyFrom{UserGroup: "sre", Claims: map[string]string{"acr": "2"}}, same), "from.claims", "cluster and trusted_issuer only"},
		{"a group of Kubernetes", with(PolicyFrom{UserGroup: "system:masters"}, same), "from.user_group", "system:"},
		{"a client that says nothing", with(PolicyFrom{Client: "orders"}, same), "from.on_behalf_of", "missing"},
		{"a client for whom nobody knows", with(PolicyFrom{Client: "orders", OnBehalfOf: "admin"}, same), "from.on_behalf_of", "admin"},
		{"a condition of spaces", func(m *PolicyMetadata) { m.When = " \n" }, "when", "empty"},
		{"a long condition", func(m *PolicyMetadata) { m.When = strings.Repeat("a", maxWhen+1) }, "when", "longer"},
		{"to nowhere", func(m *PolicyMetadata) { m.To = PolicyTo{} }, "to", "nowhere"},
		{"to two places", func(m *PolicyMetadata) { m.To.Resource = "https://api.example.com" }, "to.resource", "beside"},
		{"scopes of a cluster", func(m *PolicyMetadata) { m.To.Scopes = []string{"x"} }, "to.scopes", "no scopes"},
		{"a resource that runs", func(m *PolicyMetadata) { m.To = PolicyTo{Resource: "javascript:x"} }, "to.resource", "dangerous"},
		{"the admin API", func(m *PolicyMetadata) { m.To = PolicyTo{Resource: AdminResource} }, "to.resource", "built in"},
		{"the admin API in capitals", func(m *PolicyMetadata) { m.To = PolicyTo{Resource: "URN:signalbox:admin"} }, "to.resource", "built in"},
		{"a scope with a space", api("a b"), "to.scopes[0]", "not a scope"},
		{"a scope twice", api("a", "a"), "to.scopes[1]", "twice"},
		{"a scope that leads to UserInfo", api("openid"), "to.scopes[0]", "OpenID Connect"},
		{"a scope that leads to a refresh token", api("a", "offline_access"), "to.scopes[1]", "OpenID Connect"},
		{"a group that means everything", func(m *PolicyMetadata) { m.Groups = []string{"x", "System:masters"} }, "groups[1]", "system:"},
		{"a group twice", func(m *PolicyMetadata) { m.Groups = []string{"x", "x"} }, "groups[1]", "twice"},
		{"a short life", func(m *PolicyMetadata) { m.TTL = SecondsOf(9) }, "ttl", "out of range"},
		{"a long life", func(m *PolicyMetadata) { m.TTL = SecondsOf(3601) }, "ttl", "out of range"},
		{"a negative life", func(m *PolicyMetadata) { m.TTL = SecondsOf(-1) }, "ttl", "out of range"},
		{"half a second", func(m *PolicyMetadata) { m.TTL = Seconds(90*time.Second + 1) }, "ttl", "out of range"},
		{"a mode that is not there", func(m *PolicyMetadata) { m.Mode = "log" }, "mode", "log"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := goodPolicy(row.change)
			wants(t, m.Validate(), row.field, row.text)
			p, err := NewPolicy(m)
			var found Problems
			if (err == nil) != (row.field == "") || err != nil && !errors.As(err, &found) {
				t.Fatalf("NewPolicy: %v", err)
			}
			if err == nil && (p.TTL == 0 || p.Mode == "" || p.ClientID() != "policy:deploys") {
				t.Errorf("defaults are missing: %+v", p)
			}
		})
	}
}

func TestWhatAPolicyMayReferTo(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*PolicyMetadata)
		field  string
		text   string
	}{
		{"a good policy", func(*PolicyMetadata) {}, "", ""},
		{"a cluster that is not there", func(m *PolicyMetadata) { m.From.Cluster = "hup" }, "from.cluster", "no cluster"},
		{"a cluster that is only a place", func(m *PolicyMetadata) { m.From.Cluster = "spoke" }, "from.cluster", "no issuer"},
		{"a place that is not there", func(m *PolicyMetadata) { m.To.Cluster = "spok" }, "to.cluster", "no cluster"},
		{"five minutes from pods that are only reviewed", func(m *PolicyMetadata) { m.From.Cluster = "reviewed" }, "ttl", "pods: review"},
		{"a minute from pods that are only reviewed", func(m *PolicyMetadata) { m.From.Cluster, m.TTL = "reviewed", Seconds(time.Minute) }, "", ""},
		{"nothing said of pods that are only reviewed", func(m *PolicyMetadata) { m.From.Cluster, m.TTL = "reviewed", 0 }, "", ""},
		{"an issuer that is not there", func(m *PolicyMetadata) { m.From = PolicyFrom{TrustedIssuer: "gitlab"} }, "from.trusted_issuer", "no trusted issuer"},
		{"an issuer that is there", func(m *PolicyMetadata) { m.From = PolicyFrom{TrustedIssuer: "github"} }, "", ""},
		{"a client that is not there", func(m *PolicyMetadata) { m.From = PolicyFrom{Client: "nobody"} }, "from.client", "no client"},
		{"a client that does not exchange", func(m *PolicyMetadata) { m.From = PolicyFrom{Client: "api"} }, "from.client", "may not exchange"},
		{"a client that anybody can be", func(m *PolicyMetadata) { m.From = PolicyFrom{Client: "exchanging-spa"} }, "from.client", "public client"},
		{"a client that exchanges", func(m *PolicyMetadata) { m.From = PolicyFrom{Client: "orders"} }, "", ""},
		{"a resource that is not there", func(m *PolicyMetadata) { m.To = PolicyTo{Resource: "urn:x:y"} }, "to.resource", "no resource"},
		{"a scope that the resource has", func(m *PolicyMetadata) {
			m.To = PolicyTo{Resource: "https://api.example.com", Scopes: []string{"orders:read"}}
		}, "", ""},
		{"a scope that the resource has not", func(m *PolicyMetadata) {
			m.To = PolicyTo{Resource: "https://api.example.com", Scopes: []string{"orders:read", "orders:write"}}
		}, "to.scopes[1]", "no scope"},
	} {
		t.Run(row.name, func(t *testing.T) {
			found, err := goodPolicy(row.change).CheckReferences(references())
			if err != nil {
				t.Fatal(err)
			}
			wants(t, found, row.field, row.text)
		})
	}
	for i, m := range []PolicyMetadata{
		{From: PolicyFrom{Cluster: "lost"}}, {To: PolicyTo{Cluster: "lost"}}, {From: PolicyFrom{Client: "lost"}}, {To: PolicyTo{Resource: "https://lost.example.com"}},
	} {
		if _, err := m.CheckReferences(references()); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%d: a store that fails is no answer: %v", i, err)
		}
	}
	six := goodPolicy(func(m *PolicyMetadata) { m.From.Cluster, m.TTL = "offline", Seconds(6*time.Minute) })
	found, err := six.CheckReferences(references())
	wants(t, found, "ttl", "pods: offline")
	if err != nil || !strings.Contains(fmt.Sprint(found), "5m") {
		t.Errorf("%v %v", found, err)
	}
}

// What a stored or sent policy says must never panic, and what passes the rules
// must never reach what is built in.
func FuzzPolicyMetadata(f *testing.F) {
	for _, change := range []func(*PolicyMetadata){
		func(*PolicyMetadata) {},
		func(m *PolicyMetadata) {
			m.From = PolicyFrom{TrustedIssuer: "github", Claims: map[string]string{"a": "b"}}
		},
		func(m *PolicyMetadata) {
			m.From = PolicyFrom{Client: "a", OnBehalfOf: "any"}
			m.To = PolicyTo{Resource: "https://a.example"}
		},
	} {
		f.Add(marshal(goodPolicy(change)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var m PolicyMetadata
		if json.Unmarshal(text, &m) != nil {
			return
		}
		p, err := NewPolicy(m)
		if err != nil {
			return
		}
		switch f := p.From; {
		case strings.HasPrefix(strings.ToLower(p.Target("https://sts.example.com")), ownNames):
			t.Errorf("leads to %q", p.To.Resource)
		case f.Cluster != "" && (f.Namespace == "" || f.ServiceAccount == ""), f.TrustedIssuer != "" && f.Subject == "" && len(f.Claims) == 0:
			t.Errorf("is from everybody: %+v", f)
		case p.TTL <= 0 || p.TTL > MaxAccessTTL:
			t.Errorf("lives for %s", p.TTL)
		}
		for _, group := range p.Groups {
			if strings.HasPrefix(strings.ToLower(group), "system:") {
				t.Errorf("gives %q", group)
			}
		}
	})
}
