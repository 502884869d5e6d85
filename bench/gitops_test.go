//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalbox-sts/signalbox/internal/cli"
	"github.com/signalbox-sts/signalbox/internal/config"
)

// What is measured must be what the programs do: the same requests, over as many
// connections.
func TestTheGeneratorAsksAsTheProgramsDo(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	connections := map[string]int{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		issuer := "https://" + r.Host
		line := r.Method + " " + r.URL.Path
		if r.Method == http.MethodPost {
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			for _, name := range slices.Sorted(maps.Keys(r.PostForm)) {
				value := r.PostForm.Get(name)
				if name == "subject_token" {
					value = fmt.Sprint(strings.Count(value, "."), " dots")
				}
				line += " " + name + "=" + value
			}
			fmt.Fprint(w, `{"access_token":"eyJ","token_type":"Bearer","expires_in":300}`)
		} else {
			fmt.Fprintf(w, `{"issuer":%q,"token_endpoint":"%s/token"}`, issuer, issuer)
		}
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Proto+" "+line)
		connections[r.RemoteAddr]++
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	taken := func() string {
		mu.Lock()
		defer mu.Unlock()
		defer func() { asked = nil; clear(connections) }()
		return fmt.Sprint(len(connections), " connection: ", strings.Join(asked, "; "))
	}
	hub, err := newHub()
	if err != nil {
		t.Fatal(err)
	}
	g := &gitOps{bench: &bench{hub: hub}, env: &env{issuer: s.URL}, roots: x509.NewCertPool()}
	g.roots.AddCert(s.Certificate())
	ask := func(c caller) string {
		life, took, err := g.token(t.Context(), c)
		if err != nil || life != 5*time.Minute || took <= 0 {
			t.Fatalf("%v, %v, %v", life, took, err)
		}
		return taken()
	}

	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	proof, err := hub.proof(1, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	proofFile := file("proof", proof)
	ca := file("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	agent := file("agent.yaml", fmt.Sprintf("issuer: %s\nca_file: %s\ntokens: [{name: a, from: {subject_token_file: %s}, to: {cluster: spoke-a}, file: {path: %s}}]\n", s.URL, ca, proofFile, filepath.Join(dir, "out")))
	runs := func(args ...string) string {
		var out bytes.Buffer
		if code := cli.Run(t.Context(), &cli.Environment{Out: &out, Err: &out, Getenv: func(string) string { return "" }}, args); code != 0 {
			t.Fatalf("%v: %d %s", args, code, &out)
		}
		return taken()
	}
	plugin := runs("kube-credential", "--issuer", s.URL, "--cluster", "spoke-a", "--subject-token-file", proofFile, "--ca-file", ca)
	if got := ask(caller{0, true}); got != plugin {
		t.Errorf("a plugin asks\n%s\nand not\n%s", plugin, got)
	}
	if got := ask(caller{0, true}); got != plugin {
		t.Errorf("the next plugin asks\n%s", got)
	}
	// Of an agent the first request is not the usual one: it knows later where to ask.
	const discovery = "HTTP/2.0 GET /.well-known/openid-configuration; "
	first := runs("agent", "--config", agent, "--once")
	if got := ask(caller{0, false}); got != strings.Replace(first, discovery, "", 1) {
		t.Errorf("an agent asks\n%s\nand not\n%s", first, got)
	}
}

func TestTheServiceAcceptsTheConfigurationOfGitOps(t *testing.T) {
	hub, err := newHub()
	if err != nil {
		t.Fatal(err)
	}
	g := &gitOps{bench: &bench{dir: t.TempDir(), hub: hub}}
	e, err := g.newEnv("gitops")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.writeGitOps(e); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(e.dir, "signalbox.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(file, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(e.dir, "tls.crt"), filepath.Join(e.dir, "tls.key"))
	if err != nil || c.TLS.CertFile == "" || len(c.Policies) != gitOpsTeams {
		t.Fatalf("%v, %q, %d policies", err, c.TLS.CertFile, len(c.Policies))
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: g.roots, DNSName: "127.0.0.1"}); err != nil {
		t.Error(err)
	}
}

func TestAWindowIsSummedUp(t *testing.T) {
	var took []time.Duration
	for n := 200; n > 0; n-- {
		took = append(took, time.Duration(n)*time.Millisecond)
	}
	second := time.Second
	got, err := summary(took, 10*second, gitOpsClocks{node: second, own: second, machine: 5 * second}, gitOpsClocks{node: 2 * second, own: 3 * second, machine: 12 * second})
	if want := (gitOpsWindow{perSecond: 20, cpu: 10, p50: 101, p99: 199, max: 200, generators: 20, others: 40}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := summary(nil, second, gitOpsClocks{}, gitOpsClocks{}); err == nil {
		t.Error("a window in which nobody came was measured")
	}
}

func TestAMissedTargetOfGitOpsIsShown(t *testing.T) {
	g := &gitOps{bench: &bench{options: options{applications: 10, duration: time.Second}}}
	for _, row := range []struct {
		window gitOpsWindow
		missed int
	}{{gitOpsWindow{cpu: 30, p99: 50}, 0}, {gitOpsWindow{cpu: 31, p99: 50}, 1}, {gitOpsWindow{cpu: 30, p99: 51}, 1}} {
		var out bytes.Buffer
		g.write(&out, []gitOpsWindow{row.window}, 5*time.Minute, 1)
		if got := strings.Count(out.String(), "**missed"); got != row.missed {
			t.Errorf("%+v: %s", row.window, &out)
		}
	}
}

// A node that has no time is asked again, and that is neither hidden nor quick.
func TestAnAnswerThatSaysLaterIsCountedAndTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gitOps{}
		n := 0
		life, took, err := g.patient(t.Context(), func() (time.Duration, error) {
			if n++; n <= 2 {
				return 0, errLater
			}
			return time.Minute, nil
		})
		if err != nil || life != time.Minute || took != 2*time.Second || g.later.Load() != 2 {
			t.Errorf("%v, %v, %v, %d", life, took, err, g.later.Load())
		}
		if _, _, err := g.patient(t.Context(), func() (time.Duration, error) { return 0, errLater }); !errors.Is(err, errLater) {
			t.Error(err)
		}
	})
}

// A failure ends the benchmark: it is not counted as a quick answer.
func TestARefusalEndsTheBenchmark(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadRequest) }))
	defer s.Close()
	hub, err := newHub()
	if err != nil {
		t.Fatal(err)
	}
	ctx, fail := context.WithCancelCause(t.Context())
	g := &gitOps{bench: &bench{hub: hub}, env: &env{issuer: s.URL}, roots: x509.NewCertPool(), fail: fail}
	g.roots.AddCert(s.Certificate())
	g.keep(ctx, caller{0, false}, time.Millisecond)
	if cause := context.Cause(ctx); cause == nil || errors.Is(cause, context.Canceled) || len(g.answers) != 0 {
		t.Errorf("%v, %d answers", cause, len(g.answers))
	}
}
