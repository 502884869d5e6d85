package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/kube"
	"github.com/signalbox-sts/signalbox/internal/store/sqldb"
	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

// neededRights are what the documents say that we need, and nothing else.
var neededRights = []map[string]any{
	{"apiGroups": []string{""}, "resources": []string{"pods"}, "verbs": []string{"get", "list", "watch"}},
	{"apiGroups": []string{"authentication.k8s.io"}, "resources": []string{"tokenreviews"}, "verbs": []string{"create"}},
	{"nonResourceURLs": []string{"/openid/v1/jwks"}, "verbs": []string{"get"}},
}

// allow gives a user the rights.
func allow(t *testing.T, c *rig.Cluster, user string, rights []map[string]any) {
	t.Helper()
	named := map[string]any{"name": user}
	for path, what := range map[string]map[string]any{
		"clusterroles": {"metadata": named, "rules": rights},
		"clusterrolebindings": {"metadata": named,
			"roleRef":  map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
			"subjects": []any{map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}}},
	} {
		if err := c.Call(http.MethodPost, "/apis/rbac.authorization.k8s.io/v1/"+path, what, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// ended collects the ends of pods.
type ended struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (e *ended) when(uid string) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at[uid]
}

// eventually waits for what another process does.
func eventually(t *testing.T, what string, most time.Duration, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(most); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after %s: %s", most, what)
		}
	}
}

func TestTheWatchOnARealAPIServer(t *testing.T) {
	t.Parallel()
	c := rig.Start(t).Add(t, "watched", rig.Options{})
	allow(t, c, "signalbox-watch", neededRights)
	config, err := os.ReadFile(c.KubeconfigFor(t, "signalbox-watch"))
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := authority.NewCluster(authority.ClusterMetadata{Name: "watched", Issuer: c.Issuer, Kubeconfig: config, Audiences: []string{audience}})
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqldb.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "signalbox.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	over := &ended{at: map[string]time.Time{}}
	node := func(name string) *kube.Manager {
		m := &kube.Manager{
			Leases: store, Evidence: store.EvidenceKeys, Node: name, Issuer: audience, Now: time.Now, Log: slog.New(slog.DiscardHandler),
			End: func(_ context.Context, cluster, uid string, proofUntil time.Time) error {
				over.mu.Lock()
				defer over.mu.Unlock()
				if !over.at[uid].IsZero() || cluster != "watched" || !proofUntil.After(time.Now()) {
					t.Errorf("ended %s of %s, proof until %s, before at %s", uid, cluster, proofUntil, over.at[uid])
				}
				over.at[uid] = time.Now()
				return nil
			},
		}
		t.Cleanup(m.Close)
		if err := m.Use([]authority.Cluster{cluster}); err != nil {
			t.Fatal(err)
		}
		return m
	}
	c.Namespace(t, "watched")
	c.ServiceAccount(t, "watched", "orders")
	before := c.Pod(t, "watched", "orders", "before")

	a := node("a")
	eventually(t, "a watches", 20*time.Second, func() bool { s := a.Status()[0]; return s.Mine && s.Ready })
	b := node("b")
	eventually(t, "b hears that a watches", 5*time.Second, func() bool { s := b.Status()[0]; return s.Holder == "a" && s.Ready && !s.Mine })
	if err := a.Reach(t.Context(), "watched"); err != nil {
		t.Errorf("the rights that the documents name are not enough: %v", err)
	}
	keys, err := a.Keys(t.Context(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	set, err := jose.ParseKeySet(keys)
	if err != nil {
		t.Fatal(err)
	}
	check := func(m *kube.Manager, pod rig.Pod, token string) error {
		return m.Check(t.Context(), cluster, authority.Proof{Cluster: "watched", Namespace: pod.Namespace, ServiceAccount: pod.ServiceAccount,
			Pod: authority.ObjectRef{Name: pod.Name, UID: pod.UID}}, token)
	}
	alive := func(pod rig.Pod, token string) {
		t.Helper()
		for name, m := range map[string]*kube.Manager{"a": a, "b": b} {
			if err := check(m, pod, token); err != nil {
				t.Errorf("%s about %s: %v", name, pod.Name, err)
			}
		}
	}
	token := c.Token(t, before, audience, 0)
	if _, err := verify(token, set); err != nil {
		t.Errorf("the keys do not verify its tokens: %v", err)
	}
	alive(before, token)

	t.Run("a token that is for the API server is not for us", func(t *testing.T) {
		other := c.Pod(t, "watched", "orders", "other")
		if err := check(b, other, c.Token(t, other, "", 0)); !errors.Is(err, kube.ErrDead) {
			t.Errorf("got %v", err)
		}
		if err := check(b, other, token); !errors.Is(err, kube.ErrDead) {
			t.Errorf("a token of another pod: %v", err)
		}
	})
	t.Run("a pod that is deleted is ended within a second, and is another one when it comes again", func(t *testing.T) {
		c.DeletePod(t, before, 0)
		eventually(t, "it is ended", time.Second, func() bool { return !over.when(before.UID).IsZero() })
		if err := check(a, before, token); !errors.Is(err, kube.ErrDead) {
			t.Errorf("got %v", err)
		}
		again := c.Pod(t, "watched", "orders", "before")
		newToken := c.Token(t, again, audience, 0)
		alive(again, newToken)
		if err := check(a, before, token); !errors.Is(err, kube.ErrDead) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a pod is ended at its deadline, though the object stays", func(t *testing.T) {
		pod := c.Pod(t, "watched", "orders", "slow")
		alive(pod, c.Token(t, pod, audience, 0))
		deadline := c.DeletePod(t, pod, 3*time.Second)
		eventually(t, "it is ended", 5*time.Second, func() bool { return !over.when(pod.UID).IsZero() })
		if at := over.when(pod.UID); at.Before(deadline) || at.Sub(deadline) > time.Second {
			t.Errorf("ended at %s, its deadline is %s", at, deadline)
		}
		if err := check(a, pod, c.Token(t, pod, audience, 0)); !errors.Is(err, kube.ErrDead) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a list of several pages is whole", func(t *testing.T) {
		var made []rig.Pod
		for i := range 1100 {
			pod, err := c.CreatePod("watched", "orders", fmt.Sprint("many-", i))
			if err != nil {
				t.Fatal(err)
			}
			made = append(made, pod)
		}
		eventually(t, "a knows them all", 5*time.Second, func() bool { return a.Status()[0].Watch.Pods >= len(made) })
		a.Close()
		eventually(t, "b watches and knows them all", 5*time.Second, func() bool {
			s := b.Status()[0]
			return s.Mine && s.Ready && s.Watch.Pods >= len(made)
		})
		c.DeletePod(t, made[700], 0)
		eventually(t, "it is ended", time.Second, func() bool { return !over.when(made[700].UID).IsZero() })
	})
	t.Run("an API server that is away is noticed, nobody passes, and it is watched again when it is back", func(t *testing.T) {
		pod := c.Pod(t, "watched", "orders", "late")
		token := c.Token(t, pod, audience, 0)
		c.Stop(t)
		eventually(t, "nobody passes", 15*time.Second, func() bool { return errors.Is(check(b, pod, token), kube.ErrUnknowable) })
		c.Restart(t)
		eventually(t, "it is watched again", 20*time.Second, func() bool { return b.Status()[0].Ready && check(b, pod, token) == nil })
		c.DeletePod(t, pod, 0)
		eventually(t, "it is ended", time.Second, func() bool { return !over.when(pod.UID).IsZero() })
	})
}
