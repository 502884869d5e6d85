package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func (a *adminCLI) clientCommand() *cobra.Command {
	client := kind{name: "client", member: "client_id", complete: a.clientIDs()}
	return a.group("client", "Administer clients: applications and machines that ask for tokens",
		`  signalbox client list
  signalbox client create night-job --grant-type client_credentials --resource https://api.example.com --scope orders:read
  signalbox client rotate night-job --keep-old 1h --secret-file night-job.secret`,
		listing[admin.Client]{
			list: (*admin.API).ListClients, columns: []string{"CLIENT", "NAME", "AUTHENTICATION", "SCOPE", "STATE", "SOURCE"},
			row: func(c admin.Client) []string {
				return []string{c.ClientID, c.ClientName, c.AuthMethod, c.Scope, enabled(c.Disabled), c.Source}
			},
			none: "no clients",
		}.command(a, "List clients", "  signalbox client list -o json"),
		showCommand(a, "client", "night-job", (*admin.API).ShowClient, a.clientIDs()),
		a.clientCreate(), a.clientUpdate(), a.clientRotate(),
		a.changeCommand(change{use: "disable CLIENT", example: "night-job", short: "Disable a client and end its tokens and grants", of: client, do: changing((*admin.API).DisableClient), question: "Disable client %s and end all its tokens?", said: "client %s is disabled; its tokens and grants have ended", ends: everythingOfClient}),
		a.changeCommand(change{use: "enable CLIENT", example: "night-job", short: "Enable a client again; what was ended stays ended", of: client, do: changing((*admin.API).EnableClient), said: "client %s is enabled"}),
		a.changeCommand(change{use: "delete CLIENT", example: "night-job", short: "Delete a client and end its tokens and grants", of: client, do: deleting((*admin.API).DeleteClient), question: "Delete client %s and end all its tokens?", said: "client %s is deleted", ends: everythingOfClient}),
		a.revokeCommand("revoke CLIENT", "night-job", "End everything of a client that is older than now; the client itself stays", client, everythingOfClient),
	)
}

func everythingOfClient(id string) admin.Revoke { return admin.Revoke{ClientID: id} }

func enabled(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "enabled"
}

// showCommand shows one thing by its id.
func showCommand[T any](a *adminCLI, what, example string, get func(*admin.API, context.Context, string) (T, error), complete cobra.CompletionFunc) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show one " + what, Args: oneArg(what + "'s id"),
		Example:           "  signalbox " + what + " show " + example + "\n  signalbox " + what + " show " + example + " -o json",
		ValidArgsFunction: complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := call(cmd.Context(), a, get, args[0])
			if err != nil {
				return err
			}
			return a.show(found)
		},
	}
}

// kind is a kind of thing that commands change.
type kind struct {
	name     string // as in signalbox NAME …
	member   string // what the API calls the id
	complete cobra.CompletionFunc
	// find and missing are for things that people call by another name than the API; else nil.
	find    func(ctx context.Context, named string) (id string, err error)
	missing func(err error, named string) error
}

// change is a command that does one thing to one thing.
type change struct {
	use, short string
	example    string // an id
	of         kind
	do         func(api *admin.API, ctx context.Context, id string) (any, error) // nil: it is deleted
	question   string                                                            // asked first; empty for what ends nothing
	said       string
	ends       func(id string) admin.Revoke // what ends with it; nil if that cannot be told before
}

func changing[T any](do func(*admin.API, context.Context, string) (T, error)) func(*admin.API, context.Context, string) (any, error) {
	return func(api *admin.API, ctx context.Context, id string) (any, error) { return do(api, ctx, id) }
}

func deleting(do func(*admin.API, context.Context, string) error) func(*admin.API, context.Context, string) (any, error) {
	return func(api *admin.API, ctx context.Context, id string) (any, error) { return nil, do(api, ctx, id) }
}

func (a *adminCLI) changeCommand(c change) *cobra.Command {
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use: c.use, Short: c.short, Args: oneArg("id"),
		Example:           c.examples(),
		ValidArgsFunction: c.of.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			if c.of.find != nil {
				var err error
				if id, err = c.of.find(cmd.Context(), id); err != nil {
					return err
				}
			}
			if dryRun {
				would, err := a.wouldEnd(cmd.Context(), c.ends(id), args[0])
				if err != nil {
					return err
				}
				return a.showData(would)
			}
			if c.question != "" {
				if err := a.confirm(fmt.Sprintf(c.question, args[0]), yes); err != nil {
					return err
				}
			}
			answer, err := call(cmd.Context(), a, c.do, id)
			if err != nil && c.of.missing != nil {
				err = c.of.missing(err, args[0])
			}
			if err != nil {
				return err
			}
			a.done(c.said, args[0])
			if answer == nil {
				return a.showData(map[string]any{c.of.member: id, "deleted": true})
			}
			return a.showData(answer)
		},
	}
	if c.question != "" {
		cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	}
	if c.ends != nil {
		cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show the blast radius; needs the scope grants:write")
	}
	return cmd
}

func (c change) examples() string {
	verb, _, _ := strings.Cut(c.use, " ")
	example := "  signalbox " + c.of.name + " " + verb + " " + c.example
	lines := example
	if c.ends != nil {
		lines += "\n" + example + " --dry-run"
	}
	if c.question != "" {
		lines += "\n" + example + " --yes      # in a script"
	}
	return lines
}

var (
	authMethods = authority.AuthMethods()
	grantTypes  = authority.GrantTypes()
)

// clientFlags are the members of a client that may be set.
type clientFlags struct {
	name, method, alg, jwksFile, workload, backLogout, frontLogout string
	redirects, postLogout, grants, scopes, resources               []string
	audiences, pkce, backSession, frontSession                     bool
}

func (f *clientFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "the name that people see")
	flags.StringVar(&f.method, "auth-method", "", "none, client_secret_basic, client_secret_post, private_key_jwt or federated_jwt (default client_secret_basic; federated_jwt with --federated-credential)")
	flags.StringArrayVar(&f.scopes, "scope", nil, "scopes that it may ask for, parted by spaces; may be repeated")
	flags.StringVar(&f.alg, "id-token-alg", "", "algorithm of its ID tokens (default: the service's first)")
	flags.BoolVar(&f.audiences, "allow-multiple-audiences", false, "dangerous: one token may be good at several of its APIs, and each can use it at the others")
	flags.BoolVar(&f.pkce, "require-pkce", true, "false is dangerous: its codes are given without PKCE, and a stolen one can be redeemed through it")
	flags.StringVar(&f.jwksFile, "jwks-file", "", "file with its public keys (JSON Web Key Set), for private_key_jwt")
	flags.StringVar(&f.workload, "federated-credential", "", "the workload whose tokens prove it, so that it has no secret: cluster:NAME:ns:NAMESPACE:sa:ACCOUNT or issuer:NAME:SUBJECT")
	flags.StringArrayVar(&f.redirects, "redirect-uri", nil, "where its users come back to; may be repeated")
	flags.StringArrayVar(&f.postLogout, "post-logout-redirect-uri", nil, "where its users go after signing out; may be repeated")
	flags.StringVar(&f.backLogout, "backchannel-logout-uri", "", "where it is told that a session has ended")
	flags.BoolVar(&f.backSession, "backchannel-logout-session-required", false, "each logout token of it names the session")
	flags.StringVar(&f.frontLogout, "frontchannel-logout-uri", "", "what the signed-out page loads, for a client that cannot be told otherwise")
	flags.BoolVar(&f.frontSession, "frontchannel-logout-session-required", false, "that URL gets iss and sid")
	flags.StringSliceVar(&f.grants, "grant-type", nil, strings.Join(grantTypes, ", ")+"; may be repeated; none for a client that only introspects")
	flags.StringArrayVar(&f.resources, "resource", nil, "an API that it may get tokens for; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("grant-type", cobra.FixedCompletions(append(slices.Clone(grantTypes), "none"), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("auth-method", cobra.FixedCompletions(authMethods, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("jwks-file", "json")
}

// check refuses what the service would refuse in its own words.
func (f *clientFlags) check(cmd *cobra.Command) error {
	if slices.Equal(f.grants, []string{"none"}) {
		f.grants = []string{}
	}
	for _, grant := range f.grants {
		if !slices.Contains(grantTypes, grant) {
			return &usageError{fmt.Errorf("--grant-type %q is not one of %s, or none alone", grant, strings.Join(grantTypes, ", "))}
		}
	}
	return oneOf(cmd, "auth-method", f.method, authMethods)
}

// oneOf refuses a value that the flag does not know, if it was given.
func oneOf(cmd *cobra.Command, flag, value string, allowed []string) error {
	if cmd.Flags().Changed(flag) && !slices.Contains(allowed, value) {
		return &usageError{fmt.Errorf("--%s must be %s, not %q%s", flag, oneOfWords(allowed), value, meant(value, allowed))}
	}
	return nil
}

// fields are those that were given on the command line, and no others.
func (f *clientFlags) fields(cmd *cobra.Command) (admin.ClientFields, error) {
	if err := f.check(cmd); err != nil {
		return admin.ClientFields{}, err
	}
	scope := strings.Join(f.scopes, " ")
	fields := admin.ClientFields{
		ClientName:   given(cmd, "name", &f.name),
		RedirectURIs: given(cmd, "redirect-uri", &f.redirects),
		PostLogout:   given(cmd, "post-logout-redirect-uri", &f.postLogout),
		BackLogout:   given(cmd, "backchannel-logout-uri", &f.backLogout),
		BackSession:  given(cmd, "backchannel-logout-session-required", &f.backSession),
		FrontLogout:  given(cmd, "frontchannel-logout-uri", &f.frontLogout),
		FrontSession: given(cmd, "frontchannel-logout-session-required", &f.frontSession),
		GrantTypes:   given(cmd, "grant-type", &f.grants),
		AuthMethod:   given(cmd, "auth-method", &f.method),
		Scope:        given(cmd, "scope", &scope),
		Resources:    given(cmd, "resource", &f.resources),
		IDTokenAlg:   given(cmd, "id-token-alg", &f.alg),
		Audiences:    given(cmd, "allow-multiple-audiences", &f.audiences),
		RequirePKCE:  given(cmd, "require-pkce", &f.pkce),
	}
	if cmd.Flags().Changed("federated-credential") {
		credential, err := authority.ParseFederatedCredential(f.workload)
		if err != nil {
			return fields, &usageError{fmt.Errorf("--federated-credential %q: %w", f.workload, err)}
		}
		fields.Federated = (*admin.FederatedCredential)(&credential)
		if fields.AuthMethod == nil {
			method := string(oauth.AuthFederatedJWT)
			fields.AuthMethod = &method
		}
	}
	if cmd.Flags().Changed("jwks-file") {
		text, err := os.ReadFile(f.jwksFile)
		if err != nil {
			return fields, notReadable(err, "the public keys")
		}
		if !json.Valid(text) {
			return fields, fmt.Errorf("%s is not JSON", f.jwksFile)
		}
		raw := json.RawMessage(text)
		fields.JWKS = &raw
	}
	return fields, nil
}

// given is the flag's value, or nil if it was not on the command line.
func given[T any](cmd *cobra.Command, flag string, value *T) *T {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	return value
}

func (a *adminCLI) clientCreate() *cobra.Command {
	var f clientFlags
	var secretFile string
	cmd := &cobra.Command{
		Use: "create [ID]", Short: "Create a client; its secret is shown this once",
		Long: `Create a client; its secret is shown this once. Without --grant-type a client
with a --redirect-uri gets authorization_code. An API that only introspects has
no grant type: --grant-type none, as "grant_types: []" in the configuration file.`,
		Example: `  signalbox client create night-job --grant-type client_credentials --resource https://api.example.com --scope orders:read
  signalbox client create web --grant-type authorization_code,refresh_token --redirect-uri https://app.example.com/callback --scope "openid profile"
  signalbox client create app --auth-method none --redirect-uri com.example.app:/callback
  signalbox client create argocd --redirect-uri https://argocd.example.com/auth/callback --scope "openid profile" --federated-credential cluster:hub:ns:argocd:sa:argocd-server
  signalbox client create orders-api --grant-type none --secret-file orders-api.secret   # an API that only introspects`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usageError{fmt.Errorf("one id at most; see %s --help", cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := f.fields(cmd)
			if err != nil {
				return err
			}
			if err := defaultGrant(cmd, &fields); err != nil {
				return err
			}
			body := admin.NewClient{ClientFields: fields}
			if len(args) == 1 {
				body.ClientID = args[0]
			}
			file, err := newSecretFile(secretFile)
			if err != nil {
				return err
			}
			defer file.discard()
			created, err := call(cmd.Context(), a, (*admin.API).CreateClient, body)
			if err != nil {
				return err
			}
			return a.showCredentials(created, file, "client "+created.ClientID+" is created")
		},
	}
	f.add(cmd)
	secretFileFlag(cmd, &secretFile, "write the secret to this new file and not to the terminal")
	return cmd
}

// defaultGrant is that of the configuration file and of RFC 7591 §2. A client
// without a redirect URI cannot use it, and one without any grant type can do
// so little that it must be asked for.
func defaultGrant(cmd *cobra.Command, fields *admin.ClientFields) error {
	if fields.GrantTypes != nil {
		return nil
	}
	if fields.RedirectURIs == nil {
		return &usageError{errors.New("say what the client is for: --redirect-uri URI for an application that people sign in to, --grant-type client_credentials for a machine, " +
			"--grant-type none for an API that only introspects; see " + cmd.CommandPath() + " --help")}
	}
	fields.GrantTypes = &[]string{"authorization_code"}
	return nil
}

// showCredentials shows a client, and its new secret unless that goes to a
// file. past says what has happened already, should the file fail now.
func (a *adminCLI) showCredentials(c admin.ClientCredentials, file *secretFile, past string) error {
	switch {
	case c.ClientSecret == "" && file != nil:
		a.done("no secret was made, so none was written")
	case c.ClientSecret == "":
	case file == nil:
		a.done("the secret is shown this once: only its hash is kept")
	default:
		if err := file.save(c.ClientSecret); err != nil {
			return fmt.Errorf("%s, but its new secret could not be written and is lost: %w; run signalbox client rotate %s", past, err, c.ClientID)
		}
		c.ClientSecret, c.SecretExpiresAt = "", nil
		a.done("the secret is in %s and nowhere else", file.path)
	}
	return a.show(c)
}

func (a *adminCLI) clientUpdate() *cobra.Command {
	var f clientFlags
	var secretFile string
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a client: what is given replaces what was there", Args: oneArg("client's id"),
		Example:           "  signalbox client update web --redirect-uri https://app.example.com/callback --redirect-uri https://beta.example.com/callback",
		ValidArgsFunction: a.clientIDs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := f.fields(cmd)
			if err != nil {
				return err
			}
			if fields == (admin.ClientFields{}) {
				return &usageError{errors.New("nothing to change was given")}
			}
			file, err := newSecretFile(secretFile)
			if err != nil {
				return err
			}
			defer file.discard()
			updated, err := callOf(cmd.Context(), a, (*admin.API).UpdateClient, args[0], fields)
			if err != nil {
				return err
			}
			return a.showCredentials(updated, file, "client "+args[0]+" is changed")
		},
	}
	f.add(cmd)
	secretFileFlag(cmd, &secretFile, "write the secret to this new file and not to the terminal")
	return cmd
}

// maxKeepOld is the most that the service takes.
const maxKeepOld = 720 * time.Hour

func (a *adminCLI) clientRotate() *cobra.Command {
	keep, secretFile := time.Duration(0), ""
	cmd := &cobra.Command{
		Use: "rotate ID", Short: "Give a client a new secret, shown this once", Args: oneArg("client's id"),
		Long: `Give a client a new secret, shown this once. Without --keep-old the old secret
ends now. Tokens that were got with it live on: if it leaked, run
signalbox panic --client as well. With --secret-file the file is replaced in one
step, with mode 0600; it may be the one with the old secret.`,
		Example:           "  signalbox client rotate night-job --keep-old 1h --secret-file night-job.secret",
		ValidArgsFunction: a.clientIDs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keep < 0 || keep > maxKeepOld {
				return &usageError{errors.New("--keep-old must be from 0 to 720h")}
			}
			file, err := replaceSecretFile(secretFile)
			if err != nil {
				return err
			}
			defer file.discard()
			seconds := int64((keep + time.Second - 1) / time.Second) // half a second must not mean "now"
			rotated, err := callOf(cmd.Context(), a, (*admin.API).RotateClientSecret, args[0], admin.RotateSecret{OldExpiresIn: seconds})
			if err != nil {
				return err
			}
			past := "the old secret of " + args[0] + " has ended"
			if keep > 0 {
				past = "the old secret of " + args[0] + " ends in " + keep.String()
			}
			return a.showCredentials(rotated, file, past)
		},
	}
	cmd.Flags().DurationVar(&keep, "keep-old", 0, "how long the old secret still works, at most 720h")
	secretFileFlag(cmd, &secretFile, "write the secret to this file, in place of what is there, and not to the terminal")
	return cmd
}
