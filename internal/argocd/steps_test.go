package argocd

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

var errLost = errors.New("the connection was lost")

// breaks makes the nth write to both clusters fail, and all that follows: before it was done,
// or after, so that only its answer is lost. It returns whether there was such a write.
func (r *rig) breaks(nth int, done bool) (happened func() bool) {
	n, broken := 0, false
	breaking := func(f *fake) Kube {
		return func(ctx context.Context, method, path string, body any) (answer []byte, err error) {
			if broken {
				return nil, errLost
			}
			asks := strings.HasSuffix(path, "/token") || strings.HasSuffix(path, "reviews")
			if method != http.MethodGet && !asks {
				n++
			}
			if broken = n == nth; broken && !done {
				return nil, errLost
			}
			if answer, err = f.call(ctx, method, path, body); broken {
				return nil, errLost
			}
			return answer, err
		}
	}
	r.Hub = breaking(r.hub)
	spoke := breaking(r.spoke)
	r.Spoke = func(string) Kube { return spoke }
	return func() bool { return broken }
}

func (r *rig) whole() {
	r.Hub = r.hub.call
	r.Spoke = func(string) Kube { return r.spoke.call }
}

// isSafe holds that the credential is in the Secret or in its backup.
func (r *rig) isSafe(when string) {
	r.Helper()
	backup := r.hub.objects[secrets+backupName+"east"]
	if r.config() != config && string(values(backup)["config"]) != config {
		r.Errorf("%s: the old credential is nowhere", when)
	}
}

// eachBreak runs a test once for each write that can be lost.
func eachBreak(t *testing.T, prepare func(r *rig), run func(r *rig) error, after func(r *rig, nth int)) {
	for _, done := range []bool{false, true} {
		for nth := 1; ; nth++ {
			r := newRig(t)
			r.account()
			prepare(r)
			happened := r.breaks(nth, done)
			err := run(r)
			r.whole()
			if !happened() {
				if nth < 3 {
					t.Errorf("there were %d writes", nth-1)
				}
				break
			}
			if err == nil {
				t.Errorf("write %d was lost, and nobody says so", nth)
			}
			after(r, nth)
		}
	}
}

func TestARunThatBreaksAnywhereIsBegunAgain(t *testing.T) {
	apply := func(r *rig) error { return r.Apply(t.Context()) }
	applied := func(r *rig) {
		if err := r.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("apply, apply", func(t *testing.T) {
		eachBreak(t, func(*rig) {}, apply, func(r *rig, nth int) {
			r.isSafe("broken")
			if err := r.Apply(t.Context()); err != nil || r.plan().State != Proved {
				t.Errorf("after write %d: %v, it is %s", nth, err, r.plan().State)
			}
			r.isSafe("again")
		})
	})
	t.Run("apply, rollback", func(t *testing.T) {
		eachBreak(t, func(*rig) {}, apply, func(r *rig, nth int) {
			if err := r.Rollback(t.Context()); err != nil || r.config() != config || r.backups() != 0 {
				t.Errorf("after write %d: %v, %d backups, %s", nth, err, r.backups(), r.config())
			}
		})
	})
	t.Run("rollback, rollback", func(t *testing.T) {
		eachBreak(t, applied, func(r *rig) error { return r.Rollback(t.Context()) }, func(r *rig, nth int) {
			r.isSafe("broken")
			if err := r.Rollback(t.Context()); err != nil || r.config() != config || r.backups() != 0 {
				t.Errorf("after write %d: %v, %d backups, %s", nth, err, r.backups(), r.config())
			}
		})
	})
	t.Run("finish, finish", func(t *testing.T) {
		finish := func(r *rig) error {
			removals, err := r.Removals(t.Context())
			if err != nil {
				return err
			}
			return r.Finish(t.Context(), removals)
		}
		eachBreak(t, applied, finish, func(r *rig, nth int) {
			if err := finish(r); err != nil || r.plan().State != Done {
				t.Errorf("after write %d: %v, it is %s", nth, err, r.plan().State)
			}
			for _, gone := range []string{"/api/v1/namespaces/kube-system/serviceaccounts/argocd-manager", rbac + "/clusterrolebindings/managers", rbac + "/clusterroles/" + managerRole} {
				r.spokeHas(gone, false)
			}
		})
	})
	t.Run("finish, and no way back", func(t *testing.T) {
		eachBreak(t, applied, func(r *rig) error {
			removals, err := r.Removals(t.Context())
			if err != nil {
				return err
			}
			return r.Finish(t.Context(), removals)
		}, func(r *rig, nth int) {
			begun := text(r.hub.objects[secrets+backupName+"east"], "metadata", "annotations", backupStep) == finishing
			err := r.Rollback(t.Context())
			if ours := isOurs([]byte(r.config())); begun && (err == nil || !ours) {
				t.Errorf("after write %d: %v, and a credential is put back whose account goes", nth, err)
			}
		})
	})
}

// A change of a Secret whose answer was lost may have been made: its backup stays.
func TestALostAnswerIsNotTakenForARefusal(t *testing.T) {
	r := newRig(t)
	r.Hub = func(ctx context.Context, method, path string, body any) ([]byte, error) {
		answer, err := r.hub.call(ctx, method, path, body)
		if method == http.MethodPut && path == secrets+"east" {
			return nil, errLost
		}
		return answer, err
	}
	if err := r.Apply(t.Context()); !errors.Is(err, ErrLeft) || r.backups() != 1 {
		t.Errorf("%v, %d backups", err, r.backups())
	}
	r.says("it may name the plugin now: --apply continues")
}

// Whenever a second person comes, and whatever they do, the credential is lost to nobody, and
// what a Secret holds is not dead.
func TestTwoPeopleAtOnce(t *testing.T) {
	finish := func(r *rig) error {
		removals, err := r.Removals(t.Context())
		if err == nil {
			err = r.Finish(t.Context(), removals)
		}
		return err
	}
	does := map[string]func(r *rig) error{
		"apply":    func(r *rig) error { return r.Apply(t.Context()) },
		"rollback": func(r *rig) error { return r.Rollback(t.Context()) },
		"finish":   finish,
	}
	for first, one := range does {
		for second, other := range does {
			t.Run(first+", "+second, func(t *testing.T) {
				for at := 1; ; at++ {
					r := newRig(t)
					r.account()
					if first != "apply" {
						if err := r.Apply(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					n, came := 0, false
					meets := func(f *fake) Kube {
						return func(ctx context.Context, method, path string, body any) ([]byte, error) {
							if n++; n == at {
								came = true
								beside := *r
								beside.whole()
								_ = other(&beside)
							}
							return f.call(ctx, method, path, body)
						}
					}
					r.Hub = meets(r.hub)
					spoke := meets(r.spoke)
					r.Spoke = func(string) Kube { return spoke }
					_ = one(r)
					if !came {
						return
					}
					_, alive := r.spoke.users[forever]
					backup := r.hub.objects[secrets+backupName+"east"]
					step := text(backup, "metadata", "annotations", backupStep)
					switch ours := isOurs([]byte(r.config())); {
					case !ours && r.config() != config:
						t.Errorf("at request %d: the config is %s", at, r.config())
					case !ours && !alive:
						t.Errorf("at request %d: the Secret has a dead credential", at)
					case ours && alive && string(values(backup)["config"]) != config:
						t.Errorf("at request %d: the Secret has the plugin, and there is no way back and no end", at)
					case !alive && backup != nil && step != finishing:
						t.Errorf("at request %d: the account is gone, and the backup is %s", at, step)
					}
				}
			})
		}
	}
}

// A run whose change was refused removes no backup that another run uses by now.
func TestABackupBelongsToTheLastRunThatTookIt(t *testing.T) {
	r := newRig(t)
	row := r.plan()
	first, err := r.keep(t.Context(), row.secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.keep(t.Context(), row.secret, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.unchanged(t.Context(), row, first, errLost); r.backups() != 1 {
		t.Errorf("the backup of another run was removed: %v", err)
	}
}

func TestAnInterruptionLeavesItAsItIs(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.compare = func(object) { cancel() }
	if err := r.Apply(ctx); err == nil || !strings.Contains(err.Error(), "interrupted at east: --apply continues, --rollback goes back") || r.plan().State != Replaced {
		t.Errorf("%v, it is %s", err, r.plan().State)
	}
	if said := strings.Join(r.said, "\n"); strings.Contains(said, "canceled") || strings.Contains(said, "FAILED") {
		t.Error("an interruption is told as a failure")
	}
}

func TestAnInterruptedRollbackSaysSo(t *testing.T) {
	r := newRig(t)
	if err := r.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.compare = func(object) { cancel() }
	if err := r.Rollback(ctx); err == nil || !strings.Contains(err.Error(), "interrupted at east: --rollback puts back what is left") || strings.Contains(strings.Join(r.said, "\n"), "FAILED") {
		t.Errorf("%v", err)
	}
}

func TestACopyThatFitsNothingIsShown(t *testing.T) {
	r := newRig(t)
	if err := r.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.cluster("east", `{"execProviderConfig":{"command":"other"}}`)
	if got := r.plan(); got.State != Other || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "a copy of a config in the Secret signalbox-migration-east") {
		t.Errorf("%+v", got)
	}
	if err := r.Rollback(t.Context()); !errors.Is(err, ErrLeft) || r.backups() != 1 {
		t.Errorf("%v", err)
	}
	r.says("could not be put back, and is still kept in the Secret signalbox-migration-east")
}

func TestWhatSomebodyPutsThereMeanwhileIsNotProved(t *testing.T) {
	r := newRig(t)
	r.compare = func(object) { // GitOps comes, and Argo CD compares with what it has put there
		if isOurs([]byte(r.config())) {
			r.cluster("east", config)
		}
	}
	if err := r.Apply(t.Context()); !errors.Is(err, ErrLeft) || r.plan().State != Static || r.backups() != 0 {
		t.Errorf("%v, it is %s, %d backups", err, r.plan().State, r.backups())
	}
	r.says("somebody has put another config there meanwhile")
}

func TestTheLastStepDoesWhatWasShownAndNothingElse(t *testing.T) {
	for sentence, change := range map[string]func(r *rig){
		"somebody else gets the role": func(r *rig) { r.bind("later", managerRole, map[string]any{"kind": "User", "name": "ada"}) },
		"somebody else gets into a binding": func(r *rig) {
			members(r.spoke.objects[rbac+"/clusterrolebindings/managers"])["subjects"] = append(r.spoke.objects[rbac+"/clusterrolebindings/managers"]["subjects"].([]any), map[string]any{"kind": "User", "name": "ada"})
		},
		"a pod runs with it": func(r *rig) {
			r.spoke.set("/api/v1/namespaces/kube-system/pods/one", object{"spec": map[string]any{"serviceAccountName": "argocd-manager"}})
		},
		"the old credential is there again": func(r *rig) { r.cluster("east", config) },
		"somebody has gone back":            func(r *rig) { _ = r.Rollback(r.T.Context()) },
		"another Secret has a token of it":  func(r *rig) { r.cluster("later", config) },
		"another Secret has a token of it that ends soon": func(r *rig) {
			ends := strconv.FormatInt(r.Now().Add(time.Hour).Unix(), 10)
			r.cluster("later", `{"bearerToken":"`+jwt(`{"sub":"`+manager+`","uid":"uid-of-manager","exp":`+ends+`}`)+`"}`)
		},
		"another one by another way, has it": func(r *rig) {
			r.cluster("later", config)
			members(r.hub.objects[secrets+"later"], "data")["server"] = "aHR0cHM6Ly9hbGlhczo2NDQz"
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newRig(t)
			r.account()
			if err := r.Apply(t.Context()); err != nil {
				t.Fatal(err)
			}
			removals, err := r.Removals(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			change(r)
			if err := r.Finish(t.Context(), removals); err == nil {
				t.Error("it was done")
			}
			for _, asked := range r.spoke.asked {
				if strings.HasPrefix(asked, http.MethodDelete) {
					t.Error(asked)
				}
			}
		})
	}
}

func TestAnOldCredentialIsShownToItsOwnClusterAlone(t *testing.T) {
	r := newRig(t)
	r.account()
	if err := r.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	delete(r.spoke.users, "token for spoke") // it is another cluster that the context leads to
	r.spoke.sent = nil
	_, err := r.Removals(t.Context())
	if err == nil || !strings.Contains(err.Error(), "nothing proves that the context spoke is the right one") {
		t.Errorf("%v", err)
	}
	if strings.Contains(strings.Join(r.spoke.sent, " "), forever) {
		t.Error("it was shown the old token")
	}
}

// What only runs at night has no pod now.
func TestAnAccountThatAWorkloadNamesStays(t *testing.T) {
	pod := map[string]any{"spec": map[string]any{"serviceAccountName": "argocd-manager"}}
	for path, o := range map[string]object{
		"/apis/apps/v1/namespaces/kube-system/deployments/one":  {"spec": map[string]any{"template": pod}},
		"/apis/apps/v1/namespaces/kube-system/statefulsets/one": {"spec": map[string]any{"template": pod}},
		"/apis/apps/v1/namespaces/kube-system/daemonsets/one":   {"spec": map[string]any{"template": pod}},
		"/apis/batch/v1/namespaces/kube-system/jobs/one":        {"spec": map[string]any{"template": pod}},
		"/apis/batch/v1/namespaces/kube-system/cronjobs/one":    {"spec": map[string]any{"jobTemplate": map[string]any{"spec": map[string]any{"template": pod}}}},
	} {
		r := newRig(t)
		r.account()
		r.spoke.set(path, o)
		if err := r.finish(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		r.spokeHas("/api/v1/namespaces/kube-system/serviceaccounts/argocd-manager", true)
		r.spokeHas(rbac+"/clusterrolebindings/managers", true)
		r.spokeHas("/api/v1/namespaces/kube-system/secrets/its-token", false)
		r.says("kube-system/one runs with it")
	}
}

// A last step that was interrupted keeps the copy by which it can go on.
func TestTheCopyOfALastStepThatWasInterruptedStays(t *testing.T) {
	for _, later := range []string{config, `{"bearerToken":"a newer one"}`} {
		r := newRig(t)
		r.account()
		r.spoke.before = nil // the cluster still accepts the old token
		if err := r.finish(); err == nil {
			t.Fatal("it was finished")
		}
		r.cluster("east", later)
		if err := r.Apply(t.Context()); err == nil || r.backups() != 1 || r.config() != later {
			t.Errorf("%v, %d backups, %s", err, r.backups(), r.config())
		}
		r.says("the last step has begun")
	}
}

// A pod that names no account runs with the one that is called default.
func TestTheDefaultAccountIsOfWhoeverNamesNone(t *testing.T) {
	r := newRig(t)
	k := Kube(r.spoke.call)
	r.spoke.set("/apis/batch/v1/namespaces/kube-system/cronjobs/nightly", object{"spec": map[string]any{"jobTemplate": map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{}}}}}})
	for account, want := range map[string]string{"default": "CronJob kube-system/nightly", "argocd-manager": ""} {
		if got, err := k.runs(t.Context(), "kube-system", account); err != nil || got != want {
			t.Errorf("%s: %q, %v", account, got, err)
		}
	}
}

func TestABackupOfADeletedSecretIsNotUsed(t *testing.T) {
	r := newRig(t)
	if err := r.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := r.config()
	delete(r.hub.objects, secrets+"east")
	r.cluster("east", now) // the same name, and another uid
	if got := r.plan(); got.State != Done {
		t.Errorf("it is %s", got.State)
	}
	r.cluster("east", `{"bearerToken":"a newer one"}`)
	if err := r.Rollback(t.Context()); err != nil || r.config() != `{"bearerToken":"a newer one"}` {
		t.Errorf("%v, %s", err, r.config())
	}
}

func TestASecretThatIsInTheWayIsNotTouched(t *testing.T) {
	r := newRig(t)
	r.hub.set(secrets+backupName+"east", object{"data": map[string]any{"precious": "MQ=="}})
	if err := r.Apply(t.Context()); !errors.Is(err, ErrLeft) || r.config() != config || text(r.hub.objects[secrets+backupName+"east"], "data", "precious") != "MQ==" {
		t.Errorf("%v, %s", err, r.config())
	}
}
