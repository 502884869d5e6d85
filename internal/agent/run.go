package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/kube"
)

// startIsOver is when the first tokens have been written, usually.
const startIsOver = 5 * time.Second

// Daemon is an agent with its configuration.
type Daemon struct {
	// Connect gives the way to ask an issuer whose certificate comes from these
	// authorities; nil: from the system's.
	Connect func(issuer string, ca []byte) (Service, error)
	Log     *slog.Logger
	// Controller makes what serves the SignalboxTokens that the configuration names.
	Controller func(c *config.Agent, service Service, client *kube.Client) (Controller, error)

	client *kube.Client
	agent  Agent
	files  *Files
	socket Socket
}

// Controller keeps outputs that are declared elsewhere.
type Controller struct {
	Run    func(ctx context.Context)
	Up     func() error  // nil while it hears what is declared
	Tokens func() *Agent // the outputs that it keeps now; nil: another one does
}

var noController = Controller{Up: func() error { return nil }, Tokens: func() *Agent { return nil }}

func (d *Daemon) open(c *config.Agent) error {
	needed := len(c.Kubernetes.Namespaces) > 0
	for _, t := range c.Tokens {
		needed = needed || t.Secret.Name != ""
	}
	if needed {
		var err error
		if d.client, err = kube.NewOwnClient(c.Kubernetes.Kubeconfig); err != nil {
			return fmt.Errorf("kubernetes: %w", err)
		}
	}
	state, err := OpenState(c.StateFile)
	if err != nil {
		return err
	}
	d.files = NewFiles(state)
	d.agent = Agent{Clock: SystemClock(), Random: rand.Float64, Log: d.Log}
	d.socket.Clock = d.agent.Clock
	return nil
}

// entries are what the configuration asks for.
func (d *Daemon) entries(c *config.Agent) (entries []Entry, onSockets map[string]*onSocket, err error) {
	service, err := d.Connect(c.Issuer, c.CA)
	if err != nil {
		return nil, nil, err
	}
	onSockets = map[string]*onSocket{}
	for _, t := range c.Tokens {
		for _, path := range []*string{&t.File.Path, &t.Kubeconfig.Path} {
			if *path == "" {
				continue
			}
			if *path, err = filepath.Abs(*path); err != nil {
				return nil, nil, err
			}
		}
		identity, err := json.Marshal([]any{c.Issuer, sha256.Sum256(c.CA), t.From, t.To})
		if err != nil {
			return nil, nil, err
		}
		definition, err := json.Marshal([]any{string(identity), t})
		if err != nil {
			return nil, nil, err
		}
		e := Entry{Name: t.Name, Identity: string(identity), Definition: string(definition), Ask: askFor(service, t), OnChange: hookOf(t, hookLimit)}
		if t.File.Path != "" {
			line := func(token string) []byte { return []byte(token + "\n") }
			e.Outlets = append(e.Outlets, &file{Files: d.files, kind: "file", path: t.File.Path, access: t.File.Access, content: line})
		}
		if t.Kubeconfig.Path != "" {
			e.Outlets = append(e.Outlets, &file{Files: d.files, kind: "kubeconfig", path: t.Kubeconfig.Path, access: t.Kubeconfig.Access, content: kubeconfigOf(t)})
		}
		if t.Secret.Name != "" {
			if d.client == nil {
				return nil, nil, errors.New("the first secret cannot be added while the agent runs: restart it")
			}
			e.Outlets = append(e.Outlets, &Secret{Client: d.client, Namespace: t.Secret.Namespace, Name: t.Secret.Name, Spec: t.Secret.Spec,
				To: c.Target(t.To.Cluster), For: "token " + t.Name})
		}
		if len(t.Socket.UIDs) > 0 {
			o := &onSocket{name: t.Name, uids: t.Socket.UIDs}
			onSockets[t.Name] = o
			e.Outlets = append(e.Outlets, o)
		}
		entries = append(entries, e)
	}
	return entries, onSockets, nil
}

// removeOthers removes what an earlier run wrote and nothing asks for any more.
func (d *Daemon) removeOthers(ctx context.Context, entries []Entry) {
	var paths []string
	for _, e := range entries {
		for _, o := range e.Outlets {
			if f, is := o.(*file); is {
				paths = append(paths, f.path)
			}
		}
	}
	for _, path := range d.files.State.others(paths) {
		f := &file{Files: d.files, path: path}
		if err := f.Remove(ctx); err != nil {
			d.Log.Error("a file that is no longer configured could not be removed", "path", path, "error", err)
			continue
		}
		d.Log.Info("removed: it is no longer configured", "path", path)
	}
}

// Once writes everything once. What is only given over the socket is omitted.
func (d *Daemon) Once(ctx context.Context, c *config.Agent) error {
	if err := d.open(c); err != nil {
		return err
	}
	all, _, err := d.entries(c)
	if err != nil {
		return err
	}
	var entries []Entry
	for _, e := range all {
		var outlets []Outlet
		for _, o := range e.Outlets {
			if _, is := o.(*onSocket); !is {
				outlets = append(outlets, o)
			}
		}
		if e.Outlets = outlets; len(outlets) > 0 {
			entries = append(entries, e)
		}
	}
	d.removeOthers(ctx, entries)
	return errors.Join(d.agent.Once(ctx, entries), d.files.State.Save())
}

// Run keeps everything fresh until ctx ends. It takes the configuration from load
// again when one of its files has changed and when asked (SIGHUP); a wrong one is
// refused, and the one before stays.
func (d *Daemon) Run(ctx context.Context, c *config.Agent, load func() (*config.Agent, error), asked <-chan os.Signal) error {
	if err := d.open(c); err != nil {
		return err
	}
	// Where nobody can be answered, nothing is begun.
	var health, socket net.Listener
	var err error
	if c.Listen.Health != "" {
		if health, err = net.Listen("tcp", c.Listen.Health); err != nil {
			return fmt.Errorf("listen.health: %w", err)
		}
		defer health.Close()
	}
	if c.Listen.Socket != "" {
		if socket, err = listenSocket(c.Listen.Socket); err != nil {
			return fmt.Errorf("listen.socket: %w", err)
		}
		defer socket.Close()
	}
	entries, onSockets, err := d.entries(c)
	if err != nil {
		return err
	}
	controller := noController
	if len(c.Kubernetes.Namespaces) > 0 {
		service, err := d.Connect(c.Issuer, c.CA)
		if err != nil {
			return err
		}
		if controller, err = d.Controller(c, service, d.client); err != nil {
			return fmt.Errorf("kubernetes: %w", err)
		}
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	var all sync.WaitGroup
	if controller.Run != nil {
		all.Go(func() { controller.Run(ctx) })
	}
	failed := make(chan error, 2)
	serve := func(what string, f func() error) {
		all.Go(func() {
			if err := f(); err != nil {
				failed <- fmt.Errorf("%s: %w", what, err)
				end()
			}
		})
	}
	all.Go(func() {
		d.files.State.keep(ctx, func(err error) { d.Log.Error("what was written could not be remembered", "error", err) })
	})
	trim() // before the first tokens come, and again after them
	d.removeOthers(ctx, entries)
	d.set(ctx, entries, onSockets)
	// Whoever asked before would hear that no token is missing.
	if health != nil {
		d.Log.Info("health and metrics", "address", health.Addr().String())
		serve("listen.health", func() error { return serveHTTP(ctx, health, &http.Server{Handler: d.agent.Handler(controller)}) })
	}
	if socket != nil {
		d.Log.Info("tokens over a socket", "path", c.Listen.Socket)
		serve("listen.socket", func() error { return d.socket.serve(ctx, socket) })
	}
	d.Log.Info("the agent runs", "tokens", len(entries), "issuer", c.Issuer)
	defer time.AfterFunc(startIsOver, trim).Stop()
	d.follow(ctx, c, load, asked)
	d.agent.Wait()
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (d *Daemon) set(ctx context.Context, entries []Entry, onSockets map[string]*onSocket) {
	// An entry that stays as it is keeps the outlet that it has.
	for name, kept := range d.agent.Set(ctx, entries) {
		for _, o := range kept {
			if o, is := o.(*onSocket); is {
				onSockets[name] = o
			}
		}
	}
	d.socket.set(onSockets)
}

func (d *Daemon) follow(ctx context.Context, c *config.Agent, load func() (*config.Agent, error), asked <-chan os.Signal) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	files := c.Files
	for config.ReloadWanted(ctx, asked, ticker.C, func() bool { return config.Changed(files) }) {
		next, err := load()
		if err != nil {
			files = config.FilesOf(err)
		} else {
			files, err = next.Files, d.reload(ctx, c, next)
		}
		if err != nil {
			d.Log.Error("the new configuration is refused, the one before it stays", "error", err)
			continue
		}
		c = next
		d.Log.Info("the configuration was reloaded", "tokens", len(c.Tokens))
	}
}

func (d *Daemon) reload(ctx context.Context, c, next *config.Agent) error {
	if fixed := c.Fixed(next); len(fixed) > 0 {
		return fmt.Errorf("%s cannot change while the agent runs: restart it", strings.Join(fixed, ", "))
	}
	if len(c.Kubernetes.Namespaces) > 0 && (c.Issuer != next.Issuer || !bytes.Equal(c.CA, next.CA)) {
		return errors.New("issuer and ca_file cannot change while SignalboxTokens are served: restart it")
	}
	entries, onSockets, err := d.entries(next)
	if err != nil {
		return err
	}
	d.set(ctx, entries, onSockets)
	return nil
}
