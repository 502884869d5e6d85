package admin

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"net/mail"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

const (
	maxUsername = 255
	minPassword = 8
	maxPassword = 1024 // a longer one only costs us time (docs/security/threats.md J 111)
)

// User is a person's account as the API shows it.
type User struct {
	UserID        string     `json:"user_id" doc:"The sub of this user's tokens."`
	Username      string     `json:"username"`
	Name          string     `json:"name,omitempty"`
	Email         string     `json:"email,omitempty"`
	EmailVerified bool       `json:"email_verified"`
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

func (a *API) listUsers(ctx context.Context, c *call) (plan, error) {
	page := Page[User]{Items: []User{}}
	if name := c.query.Get("username"); name != "" {
		if !printable(name, maxUsername) {
			return reads(page), nil
		}
		user, err := a.Directory.UserByName(ctx, name)
		switch {
		case err == nil:
			page.Items = append(page.Items, showUser(user))
		case !errors.Is(err, authority.ErrNotFound):
			return plan{}, err
		}
		return reads(page), nil
	}
	stored := func(p authority.Page) ([]authority.User, error) { return a.Store.Users(ctx, p) }
	users, next, err := list(a.Directory.DeclaredUsers(), func(u authority.User) string { return u.ID }, stored, c.page)
	if err != nil {
		return plan{}, err
	}
	page.Next = next
	for _, user := range users {
		page.Items = append(page.Items, showUser(user))
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
	user := authority.User{
		ID: randomID("u_"), Username: body.Username, Name: body.Name, Email: body.Email, EmailVerified: body.EmailVerified,
		Source: authority.FromDatabase, CreatedAt: c.now, UpdatedAt: c.now,
	}
	if err := checkUser(user); err != nil {
		return plan{}, err
	}
	if _, err := a.Directory.UserByName(ctx, user.Username); !errors.Is(err, authority.ErrNotFound) {
		return plan{}, taken(err, "user", user.Username)
	}
	if user.PasswordHash, err = a.hash(body.Password); err != nil {
		return plan{}, err
	}
	return plan{
		events: []authority.Event{{Subject: a.subject(user.ID), Target: user.ID, Reason: "created"}},
		apply: func(ctx context.Context) (any, error) {
			return showUser(user), a.Store.CreateUser(ctx, user)
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
	user.UpdatedAt = later(c.now, old.UpdatedAt)
	return plan{
		endsAccess: true,
		events:     []authority.Event{{Subject: a.subject(user.ID), Target: user.ID, Reason: "password set"}},
		apply: func(ctx context.Context) (any, error) {
			if err := a.Store.UpdateUser(ctx, user, old.UpdatedAt); err != nil {
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
		return nil, a.Store.DeleteUser(ctx, user.ID)
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
	next := user
	next.Disabled, next.UpdatedAt = disabled, later(a.clock(), user.UpdatedAt)
	if err := a.Store.UpdateUser(ctx, next, user.UpdatedAt); err != nil {
		return user, err
	}
	return next, nil
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
	if len(password) < minPassword || len(password) > maxPassword {
		return "", invalid("password must be %d to %d bytes long", minPassword, maxPassword)
	}
	return a.HashPassword(password)
}

func checkUser(u authority.User) error {
	switch {
	case !printable(u.Username, maxUsername) || strings.ContainsAny(u.Username, " \t\u00a0\u3000"):
		return invalid("username must be 1 to %d bytes without spaces and control characters", maxUsername)
	case strings.ToLower(u.Username) != u.Username:
		return invalid("username must have no capital letters")
	case u.Name != "" && !printable(u.Name, maxName):
		return invalid("name must be at most %d bytes without control characters", maxName)
	case u.Email != "" && !isEmail(u.Email):
		return invalid("email is not an e-mail address")
	case u.EmailVerified && u.Email == "":
		return invalid("email_verified is true, but there is no email")
	}
	return nil
}

func isEmail(s string) bool {
	address, err := mail.ParseAddress(s)
	return err == nil && address.Address == s && len(s) <= 254
}

// randomID has 128 random bits: it never equals an id that somebody chose,
// nor one that was used before.
func randomID(prefix string) string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	return prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random))
}

func showUser(u authority.User) User {
	return User{
		UserID: u.ID, Username: u.Username, Name: u.Name, Email: u.Email, EmailVerified: u.EmailVerified,
		Disabled: u.Disabled, Source: string(u.Source), CreatedAt: shownTime(u.CreatedAt), UpdatedAt: shownTime(u.UpdatedAt),
	}
}
