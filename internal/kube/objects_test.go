package kube

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// asked is one request as an API server gets it.
type asked struct {
	method, path, query, content, accept, body string
}

// objects is a client whose API server answers with one answer, and tells what it was asked.
func objects(t *testing.T, code int, answer string) (*Client, *[]asked) {
	t.Helper()
	a := newAPIServer(t)
	var all []asked
	a.on(func(w http.ResponseWriter, r *http.Request) bool {
		body, _ := io.ReadAll(r.Body)
		all = append(all, asked{r.Method, r.URL.Path, r.URL.Query().Encode(), r.Header.Get("Content-Type"), r.Header.Get("Accept"), string(body)})
		w.WriteHeader(code)
		_, _ = io.WriteString(w, answer)
		return true
	})
	return a.client(t, testCluster), &all
}

const secretAnswer = `{"metadata":{"uid":"u1","resourceVersion":"7","name":"x","namespace":"shop"}}`

var x = Object{Secrets, "shop", "x"}

func TestObjectsAreWrittenWithoutForceAndDeletedAsTheyWereSeen(t *testing.T) {
	c, all := objects(t, 201, secretAnswer)
	m, created, err := c.Apply(t.Context(), x, map[string]string{"a": "b"})
	if err != nil || !created || m.UID != "u1" || m.Version != "7" {
		t.Errorf("%+v %v %v", m, created, err)
	}
	if err := c.ApplyStatus(t.Context(), Object{SignalboxTokens, "shop", "x"}, map[string]string{}); err != nil {
		t.Error(err)
	}
	if err := c.Delete(t.Context(), x, Metadata{UID: "u1", Version: "7"}); err != nil {
		t.Error(err)
	}
	want := []asked{
		{"PATCH", "/api/v1/namespaces/shop/secrets/x", "fieldManager=signalbox-agent", "application/apply-patch+yaml", metadataOnly, `{"a":"b"}`},
		{"PATCH", "/apis/signalbox.dev/v1alpha1/namespaces/shop/signalboxtokens/x/status", "fieldManager=signalbox-agent&force=true", "application/apply-patch+yaml", metadataOnly, `{}`},
		{"DELETE", "/api/v1/namespaces/shop/secrets/x", "", "application/json", metadataOnly, `{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"resourceVersion":"7","uid":"u1"}}`},
	}
	if !slices.Equal(*all, want) {
		t.Errorf("it was asked\n%q\nnot\n%q", *all, want)
	}
}

func TestNamesBecomeNoOtherPath(t *testing.T) {
	c, all := objects(t, 200, secretAnswer)
	for _, o := range []Object{{Secrets, "shop", "../../x"}, {Secrets, "a/b", "x"}, {Secrets, "", "x"}, {Secrets, "shop", ""}, {Secrets, "shop", ".."}, {Secrets, "shop", "x?y"}} {
		_, _, applied := c.Apply(t.Context(), o, 1)
		_, looked := c.Metadata(t.Context(), o)
		_, asked := c.TokenFor(t.Context(), o.Namespace, o.Name, authority.ObjectRef{}, "us")
		for _, err := range []error{applied, looked, asked, c.Delete(t.Context(), o, Metadata{}), c.Create(t.Context(), o, 1), c.Patch(t.Context(), o, 1), c.Get(t.Context(), o, new(int))} {
			if err == nil {
				t.Errorf("%q is asked for", o)
			}
		}
	}
	if len(*all) != 0 {
		t.Errorf("%q", *all)
	}
}

// The text of a refusal may repeat a Secret, unless it is about rights or owners.
func TestARefusedWriteRepeatsNothingThatWasWritten(t *testing.T) {
	for code, told := range map[int]bool{400: false, 422: false, 500: false, 403: true, 404: true, 409: true} {
		c, _ := objects(t, code, `{"kind":"Status","message":"hunter2"}`)
		_, _, err := c.Apply(t.Context(), x, map[string]string{"token": "hunter2"})
		if err == nil || strings.Contains(err.Error(), "hunter2") != told {
			t.Errorf("%d: %v", code, err)
		}
		if IsConflict(err) != (code == 409) || IsForbidden(err) != (code == 403) || IsNotFound(err) != (code == 404) {
			t.Errorf("%d is taken for something else", code)
		}
	}
}

func TestAPodThatProvesRunsAndIsNotBeingDeletedAndTheNewestIsTaken(t *testing.T) {
	c, all := objects(t, 200, `{"kind":"PartialObjectMetadataList","metadata":{"resourceVersion":"9"},"items":[
		{"metadata":{"name":"old","uid":"1","creationTimestamp":"2026-01-01T00:00:00Z"}},
		{"metadata":{"name":"new","uid":"2","creationTimestamp":"2026-01-02T00:00:00Z"}},
		{"metadata":{"name":"going","uid":"3","creationTimestamp":"2026-01-03T00:00:00Z","deletionTimestamp":"2026-01-03T00:01:00Z"}},
		{"metadata":{"name":"../x","uid":"4","creationTimestamp":"2026-01-04T00:00:00Z"}}]}`)
	pod, found, err := c.PodOf(t.Context(), "shop", "orders")
	if err != nil || !found || pod.Name != "new" || pod.UID != "2" {
		t.Errorf("%+v %v %v", pod, found, err)
	}
	if got := (*all)[0]; got.path != "/api/v1/namespaces/shop/pods" || got.query != "fieldSelector=spec.serviceAccountName%3Dorders%2Cstatus.phase%3DRunning&limit=500" {
		t.Errorf("it was asked %q", got)
	}
	if _, found, err := c.PodOf(t.Context(), "shop", "orders,status.phase=Failed"); found || err != nil {
		t.Errorf("%v %v", found, err)
	}
}

func TestATokenIsAskedForOnePodAndForUsAlone(t *testing.T) {
	c, all := objects(t, 201, `{"status":{"token":"a.b.c"}}`)
	token, err := c.TokenFor(t.Context(), "shop", "orders", authority.ObjectRef{Name: "orders-1", UID: "u"}, "https://sts.example.com")
	if err != nil || token != "a.b.c" {
		t.Errorf("%q %v", token, err)
	}
	var sent struct {
		Spec struct {
			Audiences []string
			Bound     struct{ Kind, Name, UID string } `json:"boundObjectRef"`
		}
	}
	if json.Unmarshal([]byte((*all)[0].body), &sent) != nil || !slices.Equal(sent.Spec.Audiences, []string{"https://sts.example.com"}) ||
		sent.Spec.Bound.Kind != "Pod" || sent.Spec.Bound.Name != "orders-1" || sent.Spec.Bound.UID != "u" || (*all)[0].path != "/api/v1/namespaces/shop/serviceaccounts/orders/token" {
		t.Errorf("it was asked %q", *all)
	}
	for _, bad := range []string{`{}`, `[]`, `{"status":{"token":"a\nb"}}`} {
		c, _ := objects(t, 201, bad)
		if token, err := c.TokenFor(t.Context(), "shop", "orders", authority.ObjectRef{}, "us"); err == nil {
			t.Errorf("%s gives %q", bad, token)
		}
	}
}

func TestFollowHearsChangesAcrossBreaksAndForgottenVersions(t *testing.T) {
	run(t, "follow", func(b *bed) {
		b.apiServer.run("a", "b")
		var seen, gone []string
		lists := 0
		uid := func(raw json.RawMessage) string {
			var o struct{ Metadata Metadata }
			_ = json.Unmarshal(raw, &o)
			return o.Metadata.UID
		}
		f := &Follow{Client: b.client(t, testCluster), Resource: Pods, Metadata: true, Log: slog.New(slog.DiscardHandler),
			Begin: func() { lists++ }, End: func() {},
			Seen: func(raw json.RawMessage) { seen = append(seen, uid(raw)) }, Gone: func(raw json.RawMessage) { gone = append(gone, uid(raw)) }}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); f.Run(ctx) }()
		defer func() { cancel(); <-done }()
		b.settle()
		if up, err := f.Up(); !up || err != nil || !slices.Equal(seen, []string{"a", "b"}) {
			t.Fatalf("%v %v %q", up, err, seen)
		}
		b.breakStreams()
		b.apiServer.run("c")
		b.remove("a")
		b.pass(time.Second)
		if !slices.Equal(seen, []string{"a", "b", "c"}) || !slices.Equal(gone, []string{"a"}) || lists != 1 {
			t.Errorf("it resumes: seen %q, gone %q, %d lists", seen, gone, lists)
		}
		b.apiServer.run("d")
		b.breakStreams()
		b.settle()
		b.apiServer.run("e")
		b.compact()
		b.pass(2 * time.Second)
		if lists < 2 || seen[len(seen)-1] != "e" {
			t.Errorf("it lists again: %q, %d lists", seen, lists)
		}
		b.on(func(w http.ResponseWriter, _ *http.Request) bool { refuse(w, 403, "no"); return true })
		b.breakStreams()
		b.pass(3 * time.Second)
		if up, err := f.Up(); up || !IsForbidden(err) {
			t.Errorf("it is up: %v %v", up, err)
		}
		b.on(nil)
		b.pass(15 * time.Second)
		if up, _ := f.Up(); !up {
			t.Error("it does not recover")
		}
	})
}
