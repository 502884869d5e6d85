package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/explain"
)

func (a *adminCLI) panicCommand() *cobra.Command {
	var user, client, cluster, issuer, workload string
	var everything, yes, dryRun bool
	cmd := &cobra.Command{
		Use:   "panic",
		Short: "Show the blast radius, then end everything older than now",
		Long: `Show how much would end, then end every token, grant and session that is older
than now: of one user, of one client, of workloads, or all of them. Whoever is
still entitled signs in again or asks for a new token. With --yes the end does not
wait until all of it is counted.

--workload takes a namespace, cluster:hub:ns:shop, one service account of it,
cluster:hub:ns:shop:sa:web, or one subject of a trusted issuer,
issuer:github:SUBJECT.`,
		Example: `  signalbox panic --client night-job           # its secret leaked
  signalbox panic --user ada --yes             # in a script
  signalbox panic --workload cluster:hub:ns:shop
  signalbox panic --cluster hub                # it was taken over
  signalbox panic --everything --dry-run       # how much would that be?`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			named := 0
			for _, given := range []bool{user != "", client != "", cluster != "", issuer != "", workload != "", everything} {
				if given {
					named++
				}
			}
			if named != 1 {
				return &usageError{errors.New("say exactly one of --user, --client, --cluster, --issuer, --workload and --everything")}
			}
			body := admin.Revoke{ClientID: client, Cluster: cluster, Issuer: issuer, Workload: workload, Everything: everything}
			if user != "" {
				id, err := a.userID(cmd.Context(), user)
				if err != nil && !isStatus(err, http.StatusForbidden) { // grants:write alone does not list users
					return err
				}
				if body.UserID = id; err != nil {
					body.Username = user
				}
			}
			return a.revoke(cmd.Context(), body, user, yes, dryRun)
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "everything of this user, by username or id")
	cmd.Flags().StringVar(&client, "client", "", "everything of this client")
	cmd.Flags().StringVar(&cluster, "cluster", "", "everything of the workloads of this cluster, which may be gone")
	cmd.Flags().StringVar(&issuer, "issuer", "", "everything of those whom this trusted issuer vouches for, by its name")
	cmd.Flags().StringVar(&workload, "workload", "", "everything of this namespace, service account or subject")
	_ = cmd.RegisterFlagCompletionFunc("cluster", a.clusterNames())
	_ = cmd.RegisterFlagCompletionFunc("issuer", a.issuerNames())
	cmd.Flags().BoolVar(&everything, "everything", false, "everything that this service ever issued")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show the blast radius")
	_ = cmd.RegisterFlagCompletionFunc("client", a.clientIDs())
	_ = cmd.RegisterFlagCompletionFunc("user", a.userNames())
	return cmd
}

// revokeCommand ends everything of one thing, after showing how much that is.
func (a *adminCLI) revokeCommand(use, example, short string, of kind, body func(id string) admin.Revoke) *cobra.Command {
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use: use, Short: short, Args: oneArg("id"),
		Example:           "  signalbox " + of.name + " revoke " + example + " --dry-run\n  signalbox " + of.name + " revoke " + example + " --yes      # in a script",
		ValidArgsFunction: of.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			if of.find != nil {
				var err error
				if id, err = of.find(cmd.Context(), id); err != nil {
					return err
				}
			}
			return a.revoke(cmd.Context(), body(id), args[0], yes, dryRun)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show the blast radius")
	return cmd
}

// revoke looks first, asks, and then does it. With yes it does it at once: to count
// what ends takes time, in which a thief is not stopped. typed is what the caller called
// it, if that may be another name than the service's.
func (a *adminCLI) revoke(ctx context.Context, body admin.Revoke, typed string, yes, dryRun bool) error {
	if err := checkOutput(a.output, dataForms); err != nil {
		return err
	}
	if dryRun || !yes {
		would, err := a.wouldEnd(ctx, body, typed)
		if err != nil {
			return err
		}
		if dryRun {
			return a.showData(would)
		}
		if err := a.confirm("End all of this now?", yes); err != nil {
			return err
		}
	}
	did, err := call(ctx, a, (*admin.API).Revoke, body)
	if err != nil {
		return err
	}
	if yes {
		blastRadius(a.env.Err, did, typed)
	}
	if did.AlreadyEnded {
		a.done("done: it had ended before, and every token of it is dead")
	} else {
		a.done("done: it is on record, and every token of it is dead")
	}
	if did.Kind == "everything" && !a.found.renewable() {
		a.done("the admin token of this command has ended too: get a new one")
	}
	return a.showData(did)
}

// wouldEnd asks what would end, and shows it.
func (a *adminCLI) wouldEnd(ctx context.Context, body admin.Revoke, typed string) (would admin.Revoked, err error) {
	body.DryRun = true
	if would, err = call(ctx, a, (*admin.API).Revoke, body); err != nil {
		return would, err
	}
	blastRadius(a.env.Err, would, typed)
	return would, nil
}

// blastRadius says in words what would end.
func blastRadius(w io.Writer, r admin.Revoked, typed string) {
	what := r.Kind + " " + r.Key
	switch {
	case r.Kind == "everything":
		what = r.Kind
	case typed != "" && typed != r.Key:
		what = r.Kind + " " + typed + " (" + r.Key + ")"
	}
	atMost := ""
	switch {
	case r.AtLeast:
		atMost = "at least "
	case !r.Exact:
		atMost = "at most "
	}
	fmt.Fprintf(w, "Blast radius of %s:\n", explain.Printable(what))
	switch {
	case r.AlreadyEnded:
		fmt.Fprintln(w, "  it has ended already")
	case r.Rowless:
		fmt.Fprintln(w, "  what machines got for themselves has no standing grant to count: its tokens end, and all that came from them")
	case r.ActiveGrants == 1:
		fmt.Fprintf(w, "  %s1 standing grant ends, and every token that came from it\n", atMost)
	default:
		fmt.Fprintf(w, "  %s%d standing grants end, and every token that came from them\n", atMost, r.ActiveGrants)
	}
	if !r.Exact && len(r.ByClient) > 0 {
		fmt.Fprintln(w, "  of the first of them:")
	}
	for i, c := range r.ByClient {
		if i == 10 {
			fmt.Fprintf(w, "    … and %s\n", count(len(r.ByClient)-i, "more client"))
			break
		}
		fmt.Fprintf(w, "    %6d  of client %s\n", c.ActiveGrants, explain.Printable(c.ClientID))
	}
	if r.Oldest != nil && r.Newest != nil {
		fmt.Fprintf(w, "  the oldest is from %s, the newest from %s\n", when(r.Oldest), when(r.Newest))
	}
	if r.Kind == "client" || r.Kind == "everything" {
		fmt.Fprintln(w, "  tokens that machines got for themselves have no grant to count; they end too")
	}
	fmt.Fprintf(w, "  left alone, the last access token would die by itself in %s\n", time.Duration(r.TokensDieIn)*time.Second)
}
