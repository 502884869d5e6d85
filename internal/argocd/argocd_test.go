package argocd

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestThePlanSaysWhatIsMissing(t *testing.T) {
	for sentence, row := range map[string]struct {
		change func(r *rig)
		want   string // in what is missing or noted; empty: it is ready
	}{
		"everything is there":                      {func(*rig) {}, ""},
		"no registered cluster has the server":     {func(r *rig) { r.Registered = r.Registered[:1] }, "signalbox cluster add NAME --api-server https://spoke:6443"},
		"two registered clusters have it":          {func(r *rig) { r.Registered = append(r.Registered, Registered{"twin", "https://spoke:6443"}) }, "more than one"},
		"the name that was given is unknown":       {func(r *rig) { r.Named = map[string]string{"east": "none"} }, "no cluster none is registered"},
		"no policy leads there":                    {func(r *rig) { r.Policies = nil }, "from: {cluster: hub, namespace: argocd, service_account: " + account + "}, to: {cluster: spoke}"},
		"the policy leads elsewhere":               {func(r *rig) { r.Policies[0].To = "hub" }, "no policy lets"},
		"the policy is for another cluster's pods": {func(r *rig) { r.Policies[0].Cluster = "other" }, "no policy lets"},
		"the policy has a condition":               {func(r *rig) { r.Policies[0].When = "false" }, "has a condition"},
		"there is no controller":                   {func(r *rig) { clear(r.hub.objects); r.cluster("east", config) }, "there is no application controller in the namespace argocd"},
		"the token is for another audience":        {func(r *rig) { r.Issuer = "https://other" }, "mount a projected token for the audience https://other at /var/run/secrets/signalbox"},
		"it is Argo CD's own cluster": {func(r *rig) {
			at(r.hub.objects[secrets+"east"], "data").(map[string]any)["server"] = base64.StdEncoding.EncodeToString([]byte(ownServer))
		}, "Argo CD uses its own service account there"},
		"somebody else makes it": {func(r *rig) {
			r.secret("metadata")["ownerReferences"] = []any{map[string]any{"kind": "ExternalSecret", "name": "east"}}
		}, "it is made by ExternalSecret east"},
		"an application makes it": {func(r *rig) {
			r.app("platform", "Synced", "Healthy")
			o := r.hub.objects[applicationsAPI+"/namespaces/argocd/applications/platform"]
			members(o, "spec")["destination"] = map[string]any{"server": ownServer}
			members(o, "status")["resources"] = []any{map[string]any{"version": "v1", "kind": "Secret", "namespace": "argocd", "name": "east"}}
		}, "it is made by the application argocd/platform"},
		"Argo CD tracks it": {func(r *rig) {
			r.secret("metadata", "annotations")["argocd.argoproj.io/tracking-id"] = "platform:/Secret:argocd/east"
		}, "it is made by an application of Argo CD"},
		"Flux makes it": {func(r *rig) { r.secret("metadata", "labels")["kustomize.toolkit.fluxcd.io/name"] = "platform" }, "it is made by Flux"},
		"Helm makes it": {func(r *rig) { r.secret("metadata", "annotations")["meta.helm.sh/release-name"] = "platform" }, "it is made by the Helm release platform"},
		"a program applies its config": {func(r *rig) {
			r.secret("metadata")["managedFields"] = []any{map[string]any{"manager": "terraform", "operation": "Apply", "fieldsV1": map[string]any{"f:data": map[string]any{"f:config": map[string]any{}}}}}
		}, "it is made by terraform"},
		"a program applies its config as a text": {func(r *rig) {
			r.secret("metadata")["managedFields"] = []any{map[string]any{"manager": "terraform", "operation": "Apply", "fieldsV1": map[string]any{"f:stringData": map[string]any{"f:config": map[string]any{}}}}}
		}, "it is made by terraform"},
		"a program applies its labels": {func(r *rig) {
			r.secret("metadata")["managedFields"] = []any{map[string]any{"manager": "labels", "operation": "Apply", "fieldsV1": map[string]any{"f:metadata": map[string]any{}}}}
		}, ""},
		"a person has edited it": {func(r *rig) {
			r.secret("metadata")["managedFields"] = []any{map[string]any{"manager": "kubectl-edit", "operation": "Update", "fieldsV1": map[string]any{"f:data": map[string]any{"f:config": map[string]any{}}}}}
		}, ""},
		"an application on another cluster makes one of that name": {func(r *rig) {
			r.app("platform", "Synced", "Healthy")
			members(r.hub.objects[applicationsAPI+"/namespaces/argocd/applications/platform"], "status")["resources"] = []any{map[string]any{"version": "v1", "kind": "Secret", "namespace": "argocd", "name": "east"}}
		}, ""},
		"its config is no JSON":  {func(r *rig) { r.cluster("east", "bearerToken: a") }, "nobody can say what its config holds"},
		"its config has a twist": {func(r *rig) { r.cluster("east", `{"bearerToken":"`+forever+`","tlsClientConfig":{"keyData":7}}`) }, "nobody can say what its config holds"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t)
			row.change(r)
			got := r.plan()
			said, _ := json.Marshal(got)
			switch {
			case row.want == "" && !got.Ready():
				t.Errorf("not ready: %s", said)
			case !strings.Contains(string(said), row.want):
				t.Errorf("nothing says %q: %s", row.want, said)
			case strings.Contains(string(said), forever):
				t.Error("the credential is shown")
			}
			for _, asked := range r.hub.asked {
				if !strings.HasPrefix(asked, http.MethodGet) {
					t.Errorf("the plan asked %s", asked)
				}
			}
		})
	}
}

func TestACredentialIsReplacedAndAllElseStays(t *testing.T) {
	r := newRig(t)
	if err := r.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal([]byte(r.config()), &c); err != nil {
		t.Fatal(err)
	}
	if c["bearerToken"] != nil || c["proxyUrl"] != "http://proxy" || text(c, "tlsClientConfig", "serverName") != "api" || text(c, "tlsClientConfig", "caData") != "Y2E=" || text(c, "execProviderConfig", "command") != "signalbox" {
		t.Errorf("the config is %s", r.config())
	}
	o := r.hub.objects[secrets+"east"]
	if text(o, "data", "shard") != "MQ==" || text(o, "metadata", "annotations", "team") != "shop" {
		t.Errorf("something else was changed: %v", o)
	}
	if whole, _ := json.Marshal(o); strings.Contains(string(whole), forever) {
		t.Error("the credential is still in the Secret")
	}
	backup := r.hub.objects[secrets+backupName+"east"]
	if string(values(backup)["config"]) != config || backup["immutable"] != true || text(backup, "metadata", "labels", "argocd.argoproj.io/secret-type") != "" ||
		text(list(backup, "metadata", "ownerReferences")[0], "uid") != text(o, "metadata", "uid") {
		t.Errorf("the backup is %v", backup)
	}
	if n, _ := json.Marshal(at(r.hub.objects[app1], "spec", "revision")); string(n) != "12345678901234567890" {
		t.Errorf("the refresh changed a number to %s", n)
	}
	r.Registered = nil
	if got := r.plan(); got.State != Proved || got.Cluster != "spoke" {
		t.Errorf("it is %s, of %s", got.State, got.Cluster)
	}
	r.says("argocd/shop is Synced and Healthy")

	if err := r.Rollback(t.Context()); err != nil || r.config() != config || r.backups() != 0 {
		t.Errorf("back: %v, %d backups, %s", err, r.backups(), r.config())
	}
}

func TestEveryKindOfCredentialGoes(t *testing.T) {
	for _, config := range []string{
		`{"username":"ada","password":"hunter2"}`, `{"bearerToken":"hunter2"}`, `{"tlsClientConfig":{"certData":"Yw==","keyData":"aHVudGVyMg=="}}`,
		`{"bearerToken":"hunter2","awsAuthConfig":{"clusterName":"c"}}`, `{"BearerToken":"hunter2","TLSClientConfig":{"KEYDATA":"aHVudGVyMg=="}}`,
	} {
		got, err := withPlugin([]byte(config), []string{"kube-credential"})
		if err != nil || strings.Contains(string(got), "hunter2") || strings.Contains(string(got), "aHVudGVyMg") || strings.Contains(string(got), "certData") || strings.Contains(string(got), "aws") || !isOurs(got) {
			t.Errorf("%s becomes %s, %v", config, got, err)
		}
	}
}

// Each is found before anything is changed.
func TestWhatWouldNotWorkIsFoundBefore(t *testing.T) {
	for sentence, row := range map[string]struct {
		change func(r *rig)
		want   string
	}{
		"the exchange is refused": {func(r *rig) {
			r.Exchange = func(context.Context, string, string) (string, error) { return "", errors.New("invalid_target") }
		}, "gets no token for spoke: invalid_target"},
		"the cluster does not trust us": {func(r *rig) { delete(r.spoke.users, "token for spoke") }, "signalbox cluster trust spoke"},
		"no pod of the controller runs": {func(r *rig) { delete(r.hub.objects, "/api/v1/namespaces/argocd/pods/controller-0") }, "no pod of the application controller"},
		"the new user may only read":    {func(r *rig) { r.spoke.may = func(user, string) bool { return false } }, "argocd/shop needs a right that signalbox:controller does not have in the cluster: to create configmaps in shop"},
		"no application can be compared": {func(r *rig) {
			r.errorCondition(r.hub.objects[app1])
			r.Context = func(string, string) string { return "" }
		}, "no application that Argo CD can compare deploys there"},
		"an application may be that is not seen": {func(r *rig) {
			r.hub.answers = func(_, path string) error {
				if strings.HasPrefix(path, applicationsAPI+"/applications") {
					return ErrForbidden
				}
				return nil
			}
		}, ""},
		"nothing can prove it from here": {func(r *rig) {
			delete(r.hub.objects, app1)
			r.hub.answers = func(method, path string) error {
				if strings.HasSuffix(path, "/token") {
					return ErrForbidden
				}
				return nil
			}
		}, "nothing else proves"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t)
			row.change(r)
			if err := r.Apply(t.Context()); !errors.Is(err, ErrLeft) && !errors.Is(err, ErrForbidden) {
				t.Errorf("%v", err)
			}
			r.says(row.want)
			if r.config() != config || r.backups() != 0 {
				t.Error("something was changed")
			}
		})
	}
}

func TestOneThatPrunesNeedsTheRightToDelete(t *testing.T) {
	for _, prunes := range []bool{false, true} {
		r := newRig(t)
		members(r.hub.objects[app1], "spec")["syncPolicy"] = map[string]any{"automated": map[string]any{"prune": prunes}}
		r.spoke.may = func(_ user, verb string) bool { return verb == "create" || verb == "patch" }
		if err := r.Apply(t.Context()); errors.Is(err, ErrLeft) != prunes {
			t.Errorf("it prunes: %v; %v", prunes, err)
		}
	}
}

func TestOneWhoseProjectsImpersonateNeedsNoRightToWrite(t *testing.T) {
	r := newRig(t)
	r.spoke.may = func(user, string) bool { return false }
	r.hub.set("/api/v1/namespaces/argocd/configmaps/argocd-cm", object{"data": map[string]any{"application.sync.impersonation.enabled": "true"}})
	if err := r.Apply(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWhatDoesNotSyncGoesBackByItself(t *testing.T) {
	for sentence, row := range map[string]struct {
		compare func(r *rig, o object)
		want    string
	}{
		"Argo CD is refused": {func(r *rig, o object) { r.errorCondition(o) }, "does not sync: ComparisonError: forbidden there"},
		"an application loses its health": {func(r *rig, o object) {
			at(o, "status").(map[string]any)["health"] = map[string]any{"status": "Missing"}
		}, "it is Synced and Missing, and was Synced and Healthy"},
		"Argo CD compares with an old status": {func(r *rig, o object) { at(o, "status").(map[string]any)["reconciledAt"] = "before" }, "was not looked at: does the application controller run?"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t)
			r.compare = func(o object) {
				if isOurs([]byte(r.config())) {
					row.compare(r, o)
				}
			}
			if err := r.Apply(t.Context()); !errors.Is(err, ErrLeft) {
				t.Errorf("%v", err)
			}
			r.says(row.want)
			r.says("its old credential was put back")
			if r.config() != config || r.backups() != 0 {
				t.Error("it was not put back")
			}
			if text(r.hub.objects[app1], "metadata", "annotations", refreshAsked) == "" {
				t.Error("Argo CD was not asked to look again")
			}
		})
	}
}

func TestWhatWasBrokenBeforeMayStayBroken(t *testing.T) {
	r := newRig(t)
	r.errorCondition(r.hub.objects[app1])
	r.compare = func(o object) {
		if name(o) == "shop" {
			r.errorCondition(o)
		}
	}
	r.app("fine", "OutOfSync", "Degraded")
	if err := r.Apply(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestATransientErrorIsAskedAgain(t *testing.T) {
	r := newRig(t)
	times := 0
	r.compare = func(o object) {
		if times++; times < patience {
			r.errorCondition(o)
			return
		}
		r.app("shop", "Synced", "Healthy")
		o["status"] = r.hub.objects[app1]["status"]
		at(o, "status").(map[string]any)["reconciledAt"] = "later"
	}
	if err := r.Apply(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnEditOfSomebodyElseIsNeverLost(t *testing.T) {
	edit := func(r *rig, change func(data map[string]any)) func(method, path string) {
		once := true
		return func(method, path string) {
			if method == http.MethodPut && path == secrets+"east" && once {
				once = false
				o := r.hub.objects[secrets+"east"]
				change(at(o, "data").(map[string]any))
				r.hub.set(secrets+"east", o)
			}
		}
	}
	t.Run("of another key", func(t *testing.T) {
		r := newRig(t)
		r.hub.before = edit(r, func(data map[string]any) { data["shard"] = "Mg==" })
		if err := r.Apply(t.Context()); !errors.Is(err, ErrLeft) || r.config() != config || r.backups() != 0 {
			t.Errorf("%v: %d backups, %s", err, r.backups(), r.config())
		}
		r.says("nothing was changed: somebody else has changed it meanwhile")
		if err := r.Apply(t.Context()); err != nil || !isOurs([]byte(r.config())) || text(r.hub.objects[secrets+"east"], "data", "shard") != "Mg==" {
			t.Errorf("%v: %v", err, r.hub.objects[secrets+"east"])
		}
	})
	t.Run("of the config", func(t *testing.T) {
		r := newRig(t)
		other := `{"bearerToken":"a newer one"}`
		r.hub.before = edit(r, func(data map[string]any) { data["config"] = base64.StdEncoding.EncodeToString([]byte(other)) })
		if err := r.Apply(t.Context()); !errors.Is(err, ErrLeft) || r.config() != other || r.backups() != 0 {
			t.Errorf("%v: %d backups, %s", err, r.backups(), r.config())
		}
	})
	t.Run("before going back", func(t *testing.T) {
		r := newRig(t)
		if err := r.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.cluster("east", `{"bearerToken":"a newer one"}`)
		_ = r.Rollback(t.Context())
		if r.config() != `{"bearerToken":"a newer one"}` {
			t.Errorf("it is %s", r.config())
		}
	})
}

// account is what argocd cluster add makes on the spoke.
func (r *rig) account() {
	in := map[string]any{"kind": "ServiceAccount", "namespace": "kube-system", "name": "argocd-manager"}
	r.spoke.set("/api/v1/namespaces/kube-system/serviceaccounts/argocd-manager", object{})
	r.spoke.set("/api/v1/namespaces/kube-system/secrets/its-token", object{
		"type": "kubernetes.io/service-account-token", "metadata": map[string]any{"annotations": map[string]any{"kubernetes.io/service-account.name": "argocd-manager"}},
		"data": map[string]any{"token": base64.StdEncoding.EncodeToString([]byte(forever))},
	})
	r.spoke.set("/api/v1/namespaces/kube-system/secrets/of-another", object{
		"type": "kubernetes.io/service-account-token", "metadata": map[string]any{"annotations": map[string]any{"kubernetes.io/service-account.name": "other"}},
	})
	r.spoke.set(rbac+"/clusterroles/"+managerRole, object{})
	r.bind("managers", managerRole, in)
	r.spoke.before = func(method, path string) { // a token lives as long as its account and its Secret
		if r.spoke.objects["/api/v1/namespaces/kube-system/serviceaccounts/argocd-manager"] == nil || r.spoke.objects["/api/v1/namespaces/kube-system/secrets/its-token"] == nil {
			delete(r.spoke.users, forever)
		}
	}
}

// second is another token of the account.
func (r *rig) second() {
	r.spoke.set("/api/v1/namespaces/kube-system/secrets/second", object{
		"type":     "kubernetes.io/service-account-token",
		"metadata": map[string]any{"annotations": map[string]any{"kubernetes.io/service-account.name": "argocd-manager"}, "labels": map[string]any{lastUsed: "2026-05-31"}},
	})
}

func (r *rig) bind(named, role string, subjects ...any) {
	r.spoke.set(rbac+"/clusterrolebindings/"+named, object{"roleRef": map[string]any{"kind": "ClusterRole", "name": role}, "subjects": subjects})
}

func (r *rig) finish() error {
	r.Helper()
	if err := r.Apply(r.T.Context()); err != nil {
		r.Fatal(err)
	}
	removals, err := r.Removals(r.T.Context())
	if err != nil {
		return err
	}
	for _, x := range removals {
		r.said = append(append(r.said, x.Removes...), x.Leaves...)
	}
	return r.Finish(r.T.Context(), removals)
}

func (r *rig) spokeHas(path string, want bool) {
	r.Helper()
	if (r.spoke.objects[path] != nil) != want {
		r.Errorf("%s is there: %v", path, !want)
	}
}

func TestTheLastStepRemovesWhatNobodyElseUses(t *testing.T) {
	const core = "/api/v1/namespaces/kube-system/"
	other := map[string]any{"kind": "User", "name": "ada"}
	itself := map[string]any{"kind": "ServiceAccount", "namespace": "kube-system", "name": "argocd-manager"}
	t.Run("all of it", func(t *testing.T) {
		r := newRig(t)
		r.account()
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		for _, gone := range []string{core + "serviceaccounts/argocd-manager", core + "secrets/its-token", rbac + "/clusterrolebindings/managers", rbac + "/clusterroles/" + managerRole} {
			r.spokeHas(gone, false)
		}
		r.spokeHas(core+"secrets/of-another", true)
		r.says("the cluster refuses the old token")
		if r.backups() != 0 || r.plan().State != Done {
			t.Error("it is not done")
		}
	})
	t.Run("the role that others have, and the binding that others are in, stay", func(t *testing.T) {
		r := newRig(t)
		r.account()
		r.bind("others", managerRole, other)
		r.bind("both", "view", itself, other)
		r.bind("nobody", "view")
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		r.spokeHas(rbac+"/clusterroles/"+managerRole, true)
		r.spokeHas(rbac+"/clusterrolebindings/both", true)
		r.spokeHas(rbac+"/clusterrolebindings/nobody", true)
		r.spokeHas(rbac+"/clusterrolebindings/managers", false)
		r.says("the binding both: others are in it too")
	})
	t.Run("of an account that pods use only the token goes", func(t *testing.T) {
		r := newRig(t)
		r.account()
		r.spoke.set(core+"pods/one", object{"spec": map[string]any{"serviceAccountName": "argocd-manager"}})
		r.second()
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		r.spokeHas(core+"serviceaccounts/argocd-manager", true)
		r.spokeHas(rbac+"/clusterrolebindings/managers", true)
		r.spokeHas(core+"secrets/its-token", false)
		r.spokeHas(core+"secrets/second", true)
	})
	t.Run("a role that argocd cluster add did not make stays", func(t *testing.T) {
		r := newRig(t)
		r.account()
		r.spoke.set(rbac+"/clusterroles/deployers", object{})
		r.bind("deployers", "deployers", itself)
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		r.spokeHas(rbac+"/clusterrolebindings/deployers", false)
		r.spokeHas(rbac+"/clusterroles/deployers", true)
	})
	t.Run("another token of the account is shown, with the day of its last use", func(t *testing.T) {
		r := newRig(t)
		r.account()
		r.second()
		members(r.spoke.objects[core+"secrets/its-token"], "metadata")["labels"] = map[string]any{lastUsed: "2026-06-01"}
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		r.says("Secret kube-system/second, a token of it, last used on 2026-05-31")
		if strings.Contains(strings.Join(r.said, "\n"), "2026-06-01") {
			t.Error("the day on which we have asked is shown as a use")
		}
		r.spokeHas(core+"secrets/second", false)
	})
	t.Run("an account that is gone, whose token the cluster still remembers, is waited for", func(t *testing.T) {
		r := newRig(t)
		r.account()
		if err := r.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		delete(r.spoke.objects, core+"serviceaccounts/argocd-manager")
		began := r.now
		r.spoke.before = func(string, string) {
			if r.now.Sub(began) > 8*time.Second {
				delete(r.spoke.users, forever)
			}
		}
		if err := r.finish(); err != nil || r.plan().State != Done {
			t.Errorf("%v", err)
		}
		r.says("the cluster refuses the old token")
	})
	t.Run("what is not a token is said to live on", func(t *testing.T) {
		for _, config := range []string{`{"username":"ada","password":"hunter2"}`, `{"tlsClientConfig":{"certData":"Yw==","keyData":"aHVudGVyMg=="}}`} {
			r := newRig(t)
			r.cluster("east", config)
			if err := r.finish(); err != nil || r.plan().State != Done {
				t.Errorf("%v", err)
			}
			r.says("a password or a client key that it held")
		}
	})
	t.Run("it goes by whose token it is, not by what the token says", func(t *testing.T) {
		r := newRig(t)
		r.account()
		r.spoke.users[forever] = user{name: "ada@example.com"}
		r.spoke.before = nil
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		r.spokeHas(core+"serviceaccounts/argocd-manager", true)
		r.says("is of ada@example.com, which is no service account")
	})
	t.Run("a token that does not die keeps its backup", func(t *testing.T) {
		r := newRig(t)
		r.account()
		r.spoke.before = nil
		if err := r.finish(); err == nil || !strings.Contains(err.Error(), "still accepts the old token") || r.backups() != 1 {
			t.Errorf("%v, %d backups", err, r.backups())
		}
	})
	t.Run("another Secret with a token of the account stops it", func(t *testing.T) {
		r := newRig(t)
		r.account()
		r.cluster("later", config)
		r.Only = []string{"east"}
		if err := r.finish(); err == nil || !strings.Contains(err.Error(), "later has a token of "+manager) {
			t.Errorf("%v", err)
		}
		r.Only = nil
		if err := r.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Only = []string{"east"}
		if err := r.finish(); err == nil || !strings.Contains(err.Error(), "later has a token of "+manager+" too, or needs one to go back") {
			t.Errorf("%v", err)
		}
		r.spokeHas(core+"serviceaccounts/argocd-manager", true)
		r.Only = nil
		if err := r.finish(); err != nil || r.backups() != 0 {
			t.Errorf("both together: %v, %d backups", err, r.backups())
		}
	})
	t.Run("no way to the cluster stops it", func(t *testing.T) {
		r := newRig(t)
		r.Context = func(string, string) string { return "" }
		if err := r.finish(); err == nil || !strings.Contains(err.Error(), "--spoke-context east=CONTEXT") || r.backups() != 1 {
			t.Errorf("%v", err)
		}
	})
	t.Run("a role goes before the binding that leads to it, rights before the account, and the account before its tokens", func(t *testing.T) {
		r := newRig(t)
		r.account()
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, asked := range r.spoke.asked {
			if path, is := strings.CutPrefix(asked, http.MethodDelete+" "); is {
				order = append(order, path)
			}
		}
		if !slices.Equal(order, []string{rbac + "/clusterroles/" + managerRole, rbac + "/clusterrolebindings/managers", core + "serviceaccounts/argocd-manager", core + "secrets/its-token"}) {
			t.Errorf("%q", order)
		}
	})
}

// FuzzConfig holds that no config of a cluster Secret makes it panic, or keeps a credential.
func FuzzConfig(f *testing.F) {
	f.Add(config)
	f.Add(`{"tlsClientConfig":{"keyData":"aGk="},"username":"a","password":"b"}`)
	f.Add(`{"tlsClientConfig":null}`)
	f.Fuzz(func(t *testing.T, config string) {
		got, err := withPlugin([]byte(config), []string{"kube-credential"})
		if err != nil {
			return
		}
		var c struct {
			Username, Password, BearerToken string
			TLS                             struct{ KeyData any } `json:"tlsClientConfig"`
		}
		if err := json.Unmarshal(got, &c); err != nil || c.Username+c.Password+c.BearerToken != "" || c.TLS.KeyData != nil || !isOurs(got) {
			t.Errorf("%q becomes %q, %v", config, got, err)
		}
	})
}
