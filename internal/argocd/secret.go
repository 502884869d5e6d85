package argocd

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/agent/secret"
	"github.com/signalbox-sts/signalbox/internal/doctor"
)

// What a backup says about itself.
const (
	backupLabel = doctor.KeptConfig
	backupOf    = "signalbox.dev/secret" // annotation: the cluster Secret
	backupStep  = "signalbox.dev/step"   // annotation: one of the steps
	backupSince = "signalbox.dev/since"  // annotation: when it came to this step
	backupName  = "signalbox-migration-"
	longestName = 253
	lastApplied = "kubectl.kubernetes.io/last-applied-configuration"
)

// The steps of a migration. Each begins by take, so one run alone is in it.
const (
	kept      = "kept"      // the old credential is kept, and perhaps replaced
	proved    = "proved"    // every application was seen to sync
	returning = "returning" // the old credential is being put back
	finishing = "finishing" // the old account is being removed: there is no way back
)

// withPlugin is the config of a cluster Secret with the credential plugin in the place
// of every credential. All that says how to reach the server stays.
func withPlugin(config []byte, args []string) ([]byte, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(config, &members) != nil || members == nil {
		return nil, errors.New("its config is not a JSON object")
	}
	without(members, "username", "password", "bearerToken", "awsAuthConfig", "execProviderConfig")
	for name, raw := range members {
		if !strings.EqualFold(name, "tlsClientConfig") {
			continue
		}
		var tls map[string]json.RawMessage
		if json.Unmarshal(raw, &tls) != nil {
			return nil, errors.New("its tlsClientConfig is not a JSON object")
		}
		without(tls, "certData", "keyData")
		members[name], _ = json.Marshal(tls)
	}
	members["execProviderConfig"], _ = json.Marshal(secret.NewArgoCDConfig(args, "").Exec)
	text, err := json.Marshal(members)
	if _, is := pluginOf(text); err == nil && !is {
		err = errors.New("its config is not one that Argo CD reads")
	}
	return text, err
}

// without removes members in whatever case: Argo CD's parser does not tell them apart.
func without(members map[string]json.RawMessage, names ...string) {
	maps.DeleteFunc(members, func(member string, _ json.RawMessage) bool {
		return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, member) })
	})
}

// pluginOf is the registered cluster that a config tells our plugin. is says whether it names our plugin.
func pluginOf(config []byte) (cluster string, is bool) {
	var c secret.ArgoCDConfig
	if json.Unmarshal(config, &c) != nil || len(c.Exec.Args) == 0 || c.Exec.Args[0] != secret.PluginArgs(secret.Target{})[0] {
		return "", false
	}
	if i := slices.Index(c.Exec.Args, "--cluster"); i >= 0 && i+1 < len(c.Exec.Args) {
		cluster = c.Exec.Args[i+1]
	}
	return cluster, true
}

// keep makes the backup: the config of a cluster Secret, and how its applications are. It is
// deleted with its Secret: a credential must not outlive the cluster that it was for.
func (m *Migration) keep(ctx context.Context, of object, apps map[string]app) (object, error) {
	before, err := json.Marshal(apps)
	if err != nil {
		return nil, err
	}
	config, uid := values(of)["config"], text(of, "metadata", "uid")
	o := map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true,
		"metadata": map[string]any{
			"name": backupName + name(of), "namespace": m.Namespace,
			"labels":          map[string]string{backupLabel: "backup"},
			"annotations":     map[string]string{backupOf: name(of), backupStep: kept, backupSince: m.Now().UTC().Format(time.RFC3339Nano)},
			"ownerReferences": []any{map[string]any{"apiVersion": "v1", "kind": "Secret", "name": name(of), "uid": uid}},
		},
		"data": map[string][]byte{"config": config, "applications": before},
	}
	made, err := m.Hub.post(ctx, m.secretPath(""), o)
	if !errors.Is(err, ErrConflict) {
		return made, err
	}
	old, err := m.Hub.get(ctx, m.secretPath(backupName+name(of)))
	if err != nil {
		return nil, err
	}
	if isBackupOf(old, of) && text(old, "metadata", "annotations", backupStep) == finishing {
		// It is all that says whose account is being removed.
		return nil, fmt.Errorf("the last step has begun for the credential before this one: put the plugin's config back and run --finish first; %s keeps the old one", name(old))
	}
	if isBackupOf(old, of) && string(values(old)["config"]) == string(config) {
		return m.take(ctx, old, kept) // an interrupted run has made it
	}
	if text(old, "metadata", "labels", backupLabel) == "" {
		return nil, fmt.Errorf("there is a Secret %s that is something else", name(old))
	}
	m.told(name(of), "the copy of an older config is replaced")
	if err := m.Hub.remove(ctx, m.secretPath(name(old)), old); err != nil {
		return nil, err
	}
	return m.Hub.post(ctx, m.secretPath(""), o)
}

// isBackupOf says whether a backup is of this very Secret, and not of one that had its name.
func isBackupOf(backup, o object) bool {
	owners := list(backup, "metadata", "ownerReferences")
	return len(owners) == 1 && text(owners[0], "uid") == text(o, "metadata", "uid")
}

var errTaken = errors.New("another run works on it: look at the plan again")

// take begins a step. Of several runs that have read the same backup exactly one succeeds;
// the others get errTaken and have changed nothing.
func (m *Migration) take(ctx context.Context, backup object, step string) (object, error) {
	annotate(backup, backupStep, step)
	annotate(backup, backupSince, m.Now().UTC().Format(time.RFC3339Nano))
	taken, err := m.Hub.put(ctx, m.secretPath(name(backup)), backup)
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrMissing) {
		return nil, errTaken
	}
	return taken, err
}

// errChanged is an edit of somebody else, which is never lost.
var errChanged = errors.New("somebody else has changed it meanwhile, and it is left as it is")

// write gives a cluster Secret another config, if nobody has changed anything in it since it was read.
func (m *Migration) write(ctx context.Context, o object, config []byte) error {
	members(o, "data")["config"] = base64.StdEncoding.EncodeToString(config)
	// It repeats what was applied last, with the credential in it.
	delete(members(o, "metadata", "annotations"), lastApplied)
	_, err := m.Hub.put(ctx, m.secretPath(name(o)), o)
	return err
}

// toPlugin replaces the credential in a Secret that was read before its backup was made. It
// must not read it again: a run that comes late would undo that another one has gone back.
func (m *Migration) toPlugin(ctx context.Context, r Row, o object) error {
	config, err := withPlugin(values(o)["config"], m.PluginArgs(r.Cluster))
	if err == nil {
		err = m.write(ctx, o, config)
	}
	if errors.Is(err, ErrConflict) {
		return errChanged
	}
	return err
}

// toCredential puts back what was kept, where our plugin is.
func (m *Migration) toCredential(ctx context.Context, secretName string, backup object) error {
	old := values(backup)["config"]
	for range 5 {
		o, err := m.Hub.get(ctx, m.secretPath(secretName))
		if err != nil {
			return err
		}
		now := values(o)["config"]
		switch _, ours := pluginOf(now); {
		case string(now) == string(old): // a run that is late finds that it has changed
			annotate(o, "signalbox.dev/migration-undone", m.Now().UTC().Format(time.RFC3339Nano))
			_, err = m.Hub.put(ctx, m.secretPath(secretName), o)
		case ours:
			err = m.write(ctx, o, old)
		default:
			return errChanged
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("somebody changes it all the time: %w", ErrConflict)
}
