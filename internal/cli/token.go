package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func newToken(env *Environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Get, exchange, explain, verify and revoke tokens",
		Long: `Get, exchange, explain, verify and revoke tokens.

If the issuer's certificate comes from an authority of your own, name the file
with the authority's certificate in SSL_CERT_FILE.`,
		Example: `  signalbox token get --issuer https://sts.example.com --client-id orders --client-secret-file secret.txt
  signalbox token inspect < token.txt`,
		Args: noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenGet(env), newTokenExchange(env), newTokenInspect(env), newTokenVerify(env), newTokenRevoke(env))
	return cmd
}

// caller is the client that a command speaks as.
type caller struct {
	context, issuer, clientID, secretFile optional
	insecure                              bool
}

func (c *caller) flags(cmd *cobra.Command, env *Environment) {
	contextFlag(env, cmd, cmd.Flags(), &c.context)
	cmd.Flags().Var(&c.issuer, "issuer", "the issuer's URL (SIGNALBOX_ISSUER_URL; default: the context's)")
	cmd.Flags().Var(&c.clientID, "client-id", "the client (SIGNALBOX_CLIENT_ID; default: the context's)")
	cmd.Flags().Var(&c.secretFile, "client-secret-file", "file with the client's secret, - for standard input (SIGNALBOX_CLIENT_SECRET_FILE; default: the context's)")
	insecureFlag(cmd.Flags(), &c.insecure)
}

// client is a caller that has been found: flags go first, then variables, then
// the context, whose client is only for the context's issuer.
type client struct {
	issuer, id, secretFile string
	insecure               bool
}

func (c *caller) find(env *Environment) (client, error) {
	found, err := c.service(env)
	if err == nil && found.id == "" {
		err = &usageError{errors.New("--client-id is needed")}
	}
	return found, err
}

// service is find for what needs no client.
func (c *caller) service(env *Environment) (client, error) {
	found := client{c.issuer.or(env, "SIGNALBOX_ISSUER_URL"), c.clientID.or(env, "SIGNALBOX_CLIENT_ID"), c.secretFile.or(env, "SIGNALBOX_CLIENT_SECRET_FILE"), c.insecure}
	chosen, err := chosen(env, c.context)
	if err != nil {
		return client{}, err
	}
	found.issuer = cmp.Or(found.issuer, chosen.Issuer)
	if found.issuer == chosen.Issuer {
		found.insecure = found.insecure || chosen.InsecureHTTP
		found.id = cmp.Or(found.id, chosen.ClientID)
		if found.id == chosen.ClientID {
			found.secretFile = cmp.Or(found.secretFile, chosen.ClientSecretFile)
		}
	}
	if found.issuer == "" {
		return client{}, &usageError{errors.New("--issuer is needed, or a context: see signalbox context create --help")}
	}
	if err := checkIssuer(found.issuer); err != nil {
		return client{}, err
	}
	// Before anything is asked: metadata in the open may name any endpoint.
	return found, inTheOpen(found.issuer, found.insecure)
}

const maxSecretFile = 64 << 10

func readSecret(env *Environment, file string) (string, error) {
	return readValue(env, file, "a secret")
}

func readValue(env *Environment, file, what string) (string, error) {
	in, name, end, err := openInput(env, file, what)
	if err != nil {
		return "", err
	}
	defer end()
	data, err := io.ReadAll(io.LimitReader(in, maxSecretFile))
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(data))
	if value == "" {
		return "", fmt.Errorf("%s is empty: %s was expected there", name, what)
	}
	return value, nil
}

func newTokenGet(env *Environment) *cobra.Command {
	var who caller
	var scope, output string
	var resources []string
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Get an access token with client credentials",
		Example: `  signalbox token get --issuer https://sts.example.com --client-id orders --client-secret-file secret.txt
  TOKEN=$(signalbox token get --scope orders:read < /dev/null)   # the rest from the environment`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, dataForms); err != nil {
				return err
			}
			client, err := who.find(env)
			if err != nil {
				return err
			}
			if client.secretFile == "" {
				return &usageError{errors.New("--client-secret-file is needed; - reads the secret from standard input")}
			}
			secret, err := readSecret(env, client.secretFile)
			if err != nil {
				return err
			}
			token, err := clientCredentials(cmd.Context(), env, client, secret, scope, resources)
			if err != nil {
				return err
			}
			if output != "text" {
				return printData(env.Out, output, map[string]any{
					"access_token": token.AccessToken, "token_type": token.TokenType, "expiry": token.Expiry.UTC().Format(time.RFC3339), "scope": token.Extra("scope"),
				})
			}
			fmt.Fprintln(env.Out, token.AccessToken)
			return nil
		},
	}
	who.flags(cmd, env)
	cmd.Flags().StringVar(&scope, "scope", "", "scopes, parted by spaces (default: all that the client may have)")
	cmd.Flags().StringArrayVar(&resources, "resource", nil, "resource that the token is for (RFC 8707); may be repeated")
	outputFlag(cmd, cmd.Flags(), &output, dataForms)
	return cmd
}

// clientCredentials asks an issuer for an access token (RFC 6749 §4.4).
func clientCredentials(ctx context.Context, env *Environment, c client, secret, scope string, resources []string) (*oauth2.Token, error) {
	endpoint, err := tokenEndpoint(ctx, env, c.issuer, c.insecure)
	if err != nil {
		return nil, err
	}
	return requestToken(ctx, env, clientcredentials.Config{
		ClientID: c.id, ClientSecret: secret, TokenURL: endpoint,
		Scopes: strings.Fields(scope), EndpointParams: url.Values{"resource": resources}, AuthStyle: oauth2.AuthStyleInHeader,
	})
}

func requestToken(ctx context.Context, env *Environment, cc clientcredentials.Config) (*oauth2.Token, error) {
	defer waiting(env.Err, cc.TokenURL)()
	token, err := cc.Token(context.WithValue(ctx, oauth2.HTTPClient, env.issuerHTTP()))
	var refused *oauth2.RetrieveError
	var unanswered *url.Error
	switch {
	case errors.As(err, &refused) && redirected(cc.TokenURL, refused.Response) != nil:
		return nil, redirected(cc.TokenURL, refused.Response)
	case errors.As(err, &refused):
		return nil, refusedBy(cc.TokenURL, refused.Response.Status, refused.ErrorCode, refused.ErrorDescription)
	case errors.As(err, &unanswered):
		return nil, noAnswer(err, cc.TokenURL, "--issuer", issuerTimeout)
	case err != nil:
		return nil, fmt.Errorf("%s gave no token: %s", explain.Printable(cc.TokenURL), explain.Printable(strings.TrimPrefix(err.Error(), "oauth2: ")))
	}
	return token, nil
}

// refusedBy shows the issuer's own words and not the whole answer.
func refusedBy(target, status, code, description string) error {
	switch {
	case code == "":
		return fmt.Errorf("%s answered %s", explain.Printable(target), explain.Printable(status))
	case description == "":
		return errors.New(explain.Printable(code))
	}
	return fmt.Errorf("%s: %s", explain.Printable(code), explain.Printable(description))
}

// readToken takes the token from the argument, a file, or standard input.
func readToken(env *Environment, args []string) (string, error) {
	if len(args) == 0 {
		return readValue(env, "-", "a token")
	}
	if strings.Count(args[0], ".") == 2 && strings.HasPrefix(args[0], "eyJ") || strings.HasPrefix(args[0], "sbx_") {
		fmt.Fprintln(env.Err, "warning: a token on the command line stays in the shell's history; standard input does not")
		return args[0], nil
	}
	return readValue(env, args[0], "a token")
}

func oneToken(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return &usageError{fmt.Errorf("one token at a time; see %s --help", cmd.CommandPath())}
	}
	return nil
}

func newTokenInspect(env *Environment) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "inspect [FILE|-]",
		Short: "Decode a token and explain each claim; nothing leaves this machine",
		Example: `  signalbox token inspect < token.txt
  signalbox token get | signalbox token inspect -o json`,
		Args: oneToken,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkOutput(output, dataForms); err != nil {
				return err
			}
			raw, err := readToken(env, args)
			if err != nil {
				return err
			}
			token, err := explain.Parse(raw, time.Now())
			if err != nil {
				return tokenWords(err)
			}
			if output != "text" {
				return printData(env.Out, output, token)
			}
			fmt.Fprint(env.Out, token)
			return nil
		},
	}
	outputFlag(cmd, cmd.Flags(), &output, dataForms)
	return cmd
}

// explainToken is inspect for dev's welcome.
func explainToken(w io.Writer, raw string, now time.Time) error {
	token, err := explain.Parse(raw, now)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(w, token)
	return err
}

func newTokenVerify(env *Environment) *cobra.Command {
	var output string
	var named, inContext optional
	var want expected
	cmd := &cobra.Command{
		Use:   "verify [FILE|-]",
		Short: "Check a JWT access token or an ID token against its issuer's published keys",
		Long: `Check signature, issuer, times, type and (with --audience) audience of a JWT
access token against the issuer's published keys. Whether it has been revoked
is only known to introspection, which needs a client.

With --client-id the token must be an ID token for that client. Its nonce can
only be checked by the application that made it.`,
		Example: `  signalbox token verify --issuer https://sts.example.com --audience https://api.example.com < token.txt
  signalbox token verify --issuer https://sts.example.com --client-id web < id-token.txt`,
		Args: oneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, dataForms); err != nil {
				return err
			}
			if want.audience != "" && want.clientID != "" {
				return &usageError{errors.New("give --audience for an access token or --client-id for an ID token, not both: they are never the same token")}
			}
			issuer := named.or(env, "SIGNALBOX_ISSUER_URL")
			if issuer == "" {
				c, err := chosen(env, inContext)
				if err != nil {
					return err
				}
				issuer = c.Issuer
			}
			if issuer == "" {
				return &usageError{errors.New("--issuer is needed, or a context: a token cannot say by itself whom to trust")}
			}
			if err := checkIssuer(issuer); err != nil {
				return err
			}
			raw, err := readToken(env, args)
			if err != nil {
				return err
			}
			if err := checkReadable(raw); err != nil {
				return fmt.Errorf("the token is not good: %w", err)
			}
			if strings.HasPrefix(raw, "sbx_") {
				return errors.New("this is no JWT but an opaque value: only its issuer can tell whether it is good, by introspection")
			}
			keys, err := publishedKeys(cmd.Context(), env, issuer)
			if err != nil {
				return err
			}
			claims, err := want.verify(keys, issuer, raw, env.now())
			if err != nil {
				return fmt.Errorf("the token is not good: %w", tokenWords(err))
			}
			fmt.Fprintln(env.Err, "the token is good: "+want.checked()+" are right")
			if output != "text" {
				return printData(env.Out, output, claims)
			}
			token, err := explain.Parse(raw, time.Now())
			if err != nil {
				return err
			}
			token.Notes = nil // they are about what nobody has checked
			_, err = fmt.Fprint(env.Out, token)
			return err
		},
	}
	contextFlag(env, cmd, cmd.Flags(), &inContext)
	cmd.Flags().Var(&named, "issuer", "the issuer's URL (SIGNALBOX_ISSUER_URL; default: the context's)")
	cmd.Flags().StringVar(&want.audience, "audience", "", "the audience that must be in it")
	cmd.Flags().StringVar(&want.clientID, "client-id", "", "it must be an ID token, for this client")
	outputFlag(cmd, cmd.Flags(), &output, dataForms)
	return cmd
}

// checkReadable finds what is not a token, or was cut off or mistyped.
func checkReadable(raw string) error {
	for _, prefix := range []oauth.Prefix{oauth.PrefixAccessToken, oauth.PrefixRefreshToken} {
		if strings.HasPrefix(raw, string(prefix)) {
			_, err := oauth.DecodeOpaque(prefix, raw, maxSecretFile)
			return err
		}
	}
	if strings.HasPrefix(raw, "sbx_") {
		return errors.New("it is a value of Signalbox, but neither an access token nor a refresh token")
	}
	_, _, err := jose.InspectUnverified(raw)
	return tokenWords(err)
}

// wordsFor says what the errors of jose mean to somebody who holds a token.
var wordsFor = []struct {
	err    error
	words  string
	reason bool // what follows in the error helps too
}{
	{jose.ErrMalformed, "it is not a JSON Web Token that can be read", true},
	{jose.ErrAlgorithm, "its algorithm (alg) is not one of ES256, RS256 and EdDSA", false},
	{jose.ErrHeader, "its header asks for something that is not supported", true},
	{jose.ErrType, "its type (typ) is another than the one that is expected", false},
	{jose.ErrKey, "it is signed with none of the issuer's keys: another issuer made it, or its key is no longer published", false},
	{jose.ErrSignature, "its signature is wrong: it was changed, or another made it", false},
	{jose.ErrClaim, "a claim is missing or has a bad form", true},
	{jose.ErrExpired, "it has expired", false},
	{jose.ErrNotYet, "it is not valid yet: compare this machine's clock with the issuer's", false},
}

func tokenWords(err error) error {
	for _, w := range wordsFor {
		if !errors.Is(err, w.err) {
			continue
		}
		if _, reason, ok := strings.Cut(err.Error(), w.err.Error()+": "); ok && w.reason {
			return fmt.Errorf("%s: %s", w.words, reason)
		}
		return errors.New(w.words)
	}
	return err
}

// expected is what the caller takes a token for. The token has no say in it: an
// ID token is never taken as an access token, nor the reverse.
type expected struct {
	audience string // of an access token; empty for any
	clientID string // of an ID token; empty for an access token
	leeway   time.Duration
}

func (want expected) checked() string {
	if want.clientID != "" {
		return "signature, issuer, type, client and times"
	}
	return "signature, issuer, type and times"
}

func (want expected) verify(keySet jose.KeySet, issuer, raw string, now time.Time) (json.RawMessage, error) {
	typ, other := oauth.TypAccessToken, "it is not an access token: its typ is not at+jwt; for an ID token, say for which client: --client-id CLIENT"
	if want.clientID != "" {
		typ, other = oauth.TypIDToken, "it is not an ID token: its typ is not JWT; for an access token, omit --client-id"
	}
	verified, err := jose.Verify(raw, jose.Expect{Algorithms: []jose.Algorithm{jose.ES256, jose.RS256, jose.EdDSA}, Types: []string{typ}}, keySet.Find)
	if errors.Is(err, jose.ErrType) {
		return nil, errors.New(other)
	}
	if err != nil {
		return nil, err
	}
	if iss, _, err := verified.Claims.String("iss"); err != nil || iss != issuer {
		return nil, errors.New("its iss is not the issuer")
	}
	if _, err := verified.Claims.CheckTimes(now, jose.TimeRules{Leeway: want.leeway}); err != nil {
		return nil, err
	}
	list, _, err := verified.Claims.Strings("aud")
	if err != nil {
		return nil, err
	}
	if want.audience != "" && !slices.Contains(list, want.audience) {
		return nil, fmt.Errorf("it is not meant for %s", want.audience)
	}
	if want.clientID != "" {
		if err := want.idToken(verified.Claims, list); err != nil {
			return nil, err
		}
	}
	return verified.Claims.JSON(), nil
}

// idToken is what OpenID Connect Core §3.1.3.7 asks beyond signature, issuer
// and expiry.
func (want expected) idToken(claims jose.Claims, audience []string) error {
	if !slices.Contains(audience, want.clientID) {
		return fmt.Errorf("it is not meant for the client %s", want.clientID)
	}
	party, has, err := claims.String("azp")
	if err != nil {
		return err
	}
	if has && party != want.clientID || !has && len(audience) > 1 {
		return fmt.Errorf("it is not only meant for the client %s: its azp does not name it", want.clientID)
	}
	for _, name := range []string{"sub", "iat"} {
		if !claims.Has(name) {
			return fmt.Errorf("it has no %s, which every ID token has", name)
		}
	}
	return nil
}

func newTokenRevoke(env *Environment) *cobra.Command {
	var who caller
	cmd := &cobra.Command{
		Use:   "revoke [FILE|-]",
		Short: "Revoke a token of this client's (RFC 7009)",
		Long: `Revoke an access token, or a refresh token with everything that came from it.
The token must be the client's own. To revoke others', use signalbox grant
revoke or signalbox panic. A public client has no secret and gives none.`,
		Example: `  signalbox token revoke --client-id web --client-secret-file secret.txt < token.txt
  signalbox token revoke --client-id app < token.txt             # a public client`,
		Args: oneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := who.find(env)
			if err != nil {
				return err
			}
			if client.secretFile == "-" && len(args) == 0 {
				return &usageError{errors.New("the secret and the token cannot both come from standard input")}
			}
			secret := ""
			if client.secretFile != "" {
				if secret, err = readSecret(env, client.secretFile); err != nil {
					return err
				}
			}
			raw, err := readToken(env, args)
			if err != nil {
				return err
			}
			// The service answers alike for a token and for a slip (RFC 7009 §2.2).
			if err := checkReadable(raw); err != nil {
				return fmt.Errorf("nothing was revoked: %w", err)
			}
			metadata, err := discover(cmd.Context(), env, client.issuer)
			if err != nil {
				return err
			}
			if metadata.RevocationEndpoint == "" {
				return errAsk("%s does not offer revocation", client.issuer)
			}
			if err := takesSecrets(client.issuer, metadata.RevocationEndpoint, client.insecure); err != nil {
				return err
			}
			if err := revokeToken(cmd.Context(), env, metadata.RevocationEndpoint, client.id, secret, raw); err != nil {
				return err
			}
			fmt.Fprintln(env.Err, "done: if the token was this client's, it is dead; the service does not tell whether it knew the token (RFC 7009)")
			return nil
		},
	}
	who.flags(cmd, env)
	return cmd
}

func revokeToken(ctx context.Context, env *Environment, endpoint, clientID, secret, raw string) error {
	_, err := post(ctx, env, endpoint, clientID, secret, url.Values{"token": {raw}})
	var refused *errorAnswer
	if errors.As(err, &refused) && secret == "" && refused.code == oauth.InvalidClient {
		return fmt.Errorf("%w; a client with a secret needs --client-secret-file", err)
	}
	return err
}
