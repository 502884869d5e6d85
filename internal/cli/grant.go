package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/explain"
)

// exampleGrant is an id as grant list shows them.
const exampleGrant = "019a3f5c-7d2e-7b41-9c55-2f1e08d6a9b3"

func (a *adminCLI) grantCommand() *cobra.Command {
	return a.group("grant", "Look at standing permissions, and end them",
		`  signalbox grant list --user ada --active
  signalbox grant list --cluster hub --namespace shop
  signalbox grant show `+exampleGrant+`
  signalbox grant revoke `+exampleGrant,
		a.grantList(),
		a.grantShow(),
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
		ValidArgsFunction: a.grantIDs(),
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

func (a *adminCLI) grantShow() *cobra.Command {
	return &cobra.Command{
		Use: "show GRANT", Short: "Show a grant, and the tree of what it came from and what came from it", Args: oneArg("grant"),
		Example:           "  signalbox grant show " + exampleGrant,
		ValidArgsFunction: a.grantIDs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			family, err := call(cmd.Context(), a, (*admin.API).ShowGrant, args[0])
			if err != nil {
				return err
			}
			if a.output != "text" {
				return a.show(family)
			}
			if err := a.show(family.Grant); err != nil {
				return err
			}
			if len(family.Ancestors)+len(family.Descendants) == 0 {
				return nil
			}
			_, err = fmt.Fprint(a.env.Out, "\n"+lineage(family))
			return err
		},
	}
}

// lineage draws a grant between what it came from and what came from it.
func lineage(family admin.GrantWithFamily) string {
	var b strings.Builder
	line := func(depth int, id, client, more string, alive bool) {
		state := "dead"
		if alive {
			state = "alive"
		}
		branch := ""
		if depth > 0 {
			branch = strings.Repeat("   ", depth-1) + "└─ "
		}
		fmt.Fprintf(&b, "%s%s  %s  of client %s%s\n", branch, explain.Printable(id), state, explain.Printable(client), more)
	}
	for i, ancestor := range family.Ancestors {
		more := ""
		if ancestor.Rowless {
			more = ", without a row"
		}
		line(i, ancestor.GrantID, ancestor.ClientID, more, ancestor.Alive)
	}
	depth := len(family.Ancestors)
	line(depth, family.GrantID, family.ClientID, "  <- this one", family.Alive)
	children := map[string][]admin.Grant{}
	for _, g := range family.Descendants {
		if n := len(g.Lineage); n > 0 {
			children[g.Lineage[n-1]] = append(children[g.Lineage[n-1]], g)
		}
	}
	var draw func(id string, depth int)
	draw = func(id string, depth int) {
		below := children[id]
		delete(children, id) // an answer that goes in a circle must not keep us busy
		for _, g := range below {
			line(depth, g.GrantID, g.ClientID, "", g.Alive)
			draw(g.GrantID, depth+1)
		}
	}
	draw(family.GrantID, depth+1)
	for _, g := range family.Descendants { // what came from it through one that has no row
		if n := len(g.Lineage); n > 0 && len(children[g.Lineage[n-1]]) > 0 {
			fmt.Fprintf(&b, "%s└─ %s  without a row\n", strings.Repeat("   ", depth), explain.Printable(g.Lineage[n-1]))
			draw(g.Lineage[n-1], depth+2)
		}
	}
	if family.Partial {
		b.WriteString("there may be more\n")
	}
	return b.String()
}

// completeFilter checks what the flags of grant list say, and finds the user that they name.
func (a *adminCLI) completeFilter(ctx context.Context, f *admin.GrantFilter, user string) error {
	switch {
	case f.Namespace != "" && f.Cluster == "", f.ServiceAccount != "" && f.Namespace == "":
		return &usageError{errors.New("--namespace needs --cluster, and --service-account needs both")}
	case user == "":
		return nil
	}
	id, err := a.userID(ctx, user)
	if err != nil && !isStatus(err, http.StatusForbidden) { // grants:read alone does not find names
		return err
	}
	f.Subject = cmp.Or(id, user)
	return nil
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
	var filter admin.GrantFilter
	user := ""
	cmd := listing[admin.Grant]{
		list: func(api *admin.API, ctx context.Context, p admin.Paging) (admin.Page[admin.Grant], error) {
			return api.ListGrants(ctx, filter, p)
		},
		columns: []string{"GRANT", "CLIENT", "SUBJECT", "SCOPE", "STATE", "AGE", "EXPIRES"},
		row:     a.grantRow,
		prepare: func(ctx context.Context, grants []admin.Grant) {
			subjects := make([]admin.Subject, len(grants))
			for i, g := range grants {
				subjects[i] = g.Subject
			}
			a.learnNames(ctx, subjects...)
		},
		check: func(ctx context.Context) error { return a.completeFilter(ctx, &filter, user) },
		none:  "no grants",
	}.command(a, "List grants, oldest first", "  signalbox grant list --client web --active -o json")
	cmd.Flags().StringVar(&filter.ClientID, "client", "", "only grants of this client")
	cmd.Flags().StringVar(&user, "user", "", "only grants of this user, by username or id")
	cmd.Flags().StringVar(&filter.Cluster, "cluster", "", "only grants of this cluster's workloads")
	cmd.Flags().StringVar(&filter.Namespace, "namespace", "", "with --cluster: only those of this namespace")
	cmd.Flags().StringVar(&filter.ServiceAccount, "service-account", "", "with --namespace: only those of this service account")
	cmd.Flags().StringVar(&filter.TrustedIssuer, "issuer", "", "only grants of those whom this trusted issuer vouches for, by its name")
	_ = cmd.RegisterFlagCompletionFunc("cluster", a.clusterNames())
	_ = cmd.RegisterFlagCompletionFunc("issuer", a.issuerNames())
	cmd.Flags().BoolVar(&filter.Active, "active", false, "only grants that can still give tokens")
	_ = cmd.RegisterFlagCompletionFunc("client", a.clientIDs())
	_ = cmd.RegisterFlagCompletionFunc("user", a.userNames())
	return cmd
}
