package argocd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// ErrLeft says that a Secret is as it was before, or that nothing proves it yet. Why was told.
var ErrLeft = errors.New("not every cluster Secret was migrated")

// Apply migrates what is ready, one Secret after another, and proves what an interrupted run
// has replaced. A Secret that cannot be proved gets its credential back, and the next one is
// tried.
func (m *Migration) Apply(ctx context.Context) error {
	rows, err := m.Plan(ctx)
	if err != nil {
		return err
	}
	left := false
	for _, r := range rows {
		switch {
		case r.State == Replaced:
			err = m.resume(ctx, r)
		case r.Ready():
			err = m.migrate(ctx, r)
		case len(r.Missing) > 0:
			left = true
			for _, lack := range r.Missing {
				m.told(r.Secret, "not touched: %s. %s", lack.What, lack.Fix)
			}
			continue
		default:
			continue
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted at %s: --apply continues, --rollback goes back", r.Secret)
		}
		if err != nil {
			left = true
			m.told(r.Secret, "FAILED: %v", err)
		}
	}
	if left {
		return ErrLeft
	}
	return nil
}

func (m *Migration) migrate(ctx context.Context, r Row) error {
	apps, err := m.apps(ctx, r)
	if err != nil {
		return err
	}
	works, err := m.check(ctx, r, apps)
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	compared := func(n string) bool { return apps[n].Sync == "Synced" || apps[n].Sync == "OutOfSync" }
	if !works && !slices.ContainsFunc(names(apps), compared) {
		return errors.New("nothing was changed: no application that Argo CD can compare deploys there, and nothing else proves from here that it would work")
	}
	o, err := m.Hub.get(ctx, m.secretPath(r.Secret))
	if err != nil {
		return err
	}
	if text(o, "metadata", "resourceVersion") != text(r.secret, "metadata", "resourceVersion") {
		return errors.New("nothing was changed: somebody has changed it since this run began; begin again")
	}
	backup, err := m.keep(ctx, o, apps)
	if err != nil {
		return fmt.Errorf("nothing was changed: the backup cannot be made: %w", err)
	}
	m.told(r.Secret, "its credential is kept in the Secret %s", name(backup))
	if err := m.toPlugin(ctx, r, o); err != nil {
		return m.unchanged(ctx, r, backup, err)
	}
	m.told(r.Secret, "it names the plugin now; waiting for %d applications", len(apps))
	return m.proveOrGoBack(ctx, r, backup, apps)
}

// unchanged removes the backup of a change that was not made. Where it may have been made, as
// when an answer does not arrive, the backup stays.
func (m *Migration) unchanged(ctx context.Context, r Row, backup object, cause error) error {
	is, err := m.hasPlugin(ctx, r)
	if err != nil || is {
		return fmt.Errorf("it may name the plugin now: --apply continues, --rollback goes back: %w", errors.Join(cause, err))
	}
	return fmt.Errorf("nothing was changed: %w", errors.Join(cause, m.Hub.remove(ctx, m.secretPath(name(backup)), backup)))
}

func (m *Migration) hasPlugin(ctx context.Context, r Row) (bool, error) {
	o, err := m.Hub.get(ctx, m.secretPath(r.Secret))
	if err != nil {
		return false, err
	}
	_, is := pluginOf(values(o)["config"])
	return is, nil
}

// resume proves what an interrupted run has replaced.
func (m *Migration) resume(ctx context.Context, r Row) error {
	apps, err := appsBefore(r.backup)
	if err != nil {
		return err
	}
	backup, err := m.take(ctx, r.backup, kept)
	if err != nil {
		return err
	}
	m.told(r.Secret, "it names the plugin since an earlier run; waiting for %d applications", len(apps))
	return m.proveOrGoBack(ctx, r, backup, apps)
}

// appsBefore are the applications as they were when the backup was made.
func appsBefore(backup object) (apps map[string]app, err error) {
	if json.Unmarshal(values(backup)["applications"], &apps) != nil {
		return nil, errors.New("the backup does not say how the applications were: go back with --rollback")
	}
	return apps, nil
}

func (m *Migration) proveOrGoBack(ctx context.Context, r Row, backup object, before map[string]app) error {
	err := m.prove(ctx, r, before)
	if err == nil {
		var is bool
		if is, err = m.hasPlugin(ctx, r); err == nil && !is {
			err = errors.New("somebody has put another config there meanwhile: who?")
		}
	}
	switch {
	case err == nil:
		if _, err := m.take(ctx, backup, proved); err != nil {
			return err
		}
		m.told(r.Secret, "done: until --finish, --rollback goes back")
		return nil
	case ctx.Err() != nil: // somebody interrupts: what was done stays, and is known
		return err
	}
	m.told(r.Secret, "%v", err)
	if err := m.goBack(ctx, r, backup); err != nil {
		return err
	}
	return errors.New("it has its old credential, since the new one did not work")
}

// goBack puts the credential back, and then removes the backup.
func (m *Migration) goBack(ctx context.Context, r Row, backup object) error {
	backup, err := m.take(ctx, backup, returning)
	if err != nil {
		return err
	}
	if err := m.toCredential(ctx, r.Secret, backup); err != nil {
		return fmt.Errorf("its old credential could not be put back, and is still kept in the Secret %s: %w", name(backup), err)
	}
	if err := m.Hub.remove(ctx, m.secretPath(name(backup)), backup); err != nil {
		return fmt.Errorf("its old credential was put back, but the copy is still there: --rollback removes it: %w", err)
	}
	m.told(r.Secret, "its old credential was put back")
	apps, err := m.apps(ctx, r)
	for n := range apps {
		err = errors.Join(err, m.refresh(ctx, n))
	}
	if err != nil {
		m.told(r.Secret, "Argo CD could not be asked to look again: %v", err)
	}
	return nil
}

// Rollback puts every credential back that is in a backup, and waits until the applications
// are as they were.
func (m *Migration) Rollback(ctx context.Context) error {
	rows, err := m.Plan(ctx)
	if err != nil {
		return err
	}
	left := false
	for _, r := range rows {
		if r.backup == nil {
			continue
		}
		err := m.rollback(ctx, r)
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted at %s: --rollback puts back what is left", r.Secret)
		}
		if err != nil {
			left = true
			m.told(r.Secret, "FAILED: %v", err)
		}
	}
	if left {
		return ErrLeft
	}
	return nil
}

func (m *Migration) rollback(ctx context.Context, r Row) error {
	if r.State == Ending {
		return errors.New("the last step has begun, and the old credential is perhaps dead: --finish continues")
	}
	before, unknown := appsBefore(r.backup)
	if err := m.goBack(ctx, r, r.backup); err != nil || unknown != nil {
		return errors.Join(err, unknown)
	}
	m.told(r.Secret, "waiting for %d applications", len(before))
	return m.prove(ctx, r, before)
}
