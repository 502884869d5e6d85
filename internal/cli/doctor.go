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

	"github.com/signalbox-sts/signalbox/internal/doctor"
	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/server/admin"
)

func (a *adminCLI) doctorCommand() *cobra.Command {
	var kubernetes bool
	var k kubectl
	var named []string
	cmd := &cobra.Command{
		Use:   "doctor --kubernetes",
		Short: "Find credentials in Kubernetes clusters that do not expire, and what replaces them",
		Long: `List what is static in the registered clusters: Secrets with a service account's
token, kubeconfigs with a token or a key inside, credentials of Argo CD and Flux,
and pods that mount a token of the API server which can do nothing there: each
with its age, what it may do, and what replaces it. No value is printed.

It reads with kubectl, as you: nothing gets a right that you have not. Each
registered cluster is found among the contexts of your kubeconfig by its
api_server. --kube-context names contexts instead, and then needs no service.

The exit code is 1 if something was found, or a cluster could not be looked at.`,
		Example: `  signalbox doctor --kubernetes
  signalbox doctor --kubernetes --kube-context hub --kube-context spoke-a -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(a.output, a.forms); err != nil {
				return err
			}
			if !kubernetes {
				return &usageError{errors.New("say --kubernetes; see " + cmd.CommandPath() + " --help")}
			}
			clusters, missed, err := a.clustersToLookAt(cmd.Context(), k, named)
			if err != nil {
				return err
			}
			found := []doctor.Finding{}
			for _, c := range clusters {
				looked := progress(a.env.Err, "looking at "+c.Name)
				more, err := c.Look(cmd.Context())
				looked()
				if err != nil {
					missed = true
					a.done("%v", err)
				}
				found = append(found, more...)
			}
			doctor.Sort(found)
			if a.output != "text" {
				err = printData(a.env.Out, a.output, found)
			} else {
				err = a.printFindings(found, len(clusters))
			}
			if err == nil && (len(found) > 0 || missed) {
				return errSilent
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&kubernetes, "kubernetes", false, "look at the registered clusters")
	cmd.Flags().StringVar(&k.kubeconfig, "kubeconfig", "", "file for kubectl (default: kubectl's own)")
	cmd.Flags().StringArrayVar(&named, "kube-context", nil, "a context of the kubeconfig to look at, instead of the registered clusters; repeatable")
	_ = cmd.MarkFlagFilename("kubeconfig")
	_ = cmd.RegisterFlagCompletionFunc("kube-context", k.completeContexts)
	return cmd
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
	registered, _, err := readList[admin.Cluster](ctx, a, "/clusters", nil, 0)
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

func (a *adminCLI) printFindings(found []doctor.Finding, clusters int) error {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintln(&b, explain.Printable(fmt.Sprintf(format, args...))) }
	for _, f := range found {
		line("%s: %s %s/%s, %s old", f.Cluster, f.Kind, f.Namespace, f.Name, roughly(a.env.now().Sub(f.Since)))
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
	a.done("%d found in %d clusters", len(found), clusters)
	return err
}
