package argocd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// settle is how long Argo CD may take to hear of a changed Secret. What it compares
	// before may be with the old credential.
	settle = 10 * time.Second
	poll   = 2 * time.Second
	// patience is how often one application may answer with an error: a cluster that is
	// listed again answers with one at first.
	patience = 3
)

// prove asks Argo CD to look at each application of a cluster again, and returns when each
// is as it was before or better, by a comparison that began after the change.
func (m *Migration) prove(ctx context.Context, r Row, before map[string]app) error {
	if len(before) == 0 {
		return nil
	}
	if err := m.Sleep(ctx, settle); err != nil {
		return err
	}
	deadline := m.Now().Add(m.Wait)
	asked, proved, failed := map[string]bool{}, map[string]bool{}, map[string]int{}
	for {
		now, err := m.apps(ctx, r)
		if err != nil {
			return err
		}
		waits := ""
		for _, n := range names(before) {
			a, there := now[n]
			if !there || proved[n] { // it was removed meanwhile
				continue
			}
			switch problem, wrong := a.against(before[n]); {
			case !asked[n]:
				if err := m.refresh(ctx, n); err != nil {
					return err
				}
				asked[n], waits = true, n+" was not looked at"
			case a.refreshing || a.Reconciled == before[n].Reconciled:
				waits = n + " was not looked at: does the application controller run?"
			case problem == "":
				proved[n] = true
				m.told(r.Secret, "%s is %s and %s", n, a.Sync, a.Health)
			case wrong:
				if failed[n]++; failed[n] == patience {
					return fmt.Errorf("the application %s does not sync: %s", n, problem)
				}
				asked[n], waits = false, n+": "+problem
			default:
				waits = n + ": " + problem
			}
		}
		switch {
		case waits == "":
			return nil
		case !m.Now().Before(deadline):
			return fmt.Errorf("after %s not every application syncs: %s", m.Wait, waits)
		}
		if err := m.Sleep(ctx, poll); err != nil {
			return err
		}
	}
}

// against compares with how the application was. wrong says that Argo CD failed, and not
// only found another state.
func (a app) against(before app) (problem string, wrong bool) {
	for _, kind := range a.Errors {
		if !slices.Contains(before.Errors, kind) {
			return a.said, true
		}
	}
	if a.Sync != before.Sync && a.Sync != "Synced" || a.Health != before.Health && a.Health != "Healthy" {
		return fmt.Sprintf("it is %s and %s, and was %s and %s", a.Sync, a.Health, before.Sync, before.Health), a.Sync == "Unknown"
	}
	return "", false
}

// refresh asks Argo CD to look at an application again.
func (m *Migration) refresh(ctx context.Context, application string) error {
	in, named, _ := strings.Cut(application, "/")
	path := applicationsAPI + "/namespaces/" + url.PathEscape(in) + "/applications/" + url.PathEscape(named)
	for {
		o, err := m.Hub.get(ctx, path)
		if errors.Is(err, ErrMissing) {
			return nil
		}
		if err != nil {
			return err
		}
		annotate(o, refreshAsked, "hard")
		// Argo CD writes into the same object all the time.
		if _, err := m.Hub.put(ctx, path, o); !errors.Is(err, ErrConflict) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
