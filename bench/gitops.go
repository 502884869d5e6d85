//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/bench/proc"
)

const (
	gitOpsCPU   = 30   // percent of one core, at most
	gitOpsP99   = 50   // ms, at most
	gitOpsTeams = 1000 // each with a namespace, a service account and a policy for its applications and its agent
)

// gitOps is one node, and those who come to it where clusters run on Argo CD and on
// agents: each is a pod of its own, and comes when two thirds of its token's life are over.
type gitOps struct {
	*bench
	env   *env
	roots *x509.CertPool
	fail  context.CancelCauseFunc

	later atomic.Int64 // answers that said to come again later (503)

	mu      sync.Mutex
	answers []gitOpsAnswer
}

// gitOpsAnswer is a token that came, and how long somebody waited for it.
type gitOpsAnswer struct {
	at   time.Time
	took time.Duration
}

// caller is an application's exec plugin or an agent.
type caller struct {
	number   int
	isPlugin bool
}

// measureGitOps measures the node's CPU, and how long a token takes, while all come in
// their own time: an open loop, whether the node keeps up or not.
func (b *bench) measureGitOps(ctx context.Context) error {
	g := &gitOps{bench: b}
	if err := g.start(ctx); err != nil {
		return err
	}
	callers := make([]caller, b.applications+b.applications/10)
	for i := range callers {
		callers[i] = caller{i, i < b.applications}
	}
	fmt.Fprintf(os.Stderr, "each of %d gets its first token\n", len(callers))
	lives := make([]time.Duration, len(callers))
	if err := inParallel(len(callers), func(i int) (err error) {
		lives[i], _, err = g.token(ctx, callers[i])
		return err
	}); err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	g.fail = fail
	var running sync.WaitGroup
	defer running.Wait()
	defer fail(nil)
	for i, c := range callers {
		running.Go(func() { g.keep(ctx, c, lives[i]) })
	}
	var windows []gitOpsWindow
	rest(ctx, b.warmUp)
	for n := range b.runs {
		fmt.Fprintf(os.Stderr, "window %d of %d\n", n+1, b.runs)
		w, err := g.window(ctx)
		if err != nil {
			return err
		}
		windows = append(windows, w)
	}
	mem, err := g.env.proc.Memory()
	if err != nil {
		return err
	}
	g.write(os.Stdout, windows, slices.Max(lives), mib(mem.Now))
	return nil
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// start starts the node, which ends TLS itself.
func (g *gitOps) start(ctx context.Context) error {
	e, err := g.newEnv("gitops")
	if err != nil {
		return err
	}
	if err := g.writeGitOps(e); err != nil {
		return err
	}
	g.env = e
	cmd := exec.Command(g.signalbox, "serve", "--config", filepath.Join(e.dir, "signalbox.yaml"))
	if err := e.start(ctx, cmd, "http://"+e.admin+"/readyz"); err != nil {
		return err
	}
	g.envs[e.name] = e // so that it is stopped
	return nil
}

func (g *gitOps) writeGitOps(e *env) error {
	e.issuer = "https://" + e.addr
	e.storage = "sqlite:" + filepath.Join(e.dir, "signalbox.db")
	e.extra = strings.TrimSuffix(workloadText, workloadPolicy) + "policies:\n"
	for n := range gitOpsTeams {
		e.extra += fmt.Sprintf("  - {name: team-%d, from: {cluster: hub, namespace: team-%d, service_account: deployer}, to: {cluster: spoke-a}, groups: [deployers]}\n", n, n)
	}
	if err := e.writeConfig(); err != nil {
		return err
	}
	file := filepath.Join(e.dir, "signalbox.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text = bytes.Replace(text, []byte("tls: {off: true}"), []byte("tls: {cert_file: tls.crt, key_file: tls.key}"), 1)
	certificate, key, err := selfSigned()
	if err != nil {
		return err
	}
	g.roots = x509.NewCertPool()
	g.roots.AppendCertsFromPEM(certificate)
	return errors.Join(
		os.WriteFile(file, text, 0o600),
		os.WriteFile(filepath.Join(e.dir, "tls.crt"), certificate, 0o644),
		os.WriteFile(filepath.Join(e.dir, "tls.key"), key, 0o600),
		os.WriteFile(filepath.Join(e.dir, "hub.jwks.json"), g.hub.keySet(), 0o644))
}

func selfSigned() (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), err
}

// keep gets a token whenever two thirds of the last one's life are over. The first time
// is by chance: they do not start together.
func (g *gitOps) keep(ctx context.Context, c caller, life time.Duration) {
	wait := time.Duration(mathrand.Float64() * float64(renewal(c, life)))
	for {
		rest(ctx, wait)
		if ctx.Err() != nil {
			return
		}
		life, took, err := g.token(ctx, c)
		if err != nil {
			if ctx.Err() == nil {
				g.fail(err)
			}
			return
		}
		g.mu.Lock()
		g.answers = append(g.answers, gitOpsAnswer{time.Now(), took})
		g.mu.Unlock()
		wait = renewal(c, life)
	}
}

// renewal is after how long a token is asked for again. An agent comes up to a tenth
// earlier, by chance.
func renewal(c caller, life time.Duration) time.Duration {
	if c.isPlugin {
		return life * 2 / 3
	}
	return life * 2 / 3 * time.Duration(900+100*mathrand.Float64()) / 1000
}

// token gets one.
func (g *gitOps) token(ctx context.Context, c caller) (life, took time.Duration, err error) {
	return g.patient(ctx, func() (time.Duration, error) { return g.ask(ctx, c) })
}

// patient asks again where it is told so. A node whose view of what has ended is too old says to come again
// later, as on a machine that is too busy. That is counted, and the wait is part of
// the time.
func (g *gitOps) patient(ctx context.Context, ask func() (time.Duration, error)) (life, took time.Duration, err error) {
	for began := time.Now(); ; rest(ctx, time.Second) {
		life, err = ask()
		if !errors.Is(err, errLater) || time.Since(began) > 15*time.Second {
			return life, time.Since(began), err
		}
		g.later.Add(1)
	}
}

var errLater = errors.New("503: come again later")

// ask asks for a token as the programs do, with a proof that nobody has seen. Each
// time it is a new connection: a plugin is a new process, which first looks where to
// ask, and an agent has closed its last one long ago.
func (g *gitOps) ask(ctx context.Context, c caller) (life time.Duration, err error) {
	proof, err := g.hub.proofOf(g.hub.serial.Add(1), c.number, fmt.Sprintf("team-%d", c.number%gitOpsTeams), "deployer", time.Now().Add(-time.Second))
	if err != nil {
		return 0, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: g.roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Timeout: 15 * time.Second, Transport: transport}
	endpoint := g.env.issuer + "/token"
	if c.isPlugin {
		var metadata struct {
			TokenEndpoint string `json:"token_endpoint"`
		}
		if err := answerOf(ctx, client, http.MethodGet, g.env.issuer+"/.well-known/openid-configuration", "", &metadata); err != nil {
			return 0, err
		}
		endpoint = metadata.TokenEndpoint
	}
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := answerOf(ctx, client, http.MethodPost, endpoint, exchangeForm+proof, &answer); err != nil {
		return 0, err
	}
	if answer.AccessToken == "" || answer.ExpiresIn <= 0 {
		return 0, errors.New("an answer without a token, or without its life")
	}
	return time.Duration(answer.ExpiresIn) * time.Second, nil
}

func answerOf(ctx context.Context, client *http.Client, method, target, form string, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form))
	if err != nil {
		return err
	}
	if form != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode == http.StatusServiceUnavailable {
		return errLater
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %d %.200q", method, target, response.StatusCode, withoutTokens(body))
	}
	return json.Unmarshal(body, into)
}

// gitOpsWindow is what was seen in one window.
type gitOpsWindow struct {
	perSecond, cpu     float64 // tokens; percent of one core that the node took
	p50, p99, max      float64 // ms
	others, generators float64 // percent of one core
	later              float64 // answers that said to come again later
}

func (g *gitOps) window(ctx context.Context) (gitOpsWindow, error) {
	from, later := time.Now(), g.later.Load()
	before, err := g.clocks()
	if err != nil {
		return gitOpsWindow{}, err
	}
	rest(ctx, g.duration)
	if ctx.Err() != nil {
		return gitOpsWindow{}, context.Cause(ctx)
	}
	until := time.Now()
	after, err := g.clocks()
	if err != nil {
		return gitOpsWindow{}, err
	}
	g.mu.Lock()
	answers := g.answers
	g.answers = nil
	g.mu.Unlock()
	var took []time.Duration
	for _, a := range answers {
		if a.at.After(from) && a.at.Before(until) {
			took = append(took, a.took)
		}
	}
	w, err := summary(took, until.Sub(from), before, after)
	w.later = float64(g.later.Load() - later)
	return w, err
}

// summary of the tokens that came in a window of this length.
func summary(took []time.Duration, length time.Duration, before, after gitOpsClocks) (gitOpsWindow, error) {
	if len(took) == 0 {
		return gitOpsWindow{}, errors.New("nobody came in a whole window: take a longer -duration")
	}
	slices.Sort(took)
	share := func(of func(gitOpsClocks) time.Duration) float64 {
		return 100 * (of(after) - of(before)).Seconds() / length.Seconds()
	}
	ms := func(i int) float64 { return took[i].Seconds() * 1000 }
	w := gitOpsWindow{
		perSecond: float64(len(took)) / length.Seconds(), cpu: share(func(c gitOpsClocks) time.Duration { return c.node }),
		p50: ms(len(took) / 2), p99: ms(len(took) * 99 / 100), max: ms(len(took) - 1),
		generators: share(func(c gitOpsClocks) time.Duration { return c.own }),
	}
	w.others = max(0, share(func(c gitOpsClocks) time.Duration { return c.machine })-w.cpu-w.generators)
	return w, nil
}

// gitOpsClocks is the CPU time that the node, this process and everybody have had.
type gitOpsClocks struct{ node, own, machine time.Duration }

func (g *gitOps) clocks() (c gitOpsClocks, err error) {
	var errs [3]error
	c.node, errs[0] = g.env.proc.CPU()
	c.own, errs[1] = proc.OwnCPU()
	c.machine, errs[2] = proc.Machine()
	return c, errors.Join(errs[:]...)
}

func (g *gitOps) write(w io.Writer, windows []gitOpsWindow, life time.Duration, memory float64) {
	of := func(value func(gitOpsWindow) float64) spread {
		var v []float64
		for _, window := range windows {
			v = append(v, value(window))
		}
		return spreadOf(v)
	}
	verdict := func(s spread, format string, limit float64) string {
		if s.median > limit {
			return "**missed: " + fmt.Sprintf(format, s.median) + "**"
		}
		return fmt.Sprintf(format, s.median)
	}
	cpu, p99 := of(func(w gitOpsWindow) float64 { return w.cpu }), of(func(w gitOpsWindow) float64 { return w.p99 })
	fmt.Fprintf(w, "%d applications' exec plugins and %d agents, tokens of %v, each renewed after two thirds; %d windows of %v, median (lowest to highest). %.0f MiB resident.\n\n",
		g.applications, g.applications/10, life, len(windows), g.duration, memory)
	fmt.Fprint(w, "| | measured | target | reached |\n| --- | ---: | --- | --- |\n")
	fmt.Fprintf(w, "| tokens a second | %s | | |\n", of(func(w gitOpsWindow) float64 { return w.perSecond }).format("%.0f"))
	fmt.Fprintf(w, "| the node's CPU, of one core | %s | ≤ %d %% | %s |\n", cpu.format("%.1f %%"), gitOpsCPU, verdict(cpu, "%.1f %%", gitOpsCPU))
	fmt.Fprintf(w, "| a token, with connection and TLS, p50 ms | %s | | |\n", of(func(w gitOpsWindow) float64 { return w.p50 }).format("%.1f"))
	fmt.Fprintf(w, "| p99 ms | %s | ≤ %d ms | %s |\n", p99.format("%.1f"), gitOpsP99, verdict(p99, "%.1f ms", gitOpsP99))
	fmt.Fprintf(w, "| max ms | %s | | |\n", of(func(w gitOpsWindow) float64 { return w.max }).format("%.1f"))
	fmt.Fprintf(w, "| answers 503: come again later | %s | | |\n", of(func(w gitOpsWindow) float64 { return w.later }).format("%.0f"))
	fmt.Fprintf(w, "| the generator's CPU, of one core | %s | | |\n", of(func(w gitOpsWindow) float64 { return w.generators }).format("%.1f %%"))
	fmt.Fprintf(w, "| CPU of all other processes, of one core | %s | | |\n", of(func(w gitOpsWindow) float64 { return w.others }).format("%.1f %%"))
}
