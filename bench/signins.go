//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/bench/load"
)

const (
	signInThreads = 40
	honestPeople  = 20
	honestEvery   = 2500 * time.Millisecond // each of them
	office        = "198.51.100.1"          // where the honest people are, and most floods
	signInTimeout = 2 * time.Second         // what takes longer has failed
	floodCallers  = 4                       // of /token meanwhile
)

// signInFlood is what many threads send to the sign-in form at once.
type signInFlood struct {
	name string
	from func(n uint64) string
	who  func(n uint64) (username, password string)
}

func signInFloods(password string) []signInFlood {
	guess := func(n uint64) (string, string) { return fmt.Sprint("nobody", n), "guess" }
	inOffice := func(uint64) string { return office }
	return []signInFlood{
		{"wrong passwords, one address", inOffice, guess},
		{"wrong passwords at the honest people's accounts, one address", inOffice,
			func(n uint64) (string, string) { return fmt.Sprint("person", n%honestPeople), "guess" }},
		{"the right password of an own account, one address", inOffice,
			func(uint64) (string, string) { return userName, password }},
		{"wrong passwords, a new IPv4 address each time",
			func(n uint64) string { return fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255) }, guess},
		{"wrong passwords, a new /64 of one /48 each time",
			func(n uint64) string { return fmt.Sprintf("2001:db8:0:%x::1", n&0xffff) }, guess},
	}
}

// signInResult is what one flood did to the others.
type signInResult struct {
	known, strangers []float64 // of those who tried
	tokens           []float64 // issued in the same time, of those without the flood
	cpu              []float64 // of the whole machine, that the server spends on the flood
	answered         []float64 // requests of the flood a second
}

// signIns floods the sign-in form and looks at people who have signed in with
// their browser before, at people who have not, and at /token.
func (b *bench) signIns(ctx context.Context) error {
	e, err := b.newEnv("sign-ins")
	if err != nil {
		return err
	}
	e.storage = "sqlite:" + filepath.Join(e.dir, "signalbox.db")
	if err := errors.Join(e.writeConfig(), e.addPeople()); err != nil {
		return err
	}
	if err := b.serve(ctx, e); err != nil {
		return err
	}
	b.envs[e.name] = e
	people := make([]*person, honestPeople)
	for i := range people {
		if people[i], err = newPerson(ctx, e, fmt.Sprint("person", i), office); err != nil {
			return err
		}
		if !people[i].signIn(ctx, e.secret) {
			return fmt.Errorf("%s cannot sign in without a flood", people[i].username)
		}
	}
	floods := signInFloods(e.secret)
	results := make([]signInResult, len(floods))
	for run := range b.runs {
		for i, f := range floods {
			fmt.Fprintf(os.Stderr, "run %d of %d: %s\n", run+1, b.runs, f.name)
			if err := b.signInFlood(ctx, e, people, f, &results[i]); err != nil {
				return err
			}
		}
	}
	fmt.Printf("%d threads flood the sign-in form. %d people who have signed in before do so again every %v, from one address, where the floods of one address come from.\n\n",
		signInThreads, honestPeople, honestEvery)
	fmt.Println("| flood | known browsers that get in | new browsers elsewhere that get in | tokens, of those without a flood | the machine's CPU that the flood costs the server | answers to the flood per second |")
	fmt.Println("| --- | ---: | ---: | ---: | ---: | ---: |")
	for i, f := range floods {
		r := results[i]
		fmt.Printf("| %s | %s | %s | %s | %s | %s |\n", f.name, percent(r.known), percent(r.strangers), percent(r.tokens), percent(r.cpu), spreadOf(r.answered).format("%.0f"))
	}
	return nil
}

func percent(shares []float64) string {
	var v []float64
	for _, s := range shares {
		v = append(v, 100*s)
	}
	return spreadOf(v).format("%.0f %%")
}

// addPeople gives the configuration the honest people, and a proxy that may say
// where a request comes from.
func (e *env) addPeople() error {
	file := filepath.Join(e.dir, "signalbox.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	config := strings.Replace(string(text), "tls: {off: true}", `tls: {off: true, trusted_proxies: ["127.0.0.1/32"]}`, 1)
	line := config[strings.LastIndex(config, "  - {username:"):]
	for i := range honestPeople {
		config += strings.Replace(line, userName, fmt.Sprint("person", i), 1)
	}
	return os.WriteFile(file, []byte(config), 0o600)
}

func (b *bench) signInFlood(ctx context.Context, e *env, people []*person, f signInFlood, into *signInResult) error {
	for _, p := range people {
		if err := p.open(ctx, e); err != nil {
			return err
		}
	}
	var answered atomic.Int64
	flood := func(ctx context.Context) {
		var wg sync.WaitGroup
		var n atomic.Uint64
		n.Store(uint64(time.Now().Unix()) << 8) // other names and addresses than before
		for range signInThreads {
			wg.Go(func() {
				p, err := newPerson(ctx, e, "", office)
				if err != nil {
					return
				}
				for ctx.Err() == nil {
					i := n.Add(1)
					p.address = f.from(i)
					username, password := f.who(i)
					p.username = username
					p.signIn(ctx, password)
					p.forget()
					answered.Add(1)
				}
			})
		}
		wg.Wait()
	}
	var m [4]meanwhile
	var err error
	for i, how := range []struct {
		tokens bool
		flood  func(context.Context)
	}{{true, nil}, {true, flood}, {false, nil}, {false, flood}} {
		answered.Store(0)
		if m[i], err = b.signInsMeanwhile(ctx, e, people, how.tokens, how.flood); err != nil {
			return err
		}
	}
	into.known = append(into.known, float64(m[1].knownIn+m[3].knownIn)/float64(m[1].known+m[3].known))
	into.strangers = append(into.strangers, float64(m[1].strangersIn+m[3].strangersIn)/float64(max(m[1].strangers+m[3].strangers, 1)))
	into.tokens = append(into.tokens, m[1].tokens/m[0].tokens)
	into.cpu = append(into.cpu, (m[3].cores-m[2].cores)/float64(runtime.NumCPU()))
	into.answered = append(into.answered, float64(answered.Load())/(b.warmUp+b.duration).Seconds())
	return nil
}

// meanwhile is what happened in one phase.
type meanwhile struct {
	tokens                 float64 // per second
	cores                  float64 // that the server kept busy
	known, knownIn         int64
	strangers, strangersIn int64
}

// signInsMeanwhile lets the people sign in while tokens are issued, a flood
// runs, both or neither.
func (b *bench) signInsMeanwhile(ctx context.Context, e *env, people []*person, tokens bool, flood func(context.Context)) (m meanwhile, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	if flood != nil {
		wg.Go(func() { flood(ctx) })
	}
	var knownIn, known, strangersIn, strangers atomic.Int64
	for i, p := range people {
		wg.Go(func() {
			for pause(ctx, honestEvery*time.Duration(i)/honestPeople); ctx.Err() == nil; pause(ctx, honestEvery) {
				tryOnce(ctx, p, e.secret, &known, &knownIn)
			}
		})
	}
	wg.Go(func() { // one person after the other, each at home and with a new browser
		for i := 0; ctx.Err() == nil; i++ {
			p, err := newPerson(ctx, e, fmt.Sprint("person", i%honestPeople), fmt.Sprintf("203.0.113.%d", i%250))
			if err == nil {
				tryOnce(ctx, p, e.secret, &strangers, &strangersIn)
			}
			pause(ctx, time.Second/2)
		}
	})
	var before, after time.Duration
	var err1, err2 error
	start, end := func() { before, err1 = e.proc.CPU() }, func() { after, err2 = e.proc.CPU() }
	if tokens {
		request := e.credentialsRequest(jwtAPI)
		run := load.Run{
			Addr: e.addr, Connections: floodCallers, WarmUp: b.warmUp, Duration: b.duration, Started: start, Stopped: end,
			Next: func(int) []byte { return request },
			Check: func(_ int, r load.Response) error {
				if r.Status != http.StatusOK {
					return &load.StatusError{Status: r.Status, Body: string(r.Body)}
				}
				return nil
			},
		}
		var res *load.Result
		if res, err = run.Do(); err == nil {
			m.tokens = res.PerSecond()
		}
	} else {
		pause(ctx, b.warmUp)
		start()
		pause(ctx, b.duration)
		end()
	}
	stop()
	wg.Wait()
	m.cores = (after - before).Seconds() / b.duration.Seconds()
	m.known, m.knownIn, m.strangers, m.strangersIn = known.Load(), knownIn.Load(), strangers.Load(), strangersIn.Load()
	return m, errors.Join(err, err1, err2)
}

// tryOnce counts a sign-in, unless it was cut off by the end.
func tryOnce(ctx context.Context, p *person, password string, tries, in *atomic.Int64) {
	ok := p.signIn(ctx, password)
	if !ok && ctx.Err() != nil {
		return
	}
	tries.Add(1)
	if ok {
		in.Add(1)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// person is a browser with a sign-in page open.
type person struct {
	username, address string
	http              *http.Client
	login             string
	flow              string
	cookies           map[string]string
}

func newPerson(ctx context.Context, e *env, username, address string) (*person, error) {
	p := &person{username: username, address: address, login: e.issuer + "/login", cookies: map[string]string{}, http: &http.Client{
		Timeout: signInTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{MaxIdleConnsPerHost: 1},
	}}
	return p, p.open(ctx, e)
}

// open opens the sign-in page, whoever is signed in.
func (p *person) open(ctx context.Context, e *env) error {
	q := url.Values{
		"response_type": {"code"}, "client_id": {webID}, "redirect_uri": {redirectURI}, "scope": {"openid read"}, "state": {"s"}, "prompt": {"login"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
	}
	status, page, err := p.send(ctx, http.MethodGet, e.issuer+"/authorize?"+q.Encode(), "")
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("sign-in page: status %d, %w", status, err)
	}
	_, fields, err := fillForm(page, map[string]string{"username": "x", "password": "x"}, "sign-in", "allow")
	p.flow = fields.Get("flow")
	return err
}

// signIn says whether the person was let in, in time.
func (p *person) signIn(ctx context.Context, password string) bool {
	form := url.Values{"flow": {p.flow}, "username": {p.username}, "password": {password}}
	status, _, err := p.send(ctx, http.MethodPost, p.login, form.Encode())
	return err == nil && status == http.StatusSeeOther
}

// forget keeps only what binds the page to the browser.
func (p *person) forget() {
	for name := range p.cookies {
		if !strings.HasSuffix(name, "_browser") {
			delete(p.cookies, name)
		}
	}
}

func (p *person) send(ctx context.Context, method, to, form string) (status int, page string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(form))
	if err != nil {
		return 0, "", err
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("X-Forwarded-For", p.address)
	var pairs []string
	for name, value := range p.cookies {
		pairs = append(pairs, name+"="+value)
	}
	slices.Sort(pairs)
	req.Header.Set("Cookie", strings.Join(pairs, "; "))
	resp, err := p.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	for _, c := range resp.Cookies() {
		p.cookies[c.Name] = c.Value
	}
	return resp.StatusCode, string(body), err
}
