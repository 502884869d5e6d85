// RFC 7591 §2: the names of a client's metadata.
package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/operation"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

const maxOldSecret = 30 * 24 * time.Hour

// setClient changes what was sent.
func setClient(m *authority.ClientMetadata, f admin.ClientFields) {
	set(&m.ClientName, f.ClientName)
	set(&m.RedirectURIs, f.RedirectURIs)
	set(&m.PostLogoutRedirectURIs, f.PostLogout)
	set(&m.BackchannelLogoutURI, f.BackLogout)
	set(&m.BackchannelLogoutSession, f.BackSession)
	set(&m.FrontchannelLogoutURI, f.FrontLogout)
	set(&m.FrontchannelLogoutSession, f.FrontSession)
	set(&m.GrantTypes, f.GrantTypes)
	set(&m.TokenEndpointAuthMethod, f.AuthMethod)
	set(&m.JWKS, f.JWKS)
	set(&m.FederatedCredential, (*authority.FederatedCredential)(f.Federated))
	set(&m.Scope, f.Scope)
	set(&m.Resources, f.Resources)
	set(&m.IDTokenSignedResponseAlg, f.IDTokenAlg)
	set(&m.AllowMultipleAudiences, f.Audiences)
	if f.RequirePKCE != nil {
		m.RequirePKCE = f.RequirePKCE
	}
	if f.JWKS == nil && m.TokenEndpointAuthMethod != string(oauth.AuthPrivateKeyJWT) {
		m.JWKS = nil // the keys of a method that was given up
	}
	if f.Federated == nil && m.TokenEndpointAuthMethod != string(oauth.AuthFederatedJWT) {
		m.FederatedCredential = authority.FederatedCredential{}
	}
}

func (a *API) clientRoutes() []api.Route {
	return []api.Route{
		{
			Operation: operation.ListClients, Scope: "clients:read", Run: a.listClients,
			Summary: "List clients: those of the configuration file first.", Query: api.Query(admin.Paging{}), Out: admin.Page[admin.Client]{},
		},
		{
			Operation: operation.CreateClient, Scope: "clients:write", Event: authority.EventClientChanged, Run: a.createClient,
			Summary: "Create a client. Its secret is in this answer and nowhere else.", In: admin.NewClient{}, Out: admin.ClientCredentials{}, Status: http.StatusCreated,
		},
		{
			Operation: operation.ShowClient, Scope: "clients:read", Run: a.showClient,
			Summary: "Show a client.", Out: admin.Client{},
		},
		{
			Operation: operation.UpdateClient, Scope: "clients:write", Event: authority.EventClientChanged, Run: a.updateClient,
			Summary: "Change a client: what is sent replaces what was there. A client that now needs a secret and has none gets one.", In: admin.ClientFields{}, Out: admin.ClientCredentials{},
		},
		{
			Operation: operation.DeleteClient, Scope: "clients:write", Event: authority.EventClientChanged, Run: a.deleteClient,
			Summary: "Delete a client and end all its tokens and grants.", Status: http.StatusNoContent,
		},
		{
			Operation: operation.DisableClient, Scope: "clients:write", Event: authority.EventClientChanged, Run: a.disableClient,
			Summary: "Disable a client and end all its tokens and grants.", Out: admin.Client{},
		},
		{
			Operation: operation.EnableClient, Scope: "clients:write", Event: authority.EventClientChanged, Run: a.enableClient,
			Summary: "Enable a client again. What was ended stays ended.", Out: admin.Client{},
		},
		{
			Operation: operation.RotateClientSecret, Scope: "clients:write", Event: authority.EventClientChanged, Run: a.rotateSecret,
			Summary: "Give a client a new secret. The old one works for old_expires_in seconds more.", In: admin.RotateSecret{}, Out: admin.ClientCredentials{},
		},
	}
}

func (a *API) clients() authority.Registry[authority.Client] { return authority.Clients(a.Store) }

func (a *API) listClients(ctx context.Context, c *api.Call) (api.Plan, error) {
	return listObjects(ctx, c, a.Directory.StaticClients(), func(c authority.Client) string { return c.ID }, a.clients(),
		func(client authority.Client) admin.Client { return showClient(client, c.Now) })
}

func (a *API) showClient(ctx context.Context, c *api.Call) (api.Plan, error) {
	client, err := a.client(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	return api.Reads(showClient(client, c.Now)), nil
}

func (a *API) createClient(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[admin.NewClient](c)
	if err != nil {
		return api.Plan{}, err
	}
	m := authority.ClientMetadata{ClientID: body.ClientID, TokenEndpointAuthMethod: string(oauth.AuthClientSecretBasic)}
	if m.ClientID == "" {
		m.ClientID = randomID("c_")
	}
	setClient(&m, body.ClientFields)
	client, secret, err := a.makeClient(ctx, m, c.Now)
	if err != nil {
		return api.Plan{}, err
	}
	if err := a.freeID(ctx, client.ID); err != nil {
		return api.Plan{}, err
	}
	if err := holdsNoMore(c.Token, client); err != nil {
		return api.Plan{}, err
	}
	client.Source, client.CreatedAt, client.UpdatedAt = authority.FromDatabase, c.Now, c.Now
	return api.Plan{
		Events: a.clientChanged(authority.Client{}, client, "created"),
		Apply: func(ctx context.Context) (any, error) {
			if err := a.clients().Create(ctx, client); err != nil {
				return nil, err
			}
			return credentials(client, secret, c.Now), nil
		},
	}, nil
}

func (a *API) updateClient(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[admin.ClientFields](c)
	if err != nil {
		return api.Plan{}, err
	}
	old, err := a.clientToChange(ctx, c)
	if err != nil {
		return api.Plan{}, err
	}
	m := old.Metadata()
	setClient(&m, body)
	client, secret, err := a.makeClient(ctx, m, c.Now)
	if err != nil {
		return api.Plan{}, err
	}
	if err := holdsNoMore(c.Token, client); err != nil {
		return api.Plan{}, err
	}
	client.Disabled, client.Revision, client.CreatedAt, client.UpdatedAt = old.Disabled, old.Revision, old.CreatedAt, c.Now
	return api.Plan{
		Events: a.clientChanged(old, client, "changed "+api.Sent(body)),
		Apply: func(ctx context.Context) (any, error) {
			client, err := a.clients().Update(ctx, client)
			if err != nil {
				return nil, err
			}
			return credentials(client, secret, c.Now), nil
		},
	}, nil
}

// makeClient holds what was sent to the rule book. A client that must have a
// secret and has none gets its first one; one that must not have any loses them.
func (a *API) makeClient(ctx context.Context, m authority.ClientMetadata, now time.Time) (client authority.Client, secret oauth.Secret, err error) {
	switch {
	case !m.UsesSecret():
		m.ClientSecrets = nil
	case len(m.ClientSecrets) == 0:
		secret = oauth.NewSecret(oauth.PrefixClientSecret)
		m.ClientSecrets = []authority.ClientSecret{{Hash: secret.Hash(), CreatedAt: now}}
	}
	if client, err = authority.NewClient(m); err != nil {
		return client, secret, err
	}
	if err = problems(m.CheckReferences(a.references(ctx))); err == nil {
		err = a.freeWorkload(ctx, client)
	}
	return client, secret, err
}

// freeWorkload refuses a federated credential that another client has. Of clients in the
// database the store has the last word.
func (a *API) freeWorkload(ctx context.Context, client authority.Client) error {
	workload := client.Federated.WorkloadID()
	if workload == "" {
		return nil
	}
	other, err := a.Directory.ClientOf(ctx, workload)
	if errors.Is(err, authority.ErrNotFound) || err == nil && other.ID == client.ID {
		return nil
	}
	if err != nil {
		return err
	}
	return api.Conflict("already_exists", "the federated_credential %s is that of the client %q: one workload is one client", api.Clip(workload), api.Clip(other.ID))
}

// rotateSecret leaves at most two secrets alive: the new one, and the newest
// of the old ones until its time.
func (a *API) rotateSecret(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[admin.RotateSecret](c)
	if err != nil {
		return api.Plan{}, err
	}
	if body.OldExpiresIn < 0 || body.OldExpiresIn > int64(maxOldSecret/time.Second) {
		return api.Plan{}, api.Invalid("old_expires_in must be from 0 to %d seconds", int64(maxOldSecret/time.Second))
	}
	old, err := a.clientToChange(ctx, c)
	if err != nil {
		return api.Plan{}, err
	}
	if m := old.Metadata(); !m.UsesSecret() {
		return api.Plan{}, api.Invalid("the client authenticates with %s and has no secret", m.TokenEndpointAuthMethod)
	}
	client := old
	client.Secrets = nil
	reason := "secret rotated; the old one ended"
	if live := liveSecrets(old, c.Now); len(live) > 0 && body.OldExpiresIn > 0 {
		last := live[len(live)-1]
		end := c.Now.Add(time.Duration(body.OldExpiresIn) * time.Second)
		if last.ExpiresAt.IsZero() || end.Before(last.ExpiresAt) {
			last.ExpiresAt = end
		}
		client.Secrets = []authority.ClientSecret{last}
		reason = "secret rotated; the old one ends at " + last.ExpiresAt.Format(time.RFC3339)
	}
	secret := oauth.NewSecret(oauth.PrefixClientSecret)
	client.Secrets = append(client.Secrets, authority.ClientSecret{Hash: secret.Hash(), CreatedAt: c.Now})
	client.UpdatedAt = c.Now
	return api.Plan{
		Events: a.clientChanged(old, client, reason),
		Apply: func(ctx context.Context) (any, error) {
			client, err := a.clients().Update(ctx, client)
			if err != nil {
				return nil, err
			}
			return credentials(client, secret, c.Now), nil
		},
	}, nil
}

func (a *API) enableClient(ctx context.Context, c *api.Call) (api.Plan, error) {
	client, err := a.clientToChange(ctx, c)
	if err != nil {
		return api.Plan{}, err
	}
	return api.Plan{
		Events: a.clientChanged(client, disabledAs(client, false), "enabled"),
		Apply: func(ctx context.Context) (any, error) {
			client, err := a.setClientDisabled(ctx, client, false, c.Now)
			return showClient(client, c.Now), err
		},
	}, nil
}

func (a *API) disableClient(ctx context.Context, c *api.Call) (api.Plan, error) {
	return a.endClient(ctx, c, "disabled", func(_ context.Context, client authority.Client) (any, error) {
		return showClient(client, c.Now), nil
	})
}

// deleteClient deletes last: after a failure on the way it can be asked for again.
func (a *API) deleteClient(ctx context.Context, c *api.Call) (api.Plan, error) {
	return a.endClient(ctx, c, "deleted", func(ctx context.Context, client authority.Client) (any, error) {
		return nil, a.clients().Delete(ctx, client, c.Now)
	})
}

// endClient disables first and sets the epoch then: the other way round, a
// token could be issued in between that is newer than the epoch.
func (a *API) endClient(ctx context.Context, c *api.Call, how string, then func(context.Context, authority.Client) (any, error)) (api.Plan, error) {
	client, err := a.clientToChange(ctx, c)
	if err != nil {
		return api.Plan{}, err
	}
	return api.Plan{
		EndsAccess: true,
		Events:     a.clientChanged(client, disabledAs(client, true), how),
		Apply: func(ctx context.Context) (any, error) {
			client, err := a.setClientDisabled(ctx, client, true, c.Now)
			if err != nil {
				return nil, err
			}
			ended := authority.Event{ClientID: client.ID, Target: client.ID, Reason: "the client was " + how}
			if err := a.Endings.SetEpoch(ctx, authority.EpochClient, client.ID, c.Describe(ctx, ended)); err != nil {
				return nil, err
			}
			return then(ctx, client)
		},
	}, nil
}

// clientChanged is the change in the journal.
func (a *API) clientChanged(old, client authority.Client, how string) []authority.Event {
	e := authority.Event{ClientID: client.ID, Target: client.ID, Reason: how, Scope: client.Scopes.String()}
	return e.WithChanges(a.clients().Changes(old, client))
}

func disabledAs(client authority.Client, disabled bool) authority.Client {
	client.Disabled = disabled
	return client
}

func (a *API) setClientDisabled(ctx context.Context, client authority.Client, disabled bool, at time.Time) (authority.Client, error) {
	if client.Disabled == disabled {
		return client, nil
	}
	client.Disabled, client.UpdatedAt = disabled, at
	return a.clients().Update(ctx, client)
}

func (a *API) client(ctx context.Context, id string) (authority.Client, error) {
	client, err := a.Directory.Client(ctx, id)
	if errors.Is(err, authority.ErrNotFound) {
		return client, api.NotFound("there is no client %q", api.Clip(id))
	}
	return client, err
}

// clientToChange finds the client of a change: it is kept in the database, and
// holds no more of this API than the caller. Otherwise clients:write would be
// every scope, by a new secret of an administrator or by enabling one.
func (a *API) clientToChange(ctx context.Context, c *api.Call) (authority.Client, error) {
	client, err := a.client(ctx, c.ID)
	if err == nil && client.Source == authority.FromFile {
		return client, api.ReadOnly("client", c.ID)
	}
	if err == nil {
		err = holdsNoMore(c.Token, client)
	}
	return client, err
}

// freeID refuses an id that is taken, also by a user: `sub` tells users and
// clients apart by it. Of ids in the database the store has the last word.
func (a *API) freeID(ctx context.Context, id string) error {
	if _, err := a.Directory.Client(ctx, id); !errors.Is(err, authority.ErrNotFound) {
		return taken(err, "client", id)
	}
	if _, err := a.Directory.User(ctx, id); !errors.Is(err, authority.ErrNotFound) {
		return taken(err, "user", id)
	}
	return nil
}

func taken(err error, kind, id string) error {
	if err != nil {
		return err
	}
	return api.Conflict("already_exists", "there is a %s %q already", kind, api.Clip(id))
}

func liveSecrets(client authority.Client, now time.Time) []authority.ClientSecret {
	return slices.DeleteFunc(slices.Clone(client.Secrets), func(s authority.ClientSecret) bool {
		return !s.ExpiresAt.IsZero() && !now.Before(s.ExpiresAt)
	})
}

func credentials(client authority.Client, secret oauth.Secret, now time.Time) admin.ClientCredentials {
	shown := admin.ClientCredentials{Client: showClient(client, now)}
	if !secret.IsZero() {
		shown.ClientSecret, shown.SecretExpiresAt = secret.Reveal(), new(int64)
	}
	return shown
}

func showClient(c authority.Client, now time.Time) admin.Client {
	m := c.Metadata()
	shown := admin.Client{
		ClientID: m.ClientID, ClientName: m.ClientName, RedirectURIs: m.RedirectURIs, PostLogout: m.PostLogoutRedirectURIs,
		BackLogout: m.BackchannelLogoutURI, BackSession: m.BackchannelLogoutSession,
		FrontLogout: m.FrontchannelLogoutURI, FrontSession: m.FrontchannelLogoutSession,
		GrantTypes: m.GrantTypes, AuthMethod: m.TokenEndpointAuthMethod, JWKS: m.JWKS, Scope: m.Scope, Resources: m.Resources,
		IDTokenAlg: m.IDTokenSignedResponseAlg, Audiences: m.AllowMultipleAudiences, RequirePKCE: m.RequirePKCE, Problems: shownProblems(c.Problems),
		Disabled: c.Disabled, Source: string(c.Source), CreatedAt: shownTime(c.CreatedAt), UpdatedAt: shownTime(c.UpdatedAt),
	}
	if shown.GrantTypes == nil {
		shown.GrantTypes = []string{}
	}
	if !c.Federated.IsZero() {
		shown.Federated = (*admin.FederatedCredential)(&m.FederatedCredential)
	}
	for _, s := range liveSecrets(c, now) {
		shown.Secrets = append(shown.Secrets, admin.LiveSecret{Current: s.ExpiresAt.IsZero(), CreatedAt: shownTime(s.CreatedAt), ExpiresAt: shownTime(s.ExpiresAt)})
	}
	return shown
}

// shownTime omits what has no time.
func shownTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
