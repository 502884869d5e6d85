package authority

import (
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// PolicyFrom says whose proof a trust policy is about. Exactly one of Cluster,
// TrustedIssuer, UserGroup and Client is set. What is set must match exactly.
type PolicyFrom struct {
	Cluster        string            `json:"cluster,omitempty"`
	Namespace      string            `json:"namespace,omitempty"`
	ServiceAccount string            `json:"service_account,omitempty"`
	TrustedIssuer  string            `json:"trusted_issuer,omitempty"`
	Subject        string            `json:"subject,omitempty"`
	Claims         map[string]string `json:"claims,omitempty"`
	UserGroup      string            `json:"user_group,omitempty"`
	Client         string            `json:"client,omitempty"`
	OnBehalfOf     string            `json:"on_behalf_of,omitempty"` // with Client: user, workload, client, any
}

// PolicyTo says what a trust policy gives: a cluster, or a resource with scopes.
type PolicyTo struct {
	Cluster  string   `json:"cluster,omitempty"`
	Resource string   `json:"resource,omitempty"`
	Scopes   []string `json:"scopes,omitempty"`
}

// PolicyMode says whether a policy grants.
type PolicyMode string

// The modes.
const (
	PolicyEnforce PolicyMode = "enforce"
	PolicyAudit   PolicyMode = "audit" // a trial: its verdict is journaled, and it grants nothing
)

// PolicyModes lists what mode may be.
func PolicyModes() []string { return []string{string(PolicyEnforce), string(PolicyAudit)} }

// OnBehalfOf lists what on_behalf_of may be.
func OnBehalfOf() []string {
	return []string{string(SubjectUser), string(SubjectWorkload), string(SubjectClient), "any"}
}

// PolicyMetadata is a trust policy as somebody writes it in the file.
type PolicyMetadata struct {
	Name   string     `json:"name"`
	From   PolicyFrom `json:"from"`
	When   string     `json:"when,omitempty"` // CEL
	To     PolicyTo   `json:"to"`
	Groups []string   `json:"groups,omitempty"`
	TTL    Seconds    `json:"ttl,omitempty"`
	Mode   string     `json:"mode,omitempty"`
}

// Policy is a trust policy: which proof may be exchanged for which tokens.
type Policy struct {
	Name   string
	From   PolicyFrom
	When   string // CEL; empty: always
	To     PolicyTo
	Scopes oauth.Scopes  // of To
	Groups []string      // what the token says in `groups`
	TTL    time.Duration // zero: DefaultPolicyTTL
	Mode   PolicyMode
}

// DefaultPolicyTTL is the life of an exchanged token where its policy says nothing.
const DefaultPolicyTTL = 5 * time.Minute

// NewPolicy makes a Policy of what was written. The error is Problems. When is
// compiled elsewhere.
func NewPolicy(m PolicyMetadata) (Policy, error) {
	if found := m.Validate(); len(found) > 0 {
		return Policy{}, Problems(found)
	}
	scopes, err := oauth.ScopesOf(m.To.Scopes...)
	p := Policy{Name: m.Name, From: m.From, When: m.When, To: m.To, Scopes: scopes, Groups: m.Groups, TTL: time.Duration(m.TTL), Mode: PolicyMode(m.Mode)}
	if p.TTL == 0 {
		p.TTL = DefaultPolicyTTL
	}
	if p.Mode == "" {
		p.Mode = PolicyEnforce
	}
	return p, err
}

// ClientID is the client of a workload that gets its tokens by this policy.
func (p Policy) ClientID() string { return PolicyClientPrefix + p.Name }

// Target is the resource that the policy leads to.
func (p Policy) Target(issuer string) string {
	if p.To.Cluster != "" {
		return ClusterAudience(issuer, p.To.Cluster)
	}
	return p.To.Resource
}

const (
	maxWhen   = 4096
	maxGroups = 32
	maxGroup  = 255
)

// Validate finds what breaks a rule, without asking about other objects.
func (m PolicyMetadata) Validate() []Problem {
	var found Problems
	found.at("name", checkID(m.Name))
	found.from(m.From)
	switch {
	case len(m.When) > maxWhen:
		found.add("when", "is longer than 4096 bytes", "shorten it, or make several policies")
	case m.When != "" && strings.TrimSpace(m.When) == "":
		found.add("when", "is empty", "write a CEL expression, or omit when")
	}
	switch {
	case m.To.Cluster == "" && m.To.Resource == "":
		found.add("to", "leads nowhere", "add cluster or resource")
	case m.To.Cluster != "" && m.To.Resource != "":
		found.add("to.resource", "is beside cluster", "make a policy for each")
	case m.To.Cluster != "":
		found.at("to.cluster", checkClusterName(m.To.Cluster))
		if len(m.To.Scopes) > 0 {
			found.add("to.scopes", "a cluster has no scopes", "use groups")
		}
	default:
		found.at("to.resource", checkPolicyResource(m.To.Resource))
		if found.list("to.scopes", m.To.Scopes, maxMembers) {
			found.each("to.scopes", m.To.Scopes, checkScope)
		}
	}
	if found.list("groups", m.Groups, maxGroups) {
		found.each("groups", m.Groups, checkGroup)
	}
	if ttl := time.Duration(m.TTL); ttl != 0 && (ttl < 10*time.Second || ttl > MaxAccessTTL || !m.TTL.whole()) {
		found.add("ttl", ttl.String()+" is out of range", "write whole seconds, from 10s to 1h")
	}
	found.oneOf("mode", m.Mode, PolicyModes())
	return found
}

func (p *Problems) from(f PolicyFrom) {
	origins := map[string]string{"cluster": f.Cluster, "trusted_issuer": f.TrustedIssuer, "user_group": f.UserGroup, "client": f.Client}
	var set []string
	for key, value := range origins {
		if value != "" {
			set = append(set, key)
		}
	}
	slices.Sort(set)
	if len(set) != 1 {
		p.add("from", "names "+map[bool]string{true: "nobody", false: strings.Join(set, " and ")}[len(set) == 0], "write exactly one of cluster, trusted_issuer, user_group and client")
		return
	}
	only := func(key, value, with string) {
		if value != "" && set[0] != with {
			p.add("from."+key, "has a meaning with "+with+" only", "remove it")
		}
	}
	only("namespace", f.Namespace, "cluster")
	only("service_account", f.ServiceAccount, "cluster")
	only("subject", f.Subject, "trusted_issuer")
	only("on_behalf_of", f.OnBehalfOf, "client")
	switch set[0] {
	case "cluster":
		p.at("from.cluster", checkClusterName(f.Cluster))
		if f.Namespace == "" {
			p.add("from.namespace", "is missing", "name the namespace: a policy never spans them")
		}
		if f.ServiceAccount == "" {
			p.add("from.service_account", "is missing", "name the service account: a policy never spans them")
		}
		p.each("from.namespace", nonEmpty(f.Namespace), checkKubernetesName)
		p.each("from.service_account", nonEmpty(f.ServiceAccount), checkKubernetesName)
	case "trusted_issuer":
		p.at("from.trusted_issuer", checkClusterName(f.TrustedIssuer))
		if f.Subject == "" && len(f.Claims) == 0 {
			p.add("from.subject", "is missing", "pin the subject or claims: anybody can have a token of a public issuer")
		}
	case "user_group":
		p.at("from.user_group", checkGroup(f.UserGroup))
	case "client":
		p.at("from.client", checkID(f.Client))
		if f.OnBehalfOf == "" {
			p.add("from.on_behalf_of", "is missing", "write one of: "+strings.Join(OnBehalfOf(), ", "))
		}
		p.oneOf("from.on_behalf_of", f.OnBehalfOf, OnBehalfOf())
	}
	if len(f.Claims) > maxMembers {
		p.add("from.claims", "has more than 100 members", "use when")
	}
	for name, value := range f.Claims {
		if name == "" || len(name) > maxName || len(value) > maxURI {
			p.add("from.claims", "has an empty or overlong name or value", "write claim: value")
		}
	}
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// checkPolicyResource: the admin API is never reached by an exchange.
func checkPolicyResource(id string) *Problem {
	if strings.HasPrefix(strings.ToLower(id), ownNames) {
		return problem(quote(id)+" is built in, and no proof of others leads there", "give a client the resource instead")
	}
	return checkResourceID(id)
}

// checkGroup: `system:` belongs to Kubernetes, where it can mean everything.
func checkGroup(s string) *Problem {
	switch {
	case s == "" || len(s) > maxGroup || !isToken(s):
		return problem(quote(s)+" is not a group", `use 1 to 255 printable ASCII characters without spaces, " and \`)
	case strings.HasPrefix(strings.ToLower(s), "system:"):
		return problem(quote(s)+" begins with system:", "choose another: Kubernetes keeps these for itself")
	}
	return nil
}

// checkKubernetesName: RFC 1123, what namespaces and service accounts are called.
func checkKubernetesName(s string) *Problem {
	ok := s != "" && len(s) <= 253
	for i := range len(s) {
		ok = ok && (s[i] >= 'a' && s[i] <= 'z' || s[i] >= '0' && s[i] <= '9' || s[i] == '-' || s[i] == '.')
	}
	if !ok {
		return problem(quote(s)+" is not a name of Kubernetes", "write it as kubectl shows it; for patterns use when")
	}
	return nil
}
