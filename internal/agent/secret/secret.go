// Package secret writes tokens into the forms of Kubernetes Secrets that Argo CD,
// Flux, container runtimes and programs read. It talks to nobody.
package secret

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Kind is who reads a Secret.
type Kind string

// The kinds. Of each one the members of Spec that it uses.
const (
	// ArgoCDCluster is a cluster of Argo CD: Server, CA, Project. It holds no token: it
	// names the credential plugin, which gets one in Argo CD's own pod. Whenever the
	// config of a cluster Secret changes, Argo CD drops all that it knows of the cluster
	// and lists it again, so a token in it would do that every few minutes.
	ArgoCDCluster Kind = "argocd-cluster"
	// ArgoCDRepository is a repository of Argo CD: URL, Type, Project, Username.
	ArgoCDRepository Kind = "argocd-repository"
	// FluxKubeconfig is for kubeConfig.secretRef of Flux: Server, CA. The token is
	// inline: Flux drops a tokenFile.
	FluxKubeconfig Kind = "flux-kubeconfig"
	// Git is for secretRef of a GitRepository of Flux: Username, CA.
	Git Kind = "git"
	// Docker is a pull secret, which Flux takes for OCI repositories too: Registry, Username.
	Docker Kind = "docker"
	// Opaque is for everybody else: Data.
	Opaque Kind = "opaque"
)

// Kinds lists them.
var Kinds = []Kind{ArgoCDCluster, ArgoCDRepository, FluxKubeconfig, Git, Docker, Opaque}

// What Secrets say about themselves.
const (
	// ManagedBy is the label that names the program which writes a Secret, and Manager our agent.
	ManagedBy = "app.kubernetes.io/managed-by"
	Manager   = "signalbox-agent"
	// ArgoCDType is the label by which Argo CD finds its own.
	ArgoCDType = "argocd.argoproj.io/secret-type"
)

// Spec says what a Secret is to look like.
type Spec struct {
	Kind     Kind
	Server   string // URL of the cluster's API server
	CA       string // PEM, of that server or of the Git server; empty: the reader's own
	URL      string // of the repository
	Type     string // of the repository: git, helm or oci; empty: git
	Project  string // of Argo CD; empty: every project may use it
	Username string // the token is its password; empty: see each kind
	Registry string // host of the registry
	// Data are templates by key. Empty: one key "token" with the token alone.
	Data map[string]string
}

// Target is what the token is for.
type Target struct {
	Issuer  string
	Cluster string // by its name at the issuer; empty for a resource
	// CAFile is where a credential plugin finds the certificates (PEM) of an issuer whose
	// certificate is private. Empty: it takes the system's.
	CAFile string
}

// CAInPods is CAFile in a pod of others, from whatever volume it mounts.
const CAInPods = "/etc/signalbox/ca.crt"

// Token is what goes into a Secret.
type Token struct {
	Value   string
	Expires time.Time
}

func (t Token) String() string { return "[redacted]" }

// GoString keeps %#v from printing it.
func (t Token) GoString() string { return t.String() }

// Rendered is a Secret but for its name.
type Rendered struct {
	Type   string
	Labels map[string]string
	Data   map[string][]byte
	// Expires says whether it holds the token, and is of no use once that has expired.
	Expires bool
}

// dockerUser is a name that registries ignore when the password is a token.
const dockerUser = "signalbox"

// Problem is what is wrong with one member of a Spec, named as in Go.
type Problem struct{ Member, Text, Fix string }

// Check finds what keeps a Spec from being rendered.
func (s Spec) Check(to Target) (problems []Problem) {
	bad := func(member, text, fix string) { problems = append(problems, Problem{member, text, fix}) }
	uses, known := members[s.Kind]
	if !known {
		bad("Kind", fmt.Sprintf("%q is not a kind", clip(string(s.Kind))), "write one of "+listed())
		return problems
	}
	values := map[string]string{"Server": s.Server, "CA": s.CA, "URL": s.URL, "Type": s.Type, "Project": s.Project, "Username": s.Username, "Registry": s.Registry}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch value := values[name]; {
		case value == "" && slices.Contains(uses.need, name):
			bad(name, "is missing", "kind "+string(s.Kind)+" needs it")
		case value != "" && !slices.Contains(uses.need, name) && !slices.Contains(uses.may, name):
			bad(name, "has no meaning for kind "+string(s.Kind), "remove it")
		case name == "CA":
		case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) || len(value) > 2048:
			bad(name, "has a character that cannot be there, or is too long", "write printable ASCII without spaces")
		}
	}
	if len(s.Data) > 0 && s.Kind != Opaque {
		bad("Data", "has no meaning for kind "+string(s.Kind), "remove it")
	}
	if slices.Contains(uses.need, "Server") && to.Cluster == "" {
		bad("Kind", "is for a cluster, and the token is for a resource", "write `to: {cluster: …}`")
	}
	if s.Server != "" && !isHTTPS(s.Server) {
		bad("Server", "is not the URL of an API server", "write it like https://10.0.1.1:6443")
	}
	if s.CA != "" && !onlyCertificates(s.CA) {
		bad("CA", "is not a list of certificates", "write certificates in PEM, and nothing else")
	}
	if scheme, _, _ := strings.Cut(s.URL, ":"); s.URL != "" && !isHTTPS(s.URL) && (scheme == "http" || scheme == "ssh" || strings.Contains(s.URL, "@")) {
		bad("URL", "would send the token in the clear, or to nobody", "write it like https://git.example.com/team/app.git")
	}
	if s.Kind == ArgoCDRepository {
		switch s.Type {
		case "", "git":
		case "helm", "oci":
			if s.Username == "" {
				bad("Username", "is missing", "a repository of type "+s.Type+" takes the token as a password only")
			}
		default:
			bad("Type", fmt.Sprintf("%q is not a type of repository", clip(s.Type)), "write git, helm or oci")
		}
	}
	if strings.Contains(s.Username, ":") {
		bad("Username", "has a colon, where a password would begin", "remove it")
	}
	if s.Kind == Opaque {
		if _, err := parsed(s.data()); err != nil {
			bad("Data", err.Error(), "write texts with {{.Token}}, {{.ExpiresAt}} and {{.Issuer}}, each perhaps with | base64, | json or | urlquery")
		}
	}
	return problems
}

// members are those that a kind uses.
var members = map[Kind]struct{ need, may []string }{
	ArgoCDCluster:    {[]string{"Server"}, []string{"CA", "Project"}},
	ArgoCDRepository: {[]string{"URL"}, []string{"Type", "Project", "Username"}},
	FluxKubeconfig:   {[]string{"Server"}, []string{"CA"}},
	Git:              {nil, []string{"Username", "CA"}},
	Docker:           {[]string{"Registry"}, []string{"Username"}},
	Opaque:           {nil, nil},
}

// listed is the list of kinds in words.
func listed() string {
	var all []string
	for _, k := range Kinds {
		all = append(all, string(k))
	}
	return strings.Join(all, ", ")
}

func (s Spec) data() map[string]string {
	if len(s.Data) == 0 {
		return map[string]string{"token": "{{.Token}}"}
	}
	return s.Data
}

// Render makes the Secret for a token. The Spec has no problem.
func (s Spec) Render(to Target, token Token) (Rendered, error) {
	r := Rendered{Type: "Opaque", Labels: map[string]string{}, Data: map[string][]byte{}, Expires: true}
	set := func(key, value string) {
		if value != "" {
			r.Data[key] = []byte(value)
		}
	}
	switch s.Kind {
	case ArgoCDCluster:
		r.Labels[ArgoCDType] = "cluster"
		r.Expires = false
		set("name", to.Cluster)
		set("server", s.Server)
		set("project", s.Project)
		set("config", marshal(NewArgoCDConfig(PluginArgs(to), s.CA)))
	case ArgoCDRepository:
		r.Labels[ArgoCDType] = "repository"
		set("type", s.Type)
		if s.Type == "" {
			set("type", "git")
		}
		set("url", s.URL)
		set("project", s.Project)
		s.passwordOrBearer(set, token)
	case FluxKubeconfig:
		r.Labels["reconcile.fluxcd.io/watch"] = "Enabled" // Flux takes the new token at once
		set("value", s.kubeconfig(to, token))
	case Git:
		s.passwordOrBearer(set, token)
		set("ca.crt", s.CA)
	case Docker:
		user := s.Username
		if user == "" {
			user = dockerUser
		}
		r.Type = "kubernetes.io/dockerconfigjson"
		set(".dockerconfigjson", marshal(map[string]any{"auths": map[string]any{s.Registry: map[string]string{
			"username": user, "password": token.Value,
			"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + token.Value)),
		}}}))
	case Opaque:
		templates, err := parsed(s.data())
		if err != nil {
			return Rendered{}, err
		}
		if r.Data, err = templates.execute(values{Token: token.Value, ExpiresAt: stamp(token.Expires), Issuer: to.Issuer}); err != nil {
			return Rendered{}, err
		}
	default:
		return Rendered{}, fmt.Errorf("there is no kind %q", clip(string(s.Kind)))
	}
	return r, nil
}

// PluginArgs are the arguments with which `signalbox` is a credential plugin of client-go.
func PluginArgs(to Target) []string {
	args := []string{"kube-credential", "--issuer", to.Issuer, "--cluster", to.Cluster}
	if to.CAFile != "" {
		args = append(args, "--ca-file", to.CAFile)
	}
	return args
}

// ArgoCDConfig is the member config of a cluster Secret of Argo CD, in JSON.
type ArgoCDConfig struct {
	Exec struct {
		Command    string   `json:"command"`
		Args       []string `json:"args"`
		APIVersion string   `json:"apiVersion"`
	} `json:"execProviderConfig"`
	TLS struct {
		Insecure bool   `json:"insecure"`
		CAData   []byte `json:"caData,omitempty"`
	} `json:"tlsClientConfig"`
}

// NewArgoCDConfig names the credential plugin, and the certificates (PEM) that the API
// server is verified with; without them, the system's.
func NewArgoCDConfig(pluginArgs []string, ca string) (c ArgoCDConfig) {
	c.Exec.Command, c.Exec.Args, c.Exec.APIVersion = "signalbox", pluginArgs, "client.authentication.k8s.io/v1"
	c.TLS.CAData = []byte(ca)
	return c
}

// passwordOrBearer is how Git over HTTPS takes a token, in the words of both Argo CD and Flux.
func (s Spec) passwordOrBearer(set func(key, value string), token Token) {
	if s.Username == "" {
		set("bearerToken", token.Value)
		return
	}
	set("username", s.Username)
	set("password", token.Value)
}

// kubeconfig is one with the token inline. JSON is YAML.
func (s Spec) kubeconfig(to Target, token Token) string {
	named := func(key string, value any) []any { return []any{map[string]any{"name": to.Cluster, key: value}} }
	return marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": to.Cluster,
		"clusters": named("cluster", withCA(map[string]any{"server": s.Server}, "certificate-authority-data", s.CA)),
		"users":    named("user", map[string]string{"token": token.Value}),
		"contexts": named("context", map[string]string{"cluster": to.Cluster, "user": to.Cluster}),
	})
}

func withCA(m map[string]any, key, ca string) map[string]any {
	if ca != "" {
		m[key] = base64.StdEncoding.EncodeToString([]byte(ca))
	}
	return m
}

// marshal is the JSON of texts, lists and maps, which has no failure.
func marshal(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func isHTTPS(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.Fragment == ""
}

// onlyCertificates refuses the key that somebody may have pasted with them.
func onlyCertificates(text string) bool {
	if len(text) > maxCA {
		return false
	}
	found := false
	for rest := []byte(text); ; found = true {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return found && len(bytes.TrimSpace(rest)) == 0
		}
		if _, err := x509.ParseCertificate(block.Bytes); block.Type != "CERTIFICATE" || err != nil {
			return false
		}
	}
}

// maxCA is more than any bundle for one server.
const maxCA = 64 << 10

// clip keeps what somebody wrote from filling an error.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
