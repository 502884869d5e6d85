package authority

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Changes says what differs between two states of an object, for the journal.
// Of a list each member that came or went is one change. Secrets and passwords
// are shown as hashes. The zero value stands for an object that is not there.
func (r Registry[T]) Changes(before, after T) (changes []Change) {
	was, is := r.members(before), r.members(after)
	names := maps.Clone(was)
	maps.Copy(names, is)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if bytes.Equal(was[name], is[name]) {
			continue
		}
		old, isList := listed(name, was[name])
		next, isListToo := listed(name, is[name])
		if isList || isListToo {
			changes = append(changes, cameAndWent(name, old, next)...)
		} else if old, next := shown(name, was[name]), shown(name, is[name]); old != next {
			changes = append(changes, Change{name, old, next})
		}
	}
	return changes
}

// members are those of the stored form, without the id, which never changes.
func (r Registry[T]) members(v T) map[string]json.RawMessage {
	o, _ := r.write(v)
	members := map[string]json.RawMessage{}
	_ = json.Unmarshal(o.Body, &members) // we have just written it
	for _, id := range []string{"client_id", "id", "sub"} {
		delete(members, id)
	}
	if r.kind != KindUser { // where it is what people read
		delete(members, "name")
	}
	return members
}

// listed gives the members of a list; scope is one, of words.
func listed(name string, value json.RawMessage) (list []string, is bool) {
	switch {
	case name == "scope":
		return strings.Fields(shown(name, value)), true
	case !bytes.HasPrefix(value, []byte("[")):
		return nil, false
	}
	var members []json.RawMessage
	_ = json.Unmarshal(value, &members)
	for _, m := range members {
		list = append(list, shown(name, m))
	}
	return list, true
}

func cameAndWent(name string, old, next []string) (changes []Change) {
	for _, v := range old {
		if !slices.Contains(next, v) {
			changes = append(changes, Change{Field: name, Old: v})
		}
	}
	for _, v := range next {
		if !slices.Contains(old, v) {
			changes = append(changes, Change{Field: name, New: v})
		}
	}
	return changes
}

// shown is one value in the journal.
func shown(name string, value json.RawMessage) string {
	var secret storedSecret
	if name == "client_secrets" && json.Unmarshal(value, &secret) == nil {
		text := "sha256:" + secret.SHA256[:min(len(secret.SHA256), 32)]
		if !secret.ExpiresAt.IsZero() {
			text += " until " + secret.ExpiresAt.UTC().Format("2006-01-02T15:04:05Z")
		}
		return text
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		text = string(value)
	}
	if text != "" && (name == "password_hash" || name == "claims") { // the journal is kept; what is known of a person is not for it
		sum := sha256.Sum256([]byte(text))
		return "sha256:" + hex.EncodeToString(sum[:16])
	}
	return text
}

// WithChanges puts changes into an event, and what does not fit into further
// events like it.
func (e Event) WithChanges(changes []Change) []Event {
	var events []Event
	for part := range slices.Chunk(changes, MaxChanges) {
		e.Changes = part
		events = append(events, e)
	}
	if events == nil {
		events = []Event{e}
	}
	return events
}

// ObjectChange is what differs of one object between two files.
type ObjectChange struct {
	Kind    Kind
	ID      string
	How     string // added, changed or removed
	Changes []Change
}

// ChangesSince says what differs from the file before, sorted, as Registry.Changes does.
func (d *StaticObjects) ChangesSince(before *StaticObjects) []ObjectChange {
	return slices.Concat(
		changed(Clients(nil), before.Clients, d.Clients),
		changed(Users(nil), before.Users, d.Users),
		changed(Resources(nil), before.Resources, d.Resources),
		changed(Clusters(nil), before.Clusters, d.Clusters),
		changed(Registry[TrustedIssuer]{kind: KindTrustedIssuer, write: TrustedIssuer.object}, before.TrustedIssuers, d.TrustedIssuers),
		changed(Registry[Policy]{kind: KindPolicy, write: Policy.object}, before.Policies, d.Policies),
	)
}

func changed[T any](r Registry[T], before, after map[string]T) (list []ObjectChange) {
	ids := maps.Clone(before)
	if ids == nil {
		ids = map[string]T{}
	}
	maps.Copy(ids, after)
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		was, wasThere := before[id]
		is, isThere := after[id]
		how := "changed"
		switch {
		case !wasThere:
			how = "added"
		case !isThere:
			how = "removed"
		}
		if changes := r.Changes(was, is); len(changes) > 0 || how != "changed" {
			list = append(list, ObjectChange{r.kind, id, how, changes})
		}
	}
	return list
}
