package config

import (
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/agent/secret"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config/source"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Agent is one valid configuration of `signalbox agent`: a file of its own, read
// as strictly as the service's. LoadAgent and ParseAgent are the only way to one,
// and it is never changed afterwards.
type Agent struct {
	Issuer     string
	CAFile     string
	CA         []byte // the text of CAFile
	Listen     AgentListen
	StateFile  string
	Kubernetes AgentKubernetes
	Tokens     []AgentToken

	// Files are all files that were read, the configuration first.
	Files []File
}

// AgentListen is where the agent answers; empty: nowhere.
type AgentListen struct {
	Health string // host:port
	Socket string // path of a Unix socket
}

// AgentKubernetes is the cluster that the agent is at home in.
type AgentKubernetes struct {
	KubeconfigFile string
	Kubeconfig     []byte // the text of KubeconfigFile; nil: the pod's service account
	// Namespaces are those whose SignalboxTokens are served, or "*" for all.
	Namespaces     []string
	LeaseNamespace string // empty: that of the pod
	LeaseName      string
}

// AgentSecret is a Kubernetes Secret. No Name: none.
type AgentSecret struct {
	Namespace, Name string
	Server          string
	CAFile          string
	Kind, URL, Type string
	Project         string
	Username        string
	Registry        string
	Data            map[string]string

	Spec secret.Spec
}

// AgentToken is one token and the places that it is kept fresh in.
type AgentToken struct {
	Name string
	From AgentFrom
	To   AgentTarget

	File       AgentFile
	Kubeconfig AgentKubeconfig
	Secret     AgentSecret
	Socket     AgentSocket
	OnChange   []string
}

// AgentFrom is whose the token is: of the workload whose proof is in
// SubjectTokenFile, or of a client.
type AgentFrom struct {
	SubjectTokenFile string
	ClientID         string
	ClientSecretFile string
}

// AgentTarget is what the token is for: a cluster, or a resource with scopes.
type AgentTarget struct {
	Cluster  string
	Resource string
	Scopes   []string
}

// AgentFile is a file with the token and nothing else. No Path: none.
type AgentFile struct {
	Path string
	Access
}

// AgentKubeconfig is a kubeconfig for one cluster. No Path: none.
type AgentKubeconfig struct {
	Path   string
	Server string
	CAFile string
	CA     []byte
	Access
}

// Access is who may read a file that the agent writes, and what its folder may be.
type Access struct {
	Mode  string // as written: "0640"
	Owner string // as written: "1000:1000"
	// AllowWritableFolder accepts a folder that every user can write to.
	AllowWritableFolder bool

	Perm     uint32 // of Mode
	UID, GID int    // of Owner; -1: as it is
}

// AgentSocket says who may have the token over the agent's Unix socket.
type AgentSocket struct{ UIDs []uint32 }

// SubjectTokenFile is where a pod has the token that proves who it is.
const SubjectTokenFile = "/var/run/secrets/signalbox/token"

// LoadAgent reads, completes and validates the agent's file at path. Errors are
// those of Load.
func LoadAgent(path string) (*Agent, error) {
	data, files, err := readConfiguration(path)
	if err != nil {
		return nil, err
	}
	a, d := evaluateAgent(path, data)
	files = append(files, d.config.Files...)
	if len(d.Errors) > 0 {
		return nil, &refused{d.Errors.Sorted(), files}
	}
	a.Files = files
	return a, nil
}

// ParseAgent is LoadAgent for a document at hand.
func ParseAgent(name string, data []byte) (*Agent, error) {
	a, d := evaluateAgent(name, data)
	if len(d.Errors) > 0 {
		return nil, d.Errors.Sorted()
	}
	return a, nil
}

// Target is where a token for this cluster comes from, for those who read a Secret.
func (a *Agent) Target(cluster string) secret.Target {
	to := secret.Target{Issuer: a.Issuer, Cluster: cluster}
	if a.CAFile != "" {
		to.CAFile = secret.CAInPods
	}
	return to
}

// Fixed lists the keys in which next differs from a although they cannot change
// while the agent runs.
func (a *Agent) Fixed(next *Agent) []string { return fixed(agentTable, a, next) }

// AgentKeys, ExplainAgent and AgentSchema are Keys, Explain and Schema of the
// agent's file.
func AgentKeys() []string { return paths(agentTable) }

func ExplainAgent(key string) (string, error) {
	return explainOf(agentTable, key, func(string, field) string { return "" })
}

func AgentSchema() []byte { return schemaOf(agentTable, AgentSchemaID, "Signalbox agent") }

// AgentSchemaID is where the schema can be got.
const AgentSchemaID = "https://raw.githubusercontent.com/signalbox-sts/signalbox/main/docs/reference/agent.schema.json"

func evaluateAgent(name string, data []byte) (*Agent, *document) {
	a, d := new(Agent), newDocument(name, data, agentTable)
	setDefaults(agentTable, a)
	if root := d.Root(data); root != nil {
		d.mapping(root, "", agentTable, a)
	}
	if !d.Broken {
		d.agent(a)
	}
	return a, d
}

// agent checks what no single key can tell.
func (d *document) agent(a *Agent) {
	switch {
	case d.Failed["issuer"]:
	case !d.IsSet("issuer"):
		d.Fail("issuer", "is missing", "add `issuer: https://…`, the URL of the service that gives the tokens")
	default:
		if p := authority.CheckIssuer(a.Issuer); p != nil {
			d.Fail("issuer", p.Text, p.Fix)
		}
	}
	a.CAFile = d.path(a.CAFile)
	if a.CAFile != "" {
		a.CA = d.certificates("ca_file", a.CAFile)
	}
	if d.IsSet("listen.health") && !d.Failed["listen.health"] {
		d.address("listen.health", a.Listen.Health, "127.0.0.1")
	}
	a.Listen.Socket, a.StateFile = d.path(a.Listen.Socket), d.path(a.StateFile)
	if len(a.Listen.Socket) > maxSocketPath {
		d.Fail("listen.socket", "is longer than the "+strconv.Itoa(maxSocketPath)+" bytes that a socket's path may have", "choose a shorter one, such as /run/signalbox/agent.sock")
	}
	if a.Listen.Socket != "" {
		d.onlyHere("listen.socket", a.Listen.Socket)
	}
	if a.StateFile != "" {
		d.onlyHere("state_file", a.StateFile)
	}
	d.agentKubernetes(&a.Kubernetes)
	names := map[string]int{}
	for i := range a.Tokens {
		if len(d.Errors) >= source.MaxErrors {
			return
		}
		d.agentToken(a, i, names)
	}
	// At last, when all that is read is known: nothing that is read is written.
	inputs := []string{d.File}
	for _, f := range d.config.Files {
		inputs = append(inputs, f.Path)
	}
	for _, t := range a.Tokens {
		inputs = append(inputs, t.From.SubjectTokenFile, t.From.ClientSecretFile)
	}
	for _, path := range sortedKeys(d.written) {
		if key := d.written[path]; slices.ContainsFunc(inputs, func(in string) bool { return in != "" && filepath.Clean(in) == path }) {
			d.Fail(key, source.Quote(path)+" is a file that the agent reads", "write to another one")
		}
	}
}

// maxSocketPath is what sun_path holds, on the systems that have least of it.
const maxSocketPath = 103

// onlyHere refuses a path that two outputs would write to.
func (d *document) onlyHere(key, path string) {
	if d.Failed[key] {
		return
	}
	if d.written == nil {
		d.written = map[string]string{}
	}
	path = filepath.Clean(path)
	if first, twice := d.written[path]; twice {
		d.Fail(key, source.Quote(path)+" is written by "+first+" already", "write to another one")
		return
	}
	d.written[path] = key
}

func (d *document) agentToken(a *Agent, i int, names map[string]int) {
	t := &a.Tokens[i]
	key := func(k string) string { return at("tokens", i, k) }
	if name := key("name"); d.IsSet(name) && !d.Failed[name] {
		d.once(name, names, t.Name, i, "tokens")
		if !authority.IsClusterName(t.Name) {
			d.Fail(name, source.Quote(t.Name)+" is not a name", "use 1 to 63 of a to z, 0 to 9 and -")
		}
	}
	d.agentFrom(t, key)
	d.agentTarget(t, key)
	d.agentFile(key("file"), &t.File.Path, &t.File.Access)
	d.agentFile(key("kubeconfig"), &t.Kubeconfig.Path, &t.Kubeconfig.Access)
	d.agentKubeconfig(&t.Kubeconfig, key)
	if d.IsSet(key("socket")) && !d.Inside[key("socket")] {
		switch {
		case len(t.Socket.UIDs) == 0:
			d.Fail(key("socket.uids"), "is missing", "add `uids: [1000]`: the users who may have this token")
		case a.Listen.Socket == "":
			d.Fail(key("socket"), "there is no socket", "add `listen: {socket: /run/signalbox/agent.sock}`")
		}
	}
	d.agentSecret(a, t, key)
	files := t.File.Path != "" || t.Kubeconfig.Path != "" || t.Secret.Name != ""
	switch {
	case d.Inside["tokens["+strconv.Itoa(i)+"]"]:
	case !files && len(t.Socket.UIDs) == 0:
		d.Fail(key("file"), "is missing: the token would go nowhere", "add file, kubeconfig, secret or socket")
	case len(t.OnChange) > 0 && !files:
		d.Fail(key("on_change"), "there is nothing that changes", "add file, kubeconfig or secret, or remove on_change")
	}
	if len(t.OnChange) > 0 && !d.Inside[key("on_change")] && !filepath.IsAbs(t.OnChange[0]) {
		d.Fail(key("on_change[0]"), "is not the absolute path of a program", "write it like /usr/bin/systemctl: no shell and no PATH is asked")
	}
}

func (d *document) agentFrom(t *AgentToken, key func(string) string) {
	f := &t.From
	if d.Inside[key("from")] {
		return
	}
	switch {
	case f.ClientID != "" && f.SubjectTokenFile != "":
		d.Fail(key("from.client_id"), "is there beside subject_token_file", "keep one of the two: a workload proves itself, or a client does")
	case f.ClientID != "" && f.ClientSecretFile == "":
		d.Fail(key("from.client_secret_file"), "is missing", "name the file with the secret of the client")
	case f.ClientID == "" && f.ClientSecretFile != "":
		d.Fail(key("from.client_secret_file"), "belongs to a client_id, which is missing", "add `client_id: …`")
	case f.ClientID == "" && f.SubjectTokenFile == "":
		f.SubjectTokenFile = SubjectTokenFile
	case strings.ContainsFunc(f.ClientID, func(r rune) bool { return r < ' ' || r > '~' }):
		d.Fail(key("from.client_id"), "has a character that no client id has", "copy it from the service's configuration")
	}
	f.SubjectTokenFile, f.ClientSecretFile = d.path(f.SubjectTokenFile), d.path(f.ClientSecretFile)
}

func (d *document) agentTarget(t *AgentToken, key func(string) string) {
	switch to := t.To; {
	case d.Inside[key("to")]:
	case (to.Cluster == "") == (to.Resource == ""):
		d.Fail(key("to"), "needs a cluster or a resource, one of the two", "write `to: {cluster: spoke-a}` or `to: {resource: \"https://api.example.com\"}`")
	case to.Cluster != "" && !authority.IsClusterName(to.Cluster):
		d.Fail(key("to.cluster"), source.Quote(to.Cluster)+" is not the name of a cluster", "use the name that the service knows it by; a URL is a resource")
	case to.Cluster != "" && t.From.ClientID != "":
		d.Fail(key("to.cluster"), "only a workload gets tokens for a cluster by its name", "write the resource that the client is registered for")
	case to.Cluster != "" && len(to.Scopes) > 0:
		d.Fail(key("to.scopes"), "tokens for a cluster have no scopes", "remove them")
	case to.Resource != "":
		if u, err := url.Parse(to.Resource); err != nil || !u.IsAbs() || u.Fragment != "" || strings.ContainsAny(to.Resource, " #") {
			d.Fail(key("to.resource"), source.Quote(to.Resource)+" is not the identifier of a resource", "write an absolute URI, such as https://api.example.com")
		}
	}
	for i, scope := range t.To.Scopes {
		if _, err := oauth.ScopesOf(scope); err != nil {
			d.Fail(key("to.scopes")+"["+strconv.Itoa(i)+"]", source.Quote(scope)+" is not a scope", "write one scope, without spaces")
		}
	}
}

// agentFile checks where a file goes and who may read it.
func (d *document) agentFile(section string, path *string, access *Access) {
	access.Perm, access.UID, access.GID = 0o600, -1, -1
	if !d.IsSet(section) || d.Inside[section] {
		return
	}
	if *path == "" {
		d.Fail(section+".path", "is missing", "add `path: …`, the file that the agent writes")
		return
	}
	*path = filepath.Clean(d.path(*path))
	d.onlyHere(section+".path", *path)
	if access.Mode != "" {
		mode, err := strconv.ParseUint(access.Mode, 8, 32)
		switch {
		case err != nil || len(access.Mode) > 4 || mode > 0o777:
			d.Fail(section+".mode", source.Quote(access.Mode)+" is not a mode", `write it like "0640"`)
		case mode&0o400 == 0:
			d.Fail(section+".mode", "its owner could not read it", `write it like "0640"`)
		case mode&^0o644 != 0:
			d.Fail(section+".mode", "lets others change it, or run it", `write at most "0644": who can write to the file can give its readers another token`)
		}
		access.Perm = uint32(mode)
	}
	if access.Owner == "" {
		return
	}
	uid, gid, both := strings.Cut(access.Owner, ":")
	id := func(s string) int {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil {
			return -1
		}
		return int(n)
	}
	if access.UID = id(uid); both {
		access.GID = id(gid)
	}
	if access.UID < 0 || both && access.GID < 0 {
		d.Fail(section+".owner", source.Quote(access.Owner)+" is not a user", `write numbers, "1000" or "1000:1000": a user, or a user and a group`)
	}
}

func (d *document) agentKubeconfig(k *AgentKubeconfig, key func(string) string) {
	section := key("kubeconfig")
	if k.Path == "" || d.Inside[section] {
		return
	}
	if u, err := url.Parse(k.Server); k.Server == "" {
		d.Fail(section+".server", "is missing", "add `server: https://…`, the URL of the cluster's API server")
	} else if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		d.Fail(section+".server", source.Quote(k.Server)+" is not the URL of an API server", "write it like https://10.0.1.1:6443")
	}
	if k.CAFile = d.path(k.CAFile); k.CAFile != "" {
		k.CA = d.certificates(section+".ca_file", k.CAFile)
	}
}

// agentKubernetes checks the cluster that the agent is at home in.
func (d *document) agentKubernetes(k *AgentKubernetes) {
	if k.KubeconfigFile = d.path(k.KubeconfigFile); k.KubeconfigFile != "" {
		k.Kubeconfig, _, _ = d.read("kubernetes.kubeconfig_file", k.KubeconfigFile)
	}
	for i, namespace := range k.Namespaces {
		at := "kubernetes.namespaces[" + strconv.Itoa(i) + "]"
		switch {
		case namespace == "*" && len(k.Namespaces) > 1:
			d.Fail(at, "is all namespaces, and others are there beside it", "keep one of the two")
		case namespace != "*" && !isKubernetesName(namespace) || len(namespace) > 63:
			d.Fail(at, source.Quote(namespace)+" is not a namespace", `write its name, or "*" for all`)
		case slices.Contains(k.Namespaces[:i], namespace):
			d.Fail(at, source.Quote(namespace)+" is there twice", "remove one of them")
		}
	}
	for key, name := range map[string]string{"kubernetes.lease.namespace": k.LeaseNamespace, "kubernetes.lease.name": k.LeaseName} {
		if d.IsSet(key) && !d.Failed[key] && !isKubernetesName(name) {
			d.Fail(key, source.Quote(name)+" is not a name", "use a to z, 0 to 9, - and .")
		}
	}
}

// agentSecret checks a Secret, by the rules of those who read it.
func (d *document) agentSecret(a *Agent, t *AgentToken, key func(string) string) {
	section, s := key("secret"), &t.Secret
	if !d.IsSet(section) || d.Inside[section] {
		return
	}
	for name, value := range map[string]string{"namespace": s.Namespace, "name": s.Name} {
		switch at := section + "." + name; {
		case value == "":
			d.Fail(at, "is missing", "add `"+name+": …`")
		case !isKubernetesName(value):
			d.Fail(at, source.Quote(value)+" is not a name", "use a to z, 0 to 9, - and .")
		}
	}
	d.onlyHere(section+".name", "secret "+s.Namespace+"/"+s.Name)
	s.Spec = secret.Spec{Kind: secret.Kind(s.Kind), Server: s.Server, URL: s.URL, Type: s.Type, Project: s.Project, Username: s.Username, Registry: s.Registry, Data: s.Data}
	if s.CAFile = d.path(s.CAFile); s.CAFile != "" {
		s.Spec.CA = string(d.certificates(section+".ca_file", s.CAFile))
	}
	names := map[string]string{
		"Kind": "kind", "Server": "server", "CA": "ca_file", "URL": "url", "Type": "type",
		"Project": "project", "Username": "username", "Registry": "registry", "Data": "data",
	}
	for _, p := range s.Spec.Check(a.Target(t.To.Cluster)) {
		if at := section + "." + names[p.Member]; !d.Failed[at] {
			d.Fail(at, p.Text, p.Fix)
		}
	}
}

// isKubernetesName says whether an object can have this name (RFC 1123).
func isKubernetesName(s string) bool {
	return authority.IsKubernetesName(s) && strings.Trim(s, "-.") == s
}
