// Package argocd replaces the static credentials in the cluster Secrets of Argo CD
// by the credential plugin, one Secret after another, each with a proof, and with a
// way back until the last step.
//
// What a migration has to remember is in the cluster, in one backup Secret beside
// each cluster Secret, so an interrupted one is begun again.
package argocd

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/signalbox-sts/signalbox/internal/doctor"
)

// Kube sends one request to an API server, and gives the JSON that it answers. The
// body of a request may hold a secret: it must not show anywhere, in no error either.
type Kube func(ctx context.Context, method, path string, body any) ([]byte, error)

// What Kube answers in words of its own.
var (
	ErrMissing   = doctor.ErrMissing
	ErrConflict  = errors.New("the object has changed, or is there already")
	ErrForbidden = errors.New("you are not allowed to do that")
)

// Registered is a cluster that tokens can be for.
type Registered struct{ Name, APIServer string }

// Policy is an enforcing trust policy about the pods of a service account.
type Policy struct {
	Name, Cluster, Namespace, ServiceAccount string // whose pods
	To                                       string // the cluster that they get tokens for
	When                                     string // a condition, which is not judged here
}

// Migration is what is done with one Argo CD.
type Migration struct {
	Hub       Kube // the cluster that Argo CD runs in
	Namespace string
	Issuer    string
	// Home is the name under which Argo CD's own cluster is registered; empty if it is not known.
	Home       string
	Registered []Registered
	Policies   []Policy
	// Context names the way to the cluster of a Secret, as the person who runs this; empty if
	// there is none. Spoke is that way.
	Context func(secret, server string) string
	Spoke   func(context string) Kube
	// Exchange gives the token that a proof is exchanged for.
	Exchange func(ctx context.Context, proof, cluster string) (string, error)
	// PluginArgs are those of the credential plugin.
	PluginArgs func(cluster string) []string
	Only       []string          // names of Secrets; empty: all
	Named      map[string]string // which registered cluster a Secret is for, where its server does not say
	Wait       time.Duration     // how long the applications of one cluster may take
	Now        func() time.Time
	Sleep      func(ctx context.Context, d time.Duration) error
	// Told hears each step. Its text may come from the cluster.
	Told func(secret, step string)
}

// object is what an API server has. Numbers stay as they are, so that it can be sent back.
type object map[string]any

// at is a member, nil if it is not there.
func at(o map[string]any, path ...string) any {
	var v any = o
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// members are those of an object inside, nil if there is none.
func members(o map[string]any, path ...string) map[string]any {
	m, _ := at(o, path...).(map[string]any)
	return m
}

func text(o map[string]any, path ...string) string {
	s, _ := at(o, path...).(string)
	return s
}

func list(o map[string]any, path ...string) (items []map[string]any) {
	all, _ := at(o, path...).([]any)
	for _, item := range all {
		if m, is := item.(map[string]any); is {
			items = append(items, m)
		}
	}
	return items
}

func name(o map[string]any) string      { return text(o, "metadata", "name") }
func namespace(o map[string]any) string { return text(o, "metadata", "namespace") }

func annotate(o object, key, value string) {
	metadata := members(o, "metadata")
	if metadata == nil {
		metadata = map[string]any{}
		o["metadata"] = metadata
	}
	annotations := members(metadata, "annotations")
	if annotations == nil {
		annotations = map[string]any{}
		metadata["annotations"] = annotations
	}
	annotations[key] = value
}

// values are the data of a Secret.
func values(o object) map[string][]byte {
	data := members(o, "data")
	v := make(map[string][]byte, len(data))
	for key, encoded := range data {
		s, _ := encoded.(string)
		if decoded, err := base64.StdEncoding.DecodeString(s); err == nil {
			v[key] = decoded
		}
	}
	return v
}

func decode(data []byte) (o object, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&o); err != nil || o == nil {
		return nil, errors.New("the API server's answer is not an object")
	}
	return o, nil
}

func (k Kube) get(ctx context.Context, path string) (object, error) {
	data, err := k(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return decode(data)
}

// post creates, or asks.
func (k Kube) post(ctx context.Context, path string, body any) (object, error) {
	data, err := k(ctx, http.MethodPost, path, body)
	if err != nil {
		return nil, err
	}
	return decode(data)
}

// put is ErrConflict if the object has changed since it was read.
func (k Kube) put(ctx context.Context, path string, o object) (object, error) {
	data, err := k(ctx, http.MethodPut, path, o)
	if err != nil {
		return nil, err
	}
	return decode(data)
}

// remove deletes this very object as it was read; ErrConflict if it has changed since.
func (k Kube) remove(ctx context.Context, path string, o map[string]any) error {
	_, err := k(ctx, http.MethodDelete, path, map[string]any{
		"kind": "DeleteOptions", "apiVersion": "v1",
		"preconditions": map[string]string{"uid": text(o, "metadata", "uid"), "resourceVersion": text(o, "metadata", "resourceVersion")},
	})
	if errors.Is(err, ErrMissing) {
		return nil
	}
	return err
}

// all reads a list page by page. Nothing is there where the cluster has no such resource.
func (k Kube) all(ctx context.Context, path string, query url.Values) (items []map[string]any, err error) {
	q := url.Values{"limit": {"250"}}
	for name, value := range query {
		q[name] = value
	}
	for {
		page, err := k.get(ctx, path+"?"+q.Encode())
		if errors.Is(err, ErrMissing) {
			return items, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s cannot be listed: %w", path, err)
		}
		items = append(items, list(page, "items")...)
		next := text(page, "metadata", "continue")
		if next == "" {
			return items, nil
		}
		q.Set("continue", next)
	}
}

func (m *Migration) secretPath(name string) string {
	path := "/api/v1/namespaces/" + url.PathEscape(m.Namespace) + "/secrets"
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	return path
}

func (m *Migration) told(secret, format string, args ...any) {
	m.Told(secret, fmt.Sprintf(format, args...))
}
