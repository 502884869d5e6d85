package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/doctor"
	"github.com/signalbox-sts/signalbox/internal/explain"
)

func (a *adminCLI) doctorCommand() *cobra.Command {
	var kubernetes bool
	var k kubectl
	var named []string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Name what is weak: dangerous settings of clients, and with --kubernetes credentials that do not expire",
		Long: `List the clients of the service whose settings lift a protection (require_pkce:
false, allow_multiple_audiences), and those that are off since they break a rule,
each with what to do.

With --kubernetes list what is static in the registered clusters instead: Secrets
with a service account's token, kubeconfigs with a token or a key inside,
credentials of Argo CD and Flux, and pods that mount a token of the API server
which can do nothing there: each with its age, what it may do, and what replaces
it. No value is printed. It reads with kubectl, as you: nothing gets a right that
you have not. Each registered cluster is found among the contexts of your
kubeconfig by its api_server. --kube-context names contexts instead, and then
needs no service.

The exit code is 1 if something was found, or a cluster could not be looked at.`,
		Example: `  signalbox doctor
  signalbox doctor --kubernetes
  signalbox doctor --kubernetes --kube-context hub --kube-context spoke-a -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(a.output, a.forms); err != nil {
				return err
			}
			look := a.lookAtClients
			switch {
			case kubernetes:
				look = func(ctx context.Context) (findings, error) { return a.lookAtClusters(ctx, k, named) }
			case k.kubeconfig != "" || len(named) > 0:
				return &usageError{errors.New("--kubeconfig and --kube-context go with --kubernetes")}
			}
			found, err := look(cmd.Context())
			if err != nil {
				return err
			}
			if a.output != "text" {
				err = printData(a.env.Out, a.output, found.list)
			} else {
				err = a.printFindings(found)
			}
			if err == nil && (len(found.list) > 0 || found.missed) {
				return errSilent
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&kubernetes, "kubernetes", false, "look at the registered clusters, not at the service")
	cmd.Flags().StringVar(&k.kubeconfig, "kubeconfig", "", "file for kubectl (default: kubectl's own)")
	cmd.Flags().StringArrayVar(&named, "kube-context", nil, "a context of the kubeconfig to look at, instead of the registered clusters; repeatable")
	_ = cmd.MarkFlagFilename("kubeconfig")
	_ = cmd.RegisterFlagCompletionFunc("kube-context", k.completeContexts)
	return cmd
}

// findings are what was found, where, and whether something could not be looked at.
type findings struct {
	list   []doctor.Finding
	where  string
	missed bool
}

func (a *adminCLI) lookAtClients(ctx context.Context) (findings, error) {
	clients, _, err := readList(ctx, a, (*admin.API).ListClients, 0)
	if err != nil {
		return findings{}, err
	}
	found := findings{list: []doctor.Finding{}, where: fmt.Sprintf("%d clients", len(clients))}
	for _, c := range clients {
		looked := doctor.Client{ID: c.ClientID, MultipleAudiences: c.Audiences, OptionalPKCE: c.RequirePKCE != nil && !*c.RequirePKCE}
		if c.CreatedAt != nil {
			looked.Since = *c.CreatedAt
		}
		for _, p := range c.Problems {
			looked.Problems = append(looked.Problems, authority.Problem(p).Error())
		}
		found.list = append(found.list, looked.Look()...)
	}
	return found, nil
}

func (a *adminCLI) lookAtClusters(ctx context.Context, k kubectl, named []string) (findings, error) {
	clusters, missed, err := a.clustersToLookAt(ctx, k, named)
	if err != nil {
		return findings{}, err
	}
	found := findings{list: []doctor.Finding{}, where: fmt.Sprintf("%d clusters", len(clusters)), missed: missed}
	for _, c := range clusters {
		looked := progress(a.env.Err, "looking at "+c.Name)
		more, err := c.Look(ctx)
		looked()
		if err != nil {
			found.missed = true
			a.done("%v", err)
		}
		found.list = append(found.list, more...)
	}
	doctor.Sort(found.list)
	return found, nil
}

// clustersToLookAt are those that were named, or else the registered ones.
// missed says that one of them has no context.
func (a *adminCLI) clustersToLookAt(ctx context.Context, k kubectl, named []string) (clusters []doctor.Cluster, missed bool, err error) {
	contexts, err := k.contexts(ctx)
	if err != nil {
		return nil, false, err
	}
	add := func(name, kubeContext string) {
		get := func(ctx context.Context, path string) ([]byte, error) {
			return k.call(ctx, kubeContext, http.MethodGet, path, nil)
		}
		clusters = append(clusters, doctor.Cluster{Name: name, Get: get, Now: a.env.now})
	}
	for _, name := range named {
		if !slices.ContainsFunc(contexts, func(c kubeContext) bool { return c.name == name }) {
			return nil, false, &usageError{fmt.Errorf("the kubeconfig has no context %q", name)}
		}
		add(name, name)
	}
	if len(named) > 0 {
		return clusters, false, nil
	}
	registered, _, err := readList(ctx, a, (*admin.API).ListClusters, 0)
	if err != nil {
		return nil, false, err
	}
	for _, cluster := range registered {
		i := slices.IndexFunc(contexts, func(c kubeContext) bool {
			return cluster.APIServer != "" && c.server == strings.TrimRight(cluster.APIServer, "/")
		})
		if i < 0 {
			missed = true
			a.done("%s was not looked at: no context of the kubeconfig leads to %s", cluster.Name, cmp.Or(cluster.APIServer, "it, and its registration has no api_server"))
			continue
		}
		add(cluster.Name, contexts[i].name)
	}
	return clusters, missed, nil
}

func (a *adminCLI) printFindings(found findings) error {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintln(&b, explain.Printable(fmt.Sprintf(format, args...))) }
	for _, f := range found.list {
		what := "client " + f.Name
		if f.Cluster != "" {
			what = fmt.Sprintf("%s: %s %s/%s", f.Cluster, f.Kind, f.Namespace, f.Name)
		}
		if !f.Since.IsZero() {
			what += ", " + roughly(a.env.now().Sub(f.Since)) + " old"
		}
		line("%s", what)
		line("    %s", f.Problem)
		if f.Subject != "" {
			line("    of %s", f.Subject)
		}
		if len(f.Can) > 0 {
			line("    may: %s", strings.Join(f.Can, ", "))
		}
		line("    instead: %s", f.Replace)
	}
	_, err := a.env.Out.Write(b.Bytes())
	a.done("%d found in %s", len(found.list), found.where)
	return err
}
