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
		"the policy is for another cluster's pods": {func(r *rig) { r.Policies[0].Cluster = "other" }, "no policy lets"},
		"the policy has a condition":               {func(r *rig) { r.Policies[0].When = "false" }, "has a condition"},
		"there is no controller":                   {func(r *rig) { clear(r.hub.objects); r.cluster("east", config) }, "there is no application controller in the namespace argocd"},
		"the token is for another audience":        {func(r *rig) { r.Issuer = "https://other" }, "mount a projected token for the audience https://other at /var/run/secrets/signalbox"},
		"it is Argo CD's own cluster": {func(r *rig) {
			at(r.hub.objects[secrets+"east"], "data").(map[string]any)["server"] = base64.StdEncoding.EncodeToString([]byte(ownServer))
		}, "Argo CD uses its own service account there"},
		"somebody else makes it": {func(r *rig) {
			at(r.hub.objects[secrets+"east"], "metadata").(map[string]any)["ownerReferences"] = []any{map[string]any{"kind": "ExternalSecret", "name": "east"}}
		}, "it is made by ExternalSecret east"},
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
	if got := r.plan(); got.State != Proved {
		t.Errorf("it is %s", got.State)
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
		if err != nil || strings.Contains(string(got), "hunter2") || strings.Contains(string(got), "aHVudGVyMg") || strings.Contains(string(got), "certData") || strings.Contains(string(got), "aws") || !hasPlugin(got) {
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
		"the new user may only read":    {func(r *rig) { r.spoke.may = func(user, string) bool { return false } }, "argocd/shop needs a right that signalbox:controller has not in the cluster: to create configmaps in shop"},
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
			if err := r.Apply(t.Context()); !errors.Is(err, ErrLeft) {
				t.Errorf("%v", err)
			}
			r.says(row.want)
			if r.config() != config || r.backups() != 0 {
				t.Error("something was changed")
			}
		})
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
				if hasPlugin([]byte(r.config())) {
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
		if err := r.Apply(t.Context()); err != nil || !hasPlugin([]byte(r.config())) || text(r.hub.objects[secrets+"east"], "data", "shard") != "Mg==" {
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

func TestAnInterruptedRunIsBegunAgain(t *testing.T) {
	for sentence, at := range map[string]int{"after the backup": 1, "after the change": 2} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t)
			ctx, cancel := context.WithCancel(t.Context())
			writes := 0
			r.hub.answers = func(method, path string) error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if (method == http.MethodPost || method == http.MethodPut) && strings.HasPrefix(path, strings.TrimSuffix(secrets, "/")) {
					if writes++; writes > at {
						cancel()
						return ctx.Err()
					}
				}
				return nil
			}
			if err := r.Apply(ctx); err == nil || !strings.Contains(err.Error(), "--rollback goes back") {
				t.Errorf("%v", err)
			}
			r.hub.answers = nil
			if r.backups() != 1 {
				t.Fatalf("%d backups", r.backups())
			}
			if _, err := r.Removals(t.Context()); at == 2 && (err == nil || !strings.Contains(err.Error(), "replaced and not proved")) {
				t.Errorf("it may be finished: %v", err)
			}
			if err := r.Apply(t.Context()); err != nil || r.plan().State != Proved {
				t.Errorf("again: %v", err)
			}
			if string(values(r.hub.objects[secrets+backupName+"east"])["config"]) != config {
				t.Error("the backup has another credential")
			}
		})
	}
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
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		r.spokeHas(rbac+"/clusterroles/"+managerRole, true)
		r.spokeHas(rbac+"/clusterrolebindings/both", true)
		r.spokeHas(rbac+"/clusterrolebindings/managers", false)
		r.says("the binding both: others are in it too")
	})
	t.Run("of an account that pods use only the token goes", func(t *testing.T) {
		r := newRig(t)
		r.account()
		r.spoke.set(core+"pods/one", object{"spec": map[string]any{"serviceAccountName": "argocd-manager"}})
		if err := r.finish(); err != nil {
			t.Fatal(err)
		}
		r.spokeHas(core+"serviceaccounts/argocd-manager", true)
		r.spokeHas(rbac+"/clusterrolebindings/managers", true)
		r.spokeHas(core+"secrets/its-token", false)
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
		r.spokeHas(core+"serviceaccounts/argocd-manager", true)
	})
	t.Run("no way to the cluster stops it", func(t *testing.T) {
		r := newRig(t)
		r.Context = func(string, string) string { return "" }
		if err := r.finish(); err == nil || !strings.Contains(err.Error(), "--spoke-context east=CONTEXT") || r.backups() != 1 {
			t.Errorf("%v", err)
		}
	})
	t.Run("rights go first, and the account before its tokens", func(t *testing.T) {
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
		if !slices.Equal(order, []string{rbac + "/clusterrolebindings/managers", rbac + "/clusterroles/" + managerRole, core + "serviceaccounts/argocd-manager", core + "secrets/its-token"}) {
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
		if err := json.Unmarshal(got, &c); err != nil || c.Username+c.Password+c.BearerToken != "" || c.TLS.KeyData != nil || !hasPlugin(got) {
			t.Errorf("%q becomes %q, %v", config, got, err)
		}
	})
}
