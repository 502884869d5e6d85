package argocd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
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
	kube Kube
	path string
	o    map[string]any
}

const rbac = "/apis/rbac.authorization.k8s.io/v1"

// managerRole is the role that `argocd cluster add` makes. No other role is removed: somebody
// may keep one for later.
const managerRole = "argocd-manager-role"

// Removals says what Finish would remove. It changes nothing.
func (m *Migration) Removals(ctx context.Context) ([]Removal, error) {
	only := m.Only
	m.Only = nil // the others may use the same account
	rows, err := m.Plan(ctx)
	m.Only = only
	if err != nil {
		return nil, err
	}
	removals := []Removal{}
	for _, r := range rows {
		if r.backup == nil || len(only) > 0 && !slices.Contains(only, r.Secret) {
			continue
		}
		if r.State != Proved {
			return nil, fmt.Errorf("%s is replaced and not proved: --apply proves it, --rollback goes back", r.Secret)
		}
		removal, err := m.removal(ctx, r, rows, only)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.Secret, err)
		}
		removals = append(removals, removal)
	}
	return removals, nil
}

func (m *Migration) removal(ctx context.Context, r Row, rows []Row, only []string) (Removal, error) {
	x := Removal{Secret: r.Secret, Context: r.Context, backup: r.backup}
	leaves := func(format string, args ...any) { x.Leaves = append(x.Leaves, fmt.Sprintf(format, args...)) }
	var config struct {
		BearerToken string `json:"bearerToken"`
	}
	if json.Unmarshal(values(r.backup)["config"], &config) != nil {
		return x, errors.New("its backup has no config")
	}
	x.token = config.BearerToken
	if x.token == "" {
		leaves("what it held is no token: whoever has a copy can use it until the cluster itself takes it no more")
		return x, nil
	}
	if r.Context == "" {
		return x, fmt.Errorf("no context of the kubeconfig leads to %s, where the old account is: --spoke-context %s=CONTEXT", r.Server, r.Secret)
	}
	spoke := m.Spoke(r.Context)
	who, alive, err := spoke.whose(ctx, x.token)
	if err != nil {
		return x, err
	}
	if !alive {
		leaves("the old token is dead already")
		return x, nil
	}
	for _, other := range rows {
		stays := len(only) > 0 && !slices.Contains(only, other.Secret)
		if (other.State == Static || other.backup != nil && stays) && other.Context == r.Context && other.Subject == who.name {
			return x, fmt.Errorf("%s has a token of %s too, or needs one to go back: finish both together", other.Secret, who.name)
		}
	}
	in, account, is := accountOf(who.name)
	if !is {
		leaves("the old token is of %s, which is no service account: end it where it comes from", who.name)
		return x, nil
	}
	x.Account = who.name
	return x, m.removesAccount(ctx, spoke, in, account, &x)
}

func accountOf(username string) (namespace, name string, is bool) {
	rest, is := strings.CutPrefix(username, "system:serviceaccount:")
	if !is {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

// removesAccount collects the account with its tokens, and of its roles what nobody else uses.
// Rights go first and the account last, so that a run that is interrupted finds by the token
// what is left to do.
func (m *Migration) removesAccount(ctx context.Context, spoke Kube, in, account string, x *Removal) error {
	core := "/api/v1/namespaces/" + url.PathEscape(in)
	removes := func(path string, o map[string]any, format string, args ...any) {
		x.Removes = append(x.Removes, fmt.Sprintf(format, args...))
		x.things = append(x.things, thing{spoke, path, o})
	}
	secrets, err := spoke.all(ctx, core+"/secrets", url.Values{"fieldSelector": {"type=kubernetes.io/service-account-token"}})
	if err != nil {
		return err
	}
	removeTokens := func(which func(o map[string]any) bool) (n int) {
		for _, o := range secrets {
			if text(o, "metadata", "annotations", "kubernetes.io/service-account.name") == account && which(o) {
				removes(core+"/secrets/"+url.PathEscape(name(o)), o, "Secret %s/%s, a token of it", in, name(o))
				n++
			}
		}
		return n
	}
	pods, err := spoke.all(ctx, core+"/pods", url.Values{"fieldSelector": {"spec.serviceAccountName=" + account}})
	if err != nil {
		return err
	}
	if len(pods) > 0 {
		x.Leaves = append(x.Leaves, fmt.Sprintf("the account and its roles: %d pods run with it, such as %s", len(pods), name(pods[0])))
		if removeTokens(func(o map[string]any) bool { return string(values(o)["token"]) == x.token }) == 0 {
			return fmt.Errorf("pods run as %s, and no Secret holds the old token: it can only be ended with the account", x.Account)
		}
		return nil
	}
	if err := m.removesRoles(ctx, spoke, in, account, x, removes); err != nil {
		return err
	}
	o, err := spoke.get(ctx, core+"/serviceaccounts/"+url.PathEscape(account))
	if err != nil {
		return err
	}
	removes(core+"/serviceaccounts/"+url.PathEscape(account), o, "ServiceAccount %s/%s, and every token that anybody has of it", in, account)
	removeTokens(func(map[string]any) bool { return true })
	return nil
}

func (m *Migration) removesRoles(ctx context.Context, spoke Kube, in, account string, x *Removal, removes func(path string, o map[string]any, format string, args ...any)) error {
	uses := map[string]int{} // of a role, by others
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
			return "clusterroles/" + url.PathEscape(text(b, "roleRef", "name"))
		}
		return "namespaces/" + url.PathEscape(namespace(b)) + "/roles/" + url.PathEscape(text(b, "roleRef", "name"))
	}
	for _, b := range append(bindings, inNamespaces...) {
		subjects, itself := list(b, "subjects"), false
		for _, s := range subjects {
			itself = itself || text(s, "kind") == "ServiceAccount" && text(s, "namespace") == in && text(s, "name") == account
		}
		switch {
		case itself && len(subjects) == 1:
			own = append(own, b)
			continue
		case itself:
			x.Leaves = append(x.Leaves, fmt.Sprintf("the binding %s: others are in it too", name(b)))
		}
		uses[role(b)]++
	}
	gone := map[string]bool{}
	for _, b := range own {
		path, kind := rbac+"/clusterrolebindings/"+url.PathEscape(name(b)), "ClusterRoleBinding "
		if namespace(b) != "" {
			path, kind = rbac+"/namespaces/"+url.PathEscape(namespace(b))+"/rolebindings/"+url.PathEscape(name(b)), "RoleBinding "+namespace(b)+"/"
		}
		removes(path, b, "%s%s", kind, name(b))
		of := role(b)
		if text(b, "roleRef", "name") != managerRole || uses[of] > 0 || gone[of] {
			continue
		}
		gone[of] = true
		o, err := spoke.get(ctx, rbac+"/"+of)
		if errors.Is(err, ErrMissing) {
			continue
		}
		if err != nil {
			return err
		}
		removes(rbac+"/"+of, o, "%s %s, which nobody else has", text(b, "roleRef", "kind"), managerRole)
	}
	return nil
}

// dies is how long an API server may believe in a token that it has just seen: it caches for 10 s.
const dies = time.Minute

// Finish removes, and sees that the old token is dead before it removes the backup.
func (m *Migration) Finish(ctx context.Context, removals []Removal) error {
	for _, x := range removals {
		for i, t := range x.things {
			if err := t.kube.remove(ctx, t.path, t.o); err != nil {
				return fmt.Errorf("%s: %s is not removed: %w; run it again", x.Secret, x.Removes[i], err)
			}
			m.told(x.Secret, "removed: %s", x.Removes[i])
		}
		if x.token != "" && x.Context != "" {
			if err := m.isDead(ctx, x); err != nil {
				return fmt.Errorf("%s: %w", x.Secret, err)
			}
		}
		if err := m.Hub.remove(ctx, m.secretPath(name(x.backup)), x.backup); err != nil {
			return fmt.Errorf("%s: the backup is not removed: %w; run it again", x.Secret, err)
		}
		m.told(x.Secret, "finished: the backup is removed, and there is no way back")
	}
	return nil
}

func (m *Migration) isDead(ctx context.Context, x Removal) error {
	until := m.Now().Add(dies)
	for {
		who, alive, err := m.Spoke(x.Context).whose(ctx, x.token)
		switch {
		case err != nil:
			return err
		case !alive:
			m.told(x.Secret, "the cluster refuses the old token")
			return nil
		case x.Account == "":
			m.told(x.Secret, "the old token of %s is alive: nothing here can end it", who.name)
			return nil
		case !m.Now().Before(until):
			return fmt.Errorf("the cluster still accepts the old token, of %s: the backup is kept", who.name)
		}
		if err := m.Sleep(ctx, poll); err != nil {
			return err
		}
	}
}
