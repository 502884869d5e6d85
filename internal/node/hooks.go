package node

import (
	"context"
	"net/http"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/revocation"
)

// Store is what handlers and endings read and change in the database.
type Store interface {
	authority.GrantStore
	authority.SessionStore
	authority.TicketStore
	authority.RevocationStore
	authority.ObjectStore
	authority.DeclarationStore
	authority.JournalStore
}

// Hooks let tests reach into a node: see package nodetest. The zero value is
// none.
type Hooks struct {
	// Store comes between handlers and endings and the database.
	Store func(Store) Store
	// Record is asked before each record, and fails in the journal's place.
	Record func(ctx context.Context, e authority.Event) error
	// Tally hears of what is only counted.
	Tally func(e authority.Event)
	// Static is in the place of what the file declares.
	Static func() authority.StaticObjects
}

// Parts are what a node is made of, for tests.
type Parts struct {
	Name     string // in the journal
	Issuer   *issue.Issuer
	Reader   *issue.Reader
	Endings  *revocation.Endings
	Revoked  func([]authority.Link) bool // as this node sees it
	Keys     *keys.Ring
	Refresh  authority.RefreshKey
	Settings func() authority.Issuer
}

// Parts gives a test what it needs to be another node, or a client that nobody
// registered.
func (n *Node) Parts() Parts {
	return Parts{n.journal.Node(), n.issuer, n.reader, n.endings, n.follower.View.Revoked, n.ring, n.refresh, n.settings}
}

// FlushLog writes what the log has gathered.
func (n *Node) FlushLog() { _ = n.lines.Flush() }

// Handlers are what the two listeners serve, for tests that need no listener.
func (n *Node) Handlers() (public, admin http.Handler) { return n.public, n.admin }
