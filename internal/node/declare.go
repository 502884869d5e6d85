package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/revocation"
)

// errUnrecorded is a configuration that is in force and not on record.
var errUnrecorded = errors.New("the configuration is in force, but that could not be recorded")

// declare puts next in force: in the database, in this node, and on record.
// Whoever ends with it gets nothing any more from before the moment of the end,
// so no request can slip through. When it cannot be told whether the database
// has done it, they still get nothing.
func (n *Node) declare(ctx context.Context, next *current, how string) error {
	n.declaring.Lock()
	defer n.declaring.Unlock()
	if err := n.journal.Ready(); err != nil {
		return err
	}
	if err := n.directory.Check(ctx, next.file); err != nil {
		return err
	}
	if err := n.warnOfElsewhere(ctx, next); err != nil {
		return err
	}
	if err := n.directory.Claim(ctx, next.file, n.now()); err != nil {
		return err
	}
	before := n.current.Load()
	if err := n.recordChanges(ctx, next, before); err != nil {
		return err
	}
	n.current.Store(before.withholding(append(next.declaration.Ends(before.declaration), before.withheld...)))
	next.declaration.Node = n.journal.Node()
	declaration, err := n.endings.Declare(ctx, next.declaration, before.declaration.Revision)
	var superseded *authority.SupersededError
	switch {
	case errors.As(err, &superseded):
		n.current.Store(before)
		return next.config.Refuse("revision", "this file is an old one: "+superseded.Error(),
			"give this node the newer file; or, to go back to this one on purpose, write a `revision` that was never used")
	case err != nil && !errors.Is(err, revocation.ErrUnrecorded):
		return err
	}
	next.declaration, next.since = declaration, n.now()
	next.file = next.file.UpdatedAt(declaration.At)
	next.static = next.file
	n.current.Store(next)
	n.setLogLevel(next.config)
	if n.verifier != nil {
		if err := n.retrust(ctx); err != nil {
			n.log.Warn("what is trusted could not be read: it is tried again", "error", err)
		}
	}
	failed := n.record(ctx, authority.Event{
		Type: authority.EventConfigLoaded, Target: next.config.Name(), Reason: fmt.Sprintf("%s, revision %d", how, declaration.Revision),
	})
	if err = errors.Join(err, failed); err != nil {
		return errors.Join(errUnrecorded, err)
	}
	return nil
}

// maxChanged is how many records one reload makes of its changes. A file that is all
// new must not bury what else happens.
const maxChanged = 500

// recordChanges puts on record what next changes of what the file declares,
// as the admin API does: before it is in force, since a record too many does no harm
// and a change without one does. A file that is tried again is on record already.
func (n *Node) recordChanges(ctx context.Context, next, before *current) error {
	if n.announced == next.declaration.Content {
		return nil
	}
	var events []authority.Event
	for _, c := range next.file.ChangesSince(before.file) {
		e := authority.Event{Target: c.ID, Reason: c.How + " by the file " + next.config.Name()}
		switch c.Kind {
		case authority.KindClient:
			e.Type, e.ClientID = authority.EventClientChanged, c.ID
		case authority.KindUser:
			e.Type, e.Subject = authority.EventUserChanged, authority.Subject{Issuer: next.issuer.URL, ID: c.ID, Kind: authority.SubjectUser}
		case authority.KindCluster:
			e.Type = authority.EventClusterChanged
		case authority.KindTrustedIssuer:
			e.Type = authority.EventTrustedIssuerChanged
		case authority.KindPolicy:
			e.Type, e.ClientID = authority.EventPolicyChanged, authority.PolicyClientPrefix+c.ID
		default:
			e.Type = authority.EventResourceChanged
		}
		events = append(events, e.WithChanges(c.Changes)...)
	}
	if more := len(events) - maxChanged; more > 0 {
		events = events[:maxChanged]
		events[maxChanged-1].Reason += fmt.Sprintf("; %d more records of changes are omitted", more)
	}
	for _, e := range events {
		if err := n.record(ctx, e); err != nil {
			return fmt.Errorf("nothing was changed, since it could not be recorded: %w", err)
		}
	}
	n.announced = next.declaration.Content
	return nil
}

// warnOfElsewhere tells of policies to or from a cluster that nobody keeps, and of clients of
// its pods. They give nothing, until somebody registers a cluster of that name.
func (n *Node) warnOfElsewhere(ctx context.Context, next *current) error {
	for _, r := range next.config.Elsewhere {
		_, err := n.directory.Cluster(ctx, r.Name)
		switch {
		case errors.Is(err, authority.ErrNotFound):
			n.log.Warn(r.Key + ": there is no cluster " + strconv.Quote(r.Name) + ", in this file or in the database; nothing comes of it until there is one")
		case err != nil:
			return err
		}
	}
	return nil
}

const lookEvery = 2 * time.Second

// followDeclaration looks for a newer file of another node, and for clusters that
// another node has registered or removed, when something has ended and now and then.
func (n *Node) followDeclaration(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.ended:
		case <-ticker.C:
		}
		if err := errors.Join(n.heed(ctx), n.retrust(ctx)); err != nil && ctx.Err() == nil {
			n.log.Warn("what other nodes have declared and registered could not be read", "error", err)
		}
	}
}

// heed withholds those whom a newer file of another node has ended, until this
// node has that file too. What it gave them since then ends with them.
func (n *Node) heed(ctx context.Context) error {
	n.declaring.Lock()
	defer n.declaring.Unlock()
	before := n.current.Load()
	newest, err := n.db.Declaration(ctx)
	if err != nil || newest.Revision == before.declaration.Revision && before.withheld == nil {
		return err
	}
	next := before.without(newest)
	next.ended = nil
	if newest.Content == before.declaration.Content {
		next.declaration.Revision = newest.Revision
	}
	n.current.Store(next) // first: from now on they get nothing
	after := *next
	for _, r := range next.withheld {
		if !slices.ContainsFunc(before.ended, func(known authority.Revocation) bool { return known.Kind == r.Kind && known.Key == r.Key }) {
			failed := n.endings.SetEpoch(ctx, r.Kind, r.Key, authority.Event{
				Target: string(r.Kind) + " " + r.Key, Reason: "ended by a newer configuration of node " + newest.Node,
			})
			err = errors.Join(err, failed)
			if failed != nil && !errors.Is(failed, revocation.ErrUnrecorded) {
				continue // the next look tries again
			}
		}
		after.ended = append(after.ended, r)
	}
	n.current.Store(&after)
	if len(next.withheld) > len(before.withheld) {
		n.log.Warn("another node has a newer configuration: whoever is gone or changed there gets nothing here until this node has it too",
			"node", newest.Node, "revision", newest.Revision, "withheld", len(next.withheld))
	}
	return err
}
