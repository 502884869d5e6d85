package doctor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/agent/secret"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func jwt(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256"}`)) + "." + part([]byte(claims)) + "." + part([]byte("signature"))
}

var (
	forever  = jwt(`{"sub":"system:serviceaccount:kube-system:argocd-manager"}`)
	aMonth   = jwt(fmt.Sprintf(`{"sub":"ci","exp":%d}`, now.Add(30*24*time.Hour).Unix()))
	fiveMins = jwt(fmt.Sprintf(`{"sub":"ci","exp":%d}`, now.Add(5*time.Minute).Unix()))
)

// named makes an object with metadata, and with what more adds to it.
func named(namespace, name string, more map[string]any) map[string]any {
	o := map[string]any{"metadata": map[string]any{"namespace": namespace, "name": name, "creationTimestamp": "2025-01-01T00:00:00Z"}}
	for k, v := range more {
		if k == "labels" || k == "annotations" {
			o["metadata"].(map[string]any)[k] = v
		} else {
			o[k] = v
		}
	}
	return o
}

func aSecret(more map[string]any, data map[string]string) map[string]any {
	encoded := map[string]string{}
	for k, v := range data {
		encoded[k] = base64.StdEncoding.EncodeToString([]byte(v))
	}
	o := named("shop", "it", more)
	o["data"] = encoded
	return o
}

func kubeconfig(user string) string {
	return "clusters:\n- name: c\n  cluster: {server: \"https://10.0.0.1:6443\"}\nusers:\n- name: u\n  user: " + user + "\n"
}

// cluster serves lists of objects by their path without parameters.
func cluster(lists map[string][]map[string]any) Cluster {
	return Cluster{Name: "hub", Now: func() time.Time { return now }, Get: func(_ context.Context, path string) ([]byte, error) {
		items, there := lists[strings.Split(path, "?")[0]]
		if !there && strings.HasPrefix(path, "/apis/") {
			return nil, ErrMissing
		}
		return json.Marshal(map[string]any{"items": items})
	}}
}

func look(t *testing.T, c Cluster) []Finding {
	t.Helper()
	found, err := c.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.Cluster != "hub" || f.Since.IsZero() || f.Problem == "" || f.Replace == "" {
			t.Errorf("incomplete: %+v", f)
		}
		if text := fmt.Sprintf("%+v", f); strings.Contains(text, "eyJ") || strings.Contains(text, "hunter2") {
			t.Errorf("a value is shown: %s", text)
		}
	}
	return found
}

func TestStaticSecrets(t *testing.T) {
	labels := func(kv ...string) map[string]any {
		return map[string]any{"labels": map[string]string{kv[0]: kv[1]}}
	}
	argo := labels("argocd.argoproj.io/secret-type", "cluster")
	repo := labels("argocd.argoproj.io/secret-type", "repository")
	flux := labels("kustomize.toolkit.fluxcd.io/name", "apps")
	config := func(json string) map[string]string {
		return map[string]string{"server": "https://spoke:6443", "config": json}
	}
	for name, c := range map[string]struct {
		secret map[string]any
		want   string // a part of the problem; empty: it is not static
	}{
		"a service account's token":                               {aSecret(map[string]any{"type": tokenType, "annotations": map[string]string{accountOf: "web"}}, nil), "never expires"},
		"a service account's token that says it is our agent's":   {aSecret(map[string]any{"type": tokenType, "labels": map[string]string{secret.ManagedBy: secret.Manager}}, nil), "never expires"},
		"any other Secret":                                        {aSecret(nil, map[string]string{"password": "hunter2"}), ""},
		"a cluster of Argo CD with a token for ever":              {aSecret(argo, config(`{"bearerToken":"`+forever+`"}`)), "https://spoke:6443 with a token that never expires"},
		"a cluster of Argo CD with a token for a month":           {aSecret(argo, config(`{"bearerToken":"`+aMonth+`"}`)), "lives until 2026-07-01"},
		"a cluster of Argo CD with a token for minutes":           {aSecret(argo, config(`{"bearerToken":"`+fiveMins+`"}`)), ""},
		"a cluster of Argo CD with a password":                    {aSecret(argo, config(`{"username":"a","password":"hunter2"}`)), "password"},
		"a cluster of Argo CD with a client key":                  {aSecret(argo, config(`{"tlsClientConfig":{"keyData":"a2V5"}}`)), "client certificate"},
		"a cluster of Argo CD with a plugin":                      {aSecret(argo, config(`{"execProviderConfig":{"command":"signalbox"}}`)), ""},
		"a repository of Argo CD with a password":                 {aSecret(repo, map[string]string{"password": "hunter2"}), "does not say when it expires"},
		"a repository of Argo CD with an SSH key":                 {aSecret(repo, map[string]string{"sshPrivateKey": "hunter2"}), "an SSH key"},
		"a repository of Argo CD without a credential":            {aSecret(repo, map[string]string{"url": "https://git"}), ""},
		"a Secret of Flux with an SSH key":                        {aSecret(flux, map[string]string{"identity": "hunter2"}), "Flux reads a repository with an SSH key"},
		"a Secret of Flux with a short-lived token":               {aSecret(flux, map[string]string{"bearerToken": fiveMins}), ""},
		"a kubeconfig with a token for ever":                      {aSecret(nil, map[string]string{"value": kubeconfig("{token: " + forever + "}")}), "kubeconfig for https://10.0.0.1:6443 with a token that never expires"},
		"a kubeconfig with an opaque token":                       {aSecret(nil, map[string]string{"value": kubeconfig("{token: hunter2}")}), "does not say"},
		"a kubeconfig with a key":                                 {aSecret(nil, map[string]string{"config": kubeconfig("{client-key-data: a2V5}")}), "client certificate"},
		"a kubeconfig with a token for minutes":                   {aSecret(nil, map[string]string{"value": kubeconfig("{token: " + fiveMins + "}")}), ""},
		"a kubeconfig with a plugin":                              {aSecret(nil, map[string]string{"value": kubeconfig("{exec: {command: signalbox}}")}), ""},
		"what our agent keeps fresh, though it looks for ever":    {aSecret(labels(secret.ManagedBy, secret.Manager), map[string]string{"value": kubeconfig("{token: " + forever + "}")}), ""},
		"a cluster of Argo CD with a token for minutes and a key": {aSecret(argo, config(`{"bearerToken":"`+fiveMins+`","tlsClientConfig":{"keyData":"a2V5"}}`)), "client certificate"},
		"what a migration of Argo CD keeps":                       {aSecret(labels(KeptConfig, "backup"), config(`{"bearerToken":"`+forever+`"}`)), "is kept for the way back of signalbox argocd migrate: Argo CD reaches"},
	} {
		t.Run(name, func(t *testing.T) {
			found := look(t, cluster(map[string][]map[string]any{"/api/v1/secrets": {c.secret}}))
			switch {
			case c.want == "" && len(found) > 0:
				t.Errorf("found %+v", found)
			case c.want != "" && (len(found) != 1 || !strings.Contains(found[0].Problem, c.want)):
				t.Errorf("found %+v, want %q", found, c.want)
			}
		})
	}
}

func TestRolesAreShown(t *testing.T) {
	binding := func(namespace, kind, role string, subjects ...map[string]string) map[string]any {
		return named(namespace, "b", map[string]any{"roleRef": map[string]string{"kind": kind, "name": role}, "subjects": subjects})
	}
	web := map[string]string{"kind": "ServiceAccount", "namespace": "shop", "name": "web"}
	all := map[string]string{"kind": "Group", "name": "system:serviceaccounts"}
	lists := map[string][]map[string]any{
		"/api/v1/secrets": {aSecret(map[string]any{"type": tokenType, "annotations": map[string]string{accountOf: "web"}}, nil)},
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings": {
			binding("", "ClusterRole", "cluster-admin", web), binding("", "ClusterRole", everybodysRole, all),
		},
		"/apis/rbac.authorization.k8s.io/v1/rolebindings": {binding("shop", "Role", "deploy", web)},
	}
	found := look(t, cluster(lists))
	if len(found) != 1 || strings.Join(found[0].Can, ", ") != "ClusterRole cluster-admin, Role deploy in shop" {
		t.Fatalf("found %+v", found)
	}
	if want := "then kubectl delete secret --namespace shop it"; !strings.HasSuffix(found[0].Replace, want) {
		t.Errorf("instead: %q, want %q", found[0].Replace, want)
	}
}

func TestATokenOfAPodThatCanDoNothing(t *testing.T) {
	pod := func(account, phase, mount string) map[string]any {
		return named("shop", account, map[string]any{
			"spec":   map[string]any{"serviceAccountName": account, "containers": []any{map[string]any{"volumeMounts": []any{map[string]string{"mountPath": mount}}}}},
			"status": map[string]string{"phase": phase},
		})
	}
	lists := map[string][]map[string]any{
		"/api/v1/pods": {
			pod("useless", "Running", apiToken), pod("web", "Running", apiToken), pod("done", "Succeeded", apiToken), pod("ours", "Running", "/var/run/secrets/signalbox"),
		},
		"/apis/rbac.authorization.k8s.io/v1/rolebindings": {
			named("shop", "b", map[string]any{"roleRef": map[string]string{"kind": "Role", "name": "r"}, "subjects": []map[string]string{{"kind": "ServiceAccount", "namespace": "shop", "name": "web"}}}),
		},
	}
	found := look(t, cluster(lists))
	if len(found) != 1 || found[0].Name != "useless" || found[0].Kind != "Pod" {
		t.Errorf("found %+v", found)
	}
}

func TestConfigMapsAreNoPlaceForAKubeconfig(t *testing.T) {
	found := look(t, cluster(map[string][]map[string]any{"/api/v1/configmaps": {named("shop", "it", map[string]any{"data": map[string]string{"config": kubeconfig("{password: hunter2}")}})}}))
	if len(found) != 1 || found[0].Kind != "ConfigMap" || !strings.Contains(found[0].Problem, "no secret") {
		t.Errorf("found %+v", found)
	}
}

func TestEveryPageIsRead(t *testing.T) {
	c := Cluster{Name: "hub", Now: func() time.Time { return now }}
	c.Get = func(_ context.Context, path string) ([]byte, error) {
		next := ""
		items := []map[string]any{}
		if strings.HasPrefix(path, "/api/v1/secrets") {
			items = append(items, aSecret(map[string]any{"type": tokenType}, nil))
			if !strings.Contains(path, "continue=") {
				next = "more"
			}
		}
		return json.Marshal(map[string]any{"metadata": map[string]string{"continue": next}, "items": items})
	}
	if found := look(t, c); len(found) != 2 {
		t.Errorf("found %+v", found)
	}
	c.Get = func(context.Context, string) ([]byte, error) { return nil, errors.New("forbidden") }
	if _, err := c.Look(t.Context()); err == nil || !strings.Contains(err.Error(), "of hub cannot be listed: forbidden") {
		t.Errorf("a cluster that may not be read: %v", err)
	}
}

func TestTheWorstComesFirst(t *testing.T) {
	old, young := now.Add(-time.Hour), now
	findings := []Finding{{Name: "pod", Kind: "Pod", Since: old}, {Name: "young", Kind: "Secret", Since: young}, {Name: "old", Kind: "Secret", Since: old}, {Name: "admin", Kind: "Secret", Since: young, Can: []string{"ClusterRole cluster-admin"}}}
	Sort(findings)
	var order []string
	for _, f := range findings {
		order = append(order, f.Name)
	}
	if got := strings.Join(order, " "); got != "admin old young pod" {
		t.Errorf("got %s", got)
	}
}

// FuzzSecret holds that no Secret of a stranger makes the doctor panic or print a value.
func FuzzSecret(f *testing.F) {
	f.Add("cluster", `{"bearerToken":"hunter2hunter2"}`)
	f.Add("", kubeconfig("{token: hunter2hunter2}"))
	f.Fuzz(func(t *testing.T, argo, value string) {
		c := Cluster{Now: func() time.Time { return now }}
		var o object
		o.Metadata.Labels = map[string]string{secret.ArgoCDType: argo}
		encoded := base64.StdEncoding.EncodeToString([]byte(value))
		o.Data = map[string]string{"config": encoded, "value": encoded, "password": encoded}
		if found, _ := c.secret(o); strings.Contains(found.Problem, "hunter2hunter2") {
			t.Errorf("a value is shown: %s", found.Problem)
		}
	})
}
