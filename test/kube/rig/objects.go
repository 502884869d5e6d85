package rig

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// StatusError is an answer of the API server that is not a success.
type StatusError struct {
	Code    int
	Message string
}

func (e *StatusError) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// Call asks the API server as an administrator. Both in and out may be nil. An out of type
// *string gets the text of the answer, any other the JSON.
func (c *Cluster) Call(method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	request, err := http.NewRequest(method, c.Server+path, &body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s: %s %s: %w", c.Name, method, path, &StatusError{answer.StatusCode, string(text)})
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *string:
		*out = string(text)
		return nil
	default:
		return json.Unmarshal(text, out)
	}
}

// Takes says whether the API server takes a bearer token: what `kubectl auth whoami` asks.
func (c *Cluster) Takes(token string) (bool, error) {
	const path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
	request, err := http.NewRequest(http.MethodPost, c.Server+path, strings.NewReader(`{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`))
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := c.anybody.Do(request)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return false, err
	case answer.StatusCode == http.StatusCreated:
		return true, nil
	case answer.StatusCode == http.StatusUnauthorized:
		return false, nil
	}
	return false, fmt.Errorf("%s: POST %s: %w", c.Name, path, &StatusError{answer.StatusCode, string(text)})
}

// Backdate makes a Secret one that was made at another time. No API server lets anybody do
// that, so it is written into etcd.
func (c *Cluster) Backdate(t testing.TB, namespace, secret string, made time.Time) {
	t.Helper()
	var o map[string]any
	if err := c.Call(http.MethodGet, "/api/v1/namespaces/"+namespace+"/secrets/"+secret, nil, &o); err != nil {
		t.Fatal(err)
	}
	metadata := o["metadata"].(map[string]any)
	metadata["creationTimestamp"] = made.UTC().Format(time.RFC3339)
	delete(metadata, "resourceVersion") // etcd counts
	value, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string][]byte{"key": []byte("/" + filepath.Base(c.dir) + "/secrets/" + namespace + "/" + secret), "value": value})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Post(c.rig.etcdURL+"/v3/kv/put", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("etcd: %d", answer.StatusCode)
	}
}

// Namespace makes a namespace. It may exist: no controller runs that could delete one.
func (c *Cluster) Namespace(t testing.TB, name string) {
	t.Helper()
	c.ensure(t, "/api/v1/namespaces", object{"metadata": object{"name": name}})
}

// ServiceAccount makes a service account, which may exist.
func (c *Cluster) ServiceAccount(t testing.TB, namespace, name string) {
	t.Helper()
	c.ensure(t, "/api/v1/namespaces/"+namespace+"/serviceaccounts", object{"metadata": object{"name": name}})
}

type object map[string]any

func (c *Cluster) ensure(t testing.TB, path string, what object) {
	t.Helper()
	err := c.Call(http.MethodPost, path, what, nil)
	if status := (*StatusError)(nil); errors.As(err, &status) && status.Code == http.StatusConflict {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Pod names a pod object.
type Pod struct {
	Namespace, ServiceAccount, Name, UID string
}

func (p Pod) path() string { return "/api/v1/namespaces/" + p.Namespace + "/pods/" + p.Name }

// Pod makes a pod object, deleted at the latest when the test ends. It is said to run on the
// node node-1, which does not exist: without a node no pod would have a grace period.
func (c *Cluster) Pod(t testing.TB, namespace, serviceAccount, name string) Pod {
	t.Helper()
	pod, err := c.CreatePod(namespace, serviceAccount, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := c.Call(http.MethodDelete, pod.path(), deleteOptions(pod, 0), nil)
		if status := (*StatusError)(nil); err != nil && !errors.As(err, &status) {
			t.Error(err) // 404 and 409 say that this pod is gone already
		}
	})
	return pod
}

// CreatePod is Pod for many of them: nobody deletes it.
func (c *Cluster) CreatePod(namespace, serviceAccount, name string) (Pod, error) {
	var made struct {
		Metadata struct{ UID string }
	}
	err := c.Call(http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", object{
		"metadata": object{"name": name},
		"spec": object{
			"serviceAccountName": serviceAccount, "nodeName": "node-1",
			"containers": []object{{"name": "main", "image": "registry.example.com/none"}},
		},
	}, &made)
	return Pod{namespace, serviceAccount, name, made.Metadata.UID}, err
}

// DeletePod deletes a pod. Without a grace it is gone at once; with one, it is terminating
// from now on and stays so, since no kubelet says that it has ended. It returns the
// deletionTimestamp.
func (c *Cluster) DeletePod(t testing.TB, pod Pod, grace time.Duration) time.Time {
	t.Helper()
	deadline, err := c.EndPod(pod, grace)
	if err != nil {
		t.Fatal(err)
	}
	return deadline
}

// EndPod is DeletePod for any goroutine, and for a request that may fail.
func (c *Cluster) EndPod(pod Pod, grace time.Duration) (deadline time.Time, err error) {
	var deleted struct {
		Metadata struct{ DeletionTimestamp time.Time }
	}
	err = c.Call(http.MethodDelete, pod.path(), deleteOptions(pod, grace), &deleted)
	return deleted.Metadata.DeletionTimestamp, err
}

// deleteOptions name the uid: a pod of the same name that came later is not meant.
func deleteOptions(pod Pod, grace time.Duration) object {
	return object{
		"gracePeriodSeconds": int(grace.Seconds()),
		"preconditions":      object{"uid": pod.UID},
	}
}

// Token asks for a token that is bound to the pod, as a kubelet does for a projected volume.
// No audience means the API server itself. Zero means 10 minutes, which is the least.
func (c *Cluster) Token(t testing.TB, pod Pod, audience string, ttl time.Duration) string {
	t.Helper()
	token, err := c.RequestToken(pod, audience, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// RequestToken is Token for any goroutine, and for a request that may fail.
func (c *Cluster) RequestToken(pod Pod, audience string, ttl time.Duration) (string, error) {
	spec := object{
		"boundObjectRef":    object{"apiVersion": "v1", "kind": "Pod", "name": pod.Name, "uid": pod.UID},
		"expirationSeconds": int(cmp.Or(ttl, 10*time.Minute).Seconds()),
	}
	if audience != "" {
		spec["audiences"] = []string{audience}
	}
	var made struct {
		Status struct{ Token string }
	}
	path := "/api/v1/namespaces/" + pod.Namespace + "/serviceaccounts/" + pod.ServiceAccount + "/token"
	err := c.Call(http.MethodPost, path, object{"spec": spec}, &made)
	return made.Status.Token, err
}

// Review is what a TokenReview answers.
type Review struct {
	Authenticated bool
	User          User
	Audiences     []string
	Error         string
}

// User is a user as the API server sees it: in a TokenReview and in the audit log.
type User struct {
	Username string
	UID      string
	Groups   []string
	Extra    map[string][]string
}

// TokenReview asks the API server about a token. Without audiences it means its own.
func (c *Cluster) TokenReview(t testing.TB, token string, audiences ...string) Review {
	t.Helper()
	var answer struct{ Status Review }
	err := c.Call(http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", object{
		"spec": object{"token": token, "audiences": audiences},
	}, &answer)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status
}
