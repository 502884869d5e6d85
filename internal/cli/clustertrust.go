package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/agent/secret"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

// trusting is what the other side needs to know.
type trusting struct {
	admin.Cluster
	Us       string // our issuer
	IssuerCA string // PEM; empty: the system's
	CAFile   string // where IssuerCA is for kube-credential
	At       string
}

var (
	trustModes = []string{"jwt", "webhook"}
	trustFor   = []string{"kube-apiserver", "argocd", "flux", "kubeconfig"}
)

func (a *adminCLI) clusterTrust() *cobra.Command {
	var mode, audience, issuerCA, server, serverCA, secretFile string
	var check bool
	cmd := &cobra.Command{
		Use: "trust CLUSTER", Short: "Print what a cluster, or who calls it, needs to accept our tokens", Args: oneArg("cluster"),
		Long: `Print what the other side needs, as YAML. No secret is in it: it names files.

For kube-apiserver, --mode jwt prints an AuthenticationConfiguration: the API server
verifies tokens by itself, and an ended one is good until it expires. --mode webhook
prints the kubeconfig of a token webhook: it asks this service, and an ended token is
dead within 15 seconds. The default is webhook for a cluster with a webhook caller.

For argocd it is a cluster Secret, for kubeconfig the file of a person or a program,
for flux a ConfigMap, the Secret that signalbox agent fills, and as comments what a
Git repository and a Receiver need; all need the URL of the API server. With
--issuer-ca-file they name a file for kube-credential: that file in a kubeconfig,
` + secret.CAInPods + ` in a pod.

With --check nothing is printed for the other side: what can be proved from here is.`,
		Example: `  signalbox cluster trust spoke-a --mode jwt > /etc/kubernetes/authentication.yaml
  signalbox cluster trust spoke-a --for argocd --server https://10.0.1.1:6443 --server-ca-file spoke-a-ca.crt | kubectl apply -f -
  signalbox cluster trust spoke-a --check`,
		ValidArgsFunction: a.clusterNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(oneOf(cmd, "mode", mode, trustModes), oneOf(cmd, "for", audience, trustFor)); err != nil {
				return err
			}
			t := trusting{At: a.env.now().UTC().Format(time.RFC3339)}
			var err error
			if t.Cluster, err = call(cmd.Context(), a, (*admin.API).ShowCluster, args[0]); err != nil {
				return err
			}
			t.Us = strings.TrimSuffix(t.Audience, "/clusters/"+t.Name)
			t.APIServer = cmp.Or(server, t.APIServer)
			for file, to := range map[string]*string{issuerCA: &t.IssuerCA, serverCA: &t.CA} {
				if err := readCertificates(file, to); err != nil {
					return err
				}
			}
			if issuerCA != "" {
				var err error
				if t.CAFile, err = filepath.Abs(issuerCA); err != nil {
					return err
				}
			}
			if mode == "" {
				mode = "jwt"
				if t.WebhookCaller != "" {
					mode = "webhook"
				}
			}
			if check {
				return t.check(cmd.Context(), a.env.Err, mode, secretFile)
			}
			text, err := t.yaml(mode, audience)
			if err != nil {
				return err
			}
			if audience == "kube-apiserver" && mode == "jwt" && !strings.HasPrefix(t.Us, "https:") {
				fmt.Fprintf(a.env.Err, "signalbox: warning: no API server takes this: it wants an issuer with https, and this one is %s\n", explain.Printable(t.Us))
			}
			_, err = io.WriteString(a.env.Out, text)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&mode, "mode", "", "how the API server trusts our tokens: "+oneOfWords(trustModes))
	flags.StringVar(&audience, "for", "kube-apiserver", "who is to be told: "+oneOfWords(trustFor))
	flags.StringVar(&issuerCA, "issuer-ca-file", "", "certificates (PEM) that this service is verified with, where they are private")
	flags.StringVar(&server, "server", "", "URL of the cluster's API server (default: the registered one)")
	flags.StringVar(&serverCA, "server-ca-file", "", "certificates (PEM) that the API server is verified with (default: the registered ones)")
	flags.BoolVar(&check, "check", false, "prove from here that it works, as far as that is possible")
	flags.StringVar(&secretFile, "caller-secret-file", "", "file with the secret of the webhook caller, for --check")
	for name, words := range map[string][]string{"mode": trustModes, "for": trustFor} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

func readCertificates(file string, to *string) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return fmt.Errorf("%s has no certificate", file)
	}
	*to = string(text)
	return nil
}

// yaml is the text for the other side. Every value is quoted as JSON, which is YAML.
func (t trusting) yaml(mode, audience string) (string, error) {
	name := audience
	switch {
	case audience == "kube-apiserver":
		name = mode
		if mode == "webhook" && t.WebhookCaller == "" {
			return "", fmt.Errorf("cluster %s has no webhook caller: register the client as which its API server asks, or use --mode jwt", t.Name)
		}
	case t.APIServer == "":
		return "", &usageError{fmt.Errorf("nobody has said where the API server of %s is: --server URL", t.Name)}
	case audience == "argocd":
		t.CAFile = secret.CAInPods
	}
	var text strings.Builder
	err := trustTemplates.ExecuteTemplate(&text, name, t)
	return text.String(), err
}

// Exec is the credential plugin for client-go.
func (t trusting) Exec() []string {
	to := secret.Target{Issuer: t.Us, Cluster: t.Name}
	if t.IssuerCA != "" {
		to.CAFile = t.CAFile
	}
	return secret.PluginArgs(to)
}

// ArgoConfig is the member config of a cluster Secret of Argo CD.
func (t trusting) ArgoConfig() (string, error) {
	text, err := json.MarshalIndent(secret.NewArgoCDConfig(t.Exec(), t.CA), "", "  ")
	return string(text), err
}

// CAData is the API server's certificate authority as a kubeconfig has it.
func (t trusting) CAData() string { return base64.StdEncoding.EncodeToString([]byte(t.CA)) }

// WebhookURL is where a TokenReview is asked for.
func (t trusting) WebhookURL() string { return t.Us + "/kubernetes/tokenreview" }

var trustTemplates = template.Must(template.New("").Funcs(template.FuncMap{
	"q": func(v any) (string, error) {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		err := encoder.Encode(v)
		return strings.TrimSpace(text.String()), err
	},
	"indent": func(n int, s string) string {
		return strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n"+strings.Repeat(" ", n))
	},
}).Parse(`
{{- define "jwt"}}# For kube-apiserver: --authentication-config=/etc/kubernetes/authentication.yaml
# Written {{.At}}. Write it again, which changes this line, to drop a removed key now.
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
  - issuer:
      url: {{q .Us}}
      audiences: [{{q .Audience}}]
{{- if .IssuerCA}}
      certificateAuthority: |
        {{indent 8 .IssuerCA}}
{{- end}}
    claimValidationRules:
      - expression: {{q (printf "claims.aud == '%s'" .Audience)}}
        message: the token is for others too
      - expression: "!has(claims.cnf)"
        message: the token is bound to a key, which nobody proves here
      - expression: "!claims.sub.startsWith('system:')"
        message: the subject begins with system
      - expression: "!has(claims.groups) || dyn(claims.groups).all(group, !group.startsWith('system:'))"
        message: a group begins with system
    claimMappings:
      username: {claim: sub, prefix: "signalbox:"}
      groups: {claim: groups, prefix: "signalbox:"}
      extra:
        - {key: signalbox.dev/grant-id, valueExpression: claims.grant_id}
        - {key: signalbox.dev/policy, valueExpression: "has(claims.policy) ? claims.policy : ''"}
    userValidationRules:
      - expression: "!user.username.startsWith('system:')"
        message: the username begins with system
      - expression: "user.groups.all(group, !group.startsWith('system:'))"
        message: a group begins with system
{{end -}}
{{define "webhook"}}# For kube-apiserver:
#   --authentication-token-webhook-config-file=/etc/kubernetes/signalbox/webhook.kubeconfig
#   --authentication-token-webhook-version=v1
#   --authentication-token-webhook-cache-ttl=1s
# The file tokenFile has an access token of the client {{.WebhookCaller}} for
# {{.WebhookURL}}; keep it fresh there.
apiVersion: v1
kind: Config
clusters:
  - name: signalbox
    cluster:
      server: {{q .WebhookURL}}
{{- if .IssuerCA}}
      certificate-authority: /etc/kubernetes/signalbox/ca.crt
{{- end}}
users:
  - name: {{q .WebhookCaller}}
    user:
      tokenFile: /etc/kubernetes/signalbox/webhook.token
contexts:
  - name: signalbox
    context: {cluster: signalbox, user: {{q .WebhookCaller}}}
current-context: signalbox
{{end -}}
{{define "argocd"}}# A cluster of Argo CD. The binary signalbox must be in its application controller and its
# server, and their pods need a projected token at /var/run/secrets/signalbox/token
{{- if .IssuerCA}},
# and the certificates of this service's issuer at {{.CAFile}}
{{- end}}.
apiVersion: v1
kind: Secret
metadata:
  name: {{q (print "cluster-" .Name)}}
  namespace: argocd
  labels: {argocd.argoproj.io/secret-type: cluster}
type: Opaque
stringData:
  name: {{q .Name}}
  server: {{q .APIServer}}
  config: |
    {{indent 4 .ArgoConfig}}
{{end -}}
{{define "flux"}}# What Flux can use. The first two are two ways to the cluster: a Kustomization or a HelmRelease
# of the same namespace names one of them in spec.kubeConfig.
#
# configMapRef: {name: cluster-{{.Name}}}. The controllers send a token of their service account, which
# the cluster accepts where it trusts the issuer of the cluster that Flux runs in: this service mirrors
# its discovery below {{.Us}}/clusters/. Such a token lives for an hour, and is not ended with its pod.
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{q (print "cluster-" .Name)}}
  namespace: flux-system
data:
  provider: generic
  address: {{q .APIServer}}
  audiences: {{q .Audience}}
{{- if .CA}}
  ca.crt: |
    {{indent 4 .CA}}
{{- end}}
---
# secretRef: {name: cluster-{{.Name}}-kubeconfig}. signalbox agent fills it with a short-lived token for the
# cluster, in an entry of its tokens with:
#   to: {cluster: {{.Name}}}
#   secret: {namespace: flux-system, name: cluster-{{.Name}}-kubeconfig, kind: flux-kubeconfig}
# With the label Flux looks as soon as it changes.
apiVersion: v1
kind: Secret
metadata:
  name: {{q (print "cluster-" .Name "-kubeconfig")}}
  namespace: flux-system
  labels: {reconcile.fluxcd.io/watch: Enabled}
type: Opaque
# For a Git server that accepts our tokens: the agent fills the key bearerToken of a Secret, in an entry with
#   to: {resource: "https://git.example.com", scopes: [repo:read]}
#   secret: {namespace: flux-system, name: git-signalbox, kind: git}
# and the repository names it:
#   apiVersion: source.toolkit.fluxcd.io/v1
#   kind: GitRepository
#   metadata: {name: apps, namespace: flux-system}
#   spec: {interval: 1m, url: "https://git.example.com/apps.git", ref: {branch: main}, secretRef: {name: git-signalbox}}
#
# For whoever may tell Flux to look at once, with a token for a resource of its own and no shared secret (a
# token for the cluster would open the API server too):
#   apiVersion: notification.toolkit.fluxcd.io/v1
#   kind: Receiver
#   metadata: {name: signalbox, namespace: flux-system}
#   spec:
#     type: generic-oidc
#     oidcProviders:
#       - issuerURL: {{q .Us}}
#         audience: "https://flux.example.com"
#         validations: [{expression: "claims.sub == 'issuer:github:repo:acme/apps:ref:refs/heads/main'", message: this workload may not notify Flux}]
#     resources: [{apiVersion: source.toolkit.fluxcd.io/v1, kind: GitRepository, name: apps}]
{{end -}}
{{define "kubeconfig"}}apiVersion: v1
kind: Config
clusters:
  - name: {{q .Name}}
    cluster:
      server: {{q .APIServer}}
{{- if .CA}}
      certificate-authority-data: {{q .CAData}}
{{- end}}
users:
  - name: {{q (print .Name "-signalbox")}}
    user:
      exec:
        apiVersion: client.authentication.k8s.io/v1
        command: signalbox
        args: {{q .Exec}}
        interactiveMode: IfAvailable
contexts:
  - name: {{q .Name}}
    context: {cluster: {{q .Name}}, user: {{q (print .Name "-signalbox")}}}
current-context: {{q .Name}}
{{end -}}
`))

// check proves from here what an API server will find.
func (t trusting) check(ctx context.Context, told io.Writer, mode, secretFile string) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	client := &http.Client{CheckRedirect: followNone}
	if t.IssuerCA != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(t.IssuerCA))
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	}
	type proof struct {
		what string
		err  error
	}
	var proofs []proof
	if mode == "jwt" {
		proofs = append(proofs, proof{"discovery and keys of " + t.Us, t.checkKeys(ctx, client)})
	} else {
		proofs = append(proofs, proof{"the webhook refuses a caller without credentials", t.checkWebhook(ctx, client, "", http.StatusUnauthorized)})
		if secretFile != "" {
			secret, err := os.ReadFile(secretFile)
			if err == nil {
				err = t.checkWebhook(ctx, client, strings.TrimSpace(string(secret)), http.StatusOK)
			}
			proofs = append(proofs, proof{"the webhook answers " + t.WebhookCaller, err})
		}
	}
	failed := false
	for _, p := range proofs {
		if p.err != nil {
			failed = true
			fmt.Fprintln(told, "FAILED:", explain.Printable(p.what+": "+p.err.Error()))
			continue
		}
		fmt.Fprintln(told, "ok:", explain.Printable(p.what))
	}
	if failed {
		return errSilent
	}
	return nil
}

func (t trusting) checkKeys(ctx context.Context, client *http.Client) error {
	var document struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	said, err := fetch(ctx, client, t.Us+"/.well-known/openid-configuration")
	if err != nil {
		return err
	}
	if json.Unmarshal(said, &document) != nil || document.Issuer != t.Us {
		return fmt.Errorf("the document is about %q", document.Issuer)
	}
	if said, err = fetch(ctx, client, document.JWKSURI); err != nil {
		return err
	}
	set, err := jose.ParseKeySet(said)
	if err != nil {
		return err
	}
	for _, key := range set {
		if authority.ClustersVerify(key.Algorithm()) {
			return nil
		}
	}
	return errors.New("it publishes no key that a kube-apiserver can use")
}

func (t trusting) checkWebhook(ctx context.Context, client *http.Client, secret string, want int) error {
	const review = `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"none"}}`
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.WebhookURL(), strings.NewReader(review))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if secret != "" {
		request.SetBasicAuth(url.QueryEscape(t.WebhookCaller), url.QueryEscape(secret))
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != want {
		return fmt.Errorf("it answers %s, and not %d", response.Status, want)
	}
	return nil
}

func fetch(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", address, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, 1<<20))
}
