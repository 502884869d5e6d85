package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/server/admin"
)

// exampleGrant is an id as grant list shows them.
const exampleGrant = "019a3f5c-7d2e-7b41-9c55-2f1e08d6a9b3"

func (a *adminCLI) grantCommand() *cobra.Command {
	return a.group("grant", "Look at standing permissions, and end them",
		`  signalbox grant list --user ada --active
  signalbox grant show `+exampleGrant+`
  signalbox grant revoke `+exampleGrant,
		a.grantList(),
		a.showCommand("grant", "/grants", "grant_id", exampleGrant, &admin.GrantWithChildren{}),
		a.grantRevoke(),
	)
}

func (a *adminCLI) grantRevoke() *cobra.Command {
	var yes, dryRun, force bool
	var tokenFile string
	cmd := &cobra.Command{
		Use: "revoke GRANT", Short: "End a grant with all its descendants and their tokens",
		Long: `End a grant with all its descendants and their tokens. With --token-file: the
grant of an access token that was found somewhere, and the token itself; or the
grant of a refresh token.

A grant that had ended before is no error. One of which nothing is known is: the
id may be mistyped. What a machine got for itself has no row in the database,
and only the journal of the node that issued it knows it: --force ends it by its
id on any node.`,
		Example: `  signalbox grant revoke ` + exampleGrant + ` --dry-run
  signalbox grant revoke --token-file - < leaked-token.txt`,
		Args: func(cmd *cobra.Command, args []string) error {
			if tokenFile != "" && len(args) > 0 {
				return &usageError{errors.New("give a grant or --token-file, not both")}
			}
			if tokenFile != "" && force {
				return &usageError{errors.New("--force is for the id of a grant: a token proves its own")}
			}
			if tokenFile != "" {
				return nil
			}
			return oneArg("grant")(cmd, args)
		},
		ValidArgsFunction: a.completeIDs("/grants", "grant_id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if tokenFile == "" {
				err := a.revoke(cmd.Context(), admin.Revoke{GrantID: args[0], Force: force}, "", yes, dryRun)
				if isStatus(err, http.StatusNotFound) {
					err = fmt.Errorf("%w; look with signalbox why %[2]s, or say --force", err, explain.Printable(args[0]))
				}
				return err
			}
			token, err := readSecret(a.env, tokenFile)
			if err != nil {
				return err
			}
			return a.revoke(cmd.Context(), admin.Revoke{Token: token, WithGrant: true}, "", yes, dryRun)
		},
	}
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file with an access token or a refresh token, - for standard input")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show the blast radius")
	cmd.Flags().BoolVar(&force, "force", false, "end the grant although nothing of it is known here")
	_ = cmd.MarkFlagFilename("token-file")
	return cmd
}

// grantFilter are the flags of grant list.
type grantFilter struct {
	client, user string
	active       bool
}

func (f *grantFilter) query(ctx context.Context, a *adminCLI) (url.Values, error) {
	query := url.Values{}
	if f.client != "" {
		query.Set("client_id", f.client)
	}
	if f.active {
		query.Set("active", "true")
	}
	if f.user == "" {
		return query, nil
	}
	id, err := a.userID(ctx, f.user)
	if err != nil && !isStatus(err, http.StatusForbidden) { // grants:read alone does not find names
		return nil, err
	}
	query.Set("subject", cmp.Or(id, f.user))
	return query, nil
}

func (a *adminCLI) grantRow(g admin.Grant) []string {
	state := g.State
	if state == "active" && !g.Alive {
		state = "dead" // expired, or an epoch has passed over it
	}
	now := a.env.now()
	return []string{g.GrantID, g.ClientID, a.named(g.Subject.ID), g.Scope, state, age(g.CreatedAt, now), age(g.ExpiresAt, now)}
}

func (a *adminCLI) grantList() *cobra.Command {
	var filter grantFilter
	cmd := listing[admin.Grant]{
		path: "/grants", columns: []string{"GRANT", "CLIENT", "SUBJECT", "SCOPE", "STATE", "AGE", "EXPIRES"},
		row: a.grantRow,
		prepare: func(ctx context.Context, grants []admin.Grant) {
			subjects := make([]admin.Subject, len(grants))
			for i, g := range grants {
				subjects[i] = g.Subject
			}
			a.learnNames(ctx, subjects...)
		},
		query: func(ctx context.Context) (url.Values, error) { return filter.query(ctx, a) },
		none:  "no grants",
	}.command(a, "List grants, oldest first", "  signalbox grant list --client web --active -o json")
	cmd.Flags().StringVar(&filter.client, "client", "", "only grants of this client")
	cmd.Flags().StringVar(&filter.user, "user", "", "only grants of this user, by username or id")
	cmd.Flags().BoolVar(&filter.active, "active", false, "only grants that can still give tokens")
	_ = cmd.RegisterFlagCompletionFunc("client", a.completeIDs("/clients", "client_id"))
	_ = cmd.RegisterFlagCompletionFunc("user", a.completeIDs("/users", "username"))
	return cmd
}
