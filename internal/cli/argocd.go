package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/agent/secret"
	"github.com/signalbox-sts/signalbox/internal/argocd"
	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func (a *adminCLI) argocdCommand() *cobra.Command {
	return a.group("argocd", "Free Argo CD of static credentials", "  signalbox argocd migrate", a.argocdMigrate())
}

// argocdFlags say where Argo CD is, and what there.
type argocdFlags struct {
	kubectl                kubectl
	context, issuerCA      string
	only, named, spokes    []string
	apply, rollback        bool
	finish, yes            bool
	contexts               []kubeContext
	namedBy, contextByName map[string]string
}

func (a *adminCLI) argocdMigrate() *cobra.Command {
	var f argocdFlags
	var m argocd.Migration
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Replace static credentials in the cluster Secrets of Argo CD, with a way back until the last step",
		Long: `Find every cluster Secret of Argo CD with a token, a password or a client key, and
replace it by the credential plugin, which gets a short-lived token in Argo CD's pod.

Without --apply it only prints the plan: what each Secret holds, which registered
cluster it becomes, what is missing, and what to do about that.

--apply migrates what is ready, one Secret after another. It first makes the
exchange that the plugin will make, asks the cluster whether it accepts the token
and allows what the applications need, keeps the old credential in a Secret beside
it, replaces it, and waits until Argo CD has compared each application again. If one
does not sync, the old credential is put back at once. --rollback puts back all.

--finish is the last step: it removes what was kept, and on each cluster the account
that the old token is of, with its tokens and the roles that nobody else has. An
account that a pod or a workload uses stays: only the token goes. It ends when the
cluster refuses the old token.

It uses kubectl, as you. An interrupted run is begun again with the same command, and
two people can run it at once. The exit code is 1 if something is missing, or was not
migrated.`,
		Example: `  signalbox argocd migrate --kube-context hub
  signalbox argocd migrate --kube-context hub --apply --cluster-secret cluster-spoke-a
  signalbox argocd migrate --kube-context hub --rollback
  signalbox argocd migrate --kube-context hub --finish`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(a.output, a.forms); err != nil {
				return err
			}
			if f.finish && (f.apply || f.rollback) || f.apply && f.rollback {
				return &usageError{errors.New("say one of --apply, --rollback and --finish")}
			}
			if (f.apply || f.rollback || f.finish) && a.output != "text" {
				return &usageError{errors.New("-o is for the plan alone")}
			}
			if err := a.completeMigration(cmd.Context(), &m, &f); err != nil {
				return err
			}
			err := a.migrate(cmd.Context(), &m, f)
			if errors.Is(err, argocd.ErrLeft) {
				return errSilent
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.kubectl.kubeconfig, "kubeconfig", "", "file for kubectl (default: kubectl's own)")
	flags.StringVar(&f.context, "kube-context", "", "the context of the cluster that Argo CD runs in (default: the current one)")
	flags.StringVar(&m.Namespace, "namespace", "argocd", "the namespace of Argo CD")
	flags.StringArrayVar(&f.only, "cluster-secret", nil, "a cluster Secret to look at, instead of all; repeatable")
	flags.StringArrayVar(&f.named, "map", nil, "SECRET=CLUSTER: for which registered cluster a Secret is, where the URL of its server does not say; repeatable")
	flags.StringArrayVar(&f.spokes, "spoke-context", nil, "SECRET=CONTEXT: the context that leads to the cluster of a Secret, where the URL of its server does not say; repeatable")
	flags.StringVar(&f.issuerCA, "issuer-ca-file", "", "certificates (PEM) that this service is verified with, where they are private; Argo CD's pods have them at "+secret.CAInPods)
	flags.BoolVar(&f.apply, "apply", false, "migrate what is ready")
	flags.BoolVar(&f.rollback, "rollback", false, "put every old credential back")
	flags.BoolVar(&f.finish, "finish", false, "remove the old credentials and their accounts; there is no way back after it")
	flags.BoolVar(&f.yes, "yes", false, "do not ask before --finish")
	flags.DurationVar(&m.Wait, "wait", 3*time.Minute, "how long the applications of one cluster may take to sync")
	_ = cmd.MarkFlagFilename("kubeconfig")
	_ = cmd.MarkFlagFilename("issuer-ca-file", "crt", "pem")
	_ = cmd.RegisterFlagCompletionFunc("kube-context", f.kubectl.completeContexts)
	return cmd
}

// completeMigration reads what the flags name, and what is registered.
func (a *adminCLI) completeMigration(ctx context.Context, m *argocd.Migration, f *argocdFlags) (err error) {
	if f.namedBy, err = pairs("map", f.named); err != nil {
		return err
	}
	if f.contextByName, err = pairs("spoke-context", f.spokes); err != nil {
		return err
	}
	if f.contexts, err = f.kubectl.contexts(ctx); err != nil {
		return err
	}
	if f.context == "" {
		current, err := f.kubectl.run(ctx, nil, "config", "current-context")
		if err != nil {
			return &usageError{errors.New("the kubeconfig has no current context: name one with --kube-context")}
		}
		f.context = strings.TrimSpace(string(current))
	}
	server := ""
	for _, name := range append(slices.Sorted(maps.Values(f.contextByName)), f.context) {
		i := slices.IndexFunc(f.contexts, func(c kubeContext) bool { return c.name == name })
		if i < 0 {
			return &usageError{fmt.Errorf("the kubeconfig has no context %q", name)}
		}
		if name == f.context {
			server = f.contexts[i].server
		}
	}
	if err := a.readRegistered(ctx, m, server); err != nil {
		return err
	}
	asking, err := a.env.trusting(f.issuerCA)
	if err != nil {
		return err
	}
	m.Only, m.Named, m.Now, m.Sleep = f.only, f.namedBy, a.env.now, sleep
	m.Hub, m.Context = f.to(f.context), f.contextOf
	m.Spoke = f.to
	m.PluginArgs = func(cluster string) []string {
		t := trusting{Cluster: admin.Cluster{Name: cluster}, Us: m.Issuer, IssuerCA: f.issuerCA, CAFile: secret.CAInPods}
		return t.Exec()
	}
	m.Exchange = func(ctx context.Context, proof, cluster string) (string, error) {
		x := exchange{client: client{issuer: m.Issuer, insecure: a.insecure}, cluster: cluster, subjectToken: proof, subjectType: oauth.TokenTypeJWT}
		got, err := x.run(ctx, asking)
		return got.AccessToken, err
	}
	m.Told = func(secret, step string) { a.done("%s: %s", secret, step) }
	return nil
}

func (a *adminCLI) readRegistered(ctx context.Context, m *argocd.Migration, server string) error {
	clusters, _, err := readList(ctx, a, (*admin.API).ListClusters, 0)
	if err != nil {
		return err
	}
	policies, _, err := readList(ctx, a, (*admin.API).ListPolicies, 0)
	if err != nil {
		return err
	}
	if len(clusters) == 0 {
		return errors.New("no cluster is registered: signalbox cluster add, first Argo CD's own and then those that it deploys to")
	}
	m.Issuer = strings.TrimSuffix(clusters[0].Audience, "/clusters/"+clusters[0].Name)
	for _, c := range clusters {
		m.Registered = append(m.Registered, argocd.Registered{Name: c.Name, APIServer: c.APIServer})
		if c.APIServer != "" && strings.TrimRight(c.APIServer, "/") == server {
			m.Home = c.Name
		}
	}
	for _, p := range policies {
		if p.Mode == "enforce" && p.To.Cluster != "" && p.From.Cluster != "" {
			m.Policies = append(m.Policies, argocd.Policy{
				Name: p.Name, Cluster: p.From.Cluster, Namespace: p.From.Namespace, ServiceAccount: p.From.ServiceAccount, To: p.To.Cluster, When: p.When,
			})
		}
	}
	return nil
}

// to is the way to a cluster.
func (f *argocdFlags) to(kubeContext string) argocd.Kube {
	return func(ctx context.Context, method, path string, body any) ([]byte, error) {
		return f.kubectl.call(ctx, kubeContext, method, path, body)
	}
}

// contextOf finds the context that leads to the cluster of a Secret.
func (f *argocdFlags) contextOf(secret, server string) string {
	if named := f.contextByName[secret]; named != "" {
		return named
	}
	i := slices.IndexFunc(f.contexts, func(c kubeContext) bool { return c.server == server })
	if i < 0 {
		return ""
	}
	return f.contexts[i].name
}

func (a *adminCLI) migrate(ctx context.Context, m *argocd.Migration, f argocdFlags) error {
	switch {
	case f.apply:
		return m.Apply(ctx)
	case f.rollback:
		return m.Rollback(ctx)
	case f.finish:
		return a.finishMigration(ctx, m, f.yes)
	}
	looked := progress(a.env.Err, "looking at Argo CD in "+m.Namespace)
	rows, err := m.Plan(ctx)
	looked()
	if err != nil {
		return err
	}
	if a.output != "text" {
		err = printData(a.env.Out, a.output, rows)
	} else {
		err = a.printMigration(rows)
	}
	if err == nil && slices.ContainsFunc(rows, func(r argocd.Row) bool { return len(r.Missing) > 0 }) {
		return errSilent
	}
	return err
}

// inWordsOf is what is next for a Secret.
var inWordsOf = map[argocd.State]string{
	argocd.Static:   "ready: --apply migrates it",
	argocd.Replaced: "replaced by an interrupted run: --apply proves it, --rollback goes back",
	argocd.Proved:   "migrated: --finish removes the old credential, --rollback goes back",
	argocd.Ending:   "its last step was interrupted: --finish continues",
	argocd.Done:     "done",
	argocd.Other:    "has no static credential",
}

func (a *adminCLI) printMigration(rows []argocd.Row) error {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintln(&b, explain.Printable(fmt.Sprintf(format, args...))) }
	static := 0
	for _, r := range rows {
		words := inWordsOf[r.State]
		if len(r.Missing) > 0 {
			words = "NOT ready"
		}
		line("%s (%s): %s", r.Secret, r.Server, words)
		if r.State == argocd.Static {
			static++
			line("    %s, %s old", r.Holds, roughly(a.env.now().Sub(r.Since)))
		}
		for _, row := range [][2]string{{"of", r.Subject}, {"cluster", r.Cluster}, {"policy", r.Policy}, {"context", r.Context}, {"applications", strings.Join(r.Applications, ", ")}} {
			if row[1] != "" {
				line("    %s: %s", row[0], row[1])
			}
		}
		for _, lack := range r.Missing {
			line("    missing: %s", lack.What)
			line("        do: %s", lack.Fix)
		}
		for _, note := range r.Notes {
			line("    note: %s", note)
		}
	}
	_, err := a.env.Out.Write(b.Bytes())
	a.done("%d of %d cluster Secrets have a static credential", static, len(rows))
	return err
}

func (a *adminCLI) finishMigration(ctx context.Context, m *argocd.Migration, yes bool) error {
	removals, err := m.Removals(ctx)
	if err != nil {
		return err
	}
	if len(removals) == 0 {
		a.done("there is nothing to finish")
		return nil
	}
	for _, x := range removals {
		a.done("%s: removes the old credential that was kept", x.Secret)
		for _, what := range x.Removes {
			a.done("%s: removes from %s: %s", x.Secret, x.Context, what)
		}
		for _, what := range x.Leaves {
			a.done("%s: note: %s", x.Secret, what)
		}
	}
	if err := a.confirm("Remove all of this? There is no way back, and whoever else uses such an account loses it.", yes); err != nil {
		return err
	}
	return m.Finish(ctx, removals)
}

// pairs reads the values of a repeatable flag of the form NAME=VALUE.
func pairs(flag string, given []string) (map[string]string, error) {
	m := map[string]string{}
	for _, pair := range given {
		name, value, is := strings.Cut(pair, "=")
		if !is || name == "" || value == "" {
			return nil, &usageError{fmt.Errorf("--%s is SECRET=NAME, not %q", flag, pair)}
		}
		m[name] = value
	}
	return m, nil
}

// sleep ends early, with an error, when ctx does.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
