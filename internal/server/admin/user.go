package admin

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

// User is a person's account as the API shows it.
type User struct {
	UserID        string                    `json:"user_id" doc:"The sub of this user's tokens."`
	Username      string                    `json:"username"`
	Name          string                    `json:"name,omitempty"`
	Email         string                    `json:"email,omitempty"`
	EmailVerified bool                      `json:"email_verified"`
	Groups        []string                  `json:"groups,omitempty" doc:"What trust policies ask for (user_group)."`
	Claims        *authority.StandardClaims `json:"claims,omitempty" doc:"Standard claims besides name and email (OpenID Connect Core §5.1)."`
	Problems      []authority.Problem       `json:"problems,omitempty" doc:"The rules that it breaks, since they have become stricter: it is off."`
	Disabled      bool                      `json:"disabled"`
	Source        string                    `json:"source" enum:"file,database"`
	CreatedAt     *time.Time                `json:"created_at,omitempty"`
	UpdatedAt     *time.Time                `json:"updated_at,omitempty"`
}

// NewUser is the body that creates a user.
type NewUser struct {
	Username      string `json:"username" doc:"Without capital letters and spaces: two accounts that look alike fool whoever reads a list."`
	Password      string `json:"password" doc:"8 to 1024 bytes."`
	Name          string `json:"name,omitempty"`
	Email         string `json:"email,omitempty"`
	EmailVerified bool   `json:"email_verified,omitempty"`

	Groups []string                 `json:"groups,omitempty" doc:"What trust policies ask for (user_group)."`
	Claims authority.StandardClaims `json:"claims,omitzero" doc:"Standard claims besides name and email (OpenID Connect Core §5.1)."`
}

// SetGroups is the body that sets a user's groups.
type SetGroups struct {
	Groups []string `json:"groups" doc:"All of them: those that are not here are taken away."`
}

// SetPassword is the body that sets a password.
type SetPassword struct {
	Password string `json:"password" doc:"8 to 1024 bytes."`
}

func (a *API) userRoutes() []api.Route {
	return []api.Route{
		{
			Method: "GET", Path: "/users", Name: "listUsers", Scope: "users:read", Run: a.listUsers,
			Summary: "List users: those of the configuration file first.", Query: slices.Concat(api.Paging, []api.Parameter{api.Text("username", "Only the user with this name.")}), Out: api.Page[User]{},
		},
		{
			Method: "POST", Path: "/users", Name: "createUser", Scope: "users:write", Event: authority.EventUserChanged, Run: a.createUser,
			Summary: "Create a user.", In: NewUser{}, Out: User{}, Status: http.StatusCreated,
		},
		{
			Method: "GET", Path: "/users/{id}", Name: "showUser", Scope: "users:read", Run: a.showUser,
			Summary: "Show a user.", Out: User{},
		},
		{
			Method: "DELETE", Path: "/users/{id}", Name: "deleteUser", Scope: "users:write", Event: authority.EventUserChanged, Run: a.deleteUser,
			Summary: "Delete a user and end all tokens, grants and sessions.", Status: http.StatusNoContent,
		},
		{
			Method: "POST", Path: "/users/{id}/password", Name: "setPassword", Scope: "users:write", Event: authority.EventUserChanged, Run: a.setPassword,
			Summary: "Set a user's password and end all tokens, grants and sessions.", In: SetPassword{}, Out: User{},
		},
		{
			Method: "POST", Path: "/users/{id}/groups", Name: "setGroups", Scope: "users:write", Event: authority.EventUserChanged, Run: a.setGroups,
			Summary: "Set a user's groups. If one is taken away, all tokens, grants and sessions end.", In: SetGroups{}, Out: User{},
		},
		{
			Method: "POST", Path: "/users/{id}/disable", Name: "disableUser", Scope: "users:write", Event: authority.EventUserChanged, Run: a.disableUser,
			Summary: "Disable a user and end all tokens, grants and sessions.", Out: User{},
		},
		{
			Method: "POST", Path: "/users/{id}/enable", Name: "enableUser", Scope: "users:write", Event: authority.EventUserChanged, Run: a.enableUser,
			Summary: "Enable a user again. What was ended stays ended.", Out: User{},
		},
	}
}

func (a *API) users() authority.Registry[authority.User] { return authority.Users(a.Store) }

func (a *API) listUsers(ctx context.Context, c *api.Call) (api.Plan, error) {
	name := c.Query.Get("username")
	if name == "" {
		return listObjects(ctx, c, a.Directory.StaticUsers(), func(u authority.User) string { return u.ID }, a.users(), showUser)
	}
	page := api.Page[User]{Items: []User{}}
	user, err := a.Directory.UserByName(ctx, name)
	switch {
	case err == nil:
		page.Items = append(page.Items, showUser(user))
	case !errors.Is(err, authority.ErrNotFound):
		return api.Plan{}, err
	}
	return api.Reads(page), nil
}

func (a *API) showUser(ctx context.Context, c *api.Call) (api.Plan, error) {
	user, err := a.user(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	return api.Reads(showUser(user)), nil
}

func (a *API) createUser(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[NewUser](c)
	if err != nil {
		return api.Plan{}, err
	}
	user, err := authority.NewUser(authority.UserProfile{
		Sub: randomID("u_"), Username: body.Username, Name: body.Name, Email: body.Email, EmailVerified: body.EmailVerified, Groups: body.Groups, Claims: body.Claims,
	})
	if err != nil {
		return api.Plan{}, err
	}
	user.Source, user.CreatedAt, user.UpdatedAt = authority.FromDatabase, c.Now, c.Now
	if _, err := a.Directory.UserByName(ctx, user.Username); !errors.Is(err, authority.ErrNotFound) {
		return api.Plan{}, taken(err, "user", user.Username)
	}
	if user.PasswordHash, err = a.hash(body.Password); err != nil {
		return api.Plan{}, err
	}
	return api.Plan{
		Events: a.userChanged(authority.User{}, user, "created"),
		Apply: func(ctx context.Context) (any, error) {
			return showUser(user), a.users().Create(ctx, user)
		},
	}, nil
}

// setPassword ends what came from the old password: whoever knew it may have
// signed in (docs/security/threats.md E 70).
func (a *API) setPassword(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[SetPassword](c)
	if err != nil {
		return api.Plan{}, err
	}
	old, err := a.storedUser(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	user := old
	if user.PasswordHash, err = a.hash(body.Password); err != nil {
		return api.Plan{}, err
	}
	user.UpdatedAt = c.Now
	return api.Plan{
		EndsAccess: true,
		Events:     a.userChanged(old, user, "password set"),
		Apply: func(ctx context.Context) (any, error) {
			user, err := a.users().Update(ctx, user)
			if err != nil {
				return nil, err
			}
			return showUser(user), a.endUserTokens(ctx, c, user, "the password was set")
		},
	}, nil
}

// setGroups ends everything if a group goes: what came from it is not told apart.
func (a *API) setGroups(ctx context.Context, c *api.Call) (api.Plan, error) {
	body, err := api.Decode[SetGroups](c)
	if err != nil {
		return api.Plan{}, err
	}
	old, err := a.storedUser(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	user := old
	user.Groups, user.UpdatedAt = body.Groups, c.Now
	ends := slices.ContainsFunc(old.Groups, func(group string) bool { return !slices.Contains(body.Groups, group) })
	return api.Plan{
		EndsAccess: ends,
		Events:     a.userChanged(old, user, "groups set"),
		Apply: func(ctx context.Context) (any, error) {
			user, err := a.users().Update(ctx, user)
			if err == nil && ends {
				err = a.endUserTokens(ctx, c, user, "a group was taken away")
			}
			return showUser(user), err
		},
	}, nil
}

func (a *API) enableUser(ctx context.Context, c *api.Call) (api.Plan, error) {
	user, err := a.storedUser(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	return api.Plan{
		Events: a.userChanged(user, userDisabledAs(user, false), "enabled"),
		Apply: func(ctx context.Context) (any, error) {
			user, err := a.setUserDisabled(ctx, user, false, c.Now)
			return showUser(user), err
		},
	}, nil
}

func (a *API) disableUser(ctx context.Context, c *api.Call) (api.Plan, error) {
	return a.endUser(ctx, c, "disabled", func(_ context.Context, user authority.User) (any, error) {
		return showUser(user), nil
	})
}

func (a *API) deleteUser(ctx context.Context, c *api.Call) (api.Plan, error) {
	return a.endUser(ctx, c, "deleted", func(ctx context.Context, user authority.User) (any, error) {
		return nil, a.users().Delete(ctx, user, c.Now)
	})
}

// endUser disables first and sets the epoch then, like endClient.
func (a *API) endUser(ctx context.Context, c *api.Call, how string, then func(context.Context, authority.User) (any, error)) (api.Plan, error) {
	user, err := a.storedUser(ctx, c.ID)
	if err != nil {
		return api.Plan{}, err
	}
	return api.Plan{
		EndsAccess: true,
		Events:     a.userChanged(user, userDisabledAs(user, true), how),
		Apply: func(ctx context.Context) (any, error) {
			user, err := a.setUserDisabled(ctx, user, true, c.Now)
			if err != nil {
				return nil, err
			}
			if err := a.endUserTokens(ctx, c, user, "the user was "+how); err != nil {
				return nil, err
			}
			return then(ctx, user)
		},
	}, nil
}

// endUserTokens ends everything of a user that is older than now.
func (a *API) endUserTokens(ctx context.Context, c *api.Call, user authority.User, why string) error {
	ended := authority.Event{Subject: a.subject(user.ID), Target: user.ID, Reason: why}
	return a.Endings.SetEpoch(ctx, authority.EpochUser, user.ID, c.Describe(ctx, ended))
}

// userChanged is the change in the journal.
func (a *API) userChanged(old, user authority.User, how string) []authority.Event {
	e := authority.Event{Subject: a.subject(user.ID), Target: user.ID, Reason: how}
	return e.WithChanges(a.users().Changes(old, user))
}

func userDisabledAs(user authority.User, disabled bool) authority.User {
	user.Disabled = disabled
	return user
}

func (a *API) setUserDisabled(ctx context.Context, user authority.User, disabled bool, at time.Time) (authority.User, error) {
	if user.Disabled == disabled {
		return user, nil
	}
	user.Disabled, user.UpdatedAt = disabled, at
	return a.users().Update(ctx, user)
}

func (a *API) user(ctx context.Context, id string) (authority.User, error) {
	user, err := a.Directory.User(ctx, id)
	if errors.Is(err, authority.ErrNotFound) {
		return user, api.NotFound("there is no user with the id %q", api.Clip(id))
	}
	return user, err
}

// storedUser finds a user that may be changed here.
func (a *API) storedUser(ctx context.Context, id string) (authority.User, error) {
	user, err := a.user(ctx, id)
	if err == nil && user.Source == authority.FromFile {
		return user, api.ReadOnly("user", user.Username)
	}
	return user, err
}

func (a *API) subject(userID string) authority.Subject {
	return authority.Subject{Issuer: a.Settings().URL, ID: userID, Kind: authority.SubjectUser}
}

func (a *API) hash(password string) (string, error) {
	if p := authority.CheckPassword(password); p != nil {
		p.Field = "password"
		return "", authority.Problems{*p}
	}
	return a.HashPassword(password)
}

// randomID has 128 random bits: it never equals an id that somebody chose,
// nor one that was used before.
func randomID(prefix string) string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	return prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random))
}

func showUser(u authority.User) User {
	p := u.Profile()
	shown := User{
		UserID: u.ID, Username: p.Username, Name: p.Name, Email: p.Email, EmailVerified: p.EmailVerified, Groups: p.Groups, Problems: u.Problems,
		Disabled: u.Disabled, Source: string(u.Source), CreatedAt: shownTime(u.CreatedAt), UpdatedAt: shownTime(u.UpdatedAt),
	}
	if p.Claims != (authority.StandardClaims{}) {
		shown.Claims = &p.Claims
	}
	return shown
}
