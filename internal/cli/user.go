package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/password"
)

func (a *adminCLI) userCommand() *cobra.Command {
	user := kind{name: "user", member: "user_id", complete: a.userNames(), find: a.userID, missing: noSuchUser}
	disable := change{use: "disable USER", example: "bob", question: "Disable user %s and end all tokens, grants and sessions?", short: "Disable a user and end tokens, grants and sessions", of: user, do: changing((*admin.API).DisableUser), said: "user %s is disabled; tokens and grants have ended", ends: everythingOfUser}
	enable := change{use: "enable USER", example: "bob", short: "Enable a user again; what was ended stays ended", of: user, do: changing((*admin.API).EnableUser), said: "user %s is enabled"}
	remove := change{use: "delete USER", example: "bob", short: "Delete a user and end tokens, grants and sessions", of: user, do: deleting((*admin.API).DeleteUser), question: "Delete user %s and end all tokens?", said: "user %s is deleted", ends: everythingOfUser}
	return a.group("user", "Administer users: people with an account here",
		`  signalbox user create bob --email bob@example.com --password-file -
  signalbox user disable bob`,
		listing[admin.User]{
			list: everybody, columns: []string{"USER", "ID", "NAME", "EMAIL", "STATE", "SOURCE"},
			row: func(u admin.User) []string {
				return []string{u.Username, u.UserID, u.Name, u.Email, enabled(u.Disabled), u.Source}
			},
			none: "no users",
		}.command(a, "List users", "  signalbox user list -o json"),
		a.userShow(), a.userCreate(), a.userGroups(), a.userPassword(), a.userHashPassword(),
		a.changeCommand(disable), a.changeCommand(enable), a.changeCommand(remove),
		a.revokeCommand("revoke USER", "bob", "End everything of a user that is older than now; the account itself stays", user, everythingOfUser),
	)
}

// everybody lists all users.
func everybody(api *admin.API, ctx context.Context, p admin.Paging) (admin.Page[admin.User], error) {
	return api.ListUsers(ctx, admin.UserFilter{}, p)
}

func everythingOfUser(id string) admin.Revoke { return admin.Revoke{UserID: id} }

// userID takes a username or an id. A name wins: people type names.
func (a *adminCLI) userID(ctx context.Context, nameOrID string) (string, error) {
	if nameOrID == "" {
		return "", &usageError{errors.New("the user is empty")}
	}
	found, err := callOf(ctx, a, (*admin.API).ListUsers, admin.UserFilter{Username: nameOrID}, admin.Paging{})
	if err != nil {
		return "", err
	}
	if len(found.Items) == 1 {
		return found.Items[0].UserID, nil
	}
	return nameOrID, nil
}

// noSuchUser: the service was asked by id, whatever the caller gave.
func noSuchUser(err error, nameOrID string) error {
	if !isStatus(err, http.StatusNotFound) {
		return err
	}
	return fmt.Errorf("there is no user with the username or the id %q", nameOrID)
}

func (a *adminCLI) userShow() *cobra.Command {
	return &cobra.Command{
		Use: "show USER", Short: "Show one user, by username or id", Args: oneArg("user"),
		Example:           "  signalbox user show bob",
		ValidArgsFunction: a.userNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := a.userID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			user, err := call(cmd.Context(), a, (*admin.API).ShowUser, id)
			if err != nil {
				return noSuchUser(err, args[0])
			}
			return a.show(user)
		},
	}
}

func (a *adminCLI) userCreate() *cobra.Command {
	var user admin.NewUser
	var passwordFile, claimsFile string
	cmd := &cobra.Command{
		Use: "create USERNAME", Short: "Create a user", Args: oneArg("username"),
		Example: `  signalbox user create bob --email bob@example.com --password-file bob.txt
  printf %s "$PASSWORD" | signalbox user create bob --password-file -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if user.Password, err = a.password(passwordFile); err != nil {
				return err
			}
			user.Username = args[0]
			if claimsFile != "" {
				text, err := os.ReadFile(claimsFile)
				if err != nil {
					return notReadable(err, "the claims")
				}
				claims := json.NewDecoder(bytes.NewReader(text))
				claims.DisallowUnknownFields()
				if err := claims.Decode(&user.Claims); err != nil {
					return fmt.Errorf("%s is not an object with standard claims: %w", claimsFile, err)
				}
			}
			created, err := call(cmd.Context(), a, (*admin.API).CreateUser, user)
			if err != nil {
				return err
			}
			return a.show(created)
		},
	}
	cmd.Flags().StringVar(&user.Name, "name", "", "the person's name")
	cmd.Flags().StringVar(&user.Email, "email", "", "e-mail address")
	cmd.Flags().StringSliceVar(&user.Groups, "group", nil, "a group, for trust policies; may be repeated")
	cmd.Flags().BoolVar(&user.EmailVerified, "email-verified", false, "the address is known to be the person's")
	cmd.Flags().StringVar(&claimsFile, "claims-file", "", `JSON file with standard claims, such as {"given_name": "Bob", "locale": "fr"}`)
	_ = cmd.MarkFlagFilename("claims-file", "json")
	passwordFlag(cmd, &passwordFile)
	return cmd
}

func (a *adminCLI) userGroups() *cobra.Command {
	return &cobra.Command{
		Use: "set-groups USER [GROUP…]", Short: "Set a user's groups; if one is taken away, tokens, grants and sessions end",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{errors.New("give a user, and all groups that the user is to have")}
			}
			return nil
		},
		Example:           "  signalbox user set-groups bob sre on-call\n  signalbox user set-groups bob          # none",
		ValidArgsFunction: a.userNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := a.userID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			user, err := callOf(cmd.Context(), a, (*admin.API).SetGroups, id, admin.SetGroups{Groups: args[1:]})
			if err != nil {
				return noSuchUser(err, args[0])
			}
			return a.show(user)
		},
	}
}

func (a *adminCLI) userPassword() *cobra.Command {
	var passwordFile string
	cmd := &cobra.Command{
		Use: "password USER", Short: "Set a user's password and end tokens, grants and sessions", Args: oneArg("user"),
		Example:           "  signalbox user password bob --password-file bob.txt",
		ValidArgsFunction: a.userNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			password, err := a.password(passwordFile)
			if err != nil {
				return err
			}
			id, err := a.userID(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			user, err := callOf(cmd.Context(), a, (*admin.API).SetPassword, id, admin.SetPassword{Password: password})
			if err != nil {
				return noSuchUser(err, args[0])
			}
			a.done("the password of %s is set; what came from the old one has ended", args[0])
			return a.showData(user)
		},
	}
	passwordFlag(cmd, &passwordFile)
	return cmd
}

// shortestPassword is what the service asks of every new password.
const shortestPassword = 8

// userHashPassword needs no service: the hash goes into the configuration file.
func (a *adminCLI) userHashPassword() *cobra.Command {
	var passwordFile string
	cmd := &cobra.Command{
		Use: "hash-password", Short: "Make the password_hash of a user in the configuration file; asks no service", Args: noArgs,
		Example: `  signalbox user hash-password                              # asks for it
  printf %s "$PASSWORD" | signalbox user hash-password --password-file -`,
		RunE: func(*cobra.Command, []string) error {
			if err := checkOutput(a.output, dataForms); err != nil {
				return err
			}
			secret, err := a.password(passwordFile)
			if err != nil {
				return err
			}
			if len(secret) < shortestPassword {
				return fmt.Errorf("the password is shorter than %d characters", shortestPassword)
			}
			hash, err := password.Hash(secret)
			if err != nil {
				return err
			}
			if a.output != "text" {
				return printData(a.env.Out, a.output, map[string]string{"password_hash": hash})
			}
			_, err = fmt.Fprintln(a.env.Out, hash)
			return err
		},
	}
	passwordFlag(cmd, &passwordFile)
	return cmd
}

func passwordFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "password-file", "", "file with the password, - for standard input; without it you are asked")
	_ = cmd.MarkFlagFilename("password-file")
}

// password never comes from a flag: other users of the machine see those.
func (a *adminCLI) password(file string) (string, error) {
	if file != "" {
		return readPassword(a.env, file)
	}
	if !isTerminal(a.env.In) {
		return "", &usageError{errors.New("--password-file is needed where nobody can be asked; - reads standard input")}
	}
	typed, err := askHidden(a.env, "Password: ", "Once more: ")
	switch {
	case err != nil:
		return "", err
	case typed[0] != typed[1]:
		return "", errors.New("the two passwords are not the same: nothing was changed")
	case typed[0] == "":
		return "", errors.New("the password is empty: nothing was changed")
	}
	return typed[0], nil
}
