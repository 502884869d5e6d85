package authority

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Declaration is what a configuration file declares, as far as other nodes and
// later starts have to know. Nodes share a store, and each has its own copy of
// the file.
type Declaration struct {
	// Revision counts the files that were in force. The store gives it.
	Revision int64
	// Content names all that the file declares: it is the same wherever the file
	// is the same, and says nothing about the secrets in it.
	Content [32]byte
	// Digests are of what tokens depend on, by the kind of epoch that ends them
	// and its key: words, of which none may go. One more ends nothing.
	Digests map[RevocationKind]map[string]string
	// Node is who declared it.
	Node string
	// At is when. What it ends is what was issued at or before this moment.
	At time.Time
}

// SupersededError refuses content that was in force once and has been replaced
// by another node: this node's file is an old one.
type SupersededError struct {
	Current Declaration // what is in force
}

func (e *SupersededError) Error() string {
	return fmt.Sprintf("it was in force before, and node %s replaced it on %s (revision %d)",
		e.Current.Node, e.Current.At.UTC().Format(time.RFC3339), e.Current.Revision)
}

// Unwrap makes it an answer of the store.
func (e *SupersededError) Unwrap() error { return ErrConflict }

// MayReplace says whether d may take the place of current, for DeclarationStore.
// ran is the revision that d's node works with, and known says that d's content
// has been in force before. Whoever knows what is in force may go back to
// something older; whoever does not know it can only bring something new.
func (d Declaration) MayReplace(current Declaration, ran int64, known bool) error {
	if known && ran != current.Revision && d.Node != current.Node {
		return &SupersededError{current}
	}
	return nil
}

// Ends gives an epoch for everyone who is not in d, or has lost a word of the
// digest in before, sorted.
func (d Declaration) Ends(before Declaration) []Revocation {
	var ended []Revocation
	at := d.At.Truncate(time.Millisecond)
	for kind, digests := range before.Digests {
		for key, was := range digests {
			if is, there := d.Digests[kind][key]; !there || LosesTrust(was, is) {
				ended = append(ended, Revocation{Kind: kind, Key: key, NotBefore: at, ExpiresAt: at.Add(RememberEpoch)})
			}
		}
	}
	slices.SortFunc(ended, func(a, b Revocation) int { return strings.Compare(string(a.Kind)+" "+a.Key, string(b.Kind)+" "+b.Key) })
	return ended
}

// RememberEpoch is as long as anything older than an epoch can still live,
// whatever the configuration says today.
const RememberEpoch = MaxGrantTTL + Leeway
