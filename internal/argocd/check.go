package argocd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// user is whom an API server sees.
type user struct {
	name, uid string
	groups    []string
}

// whose asks an API server whose token this is. alive is false where it accepts it no more.
func (k Kube) whose(ctx context.Context, token string) (u user, alive bool, err error) {
	answer, err := k.post(ctx, "/apis/authentication.k8s.io/v1/tokenreviews", map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": map[string]string{"token": token},
	})
	if err != nil {
		return u, false, fmt.Errorf("whose token it is cannot be asked: %w", err)
	}
	if alive, _ = at(answer, "status", "authenticated").(bool); !alive {
		return u, false, nil
	}
	u.name, u.uid = text(answer, "status", "user", "username"), text(answer, "status", "user", "uid")
	groups, _ := at(answer, "status", "user", "groups").([]any)
	for _, g := range groups {
		if s, is := g.(string); is {
			u.groups = append(u.groups, s)
		}
	}
	return u, u.name != "", nil
}

// may asks an API server what a user may do.
func (k Kube) may(ctx context.Context, u user, on right) (bool, error) {
	answer, err := k.post(ctx, "/apis/authorization.k8s.io/v1/subjectaccessreviews", map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
		"spec": map[string]any{
			"user": u.name, "groups": u.groups,
			"resourceAttributes": map[string]string{"verb": on.verb, "group": on.group, "resource": on.resource, "namespace": on.namespace},
		},
	})
	if err != nil {
		return false, err
	}
	allowed, _ := at(answer, "status", "allowed").(bool)
	return allowed, nil
}

type right struct{ verb, group, resource, namespace string }

func (r right) String() string {
	return strings.TrimSuffix(r.verb+" "+r.resource+"."+r.group, ".") + " in " + r.namespace
}

// check makes the exchange that the plugin will make, as the pod that will make it, and
// looks at the token with the eyes of the cluster. proved is false where that cannot be done
// from here; an error says that it would not work.
func (m *Migration) check(ctx context.Context, r Row, apps map[string]app) (proved bool, err error) {
	token, err := m.newToken(ctx, r)
	if errors.Is(err, ErrForbidden) {
		m.told(r.Secret, "not checked before: %v", err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if r.Context == "" {
		m.told(r.Secret, "the application controller gets tokens for %s; whether the cluster accepts them is seen with the applications", r.Cluster)
		return false, nil
	}
	spoke := m.Spoke(r.Context)
	who, err := m.newUser(ctx, r, spoke, token)
	if err != nil {
		return false, err
	}
	m.told(r.Secret, "the application controller gets tokens for %s, where it is %s", r.Cluster, who.name)
	return true, m.mayWrite(ctx, r, spoke, who, apps)
}

// newToken is what the plugin will get.
func (m *Migration) newToken(ctx context.Context, r Row) (string, error) {
	c, err := m.controller(ctx)
	if err != nil {
		return "", err
	}
	proof, err := m.proofOf(ctx, c.account)
	if err != nil {
		return "", err
	}
	token, err := m.Exchange(ctx, proof, r.Cluster)
	if err != nil {
		return "", fmt.Errorf("the application controller gets no token for %s: %w", r.Cluster, err)
	}
	return token, nil
}

// newUser is whom the cluster sees with such a token.
func (m *Migration) newUser(ctx context.Context, r Row, spoke Kube, token string) (user, error) {
	who, alive, err := spoke.whose(ctx, token)
	if err == nil && !alive {
		err = fmt.Errorf("the cluster does not accept tokens of %s for %s: signalbox cluster trust %s shows what it needs", m.Issuer, r.Cluster, r.Cluster)
	}
	return who, err
}

// proofOf is the token that a pod of the application controller proves itself with.
func (m *Migration) proofOf(ctx context.Context, account string) (string, error) {
	in := "/api/v1/namespaces/" + url.PathEscape(m.Namespace)
	pods, err := m.Hub.all(ctx, in+"/pods", url.Values{"fieldSelector": {"spec.serviceAccountName=" + account}})
	if err != nil {
		return "", err
	}
	pods = slices.DeleteFunc(pods, func(p map[string]any) bool {
		phase := text(p, "status", "phase")
		return text(p, "metadata", "deletionTimestamp") != "" || phase == "Succeeded" || phase == "Failed"
	})
	if len(pods) == 0 {
		return "", fmt.Errorf("no pod of the application controller (service account %s) runs", account)
	}
	answer, err := m.Hub.post(ctx, in+"/serviceaccounts/"+url.PathEscape(account)+"/token", map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
		"spec": map[string]any{
			"audiences": []string{m.Issuer}, "expirationSeconds": 600, // the least that there is
			"boundObjectRef": map[string]string{"apiVersion": "v1", "kind": "Pod", "name": name(pods[0]), "uid": text(pods[0], "metadata", "uid")},
		},
	})
	if err != nil {
		return "", fmt.Errorf("a token of the service account %s: %w", account, err)
	}
	token := text(answer, "status", "token")
	if token == "" {
		return "", errors.New("the API server's answer has no token")
	}
	return token, nil
}

// mayWrite finds what the applications need and the new user is not allowed to do. Argo CD's
// comparison, which is the proof afterwards, only reads.
func (m *Migration) mayWrite(ctx context.Context, r Row, spoke Kube, who user, apps map[string]app) error {
	settings, err := m.Hub.get(ctx, "/api/v1/namespaces/"+url.PathEscape(m.Namespace)+"/configmaps/argocd-cm")
	if err != nil && !errors.Is(err, ErrMissing) {
		return err
	}
	if text(settings, "data", "application.sync.impersonation.enabled") == "true" {
		m.told(r.Secret, "rights to write are not checked: Argo CD writes as the service accounts that its projects name, and %s must be allowed to impersonate them", who.name)
		return nil
	}
	if all, err := spoke.may(ctx, who, right{"*", "*", "*", ""}); err != nil || all {
		return err
	}
	plurals, asked := map[string]string{}, map[right]bool{}
	for _, n := range names(apps) {
		for _, res := range apps[n].resources {
			resource, err := spoke.plural(ctx, text(res, "group"), text(res, "version"), text(res, "kind"), plurals)
			if err != nil {
				return err
			}
			verbs := []string{"create", "patch"}
			if apps[n].prunes {
				verbs = append(verbs, "delete")
			}
			for _, verb := range verbs {
				on := right{verb, text(res, "group"), resource, text(res, "namespace")}
				if resource == "" || asked[on] {
					continue
				}
				asked[on] = true
				allowed, err := spoke.may(ctx, who, on)
				if err != nil {
					return err
				}
				if !allowed {
					return fmt.Errorf("the application %s needs a right that %s does not have in the cluster: to %s; bind a role to its group there", n, who.name, on)
				}
			}
		}
	}
	return nil
}

// plural is the resource of a kind, empty if the cluster does not have it. known
// remembers what was asked.
func (k Kube) plural(ctx context.Context, group, version, kind string, known map[string]string) (string, error) {
	path := "/apis/" + url.PathEscape(group) + "/" + url.PathEscape(version)
	if group == "" {
		path = "/api/" + url.PathEscape(version)
	}
	if _, read := known[path]; !read {
		known[path] = ""
		answer, err := k.get(ctx, path)
		if err != nil && !errors.Is(err, ErrMissing) {
			return "", err
		}
		for _, res := range list(answer, "resources") {
			if name := text(res, "name"); !strings.Contains(name, "/") {
				known[path+" "+text(res, "kind")] = name
			}
		}
	}
	return known[path+" "+kind], nil
}
