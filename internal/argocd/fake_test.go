package argocd

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fake is an API server: objects by their path, with resourceVersions that are held to.
type fake struct {
	objects map[string]object
	version int
	users   map[string]user                 // by token
	may     func(u user, verb string) bool  // nil: everything
	before  func(method, path string)       // called before each request; nil: nothing
	answers func(method, path string) error // an error instead of an answer; nil: none
	asked   []string                        // method and path
	sent    []string                        // the tokens whose owner was asked
}

func newFake() *fake { return &fake{objects: map[string]object{}, users: map[string]user{}} }

func (f *fake) set(path string, o object) {
	f.version++
	metadata, _ := o["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		o["metadata"] = metadata
	}
	parts := strings.Split(path, "/")
	metadata["name"] = parts[len(parts)-1]
	if i := slices.Index(parts, "namespaces"); i >= 0 {
		metadata["namespace"] = parts[i+1]
	}
	if metadata["uid"] == nil {
		metadata["uid"] = "uid-" + strconv.Itoa(f.version)
	}
	metadata["resourceVersion"] = strconv.Itoa(f.version)
	f.objects[path] = o
}

func (f *fake) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.asked = append(f.asked, method+" "+path)
	if f.before != nil {
		f.before(method, path)
	}
	if f.answers != nil {
		if err := f.answers(method, path); err != nil {
			return nil, err
		}
	}
	var in object
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		if in, err = decode(text); err != nil {
			return nil, err
		}
	}
	path, query, _ := strings.Cut(path, "?")
	old, there := f.objects[path]
	switch {
	case method == http.MethodPost && strings.HasSuffix(path, "/tokenreviews"):
		f.sent = append(f.sent, text(in, "spec", "token"))
		u, alive := f.users[text(in, "spec", "token")]
		return json.Marshal(object{"status": object{"authenticated": alive, "user": object{"username": u.name, "uid": u.uid, "groups": u.groups}}})
	case method == http.MethodPost && strings.HasSuffix(path, "/subjectaccessreviews"):
		allowed := f.may == nil || f.may(user{name: text(in, "spec", "user")}, text(in, "spec", "resourceAttributes", "verb"))
		return json.Marshal(object{"status": object{"allowed": allowed}})
	case method == http.MethodPost && strings.HasSuffix(path, "/token"):
		return json.Marshal(object{"status": object{"token": "proof of " + text(in, "spec", "boundObjectRef", "name")}})
	case method == http.MethodPost:
		path += "/" + name(in)
		if f.objects[path] != nil {
			return nil, ErrConflict
		}
		f.set(path, in)
		return json.Marshal(in)
	case method == http.MethodGet && there:
		return json.Marshal(old)
	case method == http.MethodGet:
		return f.list(path, query)
	case !there:
		return nil, ErrMissing
	case method == http.MethodPut:
		if text(in, "metadata", "resourceVersion") != text(old, "metadata", "resourceVersion") {
			return nil, ErrConflict
		}
		f.set(path, in)
		return json.Marshal(in)
	}
	if text(in, "preconditions", "resourceVersion") != text(old, "metadata", "resourceVersion") {
		return nil, ErrConflict
	}
	delete(f.objects, path)
	return []byte("{}"), nil
}

// list finds the objects of a path, in one namespace or in all, that have the label.
func (f *fake) list(path, query string) ([]byte, error) {
	parts := strings.Split(path, "/")
	plural := parts[len(parts)-1]
	q, _ := url.ParseQuery(query)
	if q.Get("limit") == "" {
		return nil, ErrMissing // it is no list
	}
	items := []any{}
	for _, p := range slices.Sorted(maps.Keys(f.objects)) {
		in, _, _ := strings.Cut(p, "/"+plural+"/")
		whole := strings.TrimSuffix(path, "/"+plural)
		if !strings.Contains(p, "/"+plural+"/") || in != whole && !strings.HasPrefix(in, whole+"/namespaces/") {
			continue
		}
		label, value, is := strings.Cut(q.Get("labelSelector"), "=")
		if is && text(f.objects[p], "metadata", "labels", label) != value {
			continue
		}
		if field, value, is := strings.Cut(q.Get("fieldSelector"), "="); is && text(f.objects[p], strings.Split(field, ".")...) != value {
			continue
		}
		items = append(items, f.objects[p])
	}
	return json.Marshal(object{"items": items})
}

const (
	secrets = "/api/v1/namespaces/argocd/secrets/"
	app1    = applicationsAPI + "/namespaces/argocd/applications/shop"
	account = "argocd-application-controller"
)

func jwt(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256"}`)) + "." + part([]byte(claims)) + "." + part([]byte("signature"))
}

var (
	manager = "system:serviceaccount:kube-system:argocd-manager"
	forever = jwt(`{"sub":"` + manager + `","uid":"uid-of-manager"}`)
	config  = `{"bearerToken":"` + forever + `","tlsClientConfig":{"insecure":false,"serverName":"api","caData":"Y2E="},"proxyUrl":"http://proxy"}`
)

// rig is an Argo CD with one static cluster and one application, and the spoke.
type rig struct {
	*testing.T
	Migration
	hub, spoke *fake
	now        time.Time
	said       []string
	// compare is what Argo CD does with an application that it was asked to look at.
	compare func(o object)
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, hub: newFake(), spoke: newFake(), now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	r.hub.set("/apis/apps/v1/namespaces/argocd/statefulsets/"+account, object{
		"metadata": map[string]any{"labels": map[string]any{"app.kubernetes.io/name": account}},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"serviceAccountName": account,
			"containers": []any{map[string]any{"volumeMounts": []any{
				map[string]any{"name": "programs", "mountPath": "/usr/local/bin/signalbox"}, map[string]any{"name": "proof", "mountPath": "/var/run/secrets/signalbox"},
			}}},
			"volumes": []any{map[string]any{"name": "proof", "projected": map[string]any{"sources": []any{map[string]any{"serviceAccountToken": map[string]any{"path": "token", "audience": "https://sts"}}}}}},
		}}},
	})
	r.hub.set("/api/v1/namespaces/argocd/pods/controller-0", object{"spec": map[string]any{"serviceAccountName": account}})
	r.cluster("east", config)
	r.app("shop", "Synced", "Healthy")
	r.spoke.users["token for spoke"] = user{name: "signalbox:controller"}
	r.spoke.users[forever] = user{name: manager, uid: "uid-of-manager"}
	r.compare = func(object) {}
	r.Migration = Migration{
		Hub: r.hub.call, Namespace: "argocd", Issuer: "https://sts", Home: "hub",
		Registered: []Registered{{"hub", "https://hub:6443"}, {"spoke", "https://spoke:6443/"}},
		Policies:   []Policy{{Name: "deploys", Cluster: "hub", Namespace: "argocd", ServiceAccount: account, To: "spoke"}},
		Context:    func(_, server string) string { return map[string]string{"https://spoke:6443": "spoke"}[server] },
		Spoke:      func(string) Kube { return r.spoke.call },
		Exchange: func(_ context.Context, proof, cluster string) (string, error) {
			if proof != "proof of controller-0" {
				return "", errors.New("invalid_request")
			}
			return "token for " + cluster, nil
		},
		PluginArgs: func(cluster string) []string {
			return []string{"kube-credential", "--issuer", "https://sts", "--cluster", cluster}
		},
		Wait: time.Minute, Now: func() time.Time { return r.now },
		Sleep: func(ctx context.Context, d time.Duration) error {
			r.now = r.now.Add(d)
			r.argo()
			return ctx.Err()
		},
		Told: func(secret, step string) { r.said = append(r.said, secret+": "+step) },
	}
	t.Cleanup(func() {
		if strings.Contains(strings.Join(r.said, "\n"), forever) {
			t.Error("a credential was told")
		}
		if t.Failed() {
			t.Log(strings.Join(r.said, "\n"))
		}
	})
	return r
}

func (r *rig) cluster(named, config string) {
	r.hub.set(secrets+named, object{
		"metadata": map[string]any{"uid": at(r.hub.objects[secrets+named], "metadata", "uid"), "labels": map[string]any{"argocd.argoproj.io/secret-type": "cluster"}, "annotations": map[string]any{lastApplied: config, "team": "shop"}},
		"data": map[string]any{
			"name": base64.StdEncoding.EncodeToString([]byte(named)), "server": base64.StdEncoding.EncodeToString([]byte("https://spoke:6443")),
			"config": base64.StdEncoding.EncodeToString([]byte(config)), "shard": "MQ==",
		},
	})
}

func (r *rig) app(named, sync, health string) {
	r.hub.set(applicationsAPI+"/namespaces/argocd/applications/"+named, object{
		"spec": map[string]any{"destination": map[string]any{"server": "https://spoke:6443"}, "revision": json.Number("12345678901234567890")},
		"status": map[string]any{
			"sync": map[string]any{"status": sync}, "health": map[string]any{"status": health}, "reconciledAt": "before",
			"resources": []any{map[string]any{"version": "v1", "kind": "ConfigMap", "namespace": "shop"}},
		},
	})
	r.spoke.set("/api/v1", object{"resources": []any{map[string]any{"name": "configmaps", "kind": "ConfigMap"}, map[string]any{"name": "configmaps/status", "kind": "ConfigMap"}}})
}

// argo is Argo CD: it looks at what it was asked to look at.
func (r *rig) argo() {
	for path, o := range r.hub.objects {
		if text(o, "metadata", "annotations", refreshAsked) == "" {
			continue
		}
		delete(at(o, "metadata", "annotations").(map[string]any), refreshAsked)
		at(o, "status").(map[string]any)["reconciledAt"] = r.now.Format(time.RFC3339)
		r.compare(o)
		r.hub.set(path, o)
	}
}

func isOurs(config []byte) bool { _, is := pluginOf(config); return is }

// secret is a part of the cluster Secret.
func (r *rig) secret(path ...string) map[string]any {
	return members(r.hub.objects[secrets+"east"], path...)
}

func (r *rig) config() string { return string(values(r.hub.objects[secrets+"east"])["config"]) }

func (r *rig) plan() Row {
	r.Helper()
	rows, err := r.Plan(r.T.Context())
	if err != nil || len(rows) == 0 {
		r.Fatalf("%v, %d rows", err, len(rows))
	}
	return rows[0]
}

func (r *rig) says(text string) {
	r.Helper()
	if !strings.Contains(strings.Join(r.said, "\n"), text) {
		r.Errorf("nothing says %q", text)
	}
}

func (r *rig) backups() (n int) {
	for path := range r.hub.objects {
		if strings.HasPrefix(path, secrets+backupName) {
			n++
		}
	}
	return n
}

func (r *rig) errorCondition(o object) {
	status := at(o, "status").(map[string]any)
	status["sync"] = map[string]any{"status": "Unknown"}
	status["conditions"] = []any{map[string]any{"type": "ComparisonError", "message": "forbidden there"}}
}
