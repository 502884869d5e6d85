package admin

import (
	"context"
	"time"

	"github.com/signalbox-sts/signalbox/internal/operation"
)

// User is a person's account as the API shows it.
type User struct {
	UserID        string          `json:"user_id" doc:"The sub of this user's tokens."`
	Username      string          `json:"username"`
	Name          string          `json:"name,omitempty"`
	Email         string          `json:"email,omitempty"`
	EmailVerified bool            `json:"email_verified"`
	Groups        []string        `json:"groups,omitempty" doc:"What trust policies ask for (user_group)."`
	Claims        *StandardClaims `json:"claims,omitempty" doc:"Standard claims besides name and email (OpenID Connect Core §5.1)."`
	Problems      []Problem       `json:"problems,omitempty" doc:"The rules that it breaks, since they have become stricter: it is off."`
	Disabled      bool            `json:"disabled"`
	Source        string          `json:"source" enum:"file,database"`
	CreatedAt     *time.Time      `json:"created_at,omitempty"`
	UpdatedAt     *time.Time      `json:"updated_at,omitempty"`
}

// NewUser is the body that creates a user.
type NewUser struct {
	Username      string `json:"username" doc:"Without capital letters and spaces: two accounts that look alike fool whoever reads a list."`
	Password      string `json:"password" doc:"8 to 1024 bytes."`
	Name          string `json:"name,omitempty"`
	Email         string `json:"email,omitempty"`
	EmailVerified bool   `json:"email_verified,omitempty"`

	Groups []string       `json:"groups,omitempty" doc:"What trust policies ask for (user_group)."`
	Claims StandardClaims `json:"claims,omitzero" doc:"Standard claims besides name and email (OpenID Connect Core §5.1)."`
}

// StandardClaims is what may be known about a person besides name and email (OpenID Connect Core §5.1).
type StandardClaims struct {
	GivenName           string  `json:"given_name,omitempty"`
	FamilyName          string  `json:"family_name,omitempty"`
	MiddleName          string  `json:"middle_name,omitempty"`
	Nickname            string  `json:"nickname,omitempty"`
	Profile             string  `json:"profile,omitempty" doc:"URL of a page about the person."`
	Picture             string  `json:"picture,omitempty" doc:"URL."`
	Website             string  `json:"website,omitempty" doc:"URL."`
	Gender              string  `json:"gender,omitempty"`
	Birthdate           string  `json:"birthdate,omitempty" doc:"YYYY-MM-DD, YYYY or 0000-MM-DD."`
	Zoneinfo            string  `json:"zoneinfo,omitempty" doc:"Such as Europe/Paris."`
	Locale              string  `json:"locale,omitempty" doc:"BCP 47."`
	PhoneNumber         string  `json:"phone_number,omitempty"`
	PhoneNumberVerified bool    `json:"phone_number_verified,omitempty"`
	Address             Address `json:"address,omitzero"`
}

// Address is a postal address (OpenID Connect Core §5.1.1).
type Address struct {
	Formatted     string `json:"formatted,omitempty"`
	StreetAddress string `json:"street_address,omitempty"`
	Locality      string `json:"locality,omitempty"`
	Region        string `json:"region,omitempty"`
	PostalCode    string `json:"postal_code,omitempty"`
	Country       string `json:"country,omitempty"`
}

// SetGroups is the body that sets a user's groups.
type SetGroups struct {
	Groups []string `json:"groups" doc:"All of them: those that are not here are taken away."`
}

// SetPassword is the body that sets a password.
type SetPassword struct {
	Password string `json:"password" doc:"8 to 1024 bytes."`
}

// UserFilter chooses users. Its zero value chooses all.
type UserFilter struct {
	Username string `query:"username" doc:"Only the user with this name."`
}

// ListUsers lists users: those of the configuration file first.
func (a *API) ListUsers(ctx context.Context, f UserFilter, p Paging) (Page[User], error) {
	return call[Page[User]](ctx, a, operation.ListUsers, "", nil, f, p)
}

// CreateUser creates a user.
func (a *API) CreateUser(ctx context.Context, u NewUser) (User, error) {
	return call[User](ctx, a, operation.CreateUser, "", u)
}

// ShowUser shows a user.
func (a *API) ShowUser(ctx context.Context, userID string) (User, error) {
	return call[User](ctx, a, operation.ShowUser, userID, nil)
}

// DeleteUser deletes a user and ends all tokens, grants and sessions.
func (a *API) DeleteUser(ctx context.Context, userID string) error {
	return a.run(ctx, operation.DeleteUser, userID)
}

// SetPassword sets a user's password and ends all tokens, grants and sessions.
func (a *API) SetPassword(ctx context.Context, userID string, s SetPassword) (User, error) {
	return call[User](ctx, a, operation.SetPassword, userID, s)
}

// SetGroups sets a user's groups. If one is taken away, all tokens, grants and sessions end.
func (a *API) SetGroups(ctx context.Context, userID string, s SetGroups) (User, error) {
	return call[User](ctx, a, operation.SetGroups, userID, s)
}

// DisableUser disables a user and ends all tokens, grants and sessions.
func (a *API) DisableUser(ctx context.Context, userID string) (User, error) {
	return call[User](ctx, a, operation.DisableUser, userID, nil)
}

// EnableUser enables a user again. What was ended stays ended.
func (a *API) EnableUser(ctx context.Context, userID string) (User, error) {
	return call[User](ctx, a, operation.EnableUser, userID, nil)
}
