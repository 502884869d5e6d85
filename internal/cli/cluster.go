package cli

import (
	"cmp"
	"encoding/json"

	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/server/admin"
)

func (a *adminCLI) clusterCommand() *cobra.Command {
	return a.group("cluster", "Administer Kubernetes clusters: whose pods prove themselves, and where tokens are for",
		`  signalbox cluster add hub --issuer https://kubernetes.default.svc --jwks-file hub.jwks.json
  signalbox cluster add spoke-a --webhook-caller spoke-a-apiserver
  signalbox cluster show hub`,
		a.clusterAdd(),
		listing[admin.Cluster]{
			path: "/clusters", columns: []string{"CLUSTER", "ISSUER", "API SERVER", "PODS", "SOURCE"},
			row: func(c admin.Cluster) []string {
				return []string{c.Name, c.Issuer, c.APIServer, c.Pods, c.Source}
			},
			none: "no clusters",
		}.command(a, "List clusters", "  signalbox cluster list -o json"),
		a.clusterShow(),
		a.clusterTrust(),
		a.changeCommand(change{
			use: "remove CLUSTER", example: "hub", short: "Remove a cluster and end everything that its workloads have", path: "/clusters", member: "name", method: http.MethodDelete,
			question: "Remove cluster %s and end everything of its workloads?", said: "cluster %s is removed", ends: func(name string) admin.Revoke { return admin.Revoke{Cluster: name} },
		}),
	)
}

func (a *adminCLI) clusterAdd() *cobra.Command {
	var issuer, jwksFile, jwksURI, server, caFile, credential, pods, terminating, caller string
	var audiences, introspectors []string
	credentials, modes, ends := []string{"in-cluster", "self"}, []string{"watch", "review", "offline"}, []string{"grace", "refuse"}
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Register a cluster", Args: oneArg("name"),
		Long: `Register a cluster. Its name alone makes it a place that tokens can be for. With
--issuer its pods can prove themselves: their tokens are verified by the keys of
--jwks-file, of --jwks-uri, or by those that the API server tells.

No static credential is stored: --credential self lets this service prove itself
with a token that it issues to itself, and in-cluster with the service account of
its own pod. Trust policies are in the configuration file, and may name a cluster
that is registered here.`,
		Example: `  kubectl get --raw /openid/v1/jwks > hub.jwks.json
  signalbox cluster add hub --issuer https://kubernetes.default.svc --jwks-file hub.jwks.json
  signalbox cluster add hub --issuer https://kubernetes.default.svc --api-server https://10.0.0.1:6443 --ca-file hub-ca.crt --credential self
  signalbox cluster add spoke-a --webhook-caller spoke-a-apiserver`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, flag := range []struct {
				name, value string
				choices     []string
			}{{"credential", credential, credentials}, {"pods", pods, modes}, {"terminating-pods", terminating, ends}} {
				if err := oneOf(cmd, flag.name, flag.value, flag.choices); err != nil {
					return err
				}
			}
			body := admin.NewCluster{Name: args[0]}
			for _, text := range []struct {
				to    **string
				value string
			}{
				{&body.Issuer, issuer}, {&body.JWKSURI, jwksURI}, {&body.APIServer, server}, {&body.Credential, credential},
				{&body.Pods, pods}, {&body.TerminatingPods, terminating}, {&body.WebhookCaller, caller},
			} {
				if text.value != "" {
					*text.to = &text.value
				}
			}
			if jwksFile != "" {
				keys, err := os.ReadFile(jwksFile)
				if err != nil {
					return err
				}
				if !json.Valid(keys) {
					return fmt.Errorf("%s is not JSON", jwksFile)
				}
				body.JWKS = (*json.RawMessage)(&keys)
			}
			if caFile != "" {
				text, err := os.ReadFile(caFile)
				if err != nil {
					return err
				}
				ca := string(text)
				body.CA = &ca
			}
			if audiences != nil {
				body.Audiences = &audiences
			}
			if introspectors != nil {
				body.IntrospectionClients = &introspectors
			}
			var made admin.Cluster
			if err := a.call(cmd.Context(), http.MethodPost, "/clusters", nil, body, &made); err != nil {
				return err
			}
			return a.showCluster(made)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&issuer, "issuer", "", "iss of its service-account tokens")
	flags.StringVar(&jwksFile, "jwks-file", "", "file with the public keys of these tokens")
	flags.StringVar(&jwksURI, "jwks-uri", "", "where these keys are fetched")
	flags.StringVar(&server, "api-server", "", "URL of its API server, to watch pods and review tokens")
	flags.StringVar(&caFile, "ca-file", "", "file with the certificates that the API server is verified with")
	flags.StringVar(&credential, "credential", "", "how this service proves itself there: in-cluster or self")
	flags.StringVar(&pods, "pods", "", "how the end of a pod is learned: watch, review or offline")
	flags.StringVar(&terminating, "terminating-pods", "", "until when a pod that is being deleted counts: grace or refuse")
	flags.StringArrayVar(&audiences, "audience", nil, "what aud of its tokens may be (default: this issuer); may be repeated")
	flags.StringVar(&caller, "webhook-caller", "", "client as which its API server asks who the bearer of a token is")
	flags.StringArrayVar(&introspectors, "introspection-client", nil, "a client that may introspect tokens for it; may be repeated")
	_ = cmd.MarkFlagFilename("jwks-file", "json")
	_ = cmd.MarkFlagFilename("ca-file", "crt", "pem")
	for name, choices := range map[string][]string{"credential": credentials, "pods": modes, "terminating-pods": ends} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp))
	}
	_ = cmd.RegisterFlagCompletionFunc("webhook-caller", a.completeIDs("/clients", "client_id"))
	return cmd
}

func (a *adminCLI) clusterShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CLUSTER", Short: "Show a cluster: reachable or not, how it is watched, keys known, last refusal", Args: oneArg("cluster"),
		Example:           "  signalbox cluster show hub",
		ValidArgsFunction: a.completeIDs("/clusters", "name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var cluster admin.Cluster
			if err := a.call(cmd.Context(), http.MethodGet, at("/clusters", args[0]), nil, nil, &cluster); err != nil {
				return err
			}
			return a.showCluster(cluster)
		},
	}
}

// showCluster prints how a cluster is doing in words, below what it is.
func (a *adminCLI) showCluster(c admin.Cluster) error {
	if a.output != "text" {
		return a.show(c)
	}
	status := c.Status
	c.Status = nil
	if err := a.show(c); err != nil {
		return err
	}
	if status == nil {
		return nil
	}
	rows := [][]string{}
	for _, row := range a.clusterStatus(c, *status) {
		rows = append(rows, []string{row[0], explain.Printable(row[1])})
	}
	fmt.Fprintf(a.env.Out, "\nas node %s sees it\n", explain.Printable(status.Node))
	return printTable(a.env.Out, screen{}, nil, rows)
}

func (a *adminCLI) clusterStatus(c admin.Cluster, s admin.ClusterStatus) (rows [][2]string) {
	add := func(name, text string) { rows = append(rows, [2]string{name, text}) }
	now := a.env.now()
	switch {
	case c.APIServer == "" && c.Credential == "":
		add("reachable", "no API server is registered")
	case s.Reachable:
		add("reachable", "yes")
	default:
		add("reachable", "no: "+cmp.Or(s.ReachFailure, "not asked yet"))
	}
	switch s.Watch {
	case "up":
		text := "up on node " + s.Watcher + ", " + count(s.Pods, "pod")
		if s.HeardAt != nil {
			text += ", last heard " + since(*s.HeardAt, now)
		}
		add("watch", text+", lag "+strconv.FormatInt(s.LagSeconds, 10)+"s")
	case "elsewhere":
		add("watch", "on node "+s.Watcher+": ask there for more")
	case "down":
		add("watch", "DOWN, exchanges ask TokenReview: "+cmp.Or(s.WatchFailure, "it has not come up yet"))
	default:
		if c.Issuer != "" {
			add("watch", "none: pods is "+c.Pods)
		}
	}
	if c.Issuer != "" {
		text := "none: every token is refused"
		if len(s.Keys) > 0 {
			text = strings.Join(s.Keys, ", ")
		}
		if s.KeysFetchedAt != nil {
			text += ", fetched " + since(*s.KeysFetchedAt, now)
		}
		if s.KeysFailure != "" {
			text += "; " + s.KeysFailure
		}
		add("keys", text)
	}
	if s.Refusal != "" {
		text := s.Refusal
		if s.RefusedAt != nil {
			text += " (" + since(*s.RefusedAt, now) + ")"
		}
		add("last refusal", text)
	}
	for _, note := range s.Notes {
		add("note", note)
	}
	return rows
}

func (a *adminCLI) trustedIssuerCommand() *cobra.Command {
	return a.group("trusted-issuer", "Look at the trusted issuers of the configuration file", "  signalbox trusted-issuer list",
		listing[admin.TrustedIssuer]{
			path: "/trusted-issuers", columns: []string{"NAME", "ISSUER", "KEYS", "AUDIENCES"},
			row: func(t admin.TrustedIssuer) []string {
				keys := cmp.Or(t.JWKSURI, "by discovery")
				if len(t.JWKS) > 0 {
					keys = "pasted"
				}
				issuer := t.Issuer
				if t.TrustDomain != "" {
					issuer = "spiffe://" + t.TrustDomain
				}
				return []string{t.Name, issuer, keys, strings.Join(t.Audiences, " ")}
			},
			none: "no trusted issuers",
		}.command(a, "List trusted issuers", "  signalbox trusted-issuer list -o json"))
}

// newPolicyList is over the admin API, unlike its siblings, which read a file.
func newPolicyList(env *Environment) *cobra.Command {
	a := &adminCLI{env: env, forms: nameForms}
	cmd := listing[admin.Policy]{
		path: "/policies", columns: []string{"POLICY", "FROM", "WHEN", "TO", "GROUPS", "TTL", "MODE"},
		row: func(p admin.Policy) []string {
			return []string{p.Name, fromText(p.From), p.When, toText(p.To), strings.Join(p.Groups, " "), strconv.FormatInt(p.TTL, 10) + "s", p.Mode}
		},
		none: "no policies: nobody may exchange anything",
	}.command(a, "List the trust policies that are in force", "  signalbox policy list -o json")
	a.flags(cmd)
	return cmd
}

func fromText(f admin.PolicyFrom) string {
	switch {
	case f.Cluster != "":
		return f.Cluster + " " + f.Namespace + "/" + f.ServiceAccount
	case f.UserGroup != "":
		return "people in " + f.UserGroup
	case f.Client != "":
		return "client " + f.Client + " for " + f.OnBehalfOf
	}
	parts := []string{f.TrustedIssuer}
	if f.Subject != "" {
		parts = append(parts, f.Subject)
	}
	for _, claim := range f.Claims {
		parts = append(parts, claim.Name+"="+claim.Value)
	}
	return strings.Join(parts, " ")
}

func toText(t admin.PolicyTo) string {
	if t.Cluster != "" {
		return "cluster " + t.Cluster
	}
	return strings.Join(append([]string{t.Resource}, t.Scopes...), " ")
}
