package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/agent/secret"
	"github.com/signalbox-sts/signalbox/internal/kube"
)

// finalizer holds a SignalboxToken that is being deleted until its Secret is gone,
// also if nobody runs at the moment.
const finalizer = "signalbox.dev/secret"

// Target is what a token is for: a cluster, or a resource with scopes.
type Target struct {
	Cluster  string   `json:"cluster,omitempty"`
	Resource string   `json:"resource,omitempty"`
	Scopes   []string `json:"scopes,omitempty"`
}

func (t Target) String() string {
	if t.Cluster != "" {
		return "cluster " + t.Cluster
	}
	return strings.Join(append([]string{t.Resource}, t.Scopes...), " ")
}

// resource is a SignalboxToken, as much of it as we read. The schema of the CRD has
// seen it, but whoever can write that can make it say anything.
type resource struct {
	Metadata kube.Metadata `json:"metadata"`
	Spec     struct {
		To             Target `json:"to"`
		ServiceAccount string `json:"serviceAccountName"`
		Secret         struct {
			Name     string            `json:"name"`
			Kind     secret.Kind       `json:"kind"`
			Server   string            `json:"server"`
			CA       string            `json:"certificateAuthority"`
			URL      string            `json:"url"`
			Type     string            `json:"type"`
			Project  string            `json:"project"`
			Username string            `json:"username"`
			Registry string            `json:"registry"`
			Data     map[string]string `json:"data"`
		} `json:"secret"`
	} `json:"spec"`
	Status status `json:"status"`
}

// status is the status of a SignalboxToken. It is written as a whole.
type status struct {
	ObservedGeneration int64       `json:"observedGeneration,omitempty"`
	ExpiresAt          *time.Time  `json:"expiresAt,omitempty"`
	Policy             string      `json:"policy,omitempty"`
	SecretName         string      `json:"secretName,omitempty"`
	Conditions         []condition `json:"conditions,omitempty"`
}

type condition struct {
	Type               string    `json:"type"`
	Status             string    `json:"status"`
	Reason             string    `json:"reason"`
	Message            string    `json:"message"`
	LastTransitionTime time.Time `json:"lastTransitionTime"`
	ObservedGeneration int64     `json:"observedGeneration,omitempty"`
}

// ready is the condition Ready, zero if there is none.
func (s status) ready() condition {
	if i := slices.IndexFunc(s.Conditions, func(c condition) bool { return c.Type == "Ready" }); i >= 0 {
		return s.Conditions[i]
	}
	return condition{}
}

func parseResource(raw json.RawMessage) (*resource, error) {
	r := new(resource)
	if json.Unmarshal(raw, r) != nil || r.Metadata.Name == "" || r.Metadata.Namespace == "" || r.Metadata.UID == "" {
		return nil, errors.New("the API server sent an object that is no SignalboxToken")
	}
	if r.Spec.ServiceAccount == "" {
		r.Spec.ServiceAccount = "default"
	}
	// Only what we look at is remembered.
	r.Metadata.Labels, r.Metadata.Annotations = nil, nil
	return r, nil
}

func (r *resource) key() string { return r.Metadata.Namespace + "/" + r.Metadata.Name }

func (r *resource) object() kube.Object {
	return kube.Object{Resource: kube.SignalboxTokens, Namespace: r.Metadata.Namespace, Name: r.Metadata.Name}
}

func (r *resource) deleted() bool { return !r.Metadata.Deletion.IsZero() }

func (r *resource) held() bool { return slices.Contains(r.Metadata.Finalizers, finalizer) }

func (r *resource) spec() secret.Spec {
	s := r.Spec.Secret
	return secret.Spec{Kind: s.Kind, Server: s.Server, CA: s.CA, URL: s.URL, Type: s.Type, Project: s.Project, Username: s.Username, Registry: s.Registry, Data: s.Data}
}

// check finds what keeps it from being kept, for people: nil if nothing does.
func (r *resource) check(issuer string) error {
	if to := r.Spec.To; (to.Cluster == "") == (to.Resource == "") || to.Cluster != "" && len(to.Scopes) > 0 {
		return errors.New("spec.to names a cluster or a resource, one of the two")
	}
	if r.Spec.Secret.Name == "" {
		return errors.New("spec.secret.name is missing")
	}
	if problems := r.spec().Check(secret.Target{Issuer: issuer, Cluster: r.Spec.To.Cluster}); len(problems) > 0 {
		p := problems[0]
		return fmt.Errorf("spec.secret.%s %s: %s", memberNames[p.Member], p.Text, p.Fix)
	}
	return nil
}

// memberNames are the members of secret.Spec as they are called here.
var memberNames = map[string]string{
	"Kind": "kind", "Server": "server", "CA": "certificateAuthority", "URL": "url", "Type": "type",
	"Project": "project", "Username": "username", "Registry": "registry", "Data": "data",
}
