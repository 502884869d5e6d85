// Package admin administers a Signalbox service: clients, users, resources, clusters, keys and grants,
// and what the journal says.
//
//	api, err := admin.New("https://sts-admin.example.com", admin.Options{Token: admin.StaticToken(token)})
//	if err != nil { … }
//	client, err := api.CreateClient(ctx, admin.NewClient{ClientID: "night-job", ClientFields: admin.ClientFields{
//		GrantTypes: &[]string{"client_credentials"},
//	}})
//
// The API has one method for each operation of the service, under the name that the operation has in
// OpenAPI. Every method may be called by several goroutines at once. A refusal is an *Error, which says what
// went wrong and how to fix it. Values that others have written may hold characters that a terminal obeys:
// escape them before you print them.
package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/operation"
)

const (
	// maxAnswer bounds an answer: a page of 1000 with long values fits.
	maxAnswer = 64 << 20
	maxError  = 1 << 20
	// A node that cannot answer now says in how many seconds it may.
	tries        = 3
	longestPause = 5 * time.Second
)

// TokenSource gives an access token for the resource urn:signalbox:admin. refused is empty, or the token that
// the service has just refused with 401: a source that has another one gives it, and the request is sent once
// more. One that has no other gives the same again, and the refusal is what the caller gets.
type TokenSource func(ctx context.Context, refused string) (string, error)

// StaticToken is a source of one token.
func StaticToken(token string) TokenSource {
	return func(context.Context, string) (string, error) { return token, nil }
}

// Options are what New takes beside the URL. Token is required.
type Options struct {
	Token TokenSource
	// HTTPClient zero means http.DefaultClient. Redirects are never followed, since the token would go with them.
	HTTPClient *http.Client
	// Timeout is how long one answer may take, from the request to its last byte. Zero means 30 seconds. It
	// does not end TailJournal.
	Timeout time.Duration
	// InsecureHTTP sends the token to another machine in plain HTTP, where everybody on the way can read it.
	InsecureHTTP bool
}

// API is the admin API of one service.
type API struct {
	base    string
	token   TokenSource
	http    http.Client
	timeout time.Duration
	pause   func(ctx context.Context, d time.Duration) error
}

// New makes the client of the admin API at a URL, that of the admin listener. It sends nothing.
func New(adminURL string, o Options) (*API, error) {
	u, err := url.Parse(adminURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("admin: the URL must be one like https://sts-admin.example.com, without credentials, query and fragment")
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) && !o.InsecureHTTP {
		return nil, fmt.Errorf("admin: the token would go to %s in plain HTTP: write https, or set InsecureHTTP where nobody else is on the way", u.Host)
	}
	if o.Token == nil {
		return nil, errors.New("admin: Options.Token is missing")
	}
	a := &API{base: strings.TrimRight(u.String(), "/"), token: o.Token, timeout: o.Timeout, pause: pause}
	if a.timeout == 0 {
		a.timeout = 30 * time.Second
	}
	if o.HTTPClient != nil {
		a.http = *o.HTTPClient
	}
	a.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return a, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// call runs an operation that answers with a T. The filters become the query, and in the body.
func call[T any](ctx context.Context, a *API, op operation.Operation, id string, in any, filters ...any) (T, error) {
	var out T
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	response, err := a.send(ctx, op, id, in, filters)
	if err != nil {
		return out, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return out, &UnreachedError{err}
	case len(text) > maxAnswer:
		return out, fmt.Errorf("admin: the answer of %s is longer than %d bytes", op.Name, maxAnswer)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return out, notAPI(response)
	}
	return out, nil
}

// run runs an operation that answers with nothing.
func (a *API) run(ctx context.Context, op operation.Operation, id string) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	response, err := a.send(ctx, op, id, nil, nil)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// send sends a request until it is taken or refused for good. A token that was refused has changed nothing, so
// another one is tried. A node that cannot answer now is asked again for what only reads; a change may be done
// in part, so its caller looks first.
func (a *API) send(ctx context.Context, op operation.Operation, id string, in any, filters []any) (*http.Response, error) {
	if strings.Contains(op.Path, "{id}") && (id == "" || id == "." || id == "..") {
		return nil, fmt.Errorf("admin: %s needs an id, and %q is none", op.Name, id) // the path would be another operation's
	}
	address := a.base + operation.Prefix + strings.Replace(op.Path, "{id}", url.PathEscape(id), 1)
	query := url.Values{}
	for _, f := range filters {
		operation.Encode(query, f)
	}
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	token, err := a.token(ctx, "")
	if err != nil {
		return nil, err
	}
	renewed := false
	for try := 1; ; try++ {
		response, err := a.once(ctx, op.Method, address, token, body)
		if err != nil {
			return nil, err
		}
		if response.StatusCode < 300 {
			return response, nil
		}
		refusal := refusalOf(response)
		switch {
		case response.StatusCode == http.StatusUnauthorized && !renewed:
			another, err := a.token(ctx, token)
			if err != nil {
				return nil, err
			}
			if another == token {
				return nil, refusal
			}
			token, renewed = another, true
		case response.StatusCode == http.StatusServiceUnavailable && op.Method == http.MethodGet && try < tries:
			seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
			if err != nil || seconds < 0 {
				return nil, refusal
			}
			if err := a.pause(ctx, min(time.Duration(seconds)*time.Second, longestPause)); err != nil {
				return nil, refusal
			}
		default:
			return nil, refusal
		}
	}
}

func (a *API) once(ctx context.Context, method, address, token string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := a.http.Do(request)
	if err != nil {
		return nil, &UnreachedError{err}
	}
	return response, nil
}

// Describe gives the description of the API that the service runs, as OpenAPI 3.1.
func (a *API) Describe(ctx context.Context) (json.RawMessage, error) {
	return call[json.RawMessage](ctx, a, operation.Describe, "", nil)
}
