package main

import (
	"context"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/server/admin"
)

func (a *adminCLI) grantCommand() *cobra.Command {
	return a.group("grant", "Look at standing permissions, and end them",
		`  signalbox grant list --user ada --active
  signalbox grant show GRANT
  signalbox grant revoke GRANT`,
		a.grantList(),
		a.showCommand("grant", "/grants", "grant_id", &admin.GrantWithChildren{}),
		a.revokeCommand("revoke GRANT", "End a grant with all its descendants and their tokens", "/grants", "grant_id", func(id string) admin.Revoke { return admin.Revoke{GrantID: id} }),
	)
}

func (a *adminCLI) grantList() *cobra.Command {
	var client, user string
	active := false
	cmd := listing[admin.Grant]{
		path: "/grants", columns: []string{"GRANT", "CLIENT", "SUBJECT", "SCOPE", "STATE", "CREATED", "EXPIRES"},
		row: func(g admin.Grant) []string {
			state := g.State
			if state == "active" && !g.Alive {
				state = "dead" // expired, or an epoch has passed over it
			}
			return []string{g.GrantID, g.ClientID, g.Subject.ID, g.Scope, state, when(g.CreatedAt), when(g.ExpiresAt)}
		},
		query: func(ctx context.Context) (url.Values, error) {
			query := url.Values{}
			if client != "" {
				query.Set("client_id", client)
			}
			if active {
				query.Set("active", "true")
			}
			if user != "" {
				id, err := a.userID(ctx, user)
				if err != nil && !isStatus(err, 403) { // grants:read alone does not find names
					return nil, err
				}
				if id == "" {
					id = user
				}
				query.Set("subject", id)
			}
			return query, nil
		},
	}.command(a, "List grants, oldest first", "  signalbox grant list --client web --active -o json")
	cmd.Flags().StringVar(&client, "client", "", "only grants of this client")
	cmd.Flags().StringVar(&user, "user", "", "only grants of this user, by username or id")
	cmd.Flags().BoolVar(&active, "active", false, "only grants that can still give tokens")
	_ = cmd.RegisterFlagCompletionFunc("client", a.completeIDs("/clients", "client_id"))
	_ = cmd.RegisterFlagCompletionFunc("user", a.completeIDs("/users", "username"))
	return cmd
}
