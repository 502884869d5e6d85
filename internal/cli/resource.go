package cli

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
)

func (a *adminCLI) resourceCommand() *cobra.Command {
	resource := kind{name: "resource", member: "id", complete: a.resourceIDs()}
	return a.group("resource", "Administer resources: the APIs that accept tokens",
		`  signalbox resource list
  signalbox resource create https://api.example.com --scope orders:read --scope orders:write`,
		listing[admin.Resource]{
			list: (*admin.API).ListResources, columns: []string{"RESOURCE", "SCOPES", "FORMAT", "SOURCE"},
			row: func(r admin.Resource) []string {
				return []string{r.ID, strings.Join(r.Scopes, " "), r.TokenFormat, r.Source}
			},
			none: "no resources",
		}.command(a, "List resources", "  signalbox resource list -o json"),
		showCommand(a, "resource", "https://api.example.com", (*admin.API).ShowResource, a.resourceIDs()),
		a.resourceCreate(), a.resourceUpdate(),
		a.changeCommand(change{use: "delete RESOURCE", example: "https://api.example.com", short: "Delete a resource that no client names any more", of: resource, do: deleting((*admin.API).DeleteResource), question: "Delete resource %s?", said: "resource %s is deleted"}),
	)
}

var tokenFormats = []string{"jwt", "opaque"}

// resourceFlags are the members of a resource that may be set.
type resourceFlags struct {
	scopes, introspectors []string
	format                string
	ttl                   time.Duration
}

func (f *resourceFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.scopes, "scope", nil, "a scope of this API; may be repeated")
	flags.StringVar(&f.format, "token-format", "", "jwt or opaque (default jwt)")
	flags.DurationVar(&f.ttl, "access-ttl", 0, "life of its access tokens, at most 1h; 0 for the issuer's")
	flags.StringArrayVar(&f.introspectors, "introspection-client", nil, "a client that may introspect its tokens; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("token-format", cobra.FixedCompletions(tokenFormats, cobra.ShellCompDirectiveNoFileComp))
}

func (f *resourceFlags) fields(cmd *cobra.Command) (admin.ResourceFields, error) {
	given := cmd.Flags().Changed
	var fields admin.ResourceFields
	if err := oneOf(cmd, "token-format", f.format, tokenFormats); err != nil {
		return fields, err
	}
	if f.ttl < 0 || f.ttl > time.Hour || f.ttl%time.Second != 0 {
		return fields, &usageError{errors.New("--access-ttl must be whole seconds from 1s to 1h, or 0 for the issuer's")}
	}
	if given("scope") {
		fields.Scopes = &f.scopes
	}
	if given("token-format") {
		fields.TokenFormat = &f.format
	}
	if given("access-ttl") {
		seconds := int64(f.ttl / time.Second)
		fields.AccessTTL = &seconds
	}
	if given("introspection-client") {
		fields.IntrospectionClients = &f.introspectors
	}
	return fields, nil
}

func (a *adminCLI) resourceCreate() *cobra.Command {
	var f resourceFlags
	cmd := &cobra.Command{
		Use: "create URI", Short: "Create a resource", Args: oneArg("URI"),
		Example: "  signalbox resource create https://api.example.com --scope orders:read --scope orders:write --introspection-client orders-api",
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := f.fields(cmd)
			if err != nil {
				return err
			}
			created, err := call(cmd.Context(), a, (*admin.API).CreateResource, admin.NewResource{ID: args[0], ResourceFields: fields})
			if err != nil {
				return err
			}
			return a.show(created)
		},
	}
	f.add(cmd)
	return cmd
}

func (a *adminCLI) resourceUpdate() *cobra.Command {
	var f resourceFlags
	cmd := &cobra.Command{
		Use: "update URI", Short: "Change a resource: what is given replaces what was there", Args: oneArg("URI"),
		Example:           "  signalbox resource update https://api.example.com --token-format opaque",
		ValidArgsFunction: a.resourceIDs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := f.fields(cmd)
			if err != nil {
				return err
			}
			if fields == (admin.ResourceFields{}) {
				return &usageError{errors.New("nothing to change was given")}
			}
			updated, err := callOf(cmd.Context(), a, (*admin.API).UpdateResource, args[0], fields)
			if err != nil {
				return err
			}
			return a.show(updated)
		},
	}
	f.add(cmd)
	return cmd
}
