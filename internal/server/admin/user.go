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

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/operation"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

func (a *API) userRoutes() []api.Route {
	return []api.Route{
		{
			Operation: operation.ListUsers, Scope: "users:read", Run: a.listUsers,
			Summary: "List users: those of the configuration file first.", Query: api.Query(admin.UserFilter{}, admin.Paging{}), Out: admin.Page[admin.User]{},
		},
		{
			Operation: operation.CreateUser, Scope: "users:write", Event: authority.EventUserChanged, Run: a.createUser,
			Summary: "Create a user.", In: admin.NewUser{}, Out: admin.User{}, Status: http.StatusCreated,
		},
		{
			Operation: operation.ShowUser, Scope: "users:read", Run: a.showUser,
			Summary: "Show a user.", Out: admin.User{},
		},
		{
			Operation: operation.DeleteUser, Scope: "users:write", Event: authority.EventUserChanged, Run: a.deleteUser,
			Summary: "Delete a user and end all tokens, grants and sessions.", Status: http.StatusNoContent,
		},
		{
			Operation: operation.SetPassword, Scope: "users:write", Event: authority.EventUserChanged, Run: a.setPassword,
			Summary: "Set a user's password and end all tokens, grants and sessions.", In: admin.SetPassword{}, Out: admin.User{},
		},
		{
			Operation: operation.SetGroups, Scope: "users:write", Event: authority.EventUserChanged, Run: a.setGroups,
			Summary: "Set a user's groups. If one is taken away, all tokens, grants and sessions end.", In: admin.SetGroups{}, Out: admin.User{},
		},
		{
			Operation: operation.DisableUser, Scope: "users:write", Event: authority.EventUserChanged, Run: a.disableUser,
			Summary: "Disable a user and end all tokens, grants and sessions.", Out: admin.User{},
		},
		{
			Operation: operation.EnableUser, Scope: "users:write", Event: authority.EventUserChanged, Run: a.enableUser,
			Summary: "Enable a user again. What was ended stays ended.", Out: admin.User{},
		},
	}
}

func (a *API) users() authority.Registry[authority.User] { return authority.Users(a.Store) }

func (a *API) listUsers(ctx context.Context, c *api.Call) (api.Plan, error) {
	filter, err := api.Filter[admin.UserFilter](c)
	if err != nil {
		return api.Plan{}, err
	}
	if filter.Username == "" {
		return listObjects(ctx, c, a.Directory.StaticUsers(), func(u authority.User) string { return u.ID }, a.users(), showUser)
	}
	page := admin.Page[admin.User]{Items: []admin.User{}}
	user, err := a.Directory.UserByName(ctx, filter.Username)
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
	body, err := api.Decode[admin.NewUser](c)
	if err != nil {
		return api.Plan{}, err
	}
	user, err := authority.NewUser(authority.UserProfile{
		Sub: randomID("u_"), Username: body.Username, Name: body.Name, Email: body.Email, EmailVerified: body.EmailVerified, Groups: body.Groups, Claims: claimsOf(body.Claims),
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
	body, err := api.Decode[admin.SetPassword](c)
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
	body, err := api.Decode[admin.SetGroups](c)
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

func showUser(u authority.User) admin.User {
	p := u.Profile()
	shown := admin.User{
		UserID: u.ID, Username: p.Username, Name: p.Name, Email: p.Email, EmailVerified: p.EmailVerified, Groups: p.Groups, Problems: shownProblems(u.Problems),
		Disabled: u.Disabled, Source: string(u.Source), CreatedAt: shownTime(u.CreatedAt), UpdatedAt: shownTime(u.UpdatedAt),
	}
	if p.Claims != (authority.StandardClaims{}) {
		claims := shownClaims(p.Claims)
		shown.Claims = &claims
	}
	return shown
}

func shownClaims(c authority.StandardClaims) admin.StandardClaims {
	return admin.StandardClaims{
		GivenName: c.GivenName, FamilyName: c.FamilyName, MiddleName: c.MiddleName, Nickname: c.Nickname, Profile: c.Profile, Picture: c.Picture,
		Website: c.Website, Gender: c.Gender, Birthdate: c.Birthdate, Zoneinfo: c.Zoneinfo, Locale: c.Locale,
		PhoneNumber: c.PhoneNumber, PhoneNumberVerified: c.PhoneNumberVerified, Address: admin.Address(c.Address),
	}
}

func claimsOf(c admin.StandardClaims) authority.StandardClaims {
	return authority.StandardClaims{
		GivenName: c.GivenName, FamilyName: c.FamilyName, MiddleName: c.MiddleName, Nickname: c.Nickname, Profile: c.Profile, Picture: c.Picture,
		Website: c.Website, Gender: c.Gender, Birthdate: c.Birthdate, Zoneinfo: c.Zoneinfo, Locale: c.Locale,
		PhoneNumber: c.PhoneNumber, PhoneNumberVerified: c.PhoneNumberVerified, Address: authority.Address(c.Address),
	}
}
