//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/bench/load"
	"github.com/signalbox-sts/signalbox/bench/proc"
)

// scenario is one line of the table: which server, how many connections, what
// they send, and what must be reached.
type scenario struct {
	name        string
	env         string
	concurrency int
	prepare     func(context.Context, *bench, *env) (source, error)
	goal        goal
}

// goal is what a scenario must reach. Zero fields ask for nothing.
type goal struct {
	perSecond float64
	ideal     string  // the scenario to compare with
	share     float64 // of its throughput, at least
	cpu       float64 // times its server CPU, at most
	against   string  // the scenario to compare latency with
	latency   float64 // times its p50, at most
	beyond    string  // the scenario whose server CPU is subtracted first
	verify    float64 // times one bare ES256 verification for the rest, at most
}

// source makes a run's requests and checks its answers.
type source struct {
	next  func(conn int) []byte
	check func(conn int, r load.Response) error
}

var scenarios = []scenario{
	{"ideal handler, c=16", "ideal", 16, clientCredentials, goal{}},
	{"ideal handler, c=64", "ideal", 64, clientCredentials, goal{}},
	{"client credentials, c=16", "sqlite", 16, clientCredentials, goal{ideal: "ideal handler, c=16", share: 0.75, cpu: 1.3}},
	{"client credentials, c=64", "sqlite", 64, clientCredentials, goal{ideal: "ideal handler, c=64", share: 0.70, cpu: 1.4}},
	{"ideal opaque handler, c=16", "ideal", 16, idealOpaque, goal{}},
	{"ideal opaque handler, c=64", "ideal", 64, idealOpaque, goal{}},
	{"opaque client credentials, c=16", "sqlite", 16, opaqueCredentials, goal{ideal: "ideal opaque handler, c=16", share: 0.50}},
	{"opaque client credentials, c=64", "sqlite", 64, opaqueCredentials, goal{ideal: "ideal opaque handler, c=64", share: 0.60}},
	{"ideal exchange handler, c=16", "ideal", 16, exchangeSeen("/exchange"), goal{}}, // it remembers no proof, so any is as good as new
	{"ideal exchange handler, c=64", "ideal", 64, exchangeSeen("/exchange"), goal{}},
	{"exchange of a pod token, c=16", "workloads", 16, exchangeFresh, goal{ideal: "ideal exchange handler, c=16", share: 0.60}},
	{"exchange of a pod token, c=64", "workloads", 64, exchangeFresh, goal{ideal: "ideal exchange handler, c=64", share: 0.60}},
	{"exchange, the same proof again, c=16", "workloads", 16, exchangeSeen("/token"), goal{ideal: "ideal exchange handler, c=16", share: 0.75}},
	{"exchange, the same proof again, c=64", "workloads", 64, exchangeSeen("/token"), goal{ideal: "ideal exchange handler, c=64", share: 0.75}},
	{"TokenReview of a token seen the first time", "workloads", 16, reviewFresh, goal{perSecond: 10_000}},
	{"TokenReview of a token seen before", "workloads", 16, reviewSeen, goal{perSecond: 20_000}},
	{"introspect a JWT seen the first time", "sqlite", 16, introspectFresh, goal{beyond: "introspect a JWT seen before", verify: 1.35}},
	{"introspect a JWT seen before", "sqlite", 16, introspectSeen(jwtAPI), goal{perSecond: 25_000}},
	{"introspect an opaque token", "sqlite", 16, introspectSeen(opaqueAPI), goal{perSecond: 25_000}},
	{"refresh, SQLite, 1,000 grants", "sqlite", 64, refresh, goal{perSecond: 6_500}},
	{"refresh, PostgreSQL, 1,000 grants", "postgres", 64, refresh, goal{perSecond: 4_500}},
	{"refresh, SQLite, full", "sqlite-full", 64, refresh, goal{against: "refresh, SQLite, 1,000 grants", latency: 1.2}},
	{"refresh, PostgreSQL, full", "postgres-full", 64, refresh, goal{against: "refresh, PostgreSQL, 1,000 grants", latency: 1.2}},
}

// selected are the scenarios asked for, and those that they are compared with.
func (b *bench) selected() []scenario {
	want := map[string]bool{}
	for _, s := range scenarios {
		if b.only.MatchString(s.name) {
			want[s.name], want[s.goal.ideal], want[s.goal.against], want[s.goal.beyond] = true, true, true, true
		}
	}
	var list []scenario
	for _, s := range scenarios {
		isYardstick := strings.HasPrefix(s.name, "ideal handler") // every run says how fast the machine was
		if isYardstick || want[s.name] && (s.env == "ideal" || b.signalbox != "") {
			list = append(list, s)
		}
	}
	return list
}

// measured is one run of one scenario.
type measured struct {
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	Max       float64 `json:"max_us"`
	ServerCPU float64 `json:"server_cpu_us_per_request"`
	LoadCPU   float64 `json:"load_cpu_us_per_request"`
	RSS       int64   `json:"rss_bytes"`
	PeakRSS   int64   `json:"peak_rss_bytes"`
	Requests  int     `json:"requests"`
	// Others is the cores that other processes used meanwhile. It tells a
	// disturbed run from a slow one; a PostgreSQL server counts as another.
	Others float64 `json:"others_cores"`
}

func (b *bench) measure(ctx context.Context, s scenario) (*measured, error) {
	e, err := b.environment(ctx, s.env)
	if err != nil {
		return nil, err
	}
	src, err := s.prepare(ctx, b, e)
	if err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	var before, after, all0, all1 time.Duration
	var err1, err2, err3, err4 error
	run := load.Run{
		Addr: e.addr, Connections: s.concurrency, WarmUp: b.warmUp, Duration: b.duration,
		Next: src.next, Check: src.check,
		Started: func() { before, err1 = e.proc.CPU(); all0, err3 = proc.Machine() },
		Stopped: func() { after, err2 = e.proc.CPU(); all1, err4 = proc.Machine() },
	}
	res, err := run.Do()
	if err != nil {
		return nil, err
	}
	mem, err := e.proc.Memory()
	if err := errors.Join(err, err1, err2, err3, err4); err != nil {
		return nil, err
	}
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	n := float64(res.Requests)
	return &measured{
		PerSecond: res.PerSecond(), Requests: res.Requests,
		P50: us(res.Latency.Quantile(0.50)), P99: us(res.Latency.Quantile(0.99)), Max: us(res.Latency.Max()),
		ServerCPU: us(after-before) / n, LoadCPU: us(res.OwnCPU) / n,
		RSS: mem.Now, PeakRSS: mem.Peak,
		Others: max(0, (all1-all0-(after-before)-res.OwnCPU).Seconds()/res.Elapsed.Seconds()),
	}, nil
}

// post builds a whole HTTP/1.1 request with a form.
func post(e *env, path, basicUser string, form string) []byte {
	return postAs(e, path, basicUser, "application/x-www-form-urlencoded", form)
}

func postAs(e *env, path, basicUser, contentType, body string) []byte {
	auth := ""
	if basicUser != "" {
		auth = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(basicUser)+":"+url.QueryEscape(e.secret))) + "\r\n"
	}
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		path, e.addr, auth, contentType, len(body), body)
}

func (e *env) credentialsRequest(resource string) []byte {
	return post(e, "/token", "", url.Values{"grant_type": {"client_credentials"}, "client_id": {serviceID}, "client_secret": {e.secret},
		"scope": {"read"}, "resource": {resource}}.Encode())
}

// clientCredentials wants a JWT. "eyJ" is the start of every one: an opaque
// token would be less work.
func clientCredentials(_ context.Context, _ *bench, e *env) (source, error) {
	return tokens(e.credentialsRequest(jwtAPI), "eyJ"), nil
}

func opaqueCredentials(_ context.Context, _ *bench, e *env) (source, error) {
	return tokens(e.credentialsRequest(opaqueAPI), "sbx_at_"), nil
}

func idealOpaque(_ context.Context, _ *bench, e *env) (source, error) {
	return tokens(bytes.Replace(e.credentialsRequest(opaqueAPI), []byte("POST /token"), []byte("POST /opaque"), 1), "sbx_at_"), nil
}

// tokens sends one request again and again, and wants a token that begins so.
func tokens(request []byte, prefix string) source {
	return source{next: func(int) []byte { return request }, check: hasToken(prefix)}
}

func hasToken(prefix string) func(int, load.Response) error {
	return func(_ int, r load.Response) error {
		if !bytes.HasPrefix(field(r.Body, "access_token"), []byte(prefix)) {
			return fmt.Errorf("no token that begins with %s in %.200q", prefix, withoutTokens(r.Body))
		}
		return nil
	}
}

// once sends a request for each token, and ends when there are no more.
func once(tokens []string, request func(token string) []byte, check func(int, load.Response) error) source {
	used := 0
	return source{check: check, next: func(int) []byte {
		if used == len(tokens) {
			return nil
		}
		used++
		return request(tokens[used-1])
	}}
}

// inTurn sends the same requests in turn.
func inTurn(tokens []string, request func(token string) []byte, check func(int, load.Response) error) source {
	requests := make([][]byte, len(tokens))
	for i, t := range tokens {
		requests[i] = request(t)
	}
	n := 0
	return source{check: check, next: func(int) []byte { n++; return requests[n%len(requests)] }}
}

// harvest gets count different tokens, as fast as the server makes them.
func harvest(e *env, request func() []byte, count int) ([]string, error) {
	sent := 0
	tokens := make([]string, 0, count)
	run := load.Run{
		Addr: e.addr, Connections: 16, Duration: time.Minute,
		Next: func(int) []byte {
			if sent == count {
				return nil
			}
			sent++
			return request()
		},
		Check: func(_ int, r load.Response) error {
			t := field(r.Body, "access_token")
			if len(t) == 0 {
				return fmt.Errorf("no token in %.200q", withoutTokens(r.Body))
			}
			tokens = append(tokens, string(t))
			return nil
		},
	}
	_, err := run.Do()
	return tokens, err
}

func (e *env) introspectRequest(token string) []byte {
	return post(e, "/introspect", introspecID, "token="+url.QueryEscape(token))
}

func isActive(_ int, r load.Response) error {
	if !bytes.Contains(r.Body, []byte(`"active":true`)) {
		return fmt.Errorf("not active: %.200q", withoutTokens(r.Body))
	}
	return nil
}

// introspectFresh asks for each token once. It gets more tokens than a server
// of twice the target's speed could use.
func introspectFresh(_ context.Context, b *bench, e *env) (source, error) {
	req := e.credentialsRequest(jwtAPI)
	tokens, err := harvest(e, func() []byte { return req }, int(25_000*(b.duration+b.warmUp).Seconds()))
	return once(tokens, e.introspectRequest, isActive), err
}

// introspectSeen repeats a thousand tokens; the warm-up shows them all.
func introspectSeen(resource string) func(context.Context, *bench, *env) (source, error) {
	return func(_ context.Context, _ *bench, e *env) (source, error) {
		req := e.credentialsRequest(resource)
		tokens, err := harvest(e, func() []byte { return req }, 1000)
		for _, t := range tokens {
			if isJWT := strings.HasPrefix(t, "eyJ"); isJWT != (resource == jwtAPI) {
				return source{}, fmt.Errorf("token for %s has the wrong format", resource)
			}
		}
		return inTurn(tokens, e.introspectRequest, isActive), err
	}
}

// refresh follows one chain per connection. The chains are kept in the
// environment and continue in the next run, so they are as long as in real use.
func refresh(_ context.Context, _ *bench, e *env) (source, error) {
	tail := "&" + url.Values{"grant_type": {"refresh_token"}, "client_id": {webID}, "client_secret": {e.secret}}.Encode()
	return source{
		next: func(conn int) []byte {
			return post(e, "/token", "", "refresh_token="+url.QueryEscape(e.chains[conn])+tail)
		},
		check: func(conn int, r load.Response) error {
			next := string(field(r.Body, "refresh_token"))
			if next == "" || next == e.chains[conn] || len(field(r.Body, "access_token")) == 0 {
				return fmt.Errorf("no rotated token in %.200q", withoutTokens(r.Body))
			}
			e.chains[conn] = next
			return nil
		},
	}, nil
}

// field finds a string member without parsing the JSON, which would cost the
// server's cores more than the answer cost to make. Tokens have no escapes.
func field(body []byte, name string) []byte {
	i := bytes.Index(body, []byte(`"`+name+`":`))
	if i < 0 {
		return nil
	}
	v := bytes.TrimLeft(body[i+len(name)+3:], " ")
	if len(v) == 0 || v[0] != '"' {
		return nil
	}
	v = v[1:]
	if end := bytes.IndexByte(v, '"'); end >= 0 {
		return v[:end]
	}
	return nil
}
