package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spf13/cobra"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func newToken(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Get, explain, verify and revoke tokens",
		Example: `  signalbox token get --issuer https://sts.example.com --client-id orders --client-secret-file secret.txt
  signalbox token inspect < token.txt`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTokenGet(env), newTokenInspect(env), newTokenVerify(env), newTokenRevoke(env))
	return cmd
}

// caller is the client that a command speaks as.
type caller struct{ issuer, clientID, secretFile string }

func (c *caller) flags(cmd *cobra.Command, env *environment) {
	cmd.Flags().StringVar(&c.issuer, "issuer", env.Getenv("SIGNALBOX_ISSUER_URL"), "the issuer's URL (SIGNALBOX_ISSUER_URL)")
	cmd.Flags().StringVar(&c.clientID, "client-id", env.Getenv("SIGNALBOX_CLIENT_ID"), "the client (SIGNALBOX_CLIENT_ID)")
	cmd.Flags().StringVar(&c.secretFile, "client-secret-file", env.Getenv("SIGNALBOX_CLIENT_SECRET_FILE"),
		"file with the client's secret, - for standard input (SIGNALBOX_CLIENT_SECRET_FILE)")
}

func (c *caller) secret(env *environment) (string, error) {
	switch {
	case c.issuer == "":
		return "", &usageError{errors.New("--issuer is needed")}
	case c.clientID == "":
		return "", &usageError{errors.New("--client-id is needed")}
	case c.secretFile == "":
		return "", &usageError{errors.New("--client-secret-file is needed; - reads the secret from standard input")}
	}
	return readSecret(env, c.secretFile)
}

const maxSecretFile = 64 << 10

func readSecret(env *environment, file string) (string, error) {
	return readValue(env, file, "a secret")
}

func readValue(env *environment, file, what string) (string, error) {
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

// discover reads the issuer's metadata. The issuer in it must be the one that
// was asked for.
func discover(ctx context.Context, issuer string) (context.Context, *oidc.Provider, error) {
	ctx = oidc.ClientContext(ctx, &http.Client{Timeout: 15 * time.Second})
	provider, err := oidc.NewProvider(ctx, issuer)
	return ctx, provider, err
}

func newTokenGet(env *environment) *cobra.Command {
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
			if err := checkOutput(output); err != nil {
				return err
			}
			secret, err := who.secret(env)
			if err != nil {
				return err
			}
			ctx, provider, err := discover(cmd.Context(), who.issuer)
			if err != nil {
				return err
			}
			cc := clientcredentials.Config{
				ClientID: who.clientID, ClientSecret: secret, TokenURL: provider.Endpoint().TokenURL,
				Scopes: strings.Fields(scope), EndpointParams: url.Values{"resource": resources}, AuthStyle: oauth2.AuthStyleInHeader,
			}
			token, err := cc.Token(ctx)
			if err != nil {
				return explainOAuth(err)
			}
			if output == "json" {
				return json.NewEncoder(env.Out).Encode(map[string]any{
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
	outputFlag(cmd, &output)
	return cmd
}

func outputFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "text", "text or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func checkOutput(output string) error {
	if output != "text" && output != "json" {
		return &usageError{fmt.Errorf("-o must be text or json, not %q", output)}
	}
	return nil
}

// explainOAuth shows the server's own words and not the whole answer.
func explainOAuth(err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.ErrorCode != "" {
		return fmt.Errorf("%s: %s", refused.ErrorCode, refused.ErrorDescription)
	}
	return err
}

// readToken takes the token from the argument, a file, or standard input.
func readToken(env *environment, args []string) (string, error) {
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

func newTokenInspect(env *environment) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "inspect [FILE|-]",
		Short: "Decode a token and explain each claim; nothing leaves this machine",
		Example: `  signalbox token inspect < token.txt
  signalbox token get | signalbox token inspect -o json`,
		Args: oneToken,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			raw, err := readToken(env, args)
			if err != nil {
				return err
			}
			token, err := explain.Parse(raw, time.Now())
			if err != nil {
				return err
			}
			if output == "json" {
				return json.NewEncoder(env.Out).Encode(token)
			}
			fmt.Fprint(env.Out, token)
			return nil
		},
	}
	outputFlag(cmd, &output)
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

func newTokenVerify(env *environment) *cobra.Command {
	var issuer, audience, output string
	cmd := &cobra.Command{
		Use:   "verify [FILE|-]",
		Short: "Check a JWT access token against its issuer's published keys",
		Long: `Check signature, issuer, times, type and (with --audience) audience of a JWT
access token against the issuer's published keys. Whether it has been revoked
is only known to introspection, which needs a client.`,
		Example: "  signalbox token verify --issuer https://sts.example.com --audience https://api.example.com < token.txt",
		Args:    oneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if issuer == "" {
				return &usageError{errors.New("--issuer is needed: a token cannot say by itself whom to trust")}
			}
			raw, err := readToken(env, args)
			if err != nil {
				return err
			}
			claims, err := verifyOnline(cmd.Context(), issuer, audience, raw)
			if err != nil {
				return fmt.Errorf("the token is not good: %w", err)
			}
			fmt.Fprintln(env.Err, "the token is good: signature, issuer, type and times are right")
			if output == "json" {
				fmt.Fprintln(env.Out, string(claims))
				return nil
			}
			return explainToken(env.Out, raw, time.Now())
		},
	}
	cmd.Flags().StringVar(&issuer, "issuer", env.Getenv("SIGNALBOX_ISSUER_URL"), "the issuer's URL (SIGNALBOX_ISSUER_URL)")
	cmd.Flags().StringVar(&audience, "audience", "", "the audience that must be in it")
	outputFlag(cmd, &output)
	return cmd
}

func verifyOnline(ctx context.Context, issuer, audience, raw string) (json.RawMessage, error) {
	ctx, provider, err := discover(ctx, issuer)
	if err != nil {
		return nil, err
	}
	var metadata struct {
		JWKSURI string `json:"jwks_uri"`
	}
	if err := provider.Claims(&metadata); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, metadata.JWKSURI, nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Timeout: 15 * time.Second}).Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	keySet, err := jose.ParseKeySet(body)
	if err != nil {
		return nil, err
	}
	verified, err := jose.Verify(raw, jose.Expect{
		Algorithms: []jose.Algorithm{jose.ES256, jose.RS256, jose.EdDSA}, Types: []string{oauth.TypAccessToken},
	}, keySet.Find)
	if err != nil {
		return nil, err
	}
	if iss, _, err := verified.Claims.String("iss"); err != nil || iss != issuer {
		return nil, errors.New("its iss is not the issuer")
	}
	if _, err := verified.Claims.CheckTimes(time.Now(), jose.TimeRules{}); err != nil {
		return nil, err
	}
	list, _, err := verified.Claims.Strings("aud")
	if err != nil {
		return nil, err
	}
	if audience != "" && !slices.Contains(list, audience) {
		return nil, fmt.Errorf("it is not meant for %s", audience)
	}
	return verified.Claims.JSON(), nil
}

func newTokenRevoke(env *environment) *cobra.Command {
	var who caller
	cmd := &cobra.Command{
		Use:   "revoke [FILE|-]",
		Short: "Revoke a token of this client's (RFC 7009)",
		Long: `Revoke an access token, or a refresh token with everything that came from it.
The token must be the client's own. To revoke others', use signalbox grant
revoke or signalbox panic.`,
		Example: "  signalbox token revoke --client-id web --client-secret-file secret.txt < token.txt",
		Args:    oneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			if who.secretFile == "-" && len(args) == 0 {
				return &usageError{errors.New("the secret and the token cannot both come from standard input")}
			}
			secret, err := who.secret(env)
			if err != nil {
				return err
			}
			raw, err := readToken(env, args)
			if err != nil {
				return err
			}
			ctx, provider, err := discover(cmd.Context(), who.issuer)
			if err != nil {
				return err
			}
			var metadata struct {
				Endpoint string `json:"revocation_endpoint"`
			}
			if err := provider.Claims(&metadata); err != nil {
				return err
			}
			return revokeToken(ctx, metadata.Endpoint, who.clientID, secret, raw)
		},
	}
	who.flags(cmd, env)
	return cmd
}

func revokeToken(ctx context.Context, endpoint, clientID, secret, raw string) error {
	form := url.Values{"token": {raw}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(clientID), url.QueryEscape(secret))
	response, err := (&http.Client{Timeout: 15 * time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	var refused struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&refused); err != nil || refused.Error == "" {
		return fmt.Errorf("the issuer answered %s", response.Status)
	}
	return fmt.Errorf("%s: %s", explain.Printable(refused.Error), explain.Printable(refused.Description))
}
