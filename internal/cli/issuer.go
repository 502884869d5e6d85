package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/signalbox-sts/signalbox/internal/agent"
	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/tokencache"
)

const issuerTimeout = 15 * time.Second

var issuerHTTP = &http.Client{Timeout: issuerTimeout, CheckRedirect: followNone}

// issuerHTTP is the client that asks the issuer.
func (e *Environment) issuerHTTP() *http.Client {
	if e.issuer == nil {
		return issuerHTTP
	}
	return e.issuer
}

// trusting asks the issuer with the certificate authorities of this file alone;
// without a file, with the system's.
func (e *Environment) trusting(caFile string) (*Environment, error) {
	if caFile == "" {
		return e, nil
	}
	file, err := os.Open(caFile)
	if err != nil {
		return nil, fmt.Errorf("--ca-file: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("--ca-file: %w", err)
	}
	own, err := e.trustingCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("--ca-file: there is no PEM certificate in %s", caFile)
	}
	return own, nil
}

// trustingCertificates asks the issuer with these certificate authorities alone.
func (e *Environment) trustingCertificates(text []byte) (*Environment, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("there is no PEM certificate")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	own := *e
	own.issuer = &http.Client{Timeout: issuerTimeout, CheckRedirect: followNone, Transport: transport}
	return &own, nil
}

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
	Issuer                string `json:"issuer"`
	AuthorizationEndpoint string `json:"authorization_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
	RevocationEndpoint    string `json:"revocation_endpoint"`
	UserInfoEndpoint      string `json:"userinfo_endpoint"`
	JWKSURI               string `json:"jwks_uri"`
	SaysItsName           bool   `json:"authorization_response_iss_parameter_supported"` // RFC 9207 §3
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

// tokenEndpoint is where an issuer is asked for tokens, if secrets may go there.
func tokenEndpoint(ctx context.Context, env *Environment, issuer string, insecure bool) (string, error) {
	metadata, err := discover(ctx, env, issuer)
	if err != nil {
		return "", err
	}
	return metadata.TokenEndpoint, takesSecrets(issuer, metadata.TokenEndpoint, insecure)
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
	return askAs(ctx, env, target, "")
}

// errNotTaken: the service does not take the token.
var errNotTaken = errors.New("the service does not take the token")

// askAs gets a document for whom the token is about; without a token, a public one.
func askAs(ctx context.Context, env *Environment, target, token string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, errAsk("%s is not a URL", target)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	defer waiting(env.Err, target)()
	response, err := env.issuerHTTP().Do(request)
	if err != nil {
		return nil, errAsk("%w", noAnswer(err, target, "--issuer", issuerTimeout))
	}
	defer func() { _ = response.Body.Close() }()
	if err := redirected(target, response); err != nil {
		return nil, errAsk("%w", err)
	}
	switch {
	case token != "" && response.StatusCode == http.StatusUnauthorized:
		return nil, errNotTaken
	case response.StatusCode != http.StatusOK:
		return nil, errAsk("%s answered %s: is --issuer right?", target, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, errAsk("%w", noAnswer(err, target, "--issuer", issuerTimeout))
	}
	return body, nil
}

// post sends a form to an endpoint of the issuer and returns the answer's body.
// Without a secret the client only says who it is, and without an id there is none.
// No error repeats the form or the secret, whatever the answer does. An answer that
// is not 200 is a *errorAnswer.
func post(ctx context.Context, env *Environment, endpoint, clientID, secret string, form url.Values) ([]byte, error) {
	if secret == "" && clientID != "" {
		form.Set("client_id", clientID)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errAsk("%s is not a URL", endpoint)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if secret != "" {
		request.SetBasicAuth(url.QueryEscape(clientID), url.QueryEscape(secret))
	}
	defer waiting(env.Err, endpoint)()
	response, err := env.issuerHTTP().Do(request)
	if err != nil {
		return nil, noAnswer(err, endpoint, "--issuer", issuerTimeout)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, noAnswer(err, endpoint, "--issuer", issuerTimeout)
	}
	if response.StatusCode == http.StatusOK {
		return body, nil
	}
	hide := func(text string) string {
		for _, hidden := range []string{secret, form.Get("token"), form.Get("subject_token"), form.Get("refresh_token"), form.Get("code"), form.Get("code_verifier")} {
			if hidden != "" {
				text = strings.ReplaceAll(text, hidden, "[redacted]")
			}
		}
		return text
	}
	response.Header.Set("Location", hide(response.Header.Get("Location")))
	if err := redirected(endpoint, response); err != nil {
		return nil, err
	}
	var answer struct {
		Error       oauth.Code `json:"error"`
		Description string     `json:"error_description"`
		RequestID   string     `json:"request_id"`
	}
	// An answer that is not JSON leaves the status to be told.
	_ = json.Unmarshal(body, &answer)
	words := refusedBy(endpoint, response.Status, hide(string(answer.Error)), hide(answer.Description)).Error()
	return nil, &errorAnswer{words, response.StatusCode, answer.Error, hide(answer.RequestID)}
}

// errorAnswer is an answer of the issuer that is an error (RFC 6749 §5.2).
type errorAnswer struct {
	words     string
	status    int
	code      oauth.Code // empty: the answer was not one of OAuth
	requestID string
}

func (r *errorAnswer) Error() string { return r.words }

// Is says that the service has decided, and does not only have no time.
func (r *errorAnswer) Is(target error) bool {
	decided := r.status >= 400 && r.status < 500 && r.status != http.StatusTooManyRequests && r.code != "" && r.code != oauth.TemporarilyUnavailable
	return (target == tokencache.ErrRefused || target == agent.ErrRefused) && decided
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
