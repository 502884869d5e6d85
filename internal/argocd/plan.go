package argocd

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/doctor"
)

// State is how far a cluster Secret is.
type State string

// The states.
const (
	Static   State = "static"   // it has a credential that does not expire
	Replaced State = "replaced" // it has the plugin, and nothing proves yet that it works
	Proved   State = "proved"   // it has the plugin, every application syncs, and there is a way back
	Ending   State = "ending"   // it has the plugin, the last step has begun, and there is no way back
	Done     State = "done"     // it has the plugin, and nothing else is left
	Other    State = "other"    // it has no static credential, and not our plugin
)

// Row is the plan for one cluster Secret.
type Row struct {
	Secret       string     `json:"secret"`
	Name         string     `json:"name,omitempty"` // as Argo CD calls the cluster
	Server       string     `json:"server"`
	State        State      `json:"state"`
	Holds        string     `json:"holds,omitempty"`
	Subject      string     `json:"subject,omitempty"` // whom the credential is of, where it says so
	Since        time.Time  `json:"since"`
	ExpiresAt    *time.Time `json:"expires_at,omitempty"`
	Cluster      string     `json:"cluster,omitempty"` // as it is registered
	Policy       string     `json:"policy,omitempty"`
	Context      string     `json:"context,omitempty"` // of the kubeconfig, that leads there
	Applications []string   `json:"applications"`
	Missing      []Missing  `json:"missing"` // what must be there before it is replaced
	Notes        []string   `json:"notes"`

	secret, backup object
}

// Missing is what keeps a Secret from being migrated, and what to do.
type Missing struct {
	What string `json:"what"`
	Fix  string `json:"fix"`
}

// Ready says whether the Secret can be migrated now.
func (r Row) Ready() bool { return r.State == Static && len(r.Missing) == 0 }

// ownServer is how Argo CD calls the cluster that it runs in. No plugin is used for it.
const ownServer = "https://kubernetes.default.svc"

// Plan looks at the cluster Secrets that Only names, and changes nothing.
func (m *Migration) Plan(ctx context.Context) ([]Row, error) {
	rows, err := m.rows(ctx)
	if err != nil {
		return nil, err
	}
	for _, only := range m.Only {
		if !slices.ContainsFunc(rows, func(r Row) bool { return r.Secret == only }) {
			return nil, fmt.Errorf("there is no cluster Secret %s in the namespace %s", only, m.Namespace)
		}
	}
	return slices.DeleteFunc(rows, func(r Row) bool { return !m.meant(r) }), nil
}

// meant says whether a Secret is one of those that Only names.
func (m *Migration) meant(r Row) bool { return len(m.Only) == 0 || slices.Contains(m.Only, r.Secret) }

// rows are those of every cluster Secret.
func (m *Migration) rows(ctx context.Context) ([]Row, error) {
	secrets, err := m.Hub.all(ctx, m.secretPath(""), url.Values{"labelSelector": {"argocd.argoproj.io/secret-type=cluster"}})
	if err != nil {
		return nil, err
	}
	copies, err := m.Hub.all(ctx, m.secretPath(""), url.Values{"labelSelector": {backupLabel + "=backup"}})
	if err != nil {
		return nil, err
	}
	backups := map[string]object{}
	for _, b := range copies {
		backups[text(b, "metadata", "annotations", backupOf)] = b
	}
	controller, err := m.controller(ctx)
	if err != nil {
		return nil, err
	}
	apps, err := m.applications(ctx)
	if err != nil {
		return nil, err
	}
	rows := []Row{}
	for _, o := range secrets {
		backup := backups[name(o)]
		if backup != nil && !isBackupOf(backup, o) {
			backup = nil
		}
		rows = append(rows, m.row(o, backup, controller, apps))
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Secret, b.Secret) })
	return rows, nil
}

func (m *Migration) row(o, backup object, c controller, apps []map[string]any) Row {
	v := values(o)
	f, static := doctor.ArgoCDCluster(v, m.Now())
	r := Row{
		Secret: name(o), Name: string(v["name"]), Server: strings.TrimRight(string(v["server"]), "/"), State: Other,
		Applications: []string{}, Missing: []Missing{}, Notes: []string{}, secret: o, backup: backup,
	}
	r.Since, _ = time.Parse(time.RFC3339, text(o, "metadata", "creationTimestamp"))
	cluster, ours := pluginOf(v["config"])
	switch step := text(backup, "metadata", "annotations", backupStep); {
	case static:
		r.State, r.Holds, r.Subject, r.ExpiresAt = Static, f.Problem, f.Subject, f.ExpiresAt
	case ours && step == proved:
		r.State = Proved
	case ours && step == finishing:
		r.State = Ending
	case ours && backup != nil:
		r.State = Replaced
	case ours:
		r.State = Done
	}
	if ours && backup != nil { // what the backup holds can still be used
		f, _ := doctor.ArgoCDCluster(map[string][]byte{"server": v["server"], "config": values(backup)["config"]}, m.Now())
		r.Subject, r.ExpiresAt = f.Subject, f.ExpiresAt
	}
	for _, a := range apps {
		if leadsTo(a, r) {
			r.Applications = append(r.Applications, key(a))
		}
	}
	if r.Cluster = cluster; !ours {
		r.Cluster = m.registered(r)
	}
	r.Context = m.Context(r.Secret, r.Server)
	if static {
		m.missing(&r, o, c, apps)
		m.notes(&r, o, c)
	}
	if backup != nil && !ours {
		r.Notes = append(r.Notes, fmt.Sprintf("an earlier run has left a copy of a config in the Secret %s: --apply uses it or replaces it, --rollback removes it if it is the same", name(backup)))
	}
	if config := v["config"]; len(config) > 0 && json.Unmarshal(config, new(doctor.ArgoCDCredentials)) != nil {
		r.Missing = append(r.Missing, Missing{"nobody can say what its config holds", "write it as Argo CD reads it"})
	}
	return r
}

// registered finds the name of the cluster at Signalbox.
func (m *Migration) registered(r Row) string {
	if named := m.Named[r.Secret]; named != "" {
		return named
	}
	var found []string
	for _, c := range m.Registered {
		if c.APIServer != "" && strings.TrimRight(c.APIServer, "/") == r.Server {
			found = append(found, c.Name)
		}
	}
	if len(found) == 1 {
		return found[0]
	}
	return ""
}

func (m *Migration) missing(r *Row, o object, c controller, apps []map[string]any) {
	lacks := func(what, fix string, args ...any) {
		r.Missing = append(r.Missing, Missing{what, fmt.Sprintf(fix, args...)})
	}
	if r.Server == ownServer {
		lacks("it is Argo CD's own cluster, for which it takes no plugin", "remove the credential from its config: Argo CD uses its own service account there")
		return
	}
	if _, err := withPlugin(values(o)["config"], m.PluginArgs(r.Cluster)); err != nil {
		lacks(err.Error(), "write it as Argo CD reads it")
	}
	if maker := madeBy(o, apps); maker != "" {
		lacks("it is made by "+maker+", which would write the credential again", "put there what signalbox cluster trust NAME --for argocd prints")
	}
	if len(backupName+r.Secret) > longestName {
		lacks("its name leaves no room for that of a backup", "give it a shorter name")
	}
	switch {
	case r.Cluster == "":
		lacks("no registered cluster, or more than one, has this API server", "signalbox cluster add NAME --api-server %s, or --map %s=NAME for one that is registered", r.Server, r.Secret)
	case !slices.ContainsFunc(m.Registered, func(c Registered) bool { return c.Name == r.Cluster }):
		lacks("no cluster "+r.Cluster+" is registered", "signalbox cluster add %s --api-server %s", r.Cluster, r.Server)
	case c.account != "":
		i := slices.IndexFunc(m.Policies, func(p Policy) bool {
			return p.To == r.Cluster && p.Namespace == m.Namespace && p.ServiceAccount == c.account && (m.Home == "" || p.Cluster == m.Home)
		})
		if i >= 0 {
			r.Policy = m.Policies[i].Name
			if m.Policies[i].When != "" {
				r.Notes = append(r.Notes, "the policy "+r.Policy+" has a condition (when): --apply tries it")
			}
			break
		}
		home := m.Home
		if home == "" {
			home = "NAME-OF-ARGO-CDS-CLUSTER"
		}
		lacks("no policy lets the application controller have tokens for "+r.Cluster,
			"add to policies: {name: argocd-deploys-to-%s, from: {cluster: %s, namespace: %s, service_account: %s}, to: {cluster: %s}, groups: [deployers]}", r.Cluster, home, m.Namespace, c.account, r.Cluster)
	}
	switch {
	case c.account == "":
		lacks("there is no application controller in the namespace "+m.Namespace, "name Argo CD's namespace with --namespace")
	case !c.proof:
		lacks("the pods of the application controller have no token that proves who they are", "mount a projected token for the audience %s at %s: docs/how-to/argocd.md", m.Issuer, path.Dir(subjectToken))
	}
}

func (m *Migration) notes(r *Row, o object, c controller) {
	note := func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }
	if c.account != "" && !c.program {
		note("nothing mounts the program signalbox into the application controller: is it in the image?")
	}
	if c.server && !c.serverReady {
		note("argocd-server has no program or no token: logs of this cluster will not show in its pages")
	}
	if r.Context == "" {
		note("no context of the kubeconfig leads to the cluster: its rights are not checked, and --finish cannot remove the account there (--spoke-context %s=CONTEXT)", r.Secret)
	}
	var config struct {
		TLS struct {
			Insecure bool `json:"insecure"`
		} `json:"tlsClientConfig"`
	}
	if json.Unmarshal(values(o)["config"], &config) == nil && config.TLS.Insecure {
		note("Argo CD does not verify the API server (insecure): whoever is between them gets tokens")
	}
	if text(o, "metadata", "annotations", lastApplied) != "" {
		note("kubectl has kept what was applied, with the credential, in an annotation: it is removed too")
	}
}

// madeBy names what would undo a change, empty if a person made the Secret.
func madeBy(o object, apps []map[string]any) string {
	if owners := list(o, "metadata", "ownerReferences"); len(owners) > 0 {
		return text(owners[0], "kind") + " " + text(owners[0], "name")
	}
	for _, a := range apps {
		here := text(a, "spec", "destination", "server") == ownServer || text(a, "spec", "destination", "name") == "in-cluster"
		if here && slices.ContainsFunc(list(a, "status", "resources"), func(res map[string]any) bool {
			return text(res, "kind") == "Secret" && text(res, "group") == "" && text(res, "namespace") == namespace(o) && text(res, "name") == name(o)
		}) {
			return "the application " + key(a)
		}
	}
	if text(o, "metadata", "annotations", "argocd.argoproj.io/tracking-id") != "" {
		return "an application of Argo CD"
	}
	if release := text(o, "metadata", "annotations", "meta.helm.sh/release-name"); release != "" {
		return "the Helm release " + release
	}
	for label := range members(o, "metadata", "labels") {
		if strings.Contains(label, "fluxcd.io/") {
			return "Flux"
		}
	}
	for _, by := range list(o, "metadata", "managedFields") {
		applies := at(by, "fieldsV1", "f:data", "f:config") != nil || at(by, "fieldsV1", "f:stringData", "f:config") != nil
		if program := text(by, "manager"); applies && text(by, "operation") == "Apply" && program != "kubectl" {
			return program + " (server-side apply)"
		}
	}
	return ""
}

// controller is what the workloads of Argo CD have.
type controller struct {
	account        string // the service account of the application controller; empty: there is none
	proof, program bool
	server         bool // there is an argocd-server
	serverReady    bool
}

// subjectToken is where the plugin looks for its proof.
const subjectToken = "/var/run/secrets/signalbox/token"

func (m *Migration) controller(ctx context.Context) (c controller, err error) {
	for _, kind := range []string{"statefulsets", "deployments"} {
		found, err := m.Hub.all(ctx, "/apis/apps/v1/namespaces/"+url.PathEscape(m.Namespace)+"/"+kind,
			url.Values{"labelSelector": {"app.kubernetes.io/name in (argocd-application-controller,argocd-server)"}})
		if err != nil {
			return c, err
		}
		for _, o := range found {
			template, _ := at(o, "spec", "template", "spec").(map[string]any)
			proof, program := m.equipped(template)
			if text(o, "metadata", "labels", "app.kubernetes.io/name") == "argocd-server" {
				c.server, c.serverReady = true, proof && program
				continue
			}
			c.account, c.proof, c.program = text(template, "serviceAccountName"), proof, program
			if c.account == "" {
				c.account = "default"
			}
		}
	}
	return c, nil
}

// equipped says what a pod mounts: the token that proves who it is, and the program.
func (m *Migration) equipped(pod map[string]any) (proof, program bool) {
	tokens := map[string]string{} // by volume: the file
	for _, v := range list(pod, "volumes") {
		for _, source := range list(v, "projected", "sources") {
			if text(source, "serviceAccountToken", "audience") == m.Issuer {
				tokens[text(v, "name")] = text(source, "serviceAccountToken", "path")
			}
		}
	}
	for _, container := range list(pod, "containers") {
		for _, mount := range list(container, "volumeMounts") {
			where := text(mount, "mountPath")
			if file := tokens[text(mount, "name")]; file != "" && path.Join(where, file) == subjectToken {
				proof = true
			}
			program = program || path.Base(where) == "signalbox" && path.Base(path.Dir(where)) == "bin"
		}
	}
	return proof, program
}

const applicationsAPI = "/apis/argoproj.io/v1alpha1"

// applications are those of every namespace: one that is not seen is not proved.
func (m *Migration) applications(ctx context.Context) ([]map[string]any, error) {
	return m.Hub.all(ctx, applicationsAPI+"/applications", nil)
}

func key(application map[string]any) string { return namespace(application) + "/" + name(application) }

func leadsTo(application map[string]any, r Row) bool {
	server, named := text(application, "spec", "destination", "server"), text(application, "spec", "destination", "name")
	return server != "" && strings.TrimRight(server, "/") == r.Server || named != "" && named == r.Name
}

// app is how an application is.
type app struct {
	Sync       string   `json:"sync"`
	Health     string   `json:"health"`
	Errors     []string `json:"errors,omitempty"` // the types of its conditions
	Reconciled string   `json:"reconciled"`

	said       string // what its conditions say
	refreshing bool
	prunes     bool
	resources  []map[string]any
}

// refreshAsked is the annotation by which an application is looked at again. Argo CD
// removes it with the status that it has then found.
const refreshAsked = "argocd.argoproj.io/refresh"

// apps are the applications of a cluster, by namespace and name.
func (m *Migration) apps(ctx context.Context, r Row) (map[string]app, error) {
	all, err := m.applications(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]app{}
	for _, o := range all {
		if !leadsTo(o, r) {
			continue
		}
		a := app{
			Sync: text(o, "status", "sync", "status"), Health: text(o, "status", "health", "status"), Reconciled: text(o, "status", "reconciledAt"),
			refreshing: text(o, "metadata", "annotations", refreshAsked) != "", resources: list(o, "status", "resources"),
		}
		a.prunes, _ = at(o, "spec", "syncPolicy", "automated", "prune").(bool)
		for _, c := range list(o, "status", "conditions") {
			if kind := text(c, "type"); strings.HasSuffix(kind, "Error") {
				a.Errors = append(a.Errors, kind)
				a.said = kind + ": " + text(c, "message")
			}
		}
		found[key(o)] = a
	}
	return found, nil
}

func names(apps map[string]app) []string { return slices.Sorted(maps.Keys(apps)) }
