package argocd

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/doctor"
)

// Removal is what the last step removes for one cluster Secret. After it there is no way back.
type Removal struct {
	Secret  string
	Context string
	Account string   // of the old credential, as the cluster says; empty if it has none to remove
	Removes []string // in words
	Leaves  []string // what stays, and why

	backup object
	token  string
	things []thing // in the order of their removal
}

// thing is one object that is removed.
type thing struct {
	path string
	o    map[string]any
}

func (x *Removal) removes(path string, o map[string]any, format string, args ...any) {
	x.Removes = append(x.Removes, fmt.Sprintf(format, args...))
	x.things = append(x.things, thing{path, o})
}

func (x *Removal) leaves(format string, args ...any) {
	x.Leaves = append(x.Leaves, fmt.Sprintf(format, args...))
}

// Removals says what Finish would remove. It changes nothing.
func (m *Migration) Removals(ctx context.Context) ([]Removal, error) {
	rows, err := m.rows(ctx) // all of them: another Secret may need the same account
	if err != nil {
		return nil, err
	}
	removals := []Removal{}
	for _, r := range rows {
		if r.backup == nil || !m.meant(r) {
			continue
		}
		if r.State != Proved && r.State != Ending {
			return nil, fmt.Errorf("%s is not proved (%s): --apply proves it, --rollback goes back, --cluster-secret finishes others", r.Secret, r.State)
		}
		x, err := m.removal(ctx, r, rows)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Secret, err)
		}
		removals = append(removals, x)
	}
	return removals, nil
}

func (m *Migration) removal(ctx context.Context, r Row, rows []Row) (Removal, error) {
	x := Removal{Secret: r.Secret, Context: r.Context, backup: r.backup}
	var held doctor.ArgoCDCredentials
	if json.Unmarshal(values(r.backup)["config"], &held) != nil {
		return x, errors.New("its backup has no config")
	}
	if held.Password != "" || len(held.TLS.Key) > 0 {
		x.leaves("a password or a client key that it held: whoever has a copy can use it until the cluster itself takes it no more")
	}
	if x.token = held.BearerToken; x.token == "" {
		return x, nil
	}
	if r.Context == "" {
		return x, fmt.Errorf("no context of the kubeconfig leads to %s, where the old account is: --spoke-context %s=CONTEXT", r.Server, r.Secret)
	}
	// The old credential is shown to its own cluster alone: to the one that takes the new one.
	spoke := m.Spoke(r.Context)
	fresh, err := m.newToken(ctx, r)
	if err != nil {
		return x, fmt.Errorf("nothing proves that the context %s is the right one: %w", r.Context, err)
	}
	if _, err := m.newUser(ctx, r, spoke, fresh); err != nil {
		return x, fmt.Errorf("nothing proves that the context %s is the right one: %w", r.Context, err)
	}
	who, alive, err := spoke.whose(ctx, x.token)
	if err != nil {
		return x, err
	}
	if !alive {
		x.leaves("the old token, of %s, is dead already; an account is removed only while its token proves whose it is", r.Subject)
		return x, nil
	}
	in, account, is := accountOf(who.name)
	if !is || who.uid == "" {
		x.leaves("the old token is of %s, which is no service account: end it where it comes from", who.name)
		return x, nil
	}
	for _, other := range rows {
		// Also a token that ends soon: whoever renews it needs the account.
		if holds(other.secret, who) || other.backup != nil && !m.meant(other) && holds(other.backup, who) {
			return x, fmt.Errorf("%s has a token of %s too, or needs one to go back: finish both together", other.Secret, who.name)
		}
	}
	x.Account = who.name
	return x, m.removesAccount(ctx, spoke, in, account, &x)
}

// holds says whether a Secret has a token of a service account, whatever URL leads to its
// cluster: the account's uid is in the token.
func holds(o object, who user) bool {
	var held doctor.ArgoCDCredentials
	_ = json.Unmarshal(values(o)["config"], &held)
	parts := strings.Split(held.BearerToken, ".")
	if len(parts) != 3 {
		return false
	}
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	return strings.Contains(string(claims), who.uid)
}

func accountOf(username string) (namespace, name string, is bool) {
	rest, is := strings.CutPrefix(username, "system:serviceaccount:")
	if !is {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

const rbac = "/apis/rbac.authorization.k8s.io/v1"

// managerRole is the role that `argocd cluster add` makes. No other role is removed: somebody
// may keep one for later.
const managerRole = "argocd-manager-role"

// lastUsed is a label that API servers write on the Secret of a token: the day of its last use.
const lastUsed = "kubernetes.io/legacy-token-last-used"

// removesAccount collects the account with its tokens, and of its roles what nobody else uses.
// Rights go first and the account last, so that a run that is interrupted finds by the token
// what is left to do.
func (m *Migration) removesAccount(ctx context.Context, spoke Kube, in, account string, x *Removal) error {
	core := "/api/v1/namespaces/" + url.PathEscape(in)
	secrets, err := spoke.all(ctx, core+"/secrets", url.Values{"fieldSelector": {"type=kubernetes.io/service-account-token"}})
	if err != nil {
		return err
	}
	secrets = slices.DeleteFunc(secrets, func(o map[string]any) bool {
		return text(o, "metadata", "annotations", "kubernetes.io/service-account.name") != account
	})
	removesToken := func(o map[string]any) {
		words := fmt.Sprintf("Secret %s/%s, a token of it", in, name(o))
		// Of the old token's own Secret this is the day on which it was asked whose it is.
		if day := text(o, "metadata", "labels", lastUsed); day != "" && string(values(o)["token"]) != x.token {
			words += ", last used on " + day
		}
		x.removes(core+"/secrets/"+url.PathEscape(name(o)), o, "%s", words)
	}
	runs, err := spoke.runs(ctx, in, account)
	if err != nil {
		return err
	}
	if runs != "" {
		x.leaves("the account and its roles, since %s runs with it", runs)
		for _, o := range secrets {
			if string(values(o)["token"]) == x.token {
				removesToken(o)
			}
		}
		if len(x.things) == 0 {
			return fmt.Errorf("%s runs as %s, and no Secret holds the old token: it can only be ended with the account", runs, x.Account)
		}
		return nil
	}
	if err := m.removesRoles(ctx, spoke, in, account, x); err != nil {
		return err
	}
	o, err := spoke.get(ctx, core+"/serviceaccounts/"+url.PathEscape(account))
	switch {
	case err == nil:
		x.removes(core+"/serviceaccounts/"+url.PathEscape(account), o, "ServiceAccount %s/%s, and every token that anybody has of it", in, account)
	case !errors.Is(err, ErrMissing): // missing: an interrupted run has removed it just now, and the cluster believes in the token for some seconds
		return err
	}
	for _, o := range secrets {
		removesToken(o)
	}
	return nil
}

// runs names a pod that runs as a service account, or what makes such pods; empty if there is none.
func (k Kube) runs(ctx context.Context, in, account string) (string, error) {
	for _, kind := range []struct {
		name, api string
		pod       []string // where its pod is
	}{
		{"Pod", "/api/v1/namespaces/%s/pods", []string{"spec"}},
		{"Deployment", "/apis/apps/v1/namespaces/%s/deployments", []string{"spec", "template", "spec"}},
		{"StatefulSet", "/apis/apps/v1/namespaces/%s/statefulsets", []string{"spec", "template", "spec"}},
		{"DaemonSet", "/apis/apps/v1/namespaces/%s/daemonsets", []string{"spec", "template", "spec"}},
		{"Job", "/apis/batch/v1/namespaces/%s/jobs", []string{"spec", "template", "spec"}},
		{"CronJob", "/apis/batch/v1/namespaces/%s/cronjobs", []string{"spec", "jobTemplate", "spec", "template", "spec"}},
	} {
		found, err := k.all(ctx, fmt.Sprintf(kind.api, url.PathEscape(in)), nil)
		if err != nil {
			return "", err
		}
		for _, o := range found {
			if cmp.Or(text(members(o, kind.pod...), "serviceAccountName"), "default") == account {
				return kind.name + " " + in + "/" + name(o), nil
			}
		}
	}
	return "", nil
}

func (m *Migration) removesRoles(ctx context.Context, spoke Kube, in, account string, x *Removal) error {
	uses := map[string]bool{} // a role, by others
	var own []map[string]any
	bindings, err := spoke.all(ctx, rbac+"/clusterrolebindings", nil)
	if err != nil {
		return err
	}
	inNamespaces, err := spoke.all(ctx, rbac+"/rolebindings", nil)
	if err != nil {
		return err
	}
	role := func(b map[string]any) string {
		if text(b, "roleRef", "kind") == "ClusterRole" {
			return "/clusterroles/" + url.PathEscape(text(b, "roleRef", "name"))
		}
		return "/namespaces/" + url.PathEscape(namespace(b)) + "/roles/" + url.PathEscape(text(b, "roleRef", "name"))
	}
	itself := func(s map[string]any) bool {
		return text(s, "kind") == "ServiceAccount" && text(s, "namespace") == in && text(s, "name") == account
	}
	for _, b := range append(bindings, inNamespaces...) {
		subjects := list(b, "subjects")
		others := slices.ContainsFunc(subjects, func(s map[string]any) bool { return !itself(s) })
		switch {
		case !slices.ContainsFunc(subjects, itself):
		case others:
			x.leaves("the binding %s: others are in it too", name(b))
		default:
			own = append(own, b)
			continue
		}
		uses[role(b)] = true
	}
	// A role goes before its bindings, by which an interrupted run finds it.
	gone := map[string]bool{}
	for _, b := range own {
		of := role(b)
		if text(b, "roleRef", "name") != managerRole || uses[of] || gone[of] {
			continue
		}
		gone[of] = true
		o, err := spoke.get(ctx, rbac+of)
		if errors.Is(err, ErrMissing) {
			continue
		}
		if err != nil {
			return err
		}
		x.removes(rbac+of, o, "%s %s, which nobody else has", text(b, "roleRef", "kind"), managerRole)
	}
	for _, b := range own {
		path, kind := "/clusterrolebindings/"+url.PathEscape(name(b)), "ClusterRoleBinding "
		if namespace(b) != "" {
			path, kind = "/namespaces/"+url.PathEscape(namespace(b))+"/rolebindings/"+url.PathEscape(name(b)), "RoleBinding "+namespace(b)+"/"
		}
		x.removes(rbac+path, b, "%s%s", kind, name(b))
	}
	return nil
}

// dies is how long an API server may believe in a token that it has just seen: it caches for 10 s.
const dies = time.Minute

// Finish removes what was agreed to, and sees that an old token is dead before it removes its
// backup. If there is something else to remove by now, it removes nothing.
func (m *Migration) Finish(ctx context.Context, agreed []Removal) error {
	removals, err := m.Removals(ctx)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(agreed, removals, func(a, b Removal) bool {
		return a.Secret == b.Secret && a.Context == b.Context && a.Account == b.Account && slices.Equal(a.Removes, b.Removes)
	}) {
		return errors.New("nothing was removed: it is not the same any more as was shown; look at it again")
	}
	for _, x := range removals {
		backup, err := m.take(ctx, x.backup, finishing)
		if err != nil {
			return fmt.Errorf("%s: %w", x.Secret, err)
		}
		for i, t := range x.things {
			if err := m.Spoke(x.Context).remove(ctx, t.path, t.o); err != nil {
				return fmt.Errorf("%s: %s is not removed: %w; run it again", x.Secret, x.Removes[i], err)
			}
			m.told(x.Secret, "removed: %s", x.Removes[i])
		}
		if x.Account != "" {
			if err := m.isDead(ctx, x); err != nil {
				return fmt.Errorf("%s: %w", x.Secret, err)
			}
		}
		if err := m.Hub.remove(ctx, m.secretPath(name(backup)), backup); err != nil {
			return fmt.Errorf("%s: the backup is not removed: %w; run it again", x.Secret, err)
		}
		m.told(x.Secret, "finished: the backup is removed, and there is no way back")
	}
	return nil
}

// isDead waits until the cluster refuses the old token.
func (m *Migration) isDead(ctx context.Context, x Removal) error {
	until := m.Now().Add(dies)
	for {
		_, alive, err := m.Spoke(x.Context).whose(ctx, x.token)
		switch {
		case err != nil:
			return err
		case !alive:
			m.told(x.Secret, "the cluster refuses the old token")
			return nil
		case !m.Now().Before(until):
			return fmt.Errorf("the cluster still accepts the old token, of %s: the backup is kept", x.Account)
		}
		if err := m.Sleep(ctx, poll); err != nil {
			return err
		}
	}
}
