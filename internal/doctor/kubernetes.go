// Package doctor names what is weak in an installation: settings of clients that
// lift a protection, and credentials in Kubernetes clusters that do not expire.
//
// It reads what a person who runs it may read, and keeps no value of a Secret.
package doctor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/internal/agent/secret"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

// Finding is one weakness: a credential that lives too long or that nobody
// needs, or a client with a weaker setting.
type Finding struct {
	Cluster   string     `json:"cluster,omitempty"` // empty for a client of the service
	Kind      string     `json:"kind"`              // of the object: Client, Secret, ConfigMap, Pod
	Namespace string     `json:"namespace,omitempty"`
	Name      string     `json:"name"`
	Problem   string     `json:"problem"`
	Subject   string     `json:"subject,omitempty"` // whom the credential is of, where it says so
	Since     time.Time  `json:"since,omitzero"`    // when the object was made, where that is known
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Can       []string   `json:"can,omitempty"` // the roles of a service account of this cluster
	Replace   string     `json:"replace"`       // what to do
}

// ErrMissing is an object, or a kind of object, that the cluster does not have.
var ErrMissing = errors.New("the cluster has no such object")

// Cluster is a cluster that is looked at.
type Cluster struct {
	Name string
	// Get returns the JSON of an API path, such as /api/v1/secrets?limit=50.
	// ErrMissing if the cluster has no such resource.
	Get func(ctx context.Context, path string) ([]byte, error)
	Now func() time.Time
}

// longest is how long a token may live that counts as short-lived.
const longest = 24 * time.Hour

// Look lists what is static in the cluster: Secrets first, then ConfigMaps and Pods.
func (c Cluster) Look(ctx context.Context) ([]Finding, error) {
	roles, err := c.roles(ctx)
	if err != nil {
		return nil, err
	}
	found := []Finding{}
	note := func(kind string, o object, f Finding) {
		f.Cluster, f.Kind, f.Namespace, f.Name, f.Since = c.Name, kind, o.Metadata.Namespace, o.Metadata.Name, o.Metadata.Created
		if f.Can == nil {
			f.Can = rolesOf(f.Subject, roles)
		}
		found = append(found, f)
	}
	err = c.each(ctx, "/api/v1/secrets?limit=50", func(o object) {
		if f, static := c.secret(o); static {
			note("Secret", o, f)
		}
	})
	if err != nil {
		return nil, err
	}
	err = c.each(ctx, "/api/v1/configmaps?limit=50", func(o object) {
		values := make(map[string][]byte, len(o.Data))
		for key, value := range o.Data {
			values[key] = []byte(value)
		}
		if f, static := c.kubeconfig(values); static {
			f.Problem = "in a ConfigMap, which is no secret: " + f.Problem
			note("ConfigMap", o, f)
		}
	})
	if err != nil {
		return nil, err
	}
	return found, c.each(ctx, "/api/v1/pods?limit=100", func(o object) {
		if account, unused := unusedToken(o, roles); unused {
			note("Pod", o, Finding{
				Subject: account, Problem: "mounts a token of the API server that can do nothing there, and that is good for whoever steals it to try",
				Replace: "set automountServiceAccountToken: false in the pod's template or its service account",
			})
		}
	})
}

// object is what is read of Secrets, ConfigMaps and Pods.
type object struct {
	Metadata struct {
		Namespace   string            `json:"namespace"`
		Name        string            `json:"name"`
		Created     time.Time         `json:"creationTimestamp"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Type string            `json:"type"`
	Data map[string]string `json:"data"` // of a Secret in base64
	Spec struct {
		ServiceAccountName string `json:"serviceAccountName"`
		Containers         []struct {
			Mounts []struct {
				Path string `json:"mountPath"`
			} `json:"volumeMounts"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
	RoleRef struct {
		Kind string `json:"kind"`
		Name string `json:"name"`
	} `json:"roleRef"`
	Subjects []struct {
		Kind      string `json:"kind"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"subjects"`
}

// each reads a list page by page.
func (c Cluster) each(ctx context.Context, path string, do func(object)) error {
	for next := path; ; {
		data, err := c.Get(ctx, next)
		if err != nil {
			return fmt.Errorf("%s of %s cannot be listed: %w", strings.Split(path, "?")[0], c.Name, err)
		}
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []object `json:"items"`
		}
		if err := json.Unmarshal(data, &page); err != nil {
			return fmt.Errorf("%s of %s is not a list: %w", strings.Split(path, "?")[0], c.Name, err)
		}
		for _, o := range page.Items {
			do(o)
		}
		if page.Metadata.Continue == "" {
			return nil
		}
		next = path + "&continue=" + page.Metadata.Continue
	}
}

// everybodysRole is bound to all service accounts in every cluster.
const everybodysRole = "system:service-account-issuer-discovery"

// roles are what users and groups may do.
func (c Cluster) roles(ctx context.Context) (map[string][]string, error) {
	roles := map[string][]string{}
	for _, list := range []string{"clusterrolebindings", "rolebindings"} {
		err := c.each(ctx, "/apis/rbac.authorization.k8s.io/v1/"+list+"?limit=500", func(o object) {
			role := o.RoleRef.Kind + " " + o.RoleRef.Name
			if o.Metadata.Namespace != "" {
				role += " in " + o.Metadata.Namespace
			}
			for _, s := range o.Subjects {
				name := s.Name
				if s.Kind == "ServiceAccount" {
					name = "system:serviceaccount:" + s.Namespace + ":" + s.Name
				}
				if o.RoleRef.Name != everybodysRole {
					roles[name] = append(roles[name], role)
				}
			}
		})
		if err != nil && !errors.Is(err, ErrMissing) { // a cluster without RBAC
			return nil, err
		}
	}
	return roles, nil
}

// rolesOf are a service account's own roles, and those of the groups that every
// service account is in.
func rolesOf(account string, roles map[string][]string) []string {
	name, is := strings.CutPrefix(account, "system:serviceaccount:")
	if !is {
		return nil
	}
	namespace, _, _ := strings.Cut(name, ":")
	return slices.Concat(roles[account], roles["system:serviceaccounts:"+namespace], roles["system:serviceaccounts"])
}

// What other programs write on their Secrets.
const (
	accountOf = "kubernetes.io/service-account.name"
	tokenType = "kubernetes.io/service-account-token"
)

// KeptConfig is the label of a Secret in which `signalbox argocd migrate` keeps what it has replaced.
const KeptConfig = "signalbox.dev/argocd-migration"

// secret judges a Secret. What our agent keeps fresh is never static, and it never
// writes a service account's token.
func (c Cluster) secret(o object) (Finding, bool) {
	if o.Type != tokenType && o.Metadata.Labels[secret.ManagedBy] == secret.Manager {
		return Finding{}, false
	}
	values := make(map[string][]byte, len(o.Data))
	for key, value := range o.Data {
		if decoded, err := base64.StdEncoding.DecodeString(value); err == nil {
			values[key] = decoded
		}
	}
	switch argo := o.Metadata.Labels[secret.ArgoCDType]; {
	case o.Type == tokenType:
		return Finding{
			Subject: "system:serviceaccount:" + o.Metadata.Namespace + ":" + o.Metadata.Annotations[accountOf],
			Problem: "a service account's token that never expires",
			Replace: "let what uses it exchange its own pod's token (docs/how-to/token-exchange.md), then " +
				"kubectl delete secret --namespace " + o.Metadata.Namespace + " " + o.Metadata.Name,
		}, true
	case argo == "cluster":
		return ArgoCDCluster(values, c.Now())
	case o.Metadata.Labels[KeptConfig] != "":
		f, static := ArgoCDCluster(values, c.Now())
		f.Problem = "it is kept for the way back of signalbox argocd migrate: " + f.Problem
		f.Replace = "signalbox argocd migrate --finish, or --rollback"
		return f, static
	case argo == "repository" || argo == "repo-creds":
		return c.repository(values, "Argo CD", "signalbox agent with a secret of kind argocd-repository")
	}
	if f, static := c.kubeconfig(values); static {
		return f, true
	}
	if isFlux(o) {
		return c.repository(values, "Flux", "signalbox agent with a secret of kind git")
	}
	return Finding{}, false
}

// isFlux says whether a Secret is one that Flux reconciles from or made.
func isFlux(o object) bool {
	for label := range o.Metadata.Labels {
		if strings.Contains(label, "fluxcd.io/") {
			return true
		}
	}
	return o.Metadata.Namespace == "flux-system"
}

// ArgoCDCredentials are what can be static in the config of a cluster Secret of Argo CD.
type ArgoCDCredentials struct {
	BearerToken string `json:"bearerToken"`
	Password    string `json:"password"`
	TLS         struct {
		Key []byte `json:"keyData"`
	} `json:"tlsClientConfig"`
}

// ArgoCDCluster judges the data of a cluster Secret of Argo CD.
func ArgoCDCluster(values map[string][]byte, now time.Time) (Finding, bool) {
	var config ArgoCDCredentials
	if err := json.Unmarshal(values["config"], &config); err != nil {
		return Finding{}, false
	}
	f := Finding{Replace: "signalbox argocd migrate"}
	switch {
	case config.BearerToken != "" && token(config.BearerToken, now, &f):
		f.Problem = "Argo CD reaches " + host(values["server"]) + " with a " + f.Problem
	case config.Password != "":
		f.Problem = "Argo CD reaches " + host(values["server"]) + " with a password"
	case len(config.TLS.Key) > 0:
		f.Problem = "Argo CD reaches " + host(values["server"]) + " with a client certificate, which no API server can revoke"
	default:
		return Finding{}, false
	}
	return f, true
}

func host(server []byte) string {
	if len(server) == 0 || len(server) > 300 {
		return "a cluster"
	}
	return strings.TrimSpace(string(server))
}

// repository judges the credentials of a Git or Helm repository.
func (c Cluster) repository(values map[string][]byte, of, instead string) (Finding, bool) {
	f := Finding{Replace: instead + ", where the server takes tokens of this service"}
	for key, what := range map[string]string{
		"sshPrivateKey": "an SSH key", "identity": "an SSH key", "githubAppPrivateKey": "the private key of a GitHub App",
	} {
		if len(values[key]) > 0 {
			f.Problem = of + " reads a repository with " + what + ", which does not expire"
			return f, true
		}
	}
	for _, key := range []string{"bearerToken", "password"} {
		if value := string(values[key]); value != "" {
			static := token(value, c.Now(), &f)
			f.Problem = of + " reads a repository with a " + f.Problem
			return f, static
		}
	}
	return Finding{}, false
}

// kubeconfig finds a kubeconfig with a credential inside.
func (c Cluster) kubeconfig(values map[string][]byte) (Finding, bool) {
	for _, value := range values {
		if len(value) > 256<<10 || !strings.Contains(string(value), "users") || !strings.Contains(string(value), "clusters") {
			continue
		}
		var config struct {
			Clusters []struct {
				Cluster struct {
					Server string `yaml:"server"`
				} `yaml:"cluster"`
			} `yaml:"clusters"`
			Users []struct {
				User struct {
					Token    string `yaml:"token"`
					Password string `yaml:"password"`
					Key      string `yaml:"client-key-data"`
				} `yaml:"user"`
			} `yaml:"users"`
		}
		if yaml.Unmarshal(value, &config) != nil || len(config.Clusters) == 0 {
			continue
		}
		to := "a kubeconfig for " + host([]byte(config.Clusters[0].Cluster.Server)) + " with a "
		f := Finding{Replace: "signalbox cluster trust NAME --for kubeconfig, or for Flux --for flux"}
		for _, u := range config.Users {
			static := u.User.Password != "" || u.User.Key != ""
			switch {
			case u.User.Token != "":
				static = token(u.User.Token, c.Now(), &f)
			case u.User.Password != "":
				f.Problem = "password"
			case u.User.Key != "":
				f.Problem = "client certificate, which no API server can revoke"
			}
			if static {
				f.Problem = to + f.Problem
				return f, true
			}
		}
	}
	return Finding{}, false
}

// token describes a token, and says whether it lives longer than a day. Of an
// opaque one nobody can tell.
func token(raw string, now time.Time, f *Finding) (static bool) {
	f.Problem = "token or password that does not say when it expires"
	_, claims, err := jose.InspectUnverified(strings.TrimSpace(raw))
	if err != nil {
		return true
	}
	f.Subject, _, _ = claims.String("sub")
	expires, says, err := claims.Time("exp")
	if err != nil || !says {
		f.Problem = "token that never expires"
		return true
	}
	if !expires.After(now.Add(longest)) { // over, or soon
		return false
	}
	at := expires.UTC()
	f.ExpiresAt, f.Problem = &at, "token that lives until "+at.Format(time.DateOnly)
	return true
}

// apiToken is where the API server's own token is mounted.
const apiToken = "/var/run/secrets/kubernetes.io/serviceaccount"

// unusedToken says whether a running pod has a token for the API server although
// its service account has no role there.
func unusedToken(o object, roles map[string][]string) (account string, unused bool) {
	if o.Status.Phase == "Succeeded" || o.Status.Phase == "Failed" {
		return "", false
	}
	account = "system:serviceaccount:" + o.Metadata.Namespace + ":" + o.Spec.ServiceAccountName
	if len(rolesOf(account, roles)) > 0 {
		return "", false
	}
	for _, container := range o.Spec.Containers {
		for _, m := range container.Mounts {
			if m.Path == apiToken {
				return account, true
			}
		}
	}
	return "", false
}

// Sort brings what is worst first: what may do most, then what is oldest.
func Sort(findings []Finding) {
	rank := func(f Finding) int {
		switch {
		case slices.Contains(f.Can, "ClusterRole cluster-admin"):
			return 0
		case f.Kind != "Pod":
			return 1
		}
		return 2
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return a.Since.Compare(b.Since)
	})
}
