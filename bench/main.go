//go:build linux

// Bench measures Signalbox against an ideal handler in one run, so that the
// ratios are comparable between machines. See README.md beside this file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

type options struct {
	only         *regexp.Regexp
	runs         int
	duration     time.Duration
	warmUp       time.Duration
	stored       int // grants in the full database
	out          string
	postgres     string
	flood        bool
	signIns      bool
	deaths       bool
	gitOps       bool
	applications int // with exec credentials; a tenth as many agents
	watched      int // pods that are watched while others are deleted
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	only := flag.String("scenario", "", "measure only the scenarios whose name matches this regular expression, and the ideal")
	short := flag.Bool("short", false, "one run of one second each and 20,000 stored grants: to see that everything works, not to measure")
	flag.IntVar(&o.runs, "runs", 3, "how often each scenario is measured")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "counted time of one measurement")
	flag.DurationVar(&o.warmUp, "warm-up", time.Second, "uncounted time before it")
	flag.IntVar(&o.stored, "stored", 1_000_000, "grants in the full database")
	flag.StringVar(&o.out, "out", "bench/results/latest.json", "where the result goes; empty for nowhere")
	flag.BoolVar(&o.flood, "flood", false, "only measure the memory under a flood of large bodies, and write no JSON")
	flag.BoolVar(&o.signIns, "signins", false, "only flood the sign-in form, and write no JSON")
	flag.BoolVar(&o.deaths, "deaths", false, "only measure how soon deleted pods have nothing, with a real API server, and write no JSON")
	flag.BoolVar(&o.gitOps, "gitops", false, "only measure a node under the exec plugins of 10,000 applications and 1,000 agents, and write no JSON")
	flag.IntVar(&o.watched, "watched", 10_000, "pods that are watched meanwhile")
	flag.StringVar(&o.postgres, "postgres", "", "directory of initdb and postgres. Empty: the newest under /usr/lib/postgresql")
	flag.Parse()
	o.applications = 10_000
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if *short {
		o.runs, o.duration, o.warmUp, o.stored, o.watched, o.applications = 1, time.Second, 300*time.Millisecond, 20_000, 500, 1000
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return err
	}
	// The generator makes little garbage; collecting it rarely keeps its
	// threads off the server's cores.
	debug.SetGCPercent(800)

	// Not the system's temporary directory: if that is in memory, a durable
	// write costs nothing.
	if err := os.MkdirAll(".cache", 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(".cache", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	hub, err := newHub()
	if err != nil {
		return err
	}
	b := &bench{options: o, dir: dir, envs: map[string]*env{}, hub: hub}
	defer b.stop()
	if err := b.build(ctx); err != nil {
		return err
	}
	if o.flood {
		facts, err := b.flood(ctx)
		writeFacts(os.Stdout, facts)
		return err
	}
	if o.signIns {
		return b.signIns(ctx)
	}
	if o.deaths {
		return b.measureDeaths(ctx)
	}
	if o.gitOps {
		return b.measureGitOps(ctx)
	}
	report, err := b.measureAll(ctx)
	if err != nil {
		return err
	}
	report.writeMarkdown(os.Stdout)
	if o.out != "" {
		if err := report.writeJSON(o.out); err != nil {
			return err
		}
	}
	if report.failed() {
		return errors.New("a scenario could not be measured, see above")
	}
	return nil
}

// bench holds what the measurements share: programs and running servers.
type bench struct {
	options
	dir       string
	ideal     string // program
	signalbox string
	envs      map[string]*env
	hub       *hub
	pg        *postgres
}

func (b *bench) build(ctx context.Context) error {
	for name, pkg := range map[string]string{"ideal": "./bench/ideal", "signalbox": "./cmd/signalbox"} {
		out := filepath.Join(b.dir, name)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			if name == "ideal" {
				return fmt.Errorf("build %s (run this from the top of the repository): %w\n%s", pkg, err, text)
			}
			// The ideal's numbers are useful without the service.
			fmt.Fprintf(os.Stderr, "%s does not build, its scenarios will be missing: %v\n%s", pkg, err, text)
			continue
		}
		if name == "ideal" {
			b.ideal = out
		} else {
			b.signalbox = out
		}
	}
	return nil
}

// measureAll goes through all scenarios once per run, not through all runs of
// one scenario: what disturbs the machine for a while then disturbs them all.
func (b *bench) measureAll(ctx context.Context) (*report, error) {
	rep := &report{Cores: runtime.NumCPU(), Go: runtime.Version(), Runs: b.runs, Duration: b.duration.String(), Date: time.Now().UTC().Format(time.DateOnly)}
	if b.signalbox == "" {
		rep.Missing = append(rep.Missing, "signalbox: ./cmd/signalbox does not build")
	}
	list := b.selected()
	rows := make([]row, len(list))
	for i, s := range list {
		rows[i] = row{scenario: s, Name: s.name, Concurrency: s.concurrency}
	}
	for n := range b.runs {
		sign, verify, err := signMicros()
		if err != nil {
			return nil, err
		}
		rep.Sign, rep.Verify = append(rep.Sign, sign), append(rep.Verify, verify)
		for i, s := range list {
			if rows[i].Failure != "" {
				continue // a broken scenario stays broken; two good runs must not hide it
			}
			fmt.Fprintf(os.Stderr, "run %d of %d: %s\n", n+1, b.runs, s.name)
			m, err := b.measure(ctx, s)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "  %v\n", err)
				rows[i].Failure = firstLine(err)
				continue
			}
			rows[i].Measured = append(rows[i].Measured, *m)
		}
	}
	rep.Rows = rows
	if b.signalbox != "" {
		rep.Facts, rep.Missing = b.facts(ctx, rep)
	}
	return rep, nil
}

func (b *bench) stop() {
	for _, e := range b.envs {
		if err := e.proc.Stop(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", e.name, err)
		}
	}
	if b.pg != nil {
		if err := b.pg.proc.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "postgres:", err)
		}
	}
}
