package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/contexts"
	"github.com/signalbox-sts/signalbox/internal/explain"
)

// Which service a command talks to is said by flags, by SIGNALBOX_… variables
// and by a context, in this order. A context's credential is only for the
// context's own service: whoever names another service names its credential too.

// optional is the value of a flag, and whether it was given.
type optional struct {
	value string
	given bool
}

func (o *optional) String() string { return o.value }
func (o *optional) Type() string   { return "string" }
func (o *optional) Set(s string) error {
	o.value, o.given = s, true
	return nil
}

// or is the flag's value, or else the variable's.
func (o *optional) or(env *Environment, variable string) string {
	if o.given {
		return o.value
	}
	return env.Getenv(variable)
}

func contextFlag(env *Environment, cmd *cobra.Command, flags *pflag.FlagSet, name *optional) {
	flags.Var(name, "context", "the context that says which service, and as whom (SIGNALBOX_CONTEXT; default: the one in use, see signalbox context)")
	_ = cmd.RegisterFlagCompletionFunc("context", completeContexts(env))
}

func (e *Environment) contexts() (contexts.Store, error) {
	if e.ConfigDir == nil {
		return contexts.Store{}, errors.New("there is no folder for configuration")
	}
	dir, err := e.ConfigDir()
	return contexts.Store{Dir: dir + "/signalbox"}, err
}

// tokens is where access tokens are kept. Without a cache folder nothing is
// kept, and every command asks for its own.
func (e *Environment) tokens() (contexts.Tokens, bool) {
	if e.CacheDir == nil {
		return contexts.Tokens{}, false
	}
	dir, err := e.CacheDir()
	return contexts.Tokens{Dir: dir + "/signalbox/tokens"}, err == nil
}

// chosen is the context that a command uses, or an empty one if there is none.
func chosen(env *Environment, flag optional) (contexts.Context, error) {
	name := flag.or(env, "SIGNALBOX_CONTEXT")
	if flag.given && name == "" {
		return contexts.Context{}, &usageError{errors.New("--context needs a name")}
	}
	store, err := env.contexts()
	if err != nil && name == "" { // a service account without a home has no contexts
		return contexts.Context{}, nil
	}
	if err != nil {
		return contexts.Context{}, err
	}
	file, err := store.Load()
	if err != nil {
		return contexts.Context{}, err
	}
	if name = cmp.Or(name, file.Current); name == "" {
		return contexts.Context{}, nil
	}
	return find(file, name)
}

func find(file contexts.File, name string) (contexts.Context, error) {
	c, ok := file.Find(name)
	if !ok {
		return c, &usageError{fmt.Errorf("there is no context %q%s; signalbox context list shows them", name, meant(name, file.Names()))}
	}
	return c, nil
}

// adminTarget is where the admin API is, and whose token opens it.
type adminTarget struct {
	env       *Environment
	base      *url.URL
	tokenFile string
	given     string           // the token itself, by a variable
	context   contexts.Context // whose credential counts where neither was given

	token   string // that the context's credential gave
	expires time.Time
}

// target is found once a command needs it: a broken file of contexts hinders
// nobody who needs no service.
func (a *adminCLI) target() (*adminTarget, error) {
	if a.found != nil {
		return a.found, nil
	}
	c, err := chosen(a.env, a.context)
	if err != nil {
		return nil, err
	}
	t := &adminTarget{env: a.env, context: c}
	named := a.url.or(a.env, "SIGNALBOX_ADMIN_URL")
	if !a.url.given && named == "" {
		named = cmp.Or(c.AdminURL, defaultAdminURL)
	}
	if t.base, err = adminBase(named); err != nil {
		return nil, err
	}
	elsewhere := c.Name != "" && t.base.String() != strings.TrimRight(c.AdminURL, "/")
	if err := inTheOpen(t.base.String(), a.insecure || c.InsecureHTTP && !elsewhere); err != nil {
		return nil, err
	}
	t.tokenFile = a.tokenFile.or(a.env, "SIGNALBOX_ADMIN_TOKEN_FILE")
	if t.tokenFile == "" {
		t.given = strings.TrimSpace(a.env.Getenv("SIGNALBOX_ADMIN_TOKEN"))
	}
	hasToken := t.tokenFile != "" || t.given != ""
	switch {
	case hasToken && a.context.given && !a.tokenFile.given:
		fmt.Fprintf(a.env.Err, "note: the token of SIGNALBOX_ADMIN_TOKEN or SIGNALBOX_ADMIN_TOKEN_FILE goes before the context %s\n", c.Name)
	case hasToken:
	case c.Name == "":
		return nil, &usageError{errors.New("an access token for the admin API is needed: make a context (signalbox context create --help), " +
			"or give --admin-token-file FILE, SIGNALBOX_ADMIN_TOKEN_FILE or SIGNALBOX_ADMIN_TOKEN")}
	case elsewhere:
		return nil, &usageError{fmt.Errorf("%s is not the admin URL of the context %s, whose credential is for %s alone: give --admin-token-file too, or make a context for the other service",
			t.base, c.Name, c.AdminURL)}
	}
	if elsewhere && a.context.given && !a.url.given {
		fmt.Fprintf(a.env.Err, "note: SIGNALBOX_ADMIN_URL goes before the context %s\n", c.Name)
	}
	a.found = t
	return t, nil
}

func adminBase(named string) (*url.URL, error) {
	u, err := url.Parse(named)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, &usageError{fmt.Errorf("--admin-url must be a URL like %s", defaultAdminURL)}
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (t *adminTarget) String() string { return "the admin API at " + t.base.String() }

// bearer is asked for every connection: whoever renews a token's file need not
// restart what follows the journal.
func (t *adminTarget) bearer(ctx context.Context) (string, error) {
	switch {
	case t.tokenFile != "":
		return readSecret(t.env, t.tokenFile)
	case t.given != "":
		return t.given, nil
	case t.context.TokenFile != "":
		return readSecret(t.env, t.context.TokenFile)
	case len(t.context.TokenCommand) > 0:
		if t.token == "" {
			var err error
			if t.token, err = runTokenCommand(ctx, t.env, t.context); err != nil {
				return "", err
			}
		}
		return t.token, nil
	case t.context.ClientSecretFile != "":
		return t.clientToken(ctx)
	}
	return "", &usageError{fmt.Errorf("the context %s has no credential: make it again with --client-id and --client-secret-file, --token-file, or a command (signalbox context create --help)", t.context.Name)}
}

// source is bearer, and another token where one was refused and another can be had.
func (t *adminTarget) source(ctx context.Context, refused string) (string, error) {
	if refused != "" && !t.renewable() {
		return refused, nil
	}
	if refused != "" {
		t.forget()
	}
	return t.bearer(ctx)
}

// renewable says whether asking the credential again may give another token.
func (t *adminTarget) renewable() bool {
	return t.tokenFile == "" && t.given == "" && (len(t.context.TokenCommand) > 0 || t.context.ClientSecretFile != "")
}

// forget is for a token that was refused.
func (t *adminTarget) forget() {
	t.token = ""
	if tokens, ok := t.env.tokens(); ok && t.context.ClientSecretFile != "" {
		_ = tokens.Forget(t.context) // at worst it is refused again
	}
}

// clientToken is a short-lived token of the context's client: the one that was
// kept, or a new one.
func (t *adminTarget) clientToken(ctx context.Context) (string, error) {
	c, now := t.context, t.env.now()
	if t.token != "" && now.Add(10*time.Second).Before(t.expires) {
		return t.token, nil
	}
	tokens, keep := t.env.tokens()
	if keep {
		if token, expires, ok := tokens.Get(c, now); ok {
			t.token, t.expires = token, expires
			return token, nil
		}
	}
	secret, err := readSecret(t.env, c.ClientSecretFile)
	if err != nil {
		return "", fmt.Errorf("the context %s: %w", c.Name, err)
	}
	if err := inTheOpen(c.Issuer, c.InsecureHTTP); err != nil {
		return "", err
	}
	got, err := clientCredentials(ctx, t.env, client{issuer: c.Issuer, id: c.ClientID, insecure: c.InsecureHTTP}, secret, "", []string{authority.AdminResource})
	if err != nil {
		return "", fmt.Errorf("the context %s got no admin token: %w", c.Name, err)
	}
	t.token, t.expires = got.AccessToken, got.Expiry
	if keep && !t.expires.IsZero() {
		if err := tokens.Put(c, t.token, t.expires); err != nil {
			fmt.Fprintf(t.env.Err, "warning: the token could not be kept for the next command: %v\n", err)
		}
	}
	return t.token, nil
}

const tokenCommandTimeout = 2 * time.Minute // a person may have to touch a key

// runTokenCommand runs a context's command. Its words are for the person at the
// terminal; its output is the token and is shown to nobody.
func runTokenCommand(ctx context.Context, env *Environment, c contexts.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenCommandTimeout)
	defer cancel()
	defer progress(env.Err, "waiting for the token command of the context "+c.Name)()
	command := exec.CommandContext(ctx, c.TokenCommand[0], c.TokenCommand[1:]...)
	command.WaitDelay = time.Second
	out := &bounded{left: maxSecretFile}
	command.Stdout, command.Stderr = out, env.Err
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("the token command of the context %s failed: %s", c.Name, explain.Printable(err.Error()))
	}
	token := strings.TrimSpace(out.String())
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("the token command of the context %s printed no token: one line with nothing else is expected", c.Name)
	}
	return token, nil
}

// bounded takes so much and no more.
type bounded struct {
	strings.Builder
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("too much output")
	}
	return b.Builder.Write(p)
}
