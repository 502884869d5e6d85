package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// receiver is what the tests read of a Receiver of Flux.
type receiver struct {
	Spec struct {
		Type          string
		OIDCProviders []struct {
			IssuerURL   string `json:"issuerURL"`
			Audience    string
			Validations []struct{ Expression, Message string }
		} `json:"oidcProviders"`
	}
}

// notify is what notification-controller does with the token of a request to a
// generic-oidc Receiver, with the library that it does it with: discovery at the issuer,
// signature, life and audience, and then the conditions in CEL over the claims.
func (r receiver) notify(ctx context.Context, client *http.Client, token string) error {
	ctx = oidc.ClientContext(ctx, client)
	for _, p := range r.Spec.OIDCProviders {
		provider, err := oidc.NewProvider(ctx, p.IssuerURL)
		if err != nil {
			return err
		}
		verified, err := provider.Verifier(&oidc.Config{ClientID: p.Audience}).Verify(ctx, token)
		if err != nil {
			return err
		}
		var claims map[string]any
		if err := verified.Claims(&claims); err != nil {
			return err
		}
		env, err := cel.NewEnv(cel.Variable("claims", cel.DynType))
		if err != nil {
			return err
		}
		for _, v := range p.Validations {
			ast, issues := env.Compile(v.Expression)
			if issues.Err() != nil {
				return issues.Err()
			}
			program, err := env.Program(ast)
			if err != nil {
				return err
			}
			if result, _, err := program.Eval(map[string]any{"claims": claims}); err != nil || result.Value() != true {
				return fmt.Errorf("%s (%w)", v.Message, err)
			}
		}
	}
	return nil
}

// notification-controller itself cannot be had as a module: the proxy serves none of the
// versions that know generic-oidc (since 1.9) whole, only their API. So the API server
// has its kind, made from that module, and the object that `cluster trust --for flux`
// prints; what the controller does with a token is done here with its library.
func TestAReceiverOfFluxTakesOurTokens(t *testing.T) {
	t.Parallel()
	r := rig.Start(t)
	const namespace = "flux-system"
	const flux = "https://flux.example.com"
	policy := "  - {name: %s, from: {cluster: hub, namespace: " + namespace + ", service_account: %[1]s}, to: {resource: \"%s\", scopes: [%s]}}\n"
	s := newService(t, trustClients+"clusters:\n"+clusterEntry(r.Hub, "")+"  - {name: flux-b}\npolicies:\n"+
		fmt.Sprintf(policy, "notifier", flux, "notify")+fmt.Sprintf(policy, "stranger", flux, "notify")+fmt.Sprintf(policy, "reader", "https://git.example.com", "repo:read"))
	file := filepath.Join(s.dir, "signalbox.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(read(t, file), "resources: [", `resources: [{id: "`+flux+`", scopes: [notify]}, `, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)

	generate := exec.Command("go", "tool", "controller-gen", "crd", "paths=github.com/fluxcd/notification-controller/api/v1", "output:crd:dir="+t.TempDir())
	generate.Dir = "notification-controller"
	generate.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("controller-gen: %v\n%s", err, out)
	}
	_, kinds, _ := strings.Cut(generate.Args[len(generate.Args)-1], "dir=")
	installKinds(t, r.Hub, kinds)
	r.Hub.Namespace(t, namespace)

	_, object, found := strings.Cut(clusterTrust(t, s, "flux-b", "--for", "flux", "--server", "https://10.0.1.1:6443"), "#   apiVersion: notification.")
	if !found {
		t.Fatal("no Receiver is printed")
	}
	object = strings.ReplaceAll("apiVersion: notification."+object, "\n#   ", "\n")
	sub := func(account string) string { return "cluster:hub:ns:" + namespace + ":sa:" + account }
	object = strings.Replace(object, "issuer:github:repo:acme/apps:ref:refs/heads/main", sub("notifier"), 1)
	mustApply(t, r.Hub, object)
	// It is the real kind that has taken it: with a shared secret beside it, it does not.
	if err := apply(t, r.Hub, strings.Replace(strings.Replace(object, "name: signalbox", "name: shared", 1), "spec:\n", "spec:\n  secretRef: {name: shared}\n", 1)); err == nil || !strings.Contains(err.Error(), "secretRef cannot be set when type is generic-oidc") {
		t.Errorf("a Receiver with a shared secret: %v", err)
	}
	var stored receiver
	if err := r.Hub.Call(http.MethodGet, "/apis/notification.toolkit.fluxcd.io/v1/namespaces/"+namespace+"/receivers/signalbox", nil, &stored); err != nil {
		t.Fatal(err)
	}
	if p := stored.Spec.OIDCProviders; stored.Spec.Type != "generic-oidc" || len(p) != 1 || p[0].IssuerURL != s.Issuer || p[0].Audience != flux || len(p[0].Validations) != 1 {
		t.Fatalf("%+v", stored)
	}

	token := func(account, resource string) string {
		pod := runs(t, r.Hub, namespace, account, account+"-1")
		a := s.post(t, "/token", url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "resource": {resource},
			"subject_token": {r.Hub.Token(t, pod, s.Issuer, time.Hour)}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
		})
		if a.AccessToken == "" {
			t.Fatalf("%s: %+v", account, a)
		}
		return a.AccessToken
	}
	good := token("notifier", flux)
	header, rest, _ := strings.Cut(good, ".")
	for _, row := range []struct{ name, token, want string }{
		{"whom the Receiver names", good, ""},
		{"another workload", token("stranger", flux), "this workload may not notify Flux"},
		{"a token for Git", token("reader", "https://git.example.com"), "expected audience"},
		{"a token that was changed", header + "." + rest[:len(rest)-9] + "AAAA" + rest[len(rest)-5:], "failed to verify signature"},
		{"the proof of a pod", r.Hub.Token(t, runs(t, r.Hub, namespace, "notifier", "notifier-2"), flux, time.Hour), "failed to verify signature"},
	} {
		err := stored.notify(t.Context(), s.client, row.token)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}
