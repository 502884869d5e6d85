package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/agent"
	"github.com/signalbox-sts/signalbox/internal/agent/controller"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/kube"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func newAgent(env *Environment) *cobra.Command {
	var file string
	var once, check bool
	cmd := &cobra.Command{
		Use:   "agent --config FILE",
		Short: "Keep tokens fresh in files, Kubernetes Secrets and on a socket",
		Long: `Keep tokens fresh for programs that cannot ask for themselves: in files, in
kubeconfigs, in Kubernetes Secrets, and on a Unix socket. The file says which; its
keys are in docs/reference/agent.md. With kubernetes.namespaces it serves a whole
cluster: it keeps the Secrets of the SignalboxTokens that teams declare.

A token is renewed when two thirds of its life are over. While the service is
away the last good one stays. A file is replaced in one step, and only while its
token is good. If the service refuses a token, because its pod has ended or its
policy is gone, the files are removed when the last token has ended. A changed
file, or SIGHUP, reloads: what left the configuration is removed. A file with a
mistake is refused, and the configuration before it stays.

With --once everything is written once, for an init container; the exit code is
1 if anything failed. With --check the file is checked and nothing is started.`,
		Example: `  signalbox agent --config /etc/signalbox/agent.yaml
  signalbox agent --config /etc/signalbox/agent.yaml --once
  signalbox agent --config agent.yaml --check`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case file == "":
				return &usageError{errors.New("--config is needed: the agent's file, not the service's")}
			case once && check:
				return &usageError{errors.New("give --once or --check, not both")}
			}
			load := func() (*config.Agent, error) { return config.LoadAgent(file) }
			c, err := load()
			if err != nil {
				return err
			}
			if check {
				fmt.Fprintf(env.Err, "%s is valid: issuer %s, %s\n", file, c.Issuer, count(len(c.Tokens), "token"))
				return nil
			}
			d := &agent.Daemon{
				Connect: func(issuer string, ca []byte) (agent.Service, error) { return env.connect(issuer, ca) },
				Log:     slog.New(slog.NewJSONHandler(env.Err, nil)),
			}
			d.Controller = func(c *config.Agent, service agent.Service, client *kube.Client) (agent.Controller, error) {
				return signalboxTokens(c, service, client, d.Log)
			}
			if once {
				return d.Once(cmd.Context(), c)
			}
			// It lives beside the programs that it serves, and seldom has much to do: rather
			// more collections than more memory.
			debug.SetGCPercent(40)
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			return d.Run(cmd.Context(), c, load, hangup)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "the agent's configuration file (YAML)")
	cmd.Flags().BoolVar(&once, "once", false, "write everything once, and end")
	cmd.Flags().BoolVar(&check, "check", false, "check the file, and end")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

// podNamespace is where a pod finds the name of its namespace.
const podNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// signalboxTokens serves the SignalboxTokens that the agent's file names.
func signalboxTokens(c *config.Agent, service agent.Service, client *kube.Client, log *slog.Logger) (agent.Controller, error) {
	k := c.Kubernetes
	if k.LeaseNamespace == "" {
		text, err := os.ReadFile(podNamespace)
		if err != nil {
			return agent.Controller{}, fmt.Errorf("lease.namespace is missing, and we run in no pod: %w", err)
		}
		k.LeaseNamespace = strings.TrimSpace(string(text))
	}
	host, _ := os.Hostname() // the random part is enough
	serving := &controller.Controller{
		Client: client, Issuer: c.Issuer, CAFile: c.Target("").CAFile, Namespaces: k.Namespaces, Clock: agent.SystemClock(), Random: mathrand.Float64, Log: log,
		Exchange: func(ctx context.Context, proof string, to controller.Target) (string, time.Duration, error) {
			return service(ctx, agent.Request{SubjectToken: proof, Cluster: to.Cluster, Resource: to.Resource, Scopes: to.Scopes})
		},
	}
	lease := &controller.Lease{Client: client, Namespace: k.LeaseNamespace, Name: k.LeaseName, Holder: host + "_" + rand.Text(), Log: log}
	return agent.Controller{
		Run: func(ctx context.Context) { lease.Run(ctx, serving.Run) }, Up: serving.Up, Tokens: serving.Tokens,
	}, nil
}

// connect is the way of the agent to ask an issuer.
func (e *Environment) connect(issuer string, ca []byte) (agent.Service, error) {
	asking := e
	if ca != nil {
		var err error
		if asking, err = e.trustingCertificates(ca); err != nil {
			return nil, err
		}
	}
	found := &discovered{issuer: issuer}
	return func(ctx context.Context, r agent.Request) (string, time.Duration, error) {
		got, err := askAsAgent(ctx, asking, found, r)
		if err != nil {
			return "", 0, inTheFile{err}
		}
		return got.AccessToken, got.life(), nil
	}, nil
}

func askAsAgent(ctx context.Context, env *Environment, found *discovered, r agent.Request) (exchanged, error) {
	endpoint, err := found.tokenEndpoint(ctx, env)
	if err != nil {
		return exchanged{}, err
	}
	x := exchange{
		client: client{id: r.ClientID}, secret: r.ClientSecret, subjectToken: r.SubjectToken, subjectType: oauth.TokenTypeJWT,
		cluster: r.Cluster, resource: r.Resource, scope: strings.Join(r.Scopes, " "),
	}
	got, err := x.post(ctx, env, endpoint)
	if err != nil && !errors.Is(err, agent.ErrRefused) {
		found.forget() // it may have moved
	}
	return got, err
}

// inTheFile: what is a flag of other commands is a key of the agent's file.
type inTheFile struct{ error }

func (e inTheFile) Error() string { return strings.ReplaceAll(e.error.Error(), "--issuer", "issuer") }
func (e inTheFile) Unwrap() error { return e.error }

// metadataLife is how long the issuer's metadata is believed.
const metadataLife = 10 * time.Minute

// discovered is where an issuer is asked for tokens.
type discovered struct {
	issuer string

	mu       sync.Mutex
	endpoint string
	until    time.Time
}

func (d *discovered) tokenEndpoint(ctx context.Context, env *Environment) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.endpoint != "" && env.now().Before(d.until) {
		return d.endpoint, nil
	}
	endpoint, err := tokenEndpoint(ctx, env, d.issuer, false)
	if err != nil {
		return "", err
	}
	d.endpoint, d.until = endpoint, env.now().Add(metadataLife)
	return endpoint, nil
}

func (d *discovered) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endpoint = ""
}
