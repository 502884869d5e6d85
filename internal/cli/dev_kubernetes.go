package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/kube"
)

// clusterAtHand is what dev --kubernetes registers as the cluster dev.
type clusterAtHand struct {
	kubeconfig string // an absolute path
	issuer     string
}

// findCluster asks the cluster of a kubeconfig's current context who issues the
// tokens of its pods.
func findCluster(ctx context.Context, env *Environment, kubeconfig string) (*clusterAtHand, error) {
	path, err := filepath.Abs(kubeconfig)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--kubernetes: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("--kubernetes: %w", err)
	}
	client, err := kube.NewClient(authority.Cluster{Name: "dev", Kubeconfig: data, Credential: authority.CredentialKubeconfig}, nil)
	if err != nil {
		return nil, fmt.Errorf("--kubernetes: %w", err)
	}
	defer client.Close()
	defer progress(env.Err, "waiting for an answer from the cluster of "+path)()
	if err := client.Reach(ctx); err != nil {
		return nil, fmt.Errorf("--kubernetes: %w", err)
	}
	issuer, err := client.Issuer(ctx)
	if err != nil {
		return nil, fmt.Errorf("--kubernetes: %w", err)
	}
	return &clusterAtHand{path, issuer}, nil
}

// config is what is added to the demo's configuration.
func (c *clusterAtHand) config() []byte {
	quoted := func(text string) string { // JSON is YAML
		data, _ := json.Marshal(text) // of a string never fails
		return string(data)
	}
	return []byte(strings.NewReplacer("$ISSUER", quoted(c.issuer), "$KUBECONFIG", quoted(c.kubeconfig)).Replace(`clusters:
  - name: dev                    # the cluster of --kubernetes; its pods are watched
    issuer: $ISSUER
    kubeconfig_file: $KUBECONFIG
    introspection_clients: [demo-api]
policies:
  - name: demo-pod-to-dev        # tokens for the cluster itself
    from: {cluster: dev, namespace: default, service_account: signalbox-demo}
    to: {cluster: dev}
  - name: demo-pod-to-api        # tokens for the demo's API
    from: {cluster: dev, namespace: default, service_account: signalbox-demo}
    to: {resource: "https://api.example.com", scopes: [orders:read]}
`))
}

// demoPod can prove to us who it is: a token of it is meant for the issuer.
const demoPod = `apiVersion: v1
kind: ServiceAccount
metadata: {name: signalbox-demo, namespace: default}
---
apiVersion: v1
kind: Pod
metadata: {name: signalbox-demo, namespace: default}
spec:
  serviceAccountName: signalbox-demo
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: registry.k8s.io/pause:3.10
      volumeMounts:
        - {name: signalbox, mountPath: /var/run/secrets/signalbox, readOnly: true}
  volumes:
    - name: signalbox
      projected:
        sources:
          - serviceAccountToken: {path: token, audience: "$ISSUER"}
`

// welcome shows a pod that can prove who it is, and how to see its tokens die.
func (c *clusterAtHand) welcome(w io.Writer, d *demo, api demoClient, dir string) error {
	pod := strings.ReplaceAll(demoPod, "$ISSUER", d.Issuer)
	file, err := filepath.Abs(filepath.Join(dir, "pod.yaml"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(pod), 0o600); err != nil {
		return err
	}
	_, err = fmt.Fprint(w, strings.NewReplacer(
		"$ISSUER", d.Issuer, "$KUBERNETES", c.issuer, "$KUBECONFIG", config.ShellQuote(c.kubeconfig),
		"$API", config.ShellQuote(api.ClientID+":"+api.ClientSecret), "$FILE", config.ShellQuote(file), "$POD", pod,
	).Replace(`
Your cluster is registered as dev, and its pods are watched (the issuer of their tokens is $KUBERNETES).
Make a pod that can prove to Signalbox who it is, from the file that is shown below:
  export KUBECONFIG=$KUBECONFIG
  kubectl apply -f $FILE

Exchange its token. In the pod that is a file; here kubectl asks for one like it:
  proof() { kubectl create token signalbox-demo -n default --audience $ISSUER --bound-object-kind Pod --bound-object-name signalbox-demo; }
  TOKEN=$(proof | signalbox token exchange --issuer $ISSUER --cluster dev --subject-token-file -)
  proof | signalbox token exchange --issuer $ISSUER --resource https://api.example.com --subject-token-file - | signalbox token inspect

Delete the pod and see its tokens die: active is true before, and false a moment after.
  curl -s -u $API -d "token=$TOKEN" $ISSUER/introspect; echo
  kubectl delete pod,serviceaccount signalbox-demo -n default
  curl -s -u $API -d "token=$TOKEN" $ISSUER/introspect; echo

$POD`))
	return err
}
