package authority

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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

// AnySubject is the on_behalf_of of a client that may act for every kind of subject.
const AnySubject = "any"

// OnBehalfOf lists what on_behalf_of may be.
func OnBehalfOf() []string {
	return []string{string(SubjectUser), string(SubjectWorkload), string(SubjectClient), AnySubject}
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

// Metadata is the policy as it is written.
func (p Policy) Metadata() PolicyMetadata {
	return PolicyMetadata{Name: p.Name, From: p.From, When: p.When, To: p.To, Groups: slices.Clone(p.Groups), TTL: Seconds(p.TTL), Mode: string(p.Mode)}
}

func (p Policy) object() (Object, []Problem) {
	m := p.Metadata()
	return Object{Kind: KindPolicy, ID: p.Name, Body: marshal(m)}, m.Validate()
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
			found.each("to.scopes", m.To.Scopes, checkPolicyScope)
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

// CheckReferences finds what does not fit the other objects. An error is a
// failure to look at them.
func (m PolicyMetadata) CheckReferences(r References) ([]Problem, error) {
	var found Problems
	if err := m.checkOrigin(r, &found); err != nil {
		return nil, err
	}
	if err := m.checkTarget(r, &found); err != nil {
		return nil, err
	}
	return found, nil
}

func (m PolicyMetadata) checkOrigin(r References, found *Problems) error {
	switch from := m.From; {
	case from.Cluster != "":
		cluster, there, err := known(r.Cluster, from.Cluster)
		if err != nil {
			return err
		}
		parsed, broken := NewCluster(cluster)
		switch {
		case !there:
			found.add("from.cluster", "there is no cluster "+quote(from.Cluster), "register the cluster first")
		case broken != nil: // it has been told
		case parsed.Issuer == "":
			found.add("from.cluster", "the cluster "+quote(from.Cluster)+" has no issuer, so its pods cannot prove themselves", "give it issuer and keys")
		case time.Duration(m.TTL) > parsed.Pods.MaxTTL():
			found.add("ttl", time.Duration(m.TTL).String()+" is too long for a cluster with pods: "+string(parsed.Pods)+", where nobody hears of a pod's end",
				"write at most "+parsed.Pods.MaxTTL().String()+", or pods: watch")
		}
	case from.TrustedIssuer != "":
		_, there, err := known(r.TrustedIssuer, from.TrustedIssuer)
		if err != nil {
			return err
		}
		if !there {
			found.add("from.trusted_issuer", "there is no trusted issuer "+quote(from.TrustedIssuer), "add it to trusted_issuers")
		}
	case from.Client != "":
		client, there, err := known(r.Client, from.Client)
		switch {
		case err != nil:
			return err
		case !there:
			found.add("from.client", "there is no client "+quote(from.Client), "register the client first")
		case !client.has(oauth.TokenExchange):
			found.add("from.client", quote(from.Client)+" may not exchange tokens", "add "+string(oauth.TokenExchange)+" to its grant_types")
		case client.authenticates(oauth.AuthNone):
			found.add("from.client", quote(from.Client)+" is a public client: anybody could act in its name", "give it a secret or a key")
		}
	}
	return nil
}

func (m PolicyMetadata) checkTarget(r References, found *Problems) error {
	if m.To.Cluster != "" {
		_, there, err := known(r.Cluster, m.To.Cluster)
		if err == nil && !there {
			found.add("to.cluster", "there is no cluster "+quote(m.To.Cluster), "register the cluster first")
		}
		return err
	}
	resource, there, err := known(r.Resource, m.To.Resource)
	if err != nil {
		return err
	}
	if !there {
		found.add("to.resource", "there is no resource "+quote(m.To.Resource), "register the resource first")
		return nil
	}
	for i, scope := range m.To.Scopes {
		if !slices.Contains(resource.Scopes, scope) {
			found.add(member("to.scopes", i), "the resource has no scope "+quote(scope), "add it to the resource's scopes")
		}
	}
	return nil
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
	only := func(key string, given bool, with ...string) {
		if given && !slices.Contains(with, set[0]) {
			p.add("from."+key, "has a meaning with "+strings.Join(with, " and ")+" only", "remove it")
		}
	}
	only("namespace", f.Namespace != "", "cluster")
	only("service_account", f.ServiceAccount != "", "cluster")
	only("subject", f.Subject != "", "trusted_issuer")
	only("claims", len(f.Claims) > 0, "cluster", "trusted_issuer")
	only("on_behalf_of", f.OnBehalfOf != "", "client")
	switch set[0] {
	case "cluster":
		p.at("from.cluster", checkClusterName(f.Cluster))
		p.at("from.namespace", checkKubernetesName(f.Namespace))
		p.at("from.service_account", checkKubernetesName(f.ServiceAccount))
	case "trusted_issuer":
		p.at("from.trusted_issuer", checkClusterName(f.TrustedIssuer))
		if f.Subject == "" && len(f.Claims) == 0 {
			p.add("from.subject", "is missing", "pin the subject or claims: anybody can have a token of a public issuer")
		}
		if f.Subject != "" {
			p.at("from.subject", checkPinned(f.Subject))
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
	for _, name := range slices.Sorted(maps.Keys(f.Claims)) {
		if name == "" || len(name) > maxName || !utf8.ValidString(name) {
			p.add("from.claims", quote(name)+" is not the name of a claim", "write claim: value")
			continue
		}
		p.at("from.claims."+name, checkPinned(f.Claims[name]))
	}
}

// checkPinned: what a proof must say, character by character.
func checkPinned(s string) *Problem {
	switch {
	case s == "":
		return problem("is empty", "write the value that the token must have")
	case len(s) > maxURI || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return problem(quote(s)+" is overlong or has control characters", "write the value as it is in the token")
	case strings.Contains(s, "*"):
		return problem(quote(s)+" has a *, and wildcards are not supported", "write the value in full; for patterns use when")
	}
	return nil
}

// checkPolicyResource: the admin API is never reached by an exchange.
func checkPolicyResource(id string) *Problem {
	if strings.HasPrefix(strings.ToLower(id), ownNames) {
		return problem(quote(id)+" is built in, and no proof of others leads there", "give a client the resource instead")
	}
	return checkResourceID(id)
}

// checkPolicyScope: a standard scope would make the token good at UserInfo, which is
// the issuer itself, or promise a refresh token.
func checkPolicyScope(s string) *Problem {
	if oauth.StandardScopes.Has(s) {
		return problem(s+" is a scope of OpenID Connect, for people who sign in", "name scopes of the resource")
	}
	return checkScope(s)
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

// IsKubernetesName says whether s has the characters and the length of a name of Kubernetes.
func IsKubernetesName(s string) bool { return checkKubernetesName(s) == nil }

// checkKubernetesName: RFC 1123, what namespaces and service accounts are
// called. A policy never spans several of them.
func checkKubernetesName(s string) *Problem {
	if s == "" {
		return problem("is missing", "write one name: a policy is about one service account in one namespace")
	}
	ok := len(s) <= 253
	for i := range len(s) {
		ok = ok && (s[i] >= 'a' && s[i] <= 'z' || s[i] >= '0' && s[i] <= '9' || s[i] == '-' || s[i] == '.')
	}
	if !ok {
		return problem(quote(s)+" is not a name of Kubernetes", "write it as kubectl shows it: a policy is about one")
	}
	return nil
}
