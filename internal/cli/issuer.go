package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

const issuerTimeout = 15 * time.Second

var issuerHTTP = &http.Client{Timeout: issuerTimeout, CheckRedirect: followNone}

// followNone: credentials and tokens are for the one place that was named, and
// whoever can redirect a request would get them.
func followNone(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// redirected says where an answer points, for a person to judge.
func redirected(target string, response *http.Response) error {
	if response.StatusCode < 300 || response.StatusCode > 399 {
		return nil
	}
	return fmt.Errorf("%s redirects to %s, and no redirect is followed: is --issuer right?", explain.Printable(target), explain.Printable(response.Header.Get("Location")))
}

// issuerMetadata is what the commands need of an issuer's metadata (RFC 8414).
type issuerMetadata struct {
	Issuer             string `json:"issuer"`
	TokenEndpoint      string `json:"token_endpoint"`
	RevocationEndpoint string `json:"revocation_endpoint"`
	JWKSURI            string `json:"jwks_uri"`
}

// checkIssuer finds what cannot be an issuer before anything is asked of it.
func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return &usageError{errors.New("--issuer (SIGNALBOX_ISSUER_URL) must be a URL like https://sts.example.com")}
	}
	return nil
}

// discover reads the issuer's metadata. The issuer in it must be the one that
// was asked for, to the letter: that is whom the caller trusts.
func discover(ctx context.Context, env *Environment, issuer string) (issuerMetadata, error) {
	var m issuerMetadata
	body, err := ask(ctx, env, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Issuer == "" {
		return m, errAsk("%s did not answer as an issuer does: is --issuer right?", issuer)
	}
	if m.Issuer != issuer {
		return m, errAsk("%s calls itself %s: if that is whom you mean, write --issuer %s", issuer, m.Issuer, m.Issuer)
	}
	return m, nil
}

// takesSecrets refuses an endpoint that is asked in the open although its issuer
// is not, or that is on another machine.
func takesSecrets(issuer, endpoint string, insecure bool) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || strings.HasPrefix(issuer, "https:")) {
		return errAsk("%s names an endpoint that is not a safe URL: %s", issuer, endpoint)
	}
	return inTheOpen(endpoint, insecure)
}

// inTheOpen refuses to send credentials in plain HTTP to another machine: whoever
// is on the way has them then. That network may be the caller's own, so it can
// be allowed.
func inTheOpen(target string, insecure bool) error {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" || isLoopback(u.Hostname()) || insecure {
		return nil // what is no URL is refused by others
	}
	return &usageError{fmt.Errorf("credentials would go to another machine in plain HTTP (%s): write https, or say --insecure-http where nobody else is on the way", explain.Printable(target))}
}

func insecureFlag(flags *pflag.FlagSet, insecure *bool) {
	flags.BoolVar(insecure, "insecure-http", false, "dangerous: send credentials to another machine in plain HTTP")
}

// publishedKeys reads the keys that the issuer signs with.
func publishedKeys(ctx context.Context, env *Environment, issuer string) (jose.KeySet, error) {
	m, err := discover(ctx, env, issuer)
	if err != nil {
		return nil, err
	}
	if m.JWKSURI == "" {
		return nil, errAsk("%s publishes no keys", issuer)
	}
	body, err := ask(ctx, env, m.JWKSURI)
	if err != nil {
		return nil, err
	}
	keys, err := jose.ParseKeySet(body)
	if err != nil {
		return nil, errAsk("its keys at %s cannot be used: %s", m.JWKSURI, strings.TrimPrefix(err.Error(), "jose: "))
	}
	return keys, nil
}

// ask gets a public document.
func ask(ctx context.Context, env *Environment, target string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, errAsk("%s is not a URL", target)
	}
	defer waiting(env.Err, target)()
	response, err := issuerHTTP.Do(request)
	if err != nil {
		return nil, errAsk("%w", noAnswer(err, target, "--issuer", issuerTimeout))
	}
	defer func() { _ = response.Body.Close() }()
	if err := redirected(target, response); err != nil {
		return nil, errAsk("%w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, errAsk("%s answered %s: is --issuer right?", target, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, errAsk("%w", noAnswer(err, target, "--issuer", issuerTimeout))
	}
	return body, nil
}

// errAsk is about the issuer. It says nothing of a token.
func errAsk(format string, args ...any) error {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = explain.Printable(text)
		}
	}
	return fmt.Errorf("could not ask the issuer: "+format, args...)
}
