package admin

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// User is a person's account as the API shows it.
type User struct {
	UserID        string     `json:"user_id" doc:"The sub of this user's tokens."`
	Username      string     `json:"username"`
	Name          string     `json:"name,omitempty"`
	Email         string     `json:"email,omitempty"`
	EmailVerified bool       `json:"email_verified"`
	Problems      []Problem  `json:"problems,omitempty" doc:"The rules that it breaks, since they have become stricter: it is off."`
	Disabled      bool       `json:"disabled"`
	Source        string     `json:"source" enum:"file,database"`
	CreatedAt     *time.Time `json:"created_at,omitempty"`
	UpdatedAt     *time.Time `json:"updated_at,omitempty"`
}

// NewUser is the body that creates a user.
type NewUser struct {
	Username      string `json:"username" doc:"Without capital letters and spaces: two accounts that look alike fool whoever reads a list."`
	Password      string `json:"password" doc:"8 to 1024 bytes."`
	Name          string `json:"name,omitempty"`
	Email         string `json:"email,omitempty"`
	EmailVerified bool   `json:"email_verified,omitempty"`
}

// SetPassword is the body that sets a password.
type SetPassword struct {
	Password string `json:"password" doc:"8 to 1024 bytes."`
}

func (a *API) users() authority.Registry[authority.User] { return authority.Users(a.Store) }

func (a *API) listUsers(ctx context.Context, c *call) (plan, error) {
	name := c.query.Get("username")
	if name == "" {
		return listObjects(ctx, c, a.Directory.DeclaredUsers(), func(u authority.User) string { return u.ID }, a.users(), showUser)
	}
	page := Page[User]{Items: []User{}}
	user, err := a.Directory.UserByName(ctx, name)
	switch {
	case err == nil:
		page.Items = append(page.Items, showUser(user))
	case !errors.Is(err, authority.ErrNotFound):
		return plan{}, err
	}
	return reads(page), nil
}

func (a *API) showUser(ctx context.Context, c *call) (plan, error) {
	user, err := a.user(ctx, c.id)
	if err != nil {
		return plan{}, err
	}
	return reads(showUser(user)), nil
}

func (a *API) createUser(ctx context.Context, c *call) (plan, error) {
	body, err := decode[NewUser](c)
	if err != nil {
		return plan{}, err
	}
	user, err := authority.NewUser(authority.UserProfile{
		Sub: randomID("u_"), Username: body.Username, Name: body.Name, Email: body.Email, EmailVerified: body.EmailVerified,
	})
	if err != nil {
		return plan{}, err
	}
	user.Source, user.CreatedAt, user.UpdatedAt = authority.FromDatabase, c.now, c.now
	if _, err := a.Directory.UserByName(ctx, user.Username); !errors.Is(err, authority.ErrNotFound) {
		return plan{}, taken(err, "user", user.Username)
	}
	if user.PasswordHash, err = a.hash(body.Password); err != nil {
		return plan{}, err
	}
	return plan{
		events: []authority.Event{{Subject: a.subject(user.ID), Target: user.ID, Reason: "created"}},
		apply: func(ctx context.Context) (any, error) {
			return showUser(user), a.users().Create(ctx, user)
		},
	}, nil
}

// setPassword ends what came from the old password: whoever knew it may have
// signed in (docs/security/threats.md E 70).
func (a *API) setPassword(ctx context.Context, c *call) (plan, error) {
	body, err := decode[SetPassword](c)
	if err != nil {
		return plan{}, err
	}
	old, err := a.storedUser(ctx, c.id)
	if err != nil {
		return plan{}, err
	}
	user := old
	if user.PasswordHash, err = a.hash(body.Password); err != nil {
		return plan{}, err
	}
	user.UpdatedAt = c.now
	return plan{
		endsAccess: true,
		events:     []authority.Event{{Subject: a.subject(user.ID), Target: user.ID, Reason: "password set"}},
		apply: func(ctx context.Context) (any, error) {
			user, err := a.users().Update(ctx, user)
			if err != nil {
				return nil, err
			}
			return showUser(user), a.endUserTokens(ctx, c, user, "the password was set")
		},
	}, nil
}

func (a *API) enableUser(ctx context.Context, c *call) (plan, error) {
	user, err := a.storedUser(ctx, c.id)
	if err != nil {
		return plan{}, err
	}
	return plan{
		events: []authority.Event{{Subject: a.subject(user.ID), Target: user.ID, Reason: "enabled"}},
		apply: func(ctx context.Context) (any, error) {
			user, err := a.setUserDisabled(ctx, user, false)
			return showUser(user), err
		},
	}, nil
}

func (a *API) disableUser(ctx context.Context, c *call) (plan, error) {
	return a.endUser(ctx, c, "disabled", func(_ context.Context, user authority.User) (any, error) {
		return showUser(user), nil
	})
}

func (a *API) deleteUser(ctx context.Context, c *call) (plan, error) {
	return a.endUser(ctx, c, "deleted", func(ctx context.Context, user authority.User) (any, error) {
		return nil, a.users().Delete(ctx, user, c.now)
	})
}

// endUser disables first and sets the epoch then, like endClient.
func (a *API) endUser(ctx context.Context, c *call, how string, then func(context.Context, authority.User) (any, error)) (plan, error) {
	user, err := a.storedUser(ctx, c.id)
	if err != nil {
		return plan{}, err
	}
	return plan{
		endsAccess: true,
		events:     []authority.Event{{Subject: a.subject(user.ID), Target: user.ID, Reason: how}},
		apply: func(ctx context.Context) (any, error) {
			user, err := a.setUserDisabled(ctx, user, true)
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
func (a *API) endUserTokens(ctx context.Context, c *call, user authority.User, why string) error {
	ended := authority.Event{Subject: a.subject(user.ID), Target: user.ID, Reason: why}
	return a.Endings.SetEpoch(ctx, authority.EpochUser, user.ID, c.describe(ctx, ended))
}

func (a *API) setUserDisabled(ctx context.Context, user authority.User, disabled bool) (authority.User, error) {
	if user.Disabled == disabled {
		return user, nil
	}
	user.Disabled, user.UpdatedAt = disabled, a.clock()
	return a.users().Update(ctx, user)
}

func (a *API) user(ctx context.Context, id string) (authority.User, error) {
	user, err := a.Directory.User(ctx, id)
	if errors.Is(err, authority.ErrNotFound) {
		return user, notFound("there is no user with the id %q", clip(id))
	}
	return user, err
}

// storedUser finds a user that may be changed here.
func (a *API) storedUser(ctx context.Context, id string) (authority.User, error) {
	user, err := a.user(ctx, id)
	if err == nil && user.Source == authority.FromFile {
		return user, readOnly("user", user.Username)
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
	return User{
		UserID: u.ID, Username: p.Username, Name: p.Name, Email: p.Email, EmailVerified: p.EmailVerified, Problems: u.Problems,
		Disabled: u.Disabled, Source: string(u.Source), CreatedAt: shownTime(u.CreatedAt), UpdatedAt: shownTime(u.UpdatedAt),
	}
}
