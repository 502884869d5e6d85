package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/explain"
)

func (a *adminCLI) clusterCommand() *cobra.Command {
	return a.group("cluster", "Administer Kubernetes clusters: whose pods prove themselves, and where tokens are for",
		`  signalbox cluster add hub --issuer https://kubernetes.default.svc --jwks-file hub.jwks.json
  signalbox cluster add spoke-a --webhook-caller spoke-a-apiserver
  signalbox cluster show hub`,
		a.clusterAdd(),
		listing[admin.Cluster]{
			list: (*admin.API).ListClusters, columns: []string{"CLUSTER", "ISSUER", "API SERVER", "PODS", "SOURCE"},
			row: func(c admin.Cluster) []string {
				return []string{c.Name, c.Issuer, c.APIServer, c.Pods, c.Source}
			},
			none: "no clusters",
		}.command(a, "List clusters", "  signalbox cluster list -o json"),
		a.clusterShow(), a.clusterUpdate(),
		a.clusterTrust(),
		a.changeCommand(change{
			use: "remove CLUSTER", example: "hub", short: "Remove a cluster and end everything that its workloads have", of: kind{name: "cluster", member: "name", complete: a.clusterNames()}, do: deleting((*admin.API).DeleteCluster),
			question: "Remove cluster %s and end everything of its workloads?", said: "cluster %s is removed", ends: func(name string) admin.Revoke { return admin.Revoke{Cluster: name} },
		}),
	)
}

// clusterFlags are the members of a cluster that may be set.
type clusterFlags struct {
	issuer, jwksFile, jwksURI, server, caFile, credential, pods, terminating, caller string
	audiences, introspectors                                                         []string
}

func (f *clusterFlags) add(a *adminCLI, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.issuer, "issuer", "", "iss of its service-account tokens")
	flags.StringVar(&f.jwksFile, "jwks-file", "", "file with the public keys of these tokens")
	flags.StringVar(&f.jwksURI, "jwks-uri", "", "where these keys are fetched")
	flags.StringVar(&f.server, "api-server", "", "URL of its API server, to watch pods and review tokens")
	flags.StringVar(&f.caFile, "ca-file", "", "file with the certificates that the API server is verified with")
	flags.StringVar(&f.credential, "credential", "", "how this service proves itself there: in-cluster or self")
	flags.StringVar(&f.pods, "pods", "", "how the end of a pod is learned: watch, review or offline")
	flags.StringVar(&f.terminating, "terminating-pods", "", "until when a pod that is being deleted counts: grace or refuse")
	flags.StringArrayVar(&f.audiences, "audience", nil, "what aud of its tokens may be (default: this issuer); may be repeated")
	flags.StringVar(&f.caller, "webhook-caller", "", "client as which its API server asks who the bearer of a token is")
	flags.StringArrayVar(&f.introspectors, "introspection-client", nil, "a client that may introspect tokens for it; may be repeated")
	_ = cmd.MarkFlagFilename("jwks-file", "json")
	_ = cmd.MarkFlagFilename("ca-file", "crt", "pem")
	for name, choices := range clusterChoices {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(choices, cobra.ShellCompDirectiveNoFileComp))
	}
	_ = cmd.RegisterFlagCompletionFunc("webhook-caller", a.clientIDs())
}

var clusterChoices = map[string][]string{"credential": {"in-cluster", "self"}, "pods": {"watch", "review", "offline"}, "terminating-pods": {"grace", "refuse"}}

// fields are those that were given on the command line, and no others. An empty
// one takes a value away.
func (f *clusterFlags) fields(cmd *cobra.Command) (fields admin.ClusterFields, err error) {
	for name, value := range map[string]string{"credential": f.credential, "pods": f.pods, "terminating-pods": f.terminating} {
		if value == "" {
			continue
		}
		if err := oneOf(cmd, name, value, clusterChoices[name]); err != nil {
			return fields, err
		}
	}
	for _, list := range []*[]string{&f.audiences, &f.introspectors} {
		if slices.Equal(*list, []string{""}) {
			*list = []string{}
		}
	}
	fields = admin.ClusterFields{
		Issuer: given(cmd, "issuer", &f.issuer), JWKSURI: given(cmd, "jwks-uri", &f.jwksURI), APIServer: given(cmd, "api-server", &f.server),
		Credential: given(cmd, "credential", &f.credential), Pods: given(cmd, "pods", &f.pods), TerminatingPods: given(cmd, "terminating-pods", &f.terminating),
		WebhookCaller: given(cmd, "webhook-caller", &f.caller), Audiences: given(cmd, "audience", &f.audiences), IntrospectionClients: given(cmd, "introspection-client", &f.introspectors),
	}
	if cmd.Flags().Changed("jwks-file") {
		keys := json.RawMessage("{}")
		if f.jwksFile != "" {
			if keys, err = os.ReadFile(f.jwksFile); err != nil {
				return fields, err
			}
			if !json.Valid(keys) {
				return fields, fmt.Errorf("%s is not JSON", f.jwksFile)
			}
		}
		fields.JWKS = &keys
	}
	if cmd.Flags().Changed("ca-file") {
		var text []byte
		if f.caFile != "" {
			if text, err = os.ReadFile(f.caFile); err != nil {
				return fields, err
			}
		}
		ca := string(text)
		fields.CA = &ca
	}
	return fields, nil
}

func (a *adminCLI) clusterAdd() *cobra.Command {
	var f clusterFlags
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
			fields, err := f.fields(cmd)
			if err != nil {
				return err
			}
			made, err := call(cmd.Context(), a, (*admin.API).CreateCluster, admin.NewCluster{Name: args[0], ClusterFields: fields})
			if err != nil {
				return err
			}
			return a.showCluster(made)
		},
	}
	f.add(a, cmd)
	return cmd
}

func (a *adminCLI) clusterUpdate() *cobra.Command {
	var f clusterFlags
	cmd := &cobra.Command{
		Use: "update CLUSTER", Short: "Change a cluster: what is given replaces what was there", Args: oneArg("cluster"),
		Long: `Change a cluster: what is given replaces what was there, and an empty value takes
it away. If something goes that made the tokens of its pods good (a key, an
audience, its issuer), everything that came from them ends; what is only added
ends nothing.`,
		Example: `  signalbox cluster update hub --jwks-file hub.jwks.json
  signalbox cluster update spoke-a --webhook-caller ''`,
		ValidArgsFunction: a.clusterNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := f.fields(cmd)
			if err != nil {
				return err
			}
			if fields == (admin.ClusterFields{}) {
				return &usageError{errors.New("nothing to change was given")}
			}
			updated, err := callOf(cmd.Context(), a, (*admin.API).UpdateCluster, args[0], fields)
			if err != nil {
				return err
			}
			return a.showCluster(updated)
		},
	}
	f.add(a, cmd)
	return cmd
}

func (a *adminCLI) clusterShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CLUSTER", Short: "Show a cluster: reachable or not, how it is watched, keys known, last refusal", Args: oneArg("cluster"),
		Example:           "  signalbox cluster show hub",
		ValidArgsFunction: a.clusterNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			cluster, err := call(cmd.Context(), a, (*admin.API).ShowCluster, args[0])
			if err != nil {
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
	return a.showStatus(status.Node, a.clusterStatus(c, *status))
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
	keys := a.keysAndRefusal(s.Keys, s.KeysFetchedAt, s.KeysFailure, s.Refusal, s.RefusedAt)
	if c.Issuer == "" {
		keys = keys[1:] // it has none, and needs none
	}
	rows = append(rows, keys...)
	for _, note := range s.Notes {
		add("note", note)
	}
	return rows
}

func (a *adminCLI) trustedIssuerCommand() *cobra.Command {
	return a.group("trusted-issuer", "Look at the trusted issuers of the configuration file", "  signalbox trusted-issuer list\n  signalbox trusted-issuer show github",
		listing[admin.TrustedIssuer]{
			list: (*admin.API).ListTrustedIssuers, columns: []string{"NAME", "ISSUER", "KEYS", "AUDIENCES"},
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
		}.command(a, "List trusted issuers", "  signalbox trusted-issuer list -o json"),
		a.trustedIssuerShow())
}

func (a *adminCLI) trustedIssuerShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a trusted issuer: reachable or not, keys known and their age, last failure, last refusal", Args: oneArg("name"),
		Example:           "  signalbox trusted-issuer show github",
		ValidArgsFunction: a.issuerNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			issuer, err := call(cmd.Context(), a, (*admin.API).ShowTrustedIssuer, args[0])
			if err != nil {
				return err
			}
			return a.showIssuer(issuer)
		},
	}
}

func (a *adminCLI) showIssuer(t admin.TrustedIssuer) error {
	status := t.Status
	if a.output == "text" {
		t.Status = nil
	}
	if err := a.show(t); err != nil || a.output != "text" || status == nil {
		return err
	}
	return a.showStatus(status.Node, a.issuerStatus(t, *status))
}

func (a *adminCLI) issuerStatus(t admin.TrustedIssuer, s admin.IssuerStatus) [][2]string {
	reachable := "not asked yet: no token of it has come"
	switch {
	case len(t.JWKS) > 0:
		reachable = "not needed: its keys are pasted"
	case s.KeysFailure != "":
		reachable = "no: " + s.KeysFailure
	case s.KeysFetchedAt != nil:
		reachable = "yes"
	}
	return append([][2]string{{"reachable", reachable}}, a.keysAndRefusal(s.Keys, s.KeysFetchedAt, s.KeysFailure, s.Refusal, s.RefusedAt)...)
}

// keysAndRefusal is what clusters and trusted issuers have in common.
func (a *adminCLI) keysAndRefusal(keys []string, fetched *time.Time, failure, refusal string, refused *time.Time) (rows [][2]string) {
	text := "none: every token is refused"
	if len(keys) > 0 {
		text = strings.Join(keys, ", ")
	}
	if fetched != nil {
		text += ", fetched " + since(*fetched, a.env.now())
	}
	if failure != "" {
		text += "; " + failure
	}
	rows = append(rows, [2]string{"keys", text})
	if refusal != "" {
		if refused != nil {
			refusal += " (" + since(*refused, a.env.now()) + ")"
		}
		rows = append(rows, [2]string{"last refusal", refusal})
	}
	return rows
}

// showStatus prints how something is doing, as one node sees it.
func (a *adminCLI) showStatus(node string, status [][2]string) error {
	rows := [][]string{}
	for _, row := range status {
		rows = append(rows, []string{row[0], explain.Printable(row[1])})
	}
	fmt.Fprintf(a.env.Out, "\nas node %s sees it\n", explain.Printable(node))
	return printTable(a.env.Out, screen{}, nil, rows)
}

// newPolicyList is over the admin API, unlike its siblings, which read a file.
func newPolicyList(env *Environment) *cobra.Command {
	a := &adminCLI{env: env, forms: nameForms}
	cmd := listing[admin.Policy]{
		list: (*admin.API).ListPolicies, columns: []string{"POLICY", "FROM", "WHEN", "TO", "GROUPS", "TTL", "MODE"},
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
