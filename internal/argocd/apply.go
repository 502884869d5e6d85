package argocd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
		case r.State == Static:
			left = true
			for _, lack := range r.Missing {
				m.told(r.Secret, "not touched: %s. %s", lack.What, lack.Fix)
			}
			continue
		default:
			continue
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted at %s: --apply goes on with it, --rollback goes back", r.Secret)
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
	proved, err := m.check(ctx, r, apps)
	if err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	if !proved && len(apps) == 0 {
		return errors.New("nothing was changed: no application deploys there, and nothing else proves from here that it would work")
	}
	o, err := m.Hub.get(ctx, m.secretPath(r.Secret))
	if err != nil {
		return err
	}
	backup, err := m.backup(ctx, o, apps)
	if err != nil {
		return fmt.Errorf("nothing was changed: the backup cannot be made: %w", err)
	}
	m.told(r.Secret, "its credential is kept in the Secret %s", name(backup))
	if err := m.toPlugin(ctx, r, backup); err != nil {
		return fmt.Errorf("nothing was changed: %w", errors.Join(err, m.Hub.remove(ctx, m.secretPath(name(backup)), backup)))
	}
	m.told(r.Secret, "it names the plugin now; waiting for %d applications", len(apps))
	return m.proveOrGoBack(ctx, r, backup, apps)
}

// resume proves what an interrupted run has replaced.
func (m *Migration) resume(ctx context.Context, r Row) error {
	apps, err := appsBefore(r.backup)
	if err != nil {
		return err
	}
	m.told(r.Secret, "it names the plugin since an earlier run; waiting for %d applications", len(apps))
	return m.proveOrGoBack(ctx, r, r.backup, apps)
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
		if err = m.mark(ctx, backup); err == nil {
			m.told(r.Secret, "done: until --finish, --rollback goes back")
		}
		return err
	}
	if ctx.Err() != nil { // somebody interrupts: what was done stays, and is known
		return err
	}
	m.told(r.Secret, "%v", err)
	if back := m.goBack(ctx, r, backup); back != nil {
		return fmt.Errorf("it has the plugin still, its credential could not be put back: %w", back)
	}
	return errors.New("its old credential was put back, since the new one did not work")
}

// goBack puts the credential back, and then removes the backup.
func (m *Migration) goBack(ctx context.Context, r Row, backup object) error {
	if err := m.toCredential(ctx, r.Secret, backup); err != nil {
		return err
	}
	latest, err := m.Hub.get(ctx, m.secretPath(name(backup)))
	if err == nil {
		err = m.Hub.remove(ctx, m.secretPath(name(latest)), latest)
	}
	if err != nil && !errors.Is(err, ErrMissing) {
		return err
	}
	apps, err := m.apps(ctx, r)
	for n := range apps {
		err = errors.Join(err, m.refresh(ctx, n))
	}
	return err
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
		before, err := appsBefore(r.backup)
		if err != nil {
			m.told(r.Secret, "%v", err)
		}
		if err = m.goBack(ctx, r, r.backup); err == nil {
			m.told(r.Secret, "its old credential was put back; waiting for %d applications", len(before))
			err = m.prove(ctx, r, before)
		}
		if ctx.Err() != nil {
			return ctx.Err()
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
