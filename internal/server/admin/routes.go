package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
)

const prefix = "/admin/v1"

// route is one row of the table: what serves a request and what OpenAPI says
// about it.
type route struct {
	method, path string
	name         string              // operationId
	scope        string              // empty for the description of the API alone
	event        authority.EventType // what the change is in the journal; empty for reading
	run          func(a *API, ctx context.Context, c *call) (plan, error)

	summary string
	query   []parameter
	in, out any // the bodies, as values of their types; nil for none
	status  int // zero means 200
	stream  bool
}

type parameter struct{ name, kind, doc string }

var (
	paging = []parameter{
		{"limit", "integer", "How many at most, 1 to 1000. Default 100."},
		{"after", "string", "The next of the page before."},
	}
	grantFilter = []parameter{
		{"client_id", "string", "Only grants of this client."},
		{"subject", "string", "Only grants of this subject: a user's or a client's id."},
		{"active", "boolean", "true: only grants that can still give tokens."},
	}
	journalMatch = []parameter{
		{"type", "string", "Only this type of record, such as token.issued."},
		{"client_id", "string", "Only records about this client."},
		{"subject", "string", "Only records about this subject's id."},
		{"grant_id", "string", "Only records about this grant."},
		{"jti", "string", "Only records about this token."},
		{"token_hash", "string", "Only records about the token with this hash."},
		{"request_id", "string", "Only records of this request."},
		{"remote", "string", "Only records of this IP address."},
	}
	journalFilter = []parameter{
		{"text", "string", "Only records with this text in any of their values."},
		{"since", "string", "From this time on: RFC 3339."},
		{"until", "string", "Before this time: RFC 3339."},
	}
)

func with(lists ...[]parameter) []parameter { return slices.Concat(lists...) }

// routes is the table.
func routes() []route {
	return []route{
		{"GET", "/openapi.json", "describe", "", "", (*API).describeAPI, "This description, as OpenAPI 3.1.", nil, nil, json.RawMessage{}, 0, false},

		{"GET", "/clients", "listClients", "clients:read", "", (*API).listClients, "List clients: those of the configuration file first.", paging, nil, Page[Client]{}, 0, false},
		{"POST", "/clients", "createClient", "clients:write", authority.EventClientChanged, (*API).createClient, "Create a client. Its secret is in this answer and nowhere else.", nil, NewClient{}, ClientCredentials{}, http.StatusCreated, false},
		{"GET", "/clients/{id}", "showClient", "clients:read", "", (*API).showClient, "Show a client.", nil, nil, Client{}, 0, false},
		{"PATCH", "/clients/{id}", "updateClient", "clients:write", authority.EventClientChanged, (*API).updateClient, "Change a client: what is sent replaces what was there. A client that now needs a secret and has none gets one.", nil, ClientFields{}, ClientCredentials{}, 0, false},
		{"DELETE", "/clients/{id}", "deleteClient", "clients:write", authority.EventClientChanged, (*API).deleteClient, "Delete a client and end all its tokens and grants.", nil, nil, nil, http.StatusNoContent, false},
		{"POST", "/clients/{id}/disable", "disableClient", "clients:write", authority.EventClientChanged, (*API).disableClient, "Disable a client and end all its tokens and grants.", nil, nil, Client{}, 0, false},
		{"POST", "/clients/{id}/enable", "enableClient", "clients:write", authority.EventClientChanged, (*API).enableClient, "Enable a client again. What was ended stays ended.", nil, nil, Client{}, 0, false},
		{"POST", "/clients/{id}/secret", "rotateClientSecret", "clients:write", authority.EventClientChanged, (*API).rotateSecret, "Give a client a new secret. The old one works for old_expires_in seconds more.", nil, RotateSecret{}, ClientCredentials{}, 0, false},

		{"GET", "/users", "listUsers", "users:read", "", (*API).listUsers, "List users: those of the configuration file first.", with(paging, []parameter{{"username", "string", "Only the user with this name."}}), nil, Page[User]{}, 0, false},
		{"POST", "/users", "createUser", "users:write", authority.EventUserChanged, (*API).createUser, "Create a user.", nil, NewUser{}, User{}, http.StatusCreated, false},
		{"GET", "/users/{id}", "showUser", "users:read", "", (*API).showUser, "Show a user.", nil, nil, User{}, 0, false},
		{"DELETE", "/users/{id}", "deleteUser", "users:write", authority.EventUserChanged, (*API).deleteUser, "Delete a user and end all tokens, grants and sessions.", nil, nil, nil, http.StatusNoContent, false},
		{"POST", "/users/{id}/password", "setPassword", "users:write", authority.EventUserChanged, (*API).setPassword, "Set a user's password and end all tokens, grants and sessions.", nil, SetPassword{}, User{}, 0, false},
		{"POST", "/users/{id}/disable", "disableUser", "users:write", authority.EventUserChanged, (*API).disableUser, "Disable a user and end all tokens, grants and sessions.", nil, nil, User{}, 0, false},
		{"POST", "/users/{id}/enable", "enableUser", "users:write", authority.EventUserChanged, (*API).enableUser, "Enable a user again. What was ended stays ended.", nil, nil, User{}, 0, false},

		{"GET", "/resources", "listResources", "resources:read", "", (*API).listResources, "List resources: those of the configuration file first.", paging, nil, Page[Resource]{}, 0, false},
		{"POST", "/resources", "createResource", "resources:write", authority.EventResourceChanged, (*API).createResource, "Create a resource.", nil, NewResource{}, Resource{}, http.StatusCreated, false},
		{"GET", "/resources/{id}", "showResource", "resources:read", "", (*API).showResource, "Show a resource. Its id stands percent-encoded in the path.", nil, nil, Resource{}, 0, false},
		{"PATCH", "/resources/{id}", "updateResource", "resources:write", authority.EventResourceChanged, (*API).updateResource, "Change a resource: what is sent replaces what was there.", nil, ResourceFields{}, Resource{}, 0, false},
		{"DELETE", "/resources/{id}", "deleteResource", "resources:write", authority.EventResourceChanged, (*API).deleteResource, "Delete a resource that no client names any more.", nil, nil, nil, http.StatusNoContent, false},

		{"GET", "/keys", "listKeys", "keys:read", "", (*API).listKeys, "List signing keys.", paging, nil, Page[Key]{}, 0, false},
		{"POST", "/keys/rotate", "rotateKey", "keys:write", authority.EventKeyChanged, (*API).rotateKey, "Sign with a new key from now on. The old one is published until its last token has expired.", nil, RotateKey{}, Key{}, 0, false},
		{"DELETE", "/keys/{id}", "removeKey", "keys:write", authority.EventKeyChanged, (*API).removeKey, "Emergency: remove a key now. Every token that it signed is dead.", nil, nil, nil, http.StatusNoContent, false},

		{"GET", "/grants", "listGrants", "grants:read", "", (*API).listGrants, "List grants, oldest first.", with(grantFilter, paging), nil, Page[Grant]{}, 0, false},
		{"GET", "/grants/{id}", "showGrant", "grants:read", "", (*API).showGrant, "Show a grant with its children.", nil, nil, GrantWithChildren{}, 0, false},
		{"POST", "/grants/{id}/end", "endGrant", "grants:write", authority.EventGrantEnded, (*API).endGrant, "End a grant with all its descendants and their tokens.", nil, nil, Revoked{}, 0, false},
		{"POST", "/revocations", "revoke", "grants:write", authority.EventEpochSet, (*API).revoke, "End a token, a grant, or everything older than now of a client, of a user, or at all. With dry_run: say what that would end.", nil, Revoke{}, Revoked{}, 0, false},

		{"GET", "/journal", "searchJournal", "journal:read", "", (*API).searchJournal, "Search this node's journal, newest first.", with(journalMatch, journalFilter, paging), nil, Page[Record]{}, 0, false},
		{"GET", "/journal/tail", "tailJournal", "journal:read", "", (*API).tailJournal, "Follow this node's journal: one JSON object a line, until the caller hangs up or the token ends.", with(journalMatch, []parameter{{"from", "integer", "The seq of the first record. Default: from now on."}}), nil, Record{}, 0, true},
		{"GET", "/journal/status", "showJournal", "journal:read", "", (*API).showJournal, "Where this node's journal stands.", nil, nil, JournalStatus{}, 0, false},
	}
}

func (rt *route) hasID() bool { return strings.Contains(rt.path, "{id}") }

// Mount hands every route of the table to handle: its method, the template of
// its path, and what serves it.
func (a *API) Mount(handle func(method, path string, serve http.HandlerFunc)) {
	a.description = describe()
	for _, rt := range routes() {
		handle(rt.method, prefix+rt.path, func(w http.ResponseWriter, r *http.Request) { a.serve(w, r, &rt) })
	}
}

// serve is transport: HTTP in, act, HTTP out.
func (a *API) serve(w http.ResponseWriter, r *http.Request, rt *route) {
	c := &call{route: rt, now: a.clock()}
	p, err := a.act(r.Context(), rt, c, func() error { return c.read(rt, r) }, r.Header)
	if c.token != nil {
		httpx.RequestOf(r.Context()).Log.ClientID = c.token.ClientID
	}
	switch {
	case err != nil:
		writeError(w, r, err)
	case p.stream != nil:
		a.stream(w, r, c, p)
	case rt.status == http.StatusNoContent:
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
	case rt.status != 0:
		httpx.JSON(w, rt.status, p.answer)
	default:
		httpx.JSON(w, http.StatusOK, p.answer)
	}
}

// stream sends records as they come, one a line (application/x-ndjson). The
// caller's token is asked again before each: a stream must not outlive it.
func (a *API) stream(w http.ResponseWriter, r *http.Request, c *call, p plan) {
	raw, _ := bearer(r.Header)
	ctx, cancel := context.WithDeadline(r.Context(), a.streamUntil(c))
	defer cancel()
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	_ = control.SetWriteDeadline(time.Time{}) // a stream is longer than any answer
	_ = control.Flush()                       // the caller sees that it is connected
	err := p.stream(ctx, func(record any) error {
		if _, err := a.Tokens.Authenticate(raw); err != nil {
			return err
		}
		line, err := json.Marshal(record)
		if err != nil {
			return err
		}
		_ = control.SetWriteDeadline(time.Now().Add(30 * time.Second)) // a reader that hangs is let go
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		return control.Flush()
	})
	if err != nil && ctx.Err() == nil {
		httpx.RequestOf(r.Context()).Log.Cause = err
	}
}

// streamUntil is the end of the token in the time of the machine, which
// contexts go by.
func (a *API) streamUntil(c *call) time.Time {
	return time.Now().Add(c.token.Expires.Sub(a.Now()))
}
