package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Resource is a kind of namespaced object, as it is in paths.
type Resource struct{ Group, Version, Plural string }

// The resources that the agent reads and writes.
var (
	Pods            = Resource{"", "v1", "pods"}
	Secrets         = Resource{"", "v1", "secrets"}
	Leases          = Resource{"coordination.k8s.io", "v1", "leases"}
	SignalboxTokens = Resource{"signalbox.dev", "v1alpha1", "signalboxtokens"}
)

// APIVersion is what an object of it says.
func (r Resource) APIVersion() string {
	if r.Group == "" {
		return r.Version
	}
	return r.Group + "/" + r.Version
}

// path is where the objects are, of all namespaces if there is none.
func (r Resource) path(namespace string) string {
	path := "/apis/" + r.APIVersion()
	if r.Group == "" {
		path = "/api/" + r.Version
	}
	if namespace != "" {
		path += "/namespaces/" + namespace
	}
	return path + "/" + r.Plural
}

// Object names one object. Its parts become parts of a path, so they are checked.
type Object struct {
	Resource
	Namespace, Name string
}

func (o Object) String() string { return o.Plural + " " + o.Namespace + "/" + o.Name }

func (o Object) path(more ...string) (string, error) {
	if !isName(o.Namespace) || !isName(o.Name) {
		return "", fmt.Errorf("%s cannot be the name of an object", quoted(o.Namespace+"/"+o.Name))
	}
	path := o.Resource.path(o.Namespace) + "/" + o.Name
	for _, m := range more {
		path += "/" + m
	}
	return path, nil
}

// Metadata is the part of an object's metadata that the agent looks at.
type Metadata struct {
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	UID         string            `json:"uid"`
	Version     string            `json:"resourceVersion"`
	Generation  int64             `json:"generation"`
	Created     time.Time         `json:"creationTimestamp"`
	Deletion    time.Time         `json:"deletionTimestamp"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Finalizers  []string          `json:"finalizers"`
}

// IsNotFound says that there is no such object.
func IsNotFound(err error) bool { return hasCode(err, http.StatusNotFound) }

// IsConflict says that the object is another one by now, or that somebody else owns
// what was to be changed.
func IsConflict(err error) bool { return hasCode(err, http.StatusConflict) }

// IsForbidden says that we may not.
func IsForbidden(err error) bool { return hasCode(err, http.StatusForbidden) }

// Get reads an object into to.
func (c *Client) Get(ctx context.Context, o Object, to any) error {
	path, err := o.path()
	if err != nil {
		return err
	}
	body, err := c.call(ctx, request{method: http.MethodGet, path: path, accept: acceptJSON}, maxObject)
	if err != nil {
		return err
	}
	if json.Unmarshal(body, to) != nil {
		return errors.New("the API server's answer is not an object")
	}
	return nil
}

// Metadata reads what an object is, and nothing of what it holds.
func (c *Client) Metadata(ctx context.Context, o Object) (Metadata, error) {
	path, err := o.path()
	if err != nil {
		return Metadata{}, err
	}
	m, _, err := c.write(ctx, request{method: http.MethodGet, path: path})
	return m, err
}

// manager is the field manager under which the agent writes.
const manager = "signalbox-agent"

// Apply makes an object say what body says (server-side apply), and nothing else of
// what this agent said before. What another field manager owns is not changed: that
// is an IsConflict, and nothing is written. With a UID in the body's metadata it is
// that object, and none is made.
func (c *Client) Apply(ctx context.Context, o Object, body any) (m Metadata, created bool, err error) {
	return c.apply(ctx, o, body, nil)
}

// ApplyStatus is Apply for the status of an object, which is this agent's alone.
func (c *Client) ApplyStatus(ctx context.Context, o Object, body any) error {
	_, _, err := c.apply(ctx, o, body, url.Values{"force": {"true"}}, "status")
	return err
}

func (c *Client) apply(ctx context.Context, o Object, body any, query url.Values, more ...string) (Metadata, bool, error) {
	path, err := o.path(more...)
	if err != nil {
		return Metadata{}, false, err
	}
	if query == nil {
		query = url.Values{}
	}
	query.Set("fieldManager", manager)
	return c.writeBody(ctx, request{method: http.MethodPatch, path: path, query: query, content: "application/apply-patch+yaml"}, body)
}

// Patch changes the members of an object that body has (RFC 7386). With a
// resourceVersion in its metadata it is an IsConflict if the object has changed since.
func (c *Client) Patch(ctx context.Context, o Object, body any) error {
	path, err := o.path()
	if err != nil {
		return err
	}
	_, _, err = c.writeBody(ctx, request{method: http.MethodPatch, path: path, query: url.Values{"fieldManager": {manager}}, content: "application/merge-patch+json"}, body)
	return err
}

// Create makes an object. It is an IsConflict if there is one of this name.
func (c *Client) Create(ctx context.Context, o Object, body any) error {
	if _, err := o.path(); err != nil {
		return err
	}
	_, _, err := c.writeBody(ctx, request{method: http.MethodPost, path: o.Resource.path(o.Namespace), query: url.Values{"fieldManager": {manager}}}, body)
	return err
}

// Delete deletes this very object as it is in m. If it has changed since, that is an IsConflict.
func (c *Client) Delete(ctx context.Context, o Object, m Metadata) error {
	path, err := o.path()
	if err != nil {
		return err
	}
	// The answer is the object, or a Status: nothing of it is needed.
	body, err := json.Marshal(map[string]any{
		"kind": "DeleteOptions", "apiVersion": "v1",
		"preconditions": map[string]string{"uid": m.UID, "resourceVersion": m.Version},
	})
	if err != nil {
		return err
	}
	_, err = c.call(ctx, request{method: http.MethodDelete, path: path, accept: metadataOnly, body: body}, maxObject)
	return err
}

func (c *Client) writeBody(ctx context.Context, r request, body any) (m Metadata, created bool, err error) {
	if r.body, err = json.Marshal(body); err != nil {
		return m, false, err
	}
	return c.write(ctx, r)
}

// write sends, and reads the metadata of the answer: what the object holds stays there.
func (c *Client) write(ctx context.Context, r request) (m Metadata, created bool, err error) {
	select {
	case c.writing <- struct{}{}:
	case <-ctx.Done():
		return m, false, ctx.Err()
	}
	defer func() { <-c.writing }()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r.accept = metadataOnly
	answer, err := c.send(ctx, r)
	if s := (*StatusError)(nil); errors.As(err, &s) && !slices.Contains([]int{http.StatusForbidden, http.StatusNotFound, http.StatusConflict}, s.Code) {
		err = &StatusError{Code: s.Code} // its text may repeat what was sent
	}
	if err != nil {
		return m, false, err
	}
	text, err := read(answer, maxObject)
	if err != nil {
		return m, false, err
	}
	var of struct {
		Metadata Metadata `json:"metadata"`
	}
	if json.Unmarshal(text, &of) != nil || !authority.IsUID(of.Metadata.UID) {
		return m, false, errors.New("the API server's answer is not an object")
	}
	return of.Metadata, answer.StatusCode == http.StatusCreated, nil
}

// PodOf finds a pod of a service account that runs and is not being deleted: the one
// that was made last, since what replaces pods removes the older ones. found is
// false if there is none.
func (c *Client) PodOf(ctx context.Context, namespace, serviceAccount string) (pod authority.ObjectRef, found bool, err error) {
	if !isName(namespace) || !isName(serviceAccount) {
		return pod, false, nil // no API server has such names
	}
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	var newest time.Time
	query := url.Values{"fieldSelector": {"spec.serviceAccountName=" + serviceAccount + ",status.phase=Running"}}
	_, err = c.items(ctx, Pods, namespace, query, metadataOnly, func(d *json.Decoder) error {
		var item struct {
			Metadata Metadata `json:"metadata"`
		}
		if d.Decode(&item) != nil {
			return errors.New("the API server's answer is not a list of pods")
		}
		m := item.Metadata
		if !m.Deletion.IsZero() || !authority.IsUID(m.UID) || !isName(m.Name) || found && m.Created.Before(newest) {
			return nil
		}
		pod, found, newest = authority.ObjectRef{Name: m.Name, UID: m.UID}, true, m.Created
		return nil
	})
	return pod, found, err
}

// TokenFor asks for a token of a service account that is bound to a pod and is for
// one audience (TokenRequest). The API server checks that the pod runs as that account.
func (c *Client) TokenFor(ctx context.Context, namespace, serviceAccount string, pod authority.ObjectRef, audience string) (string, error) {
	o := Object{Resource{"", "v1", "serviceaccounts"}, namespace, serviceAccount}
	path, err := o.path("token")
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
		"spec": map[string]any{
			"audiences": []string{audience}, "expirationSeconds": 600, // the least that there is
			"boundObjectRef": map[string]string{"apiVersion": "v1", "kind": "Pod", "name": pod.Name, "uid": pod.UID},
		},
	})
	if err != nil {
		return "", err
	}
	answer, err := c.call(ctx, request{method: http.MethodPost, path: path, accept: acceptJSON, body: body}, maxReview)
	if err != nil {
		return "", err
	}
	var made struct {
		Status struct {
			Token string `json:"token"`
		} `json:"status"`
	}
	if json.Unmarshal(answer, &made) != nil {
		return "", errors.New("the API server's answer is not a TokenRequest")
	}
	token, err := headerValue(made.Status.Token)
	if err != nil {
		return "", errors.New("the API server's answer has no token")
	}
	return token, nil
}
