// Package kube talks to the API servers of registered clusters: it fetches their
// keys, asks them about tokens and pods, and watches their pods. It is a small
// client of its own: docs/decisions/0021 says why.
//
// What an API server answers is input from outside. A cluster may lie about its own
// pods; it must not be able to harm anything else, so every answer is bounded and
// nothing in it leads to another address.
package kube

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Timeouts: an exchange waits for at most two calls, and must not outlast its client.
const (
	callTimeout = 5 * time.Second
	dialTimeout = 3 * time.Second
	// A connection that answers no ping is closed, and the watch on it breaks.
	pingAfter   = 2 * time.Second
	pingTimeout = 2 * time.Second
)

// Limits on what an API server may answer, in bytes.
const (
	maxKeys   = 256 << 10
	maxReview = 256 << 10
	maxObject = 2 << 20 // an object in etcd has at most 1.5 MiB
	maxPage   = 64 << 20
	maxError  = 64 << 10
)

// Client talks to the API server of one cluster.
type Client struct {
	server     *url.URL
	http       *http.Client
	credential credential
	notes      []string
	writing    chan struct{} // one for each that may write at the same time
}

// maxWriting keeps those who renew a thousand Secrets from waiting in the API
// server's queue, where their time runs out.
const maxWriting = 16

// SelfToken issues a token to ourselves for a cluster, as user signalbox.
type SelfToken func(ctx context.Context, cluster string) (token string, expires time.Time, err error)

// NewClient makes the client of a cluster that has an API server. It calls nobody.
func NewClient(cluster authority.Cluster, self SelfToken) (*Client, error) {
	c := &Client{writing: make(chan struct{}, maxWriting)}
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	server, ca := cluster.APIServer, cluster.CA
	switch cluster.Credential {
	case authority.CredentialInCluster:
		if len(ca) == 0 {
			var err error
			if ca, err = os.ReadFile(serviceAccountCA); err != nil {
				return nil, fmt.Errorf("cluster %s has no ca_file, and neither has the pod that we run in: %w", cluster.Name, err)
			}
		}
		c.credential = &fromFile{path: serviceAccountToken}
	case authority.CredentialSelf:
		if self == nil {
			return nil, errors.New("nobody issues tokens to ourselves")
		}
		c.credential = &fromSelf{issue: func(ctx context.Context) (string, time.Time, error) { return self(ctx, cluster.Name) }}
	case authority.CredentialKubeconfig:
		k, err := parseKubeconfig(cluster.Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("cluster %s: kubeconfig_file: %w", cluster.Name, err)
		}
		if server == "" {
			server = k.server
		}
		if len(ca) == 0 {
			ca = k.ca
		}
		trust.ServerName, trust.Certificates = k.serverName, k.certificates
		c.credential, c.notes = k.credential, k.notes
	default:
		return nil, fmt.Errorf("cluster %s: nothing says how we prove ourselves to its API server", cluster.Name)
	}
	var err error
	if c.server, err = parseServer(server); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", cluster.Name, err)
	}
	if len(ca) > 0 {
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("cluster %s: its CA has no certificate", cluster.Name)
		}
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			// No proxy from the environment: it would read the tokens of pods.
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSClientConfig:        trust,
			TLSHandshakeTimeout:    dialTimeout,
			ResponseHeaderTimeout:  callTimeout,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// NewOwnClient makes the client of the cluster that we are at home in: of the
// kubeconfig, or of the pod that we run in if that is empty. It calls nobody.
func NewOwnClient(kubeconfig []byte) (*Client, error) {
	own := authority.Cluster{Name: "of our own", Credential: authority.CredentialKubeconfig, Kubeconfig: kubeconfig}
	if len(kubeconfig) == 0 {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return nil, errors.New("we run in no pod (KUBERNETES_SERVICE_HOST is not set), so a kubeconfig is needed")
		}
		own.Credential, own.APIServer = authority.CredentialInCluster, "https://"+net.JoinHostPort(host, port)
	}
	return NewClient(own, nil)
}

// Notes are what an operator should know about how we prove ourselves.
func (c *Client) Notes() []string { return slices.Clone(c.notes) }

// Close closes the connections that nobody uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// parseServer holds the API server to https, and lets loopback have http: tests and sidecars.
func parseServer(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the API server's address is not like https://10.0.0.1:6443")
	}
	address, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || !address.IsLoopback()) {
		return nil, errors.New("the API server's address is not https")
	}
	return u, nil
}

// StatusError is an answer of the API server that is not a success.
type StatusError struct {
	Code    int
	Message string // what it says about it, bounded and quoted: text from outside
}

func (e *StatusError) Error() string {
	if e.Message == "" {
		return "the API server answered " + strconv.Itoa(e.Code)
	}
	return "the API server answered " + strconv.Itoa(e.Code) + ": " + e.Message
}

func hasCode(err error, code int) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Code == code
}

// status is metav1.Status: why the API server refuses.
type status struct {
	Message string `json:"message"`
	Code    int    `json:"code"`
}

func (s status) err() error { return &StatusError{Code: s.Code, Message: quoted(s.Message)} }

// quoted makes text from outside fit for a log and for an error.
func quoted(s string) string {
	if s == "" {
		return ""
	}
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.QuoteToASCII(s)
}

// request is one call, which may be sent twice: a credential may just have been replaced.
type request struct {
	method, path string
	query        url.Values
	accept       string
	content      string // the type of body; empty: JSON
	body         []byte
}

// send asks and gives an answer that is a success. The caller closes its body.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	answer, err := c.once(ctx, r, false)
	if hasCode(err, http.StatusUnauthorized) {
		answer, err = c.once(ctx, r, true)
	}
	return answer, err
}

func (c *Client) once(ctx context.Context, r request, fresh bool) (*http.Response, error) {
	u := c.server.JoinPath(r.path)
	u.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "signalbox")
	req.Header.Set("Accept", r.accept)
	if r.body != nil {
		req.Header.Set("Content-Type", cmp.Or(r.content, "application/json"))
	}
	if c.credential != nil {
		token, err := c.credential.token(ctx, fresh)
		if err != nil {
			return nil, fmt.Errorf("our credential for the cluster: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		var where *url.Error // its text repeats the address
		if errors.As(err, &where) {
			err = where.Err
		}
		return nil, fmt.Errorf("ask the API server %s: %w", c.server.Host, err)
	}
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return answer, nil
	}
	defer answer.Body.Close()
	why := &StatusError{Code: answer.StatusCode}
	if text, err := io.ReadAll(io.LimitReader(answer.Body, maxError)); err == nil {
		var s status
		if json.Unmarshal(text, &s) == nil {
			why.Message = quoted(s.Message)
		}
	}
	return nil, why
}

// call asks and reads a bounded answer.
func (c *Client) call(ctx context.Context, r request, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	return read(answer, limit)
}

// read reads a bounded answer, and closes it.
func read(answer *http.Response, limit int64) ([]byte, error) {
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the API server's answer: %w", err)
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("the API server's answer is longer than %d bytes", limit)
	}
	return body, nil
}

// Keys fetches the key set that verifies the cluster's service-account tokens.
func (c *Client) Keys(ctx context.Context) ([]byte, error) {
	return c.call(ctx, request{method: http.MethodGet, path: "/openid/v1/jwks", accept: "application/jwk-set+json, application/json"}, maxKeys)
}

// Issuer fetches the `iss` of the cluster's service-account tokens.
func (c *Client) Issuer(ctx context.Context) (string, error) {
	const path = "/.well-known/openid-configuration"
	body, err := c.call(ctx, request{method: http.MethodGet, path: path, accept: acceptJSON}, maxKeys)
	if err != nil {
		return "", fmt.Errorf("get %s: %w", path, err)
	}
	var metadata struct {
		Issuer string `json:"issuer"`
	}
	if err := json.Unmarshal(body, &metadata); err != nil || metadata.Issuer == "" {
		return "", fmt.Errorf("%s of the API server names no issuer", path)
	}
	return metadata.Issuer, nil
}

// Reach finds out whether all that we need of the API server is allowed and answers.
func (c *Client) Reach(ctx context.Context) error {
	if _, err := c.probe(ctx); err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	if _, err := c.Review(ctx, "not.a.token", []string{"signalbox"}); err != nil {
		return fmt.Errorf("create a TokenReview: %w", err)
	}
	if _, err := c.Keys(ctx); err != nil {
		return fmt.Errorf("get /openid/v1/jwks: %w", err)
	}
	return nil
}

// Reviewed is what an API server says about a token.
type Reviewed struct {
	Authenticated bool
	Username      string
	UID           string // the service account's
	Groups        []string
	Pod           authority.ObjectRef
	Node          authority.ObjectRef
	CredentialID  string // the token's `jti`, under which audit logs know it
	Why           string // if it is not authenticated: text from outside, quoted
}

// Review asks whether a token is good for one of the audiences (TokenReview,
// authentication.k8s.io/v1). An API server that does not say for which one says
// nothing about a token that is meant for us. A good verdict may be 10 s old.
func (c *Client) Review(ctx context.Context, token string, audiences []string) (Reviewed, error) {
	if len(audiences) == 0 {
		return Reviewed{}, errors.New("a TokenReview without audiences takes tokens for the API server")
	}
	type spec struct {
		Token     string   `json:"token"`
		Audiences []string `json:"audiences"`
	}
	body, err := json.Marshal(struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
		Spec       spec   `json:"spec"`
	}{"TokenReview", "authentication.k8s.io/v1", spec{token, audiences}})
	if err != nil {
		return Reviewed{}, err
	}
	answer, err := c.call(ctx, request{method: http.MethodPost, path: "/apis/authentication.k8s.io/v1/tokenreviews", accept: acceptJSON, body: body}, maxReview)
	if err != nil {
		return Reviewed{}, err
	}
	return parseReview(answer, audiences)
}

func parseReview(answer []byte, audiences []string) (Reviewed, error) {
	var review struct {
		Kind   string `json:"kind"`
		Status struct {
			Authenticated bool     `json:"authenticated"`
			Audiences     []string `json:"audiences"`
			Error         string   `json:"error"`
			User          struct {
				Username string              `json:"username"`
				UID      string              `json:"uid"`
				Groups   []string            `json:"groups"`
				Extra    map[string][]string `json:"extra"`
			} `json:"user"`
		} `json:"status"`
	}
	if err := json.Unmarshal(answer, &review); err != nil || review.Kind != "TokenReview" {
		return Reviewed{}, errors.New("the API server's answer is not a TokenReview")
	}
	s := review.Status
	ours := func(aud string) bool { return slices.Contains(audiences, aud) }
	switch {
	case !s.Authenticated || s.Error != "":
		return Reviewed{Why: quoted(s.Error)}, nil
	case !slices.ContainsFunc(s.Audiences, ours):
		return Reviewed{Why: "the API server does not say that it is meant for us"}, nil
	}
	extra := func(name string) string {
		if values := s.User.Extra["authentication.kubernetes.io/"+name]; len(values) == 1 {
			return values[0]
		}
		return ""
	}
	return Reviewed{
		Authenticated: true, Username: s.User.Username, UID: s.User.UID, Groups: s.User.Groups,
		Pod:          authority.ObjectRef{Name: extra("pod-name"), UID: extra("pod-uid")},
		Node:         authority.ObjectRef{Name: extra("node-name"), UID: extra("node-uid")},
		CredentialID: extra("credential-id"),
	}, nil
}

// object is the part of an object's metadata that we read.
type object struct {
	UID      string    `json:"uid"`
	Created  time.Time `json:"creationTimestamp"`
	Deletion time.Time `json:"deletionTimestamp"`
	Grace    int64     `json:"deletionGracePeriodSeconds"`
}

type podItem struct {
	Metadata object `json:"metadata"`
}

// pod asks for one pod as it is now: no cache is between us and it. There is none
// with this name if found is false.
func (c *Client) pod(ctx context.Context, namespace, name string) (pod object, found bool, err error) {
	if !isName(namespace) || !isName(name) {
		return object{}, false, nil // the API server would not have it
	}
	body, err := c.call(ctx, request{method: http.MethodGet, path: "/api/v1/namespaces/" + namespace + "/pods/" + name, accept: metadataOnly}, maxObject)
	switch {
	case hasCode(err, http.StatusNotFound):
		return object{}, false, nil
	case err != nil:
		return object{}, false, err
	}
	var of podItem
	if err := json.Unmarshal(body, &of); err != nil || !authority.IsUID(of.Metadata.UID) {
		return object{}, false, errors.New("the API server's answer is not a pod")
	}
	return of.Metadata, true, nil
}

// probe asks for one pod as it is now: the API server must be there, have its
// database, and let us see pods. It returns the version that the cluster is at.
func (c *Client) probe(ctx context.Context) (version string, err error) {
	version, _, err = c.page(ctx, request{method: http.MethodGet, path: Pods.path(""), query: url.Values{"limit": {"1"}}, accept: metadataList},
		eachPod(func(object) error { return nil }))
	return version, err
}

// eachPod reads one item of a list of pods.
func eachPod(each func(object) error) func(*json.Decoder) error {
	return func(d *json.Decoder) error {
		var item podItem
		if err := d.Decode(&item); err != nil {
			return err
		}
		return each(item.Metadata)
	}
}

// isName keeps what a proof says from becoming another path.
func isName(s string) bool {
	return s != "" && len(s) <= 253 && s != "." && s != ".." && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_' && r != ':'
	})
}
