package authority

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// PodMode says how the end of a cluster's pods is learned.
type PodMode string

// The modes. The weaker two bound the life of tokens: see PodMode.MaxTTL.
const (
	PodsWatched  PodMode = "watch"   // exchange and issued tokens end with the pod
	PodsReviewed PodMode = "review"  // each exchange asks TokenReview; issued tokens live to their expiry
	PodsOffline  PodMode = "offline" // the key set alone
)

var podModes = []PodMode{PodsWatched, PodsReviewed, PodsOffline}

// PodModes lists what pods may be.
func PodModes() []string { return texts(podModes) }

// MaxTTL bounds the life of a token of a pod, since nobody hears of the pod's end.
func (m PodMode) MaxTTL() time.Duration {
	switch m {
	case PodsWatched:
		return MaxTokenTTL
	case PodsReviewed:
		return time.Minute
	default:
		return 5 * time.Minute
	}
}

// TerminatingMode says until when a pod that is being deleted counts as living.
type TerminatingMode string

// The modes.
const (
	TerminatingGrace  TerminatingMode = "grace"  // until its deletionTimestamp
	TerminatingRefuse TerminatingMode = "refuse" // until its deletion was asked for
)

var terminatingModes = []TerminatingMode{TerminatingGrace, TerminatingRefuse}

// TerminatingModes lists what terminating_pods may be.
func TerminatingModes() []string { return texts(terminatingModes) }

// ClusterCredential says how we prove ourselves to a cluster's API server.
type ClusterCredential string

// The credentials. None of them is a static token.
const (
	CredentialInCluster  ClusterCredential = "in-cluster" // the service account of the pod that we run in
	CredentialSelf       ClusterCredential = "self"       // a token that we issue to ourselves
	CredentialKubeconfig ClusterCredential = "kubeconfig" // what kubeconfig_file says
)

var clusterCredentials = []ClusterCredential{CredentialInCluster, CredentialSelf}

// ClusterCredentials lists what credential may be.
func ClusterCredentials() []string { return texts(clusterCredentials) }

// Webhook is a cluster's right to ask /kubernetes/tokenreview.
type Webhook struct {
	Caller string `json:"caller"` // the client as which its API server asks
}

// ClusterMetadata is a cluster as somebody writes it: in the file, to the admin
// API, in a stored row. NewCluster turns it into a Cluster.
type ClusterMetadata struct {
	Name                 string          `json:"name"`
	Issuer               string          `json:"issuer,omitempty"`
	JWKS                 json.RawMessage `json:"jwks,omitempty"`
	JWKSURI              string          `json:"jwks_uri,omitempty"`
	APIServer            string          `json:"api_server,omitempty"`
	CA                   string          `json:"ca,omitempty"` // PEM
	Credential           string          `json:"credential,omitempty"`
	Pods                 string          `json:"pods,omitempty"`
	TerminatingPods      string          `json:"terminating_pods,omitempty"`
	Audiences            []string        `json:"audiences,omitempty"`
	Webhook              *Webhook        `json:"webhook,omitempty"`
	IntrospectionClients []string        `json:"introspection_clients,omitempty"`

	// Kubeconfig is the content of kubeconfig_file: of a file alone, since the
	// admin API takes no path and no key.
	Kubeconfig []byte `json:"-"`
}

// Cluster is a Kubernetes cluster: a place that tokens can be for, and where it
// has an issuer, one whose pods may prove themselves.
type Cluster struct {
	Name                 string
	Issuer               string // `iss` of its service-account tokens; empty: only a place
	Keys                 []byte // its key set, where it was pasted
	KeysURI              string // or where it is fetched; neither: asked of APIServer
	APIServer            string // empty: verified by the key set alone
	CA                   []byte // PEM; empty: the system's
	Credential           ClusterCredential
	Kubeconfig           []byte `json:"-"`
	Pods                 PodMode
	Terminating          TerminatingMode
	Audiences            []string // what `aud` of its tokens may be; empty: our issuer
	WebhookCaller        string
	IntrospectionClients []string
	Source               Source
	Revision             int64
	CreatedAt            time.Time
	UpdatedAt            time.Time

	Problems Problems // of a stored one that breaks the rule book: it is off
	broken   *ClusterMetadata
}

// NewCluster makes a Cluster of what was written. The error is Problems.
func NewCluster(m ClusterMetadata) (Cluster, error) {
	if found := m.Validate(); len(found) > 0 {
		return Cluster{}, Problems(found)
	}
	c := Cluster{
		Name: m.Name, Issuer: m.Issuer, Keys: m.JWKS, KeysURI: m.JWKSURI, APIServer: m.APIServer, CA: []byte(m.CA),
		Credential: ClusterCredential(m.Credential), Kubeconfig: m.Kubeconfig, Pods: PodMode(m.Pods), Terminating: TerminatingMode(m.TerminatingPods),
		Audiences: m.Audiences, IntrospectionClients: m.IntrospectionClients,
	}
	if m.Webhook != nil {
		c.WebhookCaller = m.Webhook.Caller
	}
	if len(m.Kubeconfig) > 0 {
		c.Credential = CredentialKubeconfig
	}
	if c.Pods == "" {
		c.Pods = PodsOffline
		if c.APIServer != "" || len(c.Kubeconfig) > 0 {
			c.Pods = PodsWatched
		}
	}
	if c.Terminating == "" {
		c.Terminating = TerminatingGrace
	}
	return c, nil
}

// Metadata is the cluster as it is written.
func (c Cluster) Metadata() ClusterMetadata {
	if c.broken != nil {
		return *c.broken
	}
	m := ClusterMetadata{
		Name: c.Name, Issuer: c.Issuer, JWKS: slices.Clone(c.Keys), JWKSURI: c.KeysURI, APIServer: c.APIServer, CA: string(c.CA),
		Credential: string(c.Credential),
		Audiences:  slices.Clone(c.Audiences), IntrospectionClients: slices.Clone(c.IntrospectionClients), Kubeconfig: c.Kubeconfig,
	}
	if c.Issuer != "" {
		m.Pods = string(c.Pods)
	}
	if c.Pods != PodsOffline {
		m.TerminatingPods = string(c.Terminating)
	}
	if c.WebhookCaller != "" {
		m.Webhook = &Webhook{c.WebhookCaller}
	}
	if c.Credential == CredentialKubeconfig {
		m.Credential = "" // follows from kubeconfig_file
	}
	return m
}

// Reachable says whether its API server can be asked.
func (c Cluster) Reachable() bool { return c.APIServer != "" || len(c.Kubeconfig) > 0 }

// Accepts says whether a proof that is meant for aud is meant for us.
func (c Cluster) Accepts(aud, issuer string) bool {
	if len(c.Audiences) == 0 {
		return aud == issuer
	}
	return slices.Contains(c.Audiences, aud)
}

// ClusterAudience is the `aud` of tokens for a cluster.
func ClusterAudience(issuer, name string) string { return issuer + "/clusters/" + name }

// ClusterOf names the cluster, registered or not, that an `aud` is kept for.
func ClusterOf(aud, issuer string) (name string, is bool) {
	if issuer == "" {
		return "", false
	}
	return strings.CutPrefix(aud, ClusterAudience(issuer, ""))
}

// ClustersVerify says whether a kube-apiserver verifies an algorithm: those of RSA and
// the NIST curves, and not EdDSA.
func ClustersVerify(alg jose.Algorithm) bool { return alg != jose.EdDSA }

// CheckClusterAlgorithms refuses clusters where we sign with nothing that they verify.
func CheckClusterAlgorithms(ours []string) *Problem {
	if len(ours) == 0 || slices.ContainsFunc(ours, func(alg string) bool { return ClustersVerify(jose.Algorithm(alg)) }) {
		return nil
	}
	return problem("a cluster's API server does not verify "+strings.Join(ours, ", ")+", and there is no other algorithm", "add ES256 to keys.algorithms")
}

// TokenReviewAudience is the `aud` of tokens for /kubernetes/tokenreview.
func TokenReviewAudience(issuer string) string { return issuer + "/kubernetes/tokenreview" }

// TokenReviewResource is the built-in resource of the token webhook, as a file would
// write it.
func TokenReviewResource(issuer string) ResourceMetadata {
	return ResourceMetadata{ID: TokenReviewAudience(issuer), TokenFormat: string(FormatJWT)}
}

// Resource is the cluster as a place that tokens can be for.
func (c Cluster) Resource(issuer string) Resource {
	r := Resource{ID: ClusterAudience(issuer, c.Name), Format: FormatJWT, IntrospectionClients: slices.Clone(c.IntrospectionClients), Source: c.Source}
	if c.WebhookCaller != "" && !slices.Contains(r.IntrospectionClients, c.WebhookCaller) {
		r.IntrospectionClients = append(r.IntrospectionClients, c.WebhookCaller)
	}
	return r
}

const maxClusterName = 63

// IsClusterName says whether a cluster may have this name.
func IsClusterName(s string) bool { return checkClusterName(s) == nil }

// checkClusterName: the name is a part of subjects, evidence and URLs.
func checkClusterName(name string) *Problem {
	if name == "" {
		return problem("is missing", "choose a name, such as hub")
	}
	ok := len(name) <= maxClusterName
	for i := range len(name) {
		ok = ok && (name[i] >= 'a' && name[i] <= 'z' || name[i] >= '0' && name[i] <= '9' || name[i] == '-')
	}
	if !ok {
		return problem(quote(name)+" is not a name", "use 1 to "+strconv.Itoa(maxClusterName)+" of a to z, 0 to 9 and -")
	}
	return nil
}

// Validate finds what breaks a rule, without asking about other objects.
func (m ClusterMetadata) Validate() []Problem {
	var found Problems
	found.at("name", checkClusterName(m.Name))
	found.issuerOfOthers(m.Issuer, false)
	found.keySet(m.JWKS, m.JWKSURI, jose.ParseKeySet)
	if m.APIServer != "" {
		found.at("api_server", checkFetched(m.APIServer))
	}
	if m.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(m.CA)) {
		found.add("ca", "has no certificate", "paste PEM blocks that begin with -----BEGIN CERTIFICATE-----")
	}
	found.oneOf("credential", m.Credential, ClusterCredentials())
	found.oneOf("pods", m.Pods, PodModes())
	found.oneOf("terminating_pods", m.TerminatingPods, TerminatingModes())
	if found.list("audiences", m.Audiences, maxMembers) {
		found.each("audiences", m.Audiences, checkAudience)
	}
	if found.list("introspection_clients", m.IntrospectionClients, maxMembers) {
		found.each("introspection_clients", m.IntrospectionClients, checkID)
	}
	if m.Webhook != nil {
		found.at("webhook.caller", checkID(m.Webhook.Caller))
	}
	reachable := m.APIServer != "" || len(m.Kubeconfig) > 0
	switch {
	case m.Credential != "" && len(m.Kubeconfig) > 0:
		found.add("credential", "is beside kubeconfig_file", "keep one of the two")
	case m.Credential != "" && m.APIServer == "":
		found.add("credential", "is set, but there is no api_server", "add api_server, or remove credential")
	case m.APIServer != "" && m.Credential == "" && len(m.Kubeconfig) == 0:
		found.add("api_server", "is set, but nothing says how we prove ourselves there", "add credential: in-cluster, credential: self or kubeconfig_file")
	}
	if m.CA != "" && m.APIServer == "" {
		found.add("ca", "is set, but there is no api_server", "add api_server, or remove it: a kubeconfig has its own")
	}
	offline := m.Pods == string(PodsOffline) || m.Pods == "" && !reachable
	if !reachable && (m.Pods == string(PodsWatched) || m.Pods == string(PodsReviewed)) {
		found.add("pods", m.Pods+" needs the API server", "add api_server or kubeconfig_file, or write pods: offline")
	} else if offline && m.TerminatingPods != "" {
		found.add("terminating_pods", "has no meaning with pods: offline, where nobody hears of a deletion", "remove it")
	}
	switch {
	case m.Issuer == "":
		for _, of := range []struct {
			field string
			set   bool
		}{
			{"jwks", len(m.JWKS) > 0}, {"jwks_uri", m.JWKSURI != ""}, {"api_server", m.APIServer != ""}, {"kubeconfig_file", len(m.Kubeconfig) > 0},
			{"pods", m.Pods != ""}, {"audiences", len(m.Audiences) > 0},
		} {
			if of.set {
				found.add("issuer", "is missing, and "+of.field+" is about its tokens", "add the issuer of its service-account tokens, or remove "+of.field)
				break
			}
		}
	case len(m.JWKS) == 0 && m.JWKSURI == "" && !reachable:
		found.add("issuer", "is set, but nothing says where its keys are", "add jwks_file, jwks_uri or api_server")
	}
	return found
}

// CheckReferences finds what does not fit the other objects. An error is a
// failure to look at them.
func (m ClusterMetadata) CheckReferences(r References) ([]Problem, error) {
	var found Problems
	found.at("name", CheckClusterAlgorithms(r.Algorithms))
	if m.Issuer != "" && m.Issuer == r.Issuer {
		found.add("issuer", "is our own", "name the issuer of the cluster's tokens")
	}
	for _, thumbprint := range m.KeyThumbprints() {
		owner, there, err := known(r.KeyOwner, thumbprint)
		if err != nil {
			return nil, err
		}
		if there && owner != m.Name {
			// Whose pod would a token of this key be?
			found.add("jwks", "has a key that "+quote(owner)+" has too", "give each its own key set: a token belongs to the cluster whose key verifies it")
		}
	}
	callers := map[string]string{}
	for i, id := range m.IntrospectionClients {
		callers[member("introspection_clients", i)] = id
	}
	if m.Webhook != nil {
		callers["webhook.caller"] = m.Webhook.Caller
	}
	for field, id := range callers {
		client, there, err := known(r.Client, id)
		switch {
		case err != nil:
			return nil, err
		case !there:
			found.add(field, "there is no client "+quote(id), "register the client first")
		case client.authenticates(oauth.AuthNone):
			found.add(field, quote(id)+" is a public client: anybody could ask in its name", "give it a secret or a key")
		}
	}
	slices.SortFunc(found, func(a, b Problem) int { return strings.Compare(a.Field, b.Field) })
	return found, nil
}

// KeyThumbprints are those of the keys of a pasted key set.
func (m ClusterMetadata) KeyThumbprints() []string {
	return thumbprints(m.JWKS, jose.ParseKeySet)
}

// issuerOfOthers is what the `iss` of a proof may be. Kubernetes and SPIFFE have
// more forms than OpenID Connect, so only what cannot be compared is refused.
func (p *Problems) issuerOfOthers(s string, needed bool) {
	switch {
	case s == "" && needed:
		p.add("issuer", "is missing", "write the iss of its tokens, such as https://token.actions.githubusercontent.com")
	case s == "":
	case len(s) > maxURI || !isToken(s):
		p.add("issuer", quote(s)+" is not an issuer", "write the iss of its tokens, character by character")
	}
}

// keySet holds a pasted key set to public keys that we can use, and to being alone.
func (p *Problems) keySet(jwks json.RawMessage, uri string, parse func([]byte) (jose.KeySet, error)) {
	if uri != "" {
		p.at("jwks_uri", checkFetched(uri))
	}
	switch {
	case len(jwks) == 0:
	case uri != "":
		p.add("jwks", "is beside jwks_uri", "keep one of the two")
	default:
		set, err := parse(jwks)
		switch {
		case err != nil:
			p.add("jwks", "is not a key set: "+clip(err.Error()), "paste what the issuer's jwks_uri answers: {\"keys\": […]}")
		case len(set) == 0:
			p.add("jwks", "has no key that we can use", "paste public keys that sign tokens; in a SPIFFE bundle, those with use: jwt-svid")
		}
	}
}

// checkFetched holds what we fetch or call to https. Loopback addresses may use http: tests and sidecars.
func checkFetched(s string) *Problem {
	u, p := checkURI(s)
	switch {
	case p != nil:
		return p
	case u.Scheme == "https", u.Scheme == "http" && isLoopbackHost(u.Hostname()):
		return checkHost(u)
	}
	return problem("expected an https URL, found "+quote(s), "write it like https://10.0.0.1:6443")
}

// checkAudience: an audience is compared character by character.
func checkAudience(s string) *Problem {
	if s == "" || len(s) > maxURI || !isToken(s) {
		return problem(quote(s)+" is not an audience", "write the value that aud has, such as https://sts.example.com")
	}
	return nil
}

// oneOf refuses a value that is set and not in the list.
func (p *Problems) oneOf(field, value string, choices []string) {
	if value != "" && !slices.Contains(choices, value) {
		p.add(field, quote(value)+" is not accepted here", "write one of: "+strings.Join(choices, ", "))
	}
}

func (c Cluster) object() (Object, []Problem) {
	m := c.Metadata()
	return Object{Kind: KindCluster, ID: c.Name, Body: marshal(m), Revision: c.Revision, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt}, m.Validate()
}

func readCluster(o Object) (Cluster, error) {
	var m ClusterMetadata
	if err := json.Unmarshal(o.Body, &m); err != nil {
		return Cluster{}, err
	}
	m.Name = o.ID
	c, err := NewCluster(m)
	if errors.As(err, &c.Problems) {
		c.Name, c.broken, err = o.ID, &m, nil
	}
	c.Source, c.Revision, c.CreatedAt, c.UpdatedAt = FromDatabase, o.Revision, o.CreatedAt, o.UpdatedAt
	return c, err
}
