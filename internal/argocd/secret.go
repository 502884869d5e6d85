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

	"github.com/signalbox-sts/signalbox/internal/agent/secret"
)

// What a backup says about itself.
const (
	backupLabel = "signalbox.dev/argocd-migration"
	backupOf    = "signalbox.dev/secret" // annotation: the cluster Secret
	provedAt    = "signalbox.dev/proved" // annotation: when every application was seen to sync
	backupName  = "signalbox-migration-"
	longestName = 253
	lastApplied = "kubectl.kubernetes.io/last-applied-configuration"
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
	if err == nil && !hasPlugin(text) {
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

// hasPlugin says whether a config names our plugin.
func hasPlugin(config []byte) bool {
	var c secret.ArgoCDConfig
	return json.Unmarshal(config, &c) == nil && len(c.Exec.Args) > 0 && c.Exec.Args[0] == secret.PluginArgs(secret.Target{})[0]
}

// backup keeps the config of a cluster Secret, and how its applications are. It goes
// with its Secret: a credential must not outlive the cluster that it was for.
func (m *Migration) backup(ctx context.Context, of object, apps map[string]app) (object, error) {
	before, err := json.Marshal(apps)
	if err != nil {
		return nil, err
	}
	config := values(of)["config"]
	o := map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true,
		"metadata": map[string]any{
			"name": backupName + name(of), "namespace": m.Namespace,
			"labels":          map[string]string{backupLabel: "backup"},
			"annotations":     map[string]string{backupOf: name(of)},
			"ownerReferences": []any{map[string]any{"apiVersion": "v1", "kind": "Secret", "name": name(of), "uid": text(of, "metadata", "uid")}},
		},
		"data": map[string][]byte{"config": config, "applications": before},
	}
	made, err := m.Hub.post(ctx, m.secretPath(""), o)
	if !errors.Is(err, ErrConflict) {
		return made, err
	}
	// A run was interrupted before it replaced anything: its backup may be of an older config.
	old, err := m.Hub.get(ctx, m.secretPath(backupName+name(of)))
	if err != nil {
		return nil, err
	}
	if err := m.Hub.remove(ctx, m.secretPath(name(old)), old); err != nil {
		return nil, err
	}
	return m.Hub.post(ctx, m.secretPath(""), o)
}

// replace changes the config of a cluster Secret, and nothing that somebody else changes
// meanwhile. change says what the config becomes.
func (m *Migration) replace(ctx context.Context, secretName string, change func(now []byte) ([]byte, error)) error {
	for range 5 {
		o, err := m.Hub.get(ctx, m.secretPath(secretName))
		if err != nil {
			return err
		}
		config, err := change(values(o)["config"])
		if err != nil {
			return err
		}
		data, _ := at(o, "data").(map[string]any)
		data["config"] = base64.StdEncoding.EncodeToString(config)
		// It repeats what was applied last, with the credential in it.
		if annotations, is := at(o, "metadata", "annotations").(map[string]any); is {
			delete(annotations, lastApplied)
		}
		if err := m.Hub.put(ctx, m.secretPath(secretName), o); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("somebody changes it all the time: %w", ErrConflict)
}

var errChanged = errors.New("its config was changed by somebody else meanwhile, and is left as it is")

// toPlugin replaces the config that was backed up, and no other.
func (m *Migration) toPlugin(ctx context.Context, r Row, backup object) error {
	old := string(values(backup)["config"])
	return m.replace(ctx, r.Secret, func(now []byte) ([]byte, error) {
		if string(now) != old {
			return nil, errChanged
		}
		return withPlugin(now, m.PluginArgs(r.Cluster))
	})
}

// toCredential puts back what was backed up, where our plugin is.
func (m *Migration) toCredential(ctx context.Context, secretName string, backup object) error {
	return m.replace(ctx, secretName, func(now []byte) ([]byte, error) {
		if !hasPlugin(now) {
			return nil, errChanged
		}
		return values(backup)["config"], nil
	})
}

// mark says that the applications were seen to sync.
func (m *Migration) mark(ctx context.Context, backup object) error {
	o, err := m.Hub.get(ctx, m.secretPath(name(backup)))
	if err != nil {
		return err
	}
	annotations, _ := at(o, "metadata", "annotations").(map[string]any)
	if annotations == nil {
		return errChanged
	}
	annotations[provedAt] = m.Now().UTC().Format("2006-01-02T15:04:05Z")
	return m.Hub.put(ctx, m.secretPath(name(backup)), o)
}
