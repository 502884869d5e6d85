// Package admin is the administration API: JSON over the admin listener, with
// access tokens of this issuer's own for the resource urn:signalbox:admin.
//
// One file for each kind of thing holds its routes, what is sent and answered,
// and the functions that the routes run. Package api is the road that they all
// go: permission, journal, OpenAPI.
package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/refusals"
	"github.com/signalbox-sts/signalbox/internal/revocation"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

// API serves /admin/v1/. All fields are required.
type API struct {
	Settings  func() authority.Issuer
	Directory *authority.Directory  // finds what the file and the database hold
	Store     authority.ObjectStore // changes what the database holds
	Grants    authority.GrantStore
	Sessions  authority.SessionStore
	Tokens    *issue.Reader
	Endings   *revocation.Endings
	// GrantOf reads a refresh token of ours, of whatever generation.
	GrantOf func(refreshToken string) (authority.ID, error)

	Keys      func() []authority.Key                                                            // keys.Ring.Keys
	RotateKey func(ctx context.Context, alg jose.Algorithm, emergency bool, actor string) error // keys.Ring.Rotate
	RemoveKey func(ctx context.Context, kid, actor string) error                                // keys.Ring.Remove

	HashPassword func(password string) (string, error) // password.Hash

	Record func(ctx context.Context, e authority.Event) error // see api.Server
	Tally  func(e authority.Event)                            // see api.Server
	// Journal and JournalDir are for reading; Record writes.
	Journal    *journal.Journal
	JournalDir string
	Node       string // the name under which this node keeps its journal
	Journals   authority.JournalStore

	Refusals *refusals.Memory // of this node

	// ClusterStatus says how a cluster is doing, as this node sees it.
	ClusterStatus func(ctx context.Context, name string) admin.ClusterStatus
	// IssuerStatus says the same of a trusted issuer.
	IssuerStatus func(name string) admin.IssuerStatus

	Now func() time.Time
}

func (a *API) routes() []api.Route {
	return slices.Concat(a.clientRoutes(), a.userRoutes(), a.resourceRoutes(), a.clusterRoutes(), a.keyRoutes(), a.grantRoutes(), a.revokeRoutes(), a.journalRoutes(), a.nodeRoutes(), a.whyRoutes())
}

// Description is the API as OpenAPI 3.1, in JSON.
func Description() json.RawMessage { return api.Describe((&API{}).routes()) }

// Mount hands every route to handle: its method, the template of its path, and
// what serves it.
func (a *API) Mount(handle func(method, path string, serve http.HandlerFunc)) {
	server := &api.Server{Tokens: a.Tokens, Record: a.Record, Tally: a.Tally, Now: a.Now}
	server.Mount(a.routes(), handle)
}
