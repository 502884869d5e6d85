//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/bench/proc"
)

// report is what a run found. It names the machine by its cores only.
type report struct {
	Date     string `json:"date"`
	Cores    int    `json:"cores"`
	Go       string `json:"go"`
	Runs     int    `json:"runs"`
	Duration string `json:"duration"`
	// Sign and Verify are one bare ES256 signature and one bare verification in
	// microseconds of CPU, before each run. They say how fast the machine was just
	// then: a shared one changes.
	Sign    []float64 `json:"es256_sign_us"`
	Verify  []float64 `json:"es256_verify_us"`
	Rows    []row     `json:"scenarios"`
	Facts   []fact    `json:"facts,omitempty"`
	Missing []string  `json:"missing,omitempty"`
}

type row struct {
	scenario    scenario
	Name        string     `json:"name"`
	Concurrency int        `json:"concurrency"`
	Measured    []measured `json:"runs"`
	Failure     string     `json:"failure,omitempty"`
}

// fact is a number that is not a rate: a start, a size.
type fact struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
	AtMost float64   `json:"at_most"`
}

// spread is a median with its extremes.
type spread struct{ median, low, high float64 }

func spreadOf(v []float64) spread {
	if len(v) == 0 {
		return spread{}
	}
	v = slices.Sorted(slices.Values(v))
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (v[len(v)/2-1] + m) / 2
	}
	return spread{m, v[0], v[len(v)-1]}
}

func (s spread) format(f string) string {
	if s.low == s.high {
		return fmt.Sprintf(f, s.median)
	}
	return fmt.Sprintf(f+" ("+f+" to "+f+")", s.median, s.low, s.high)
}

func (r row) spread(of func(measured) float64) spread {
	var v []float64
	for _, m := range r.Measured {
		v = append(v, of(m))
	}
	return spreadOf(v)
}

// ratio compares run by run, since a disturbance affects both.
func (r row) ratio(to row, of func(measured) float64) spread {
	var v []float64
	for i := range min(len(r.Measured), len(to.Measured)) {
		v = append(v, of(r.Measured[i])/of(to.Measured[i]))
	}
	return spreadOf(v)
}

func perSecond(m measured) float64 { return m.PerSecond }
func serverCPU(m measured) float64 { return m.ServerCPU }
func loadCPU(m measured) float64   { return m.LoadCPU }
func p50(m measured) float64       { return m.P50 / 1000 }
func p99(m measured) float64       { return m.P99 / 1000 }
func others(m measured) float64    { return m.Others }
func rss(m measured) float64       { return mib(m.RSS) }

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// verdict says what the target was and whether the median reached it.
func (rep *report) verdict(r row) (asked, reached string) {
	var a, got []string
	add := func(ok bool, ask, have string) {
		if !ok {
			have = "**missed: " + have + "**"
		}
		a, got = append(a, ask), append(got, have)
	}
	g := r.scenario.goal
	if g.perSecond > 0 {
		s := r.spread(perSecond)
		add(s.median >= g.perSecond, fmt.Sprintf("≥ %.0f/s", g.perSecond), s.format("%.0f/s"))
	}
	if to := rep.row(g.ideal); to != nil {
		s, c := r.ratio(*to, perSecond), r.ratio(*to, serverCPU)
		add(s.median >= g.share, fmt.Sprintf("≥ %.0f %% of the ideal", 100*g.share), spread{100 * s.median, 100 * s.low, 100 * s.high}.format("%.0f %%"))
		if g.cpu > 0 {
			add(c.median <= g.cpu, fmt.Sprintf("CPU ≤ %.1f ×", g.cpu), c.format("%.2f ×"))
		}
	}
	if to := rep.row(g.beyond); to != nil {
		var v []float64
		for i := range min(len(r.Measured), len(to.Measured), len(rep.Verify)) {
			v = append(v, (serverCPU(r.Measured[i])-serverCPU(to.Measured[i]))/rep.Verify[i])
		}
		s := spreadOf(v)
		add(s.median <= g.verify, fmt.Sprintf("CPU beyond a seen one ≤ %.2f × one bare ES256 verification", g.verify), s.format("%.2f ×"))
	}
	if to := rep.row(g.against); to != nil {
		s := r.ratio(*to, p50)
		add(s.median <= g.latency, fmt.Sprintf("p50 ≤ %.1f ×", g.latency), s.format("%.2f ×"))
	}
	return strings.Join(a, ", "), strings.Join(got, ", ")
}

// row finds a measured scenario.
func (rep *report) row(name string) *row {
	for i := range rep.Rows {
		if rep.Rows[i].Name == name && len(rep.Rows[i].Measured) > 0 {
			return &rep.Rows[i]
		}
	}
	return nil
}

func (rep *report) failed() bool {
	for _, r := range rep.Rows {
		if r.Failure != "" {
			return true
		}
	}
	return len(rep.Missing) > 0
}

func (rep *report) writeMarkdown(w io.Writer) {
	fmt.Fprintf(w, "%d cores, %s, %s, %d runs of %s, median (lowest to highest). One bare ES256 signature took %s µs, one bare verification %s µs.\n\n",
		rep.Cores, rep.Go, rep.Date, rep.Runs, rep.Duration, spreadOf(rep.Sign).format("%.0f"), spreadOf(rep.Verify).format("%.0f"))
	fmt.Fprintln(w, "| work | c | per second | server CPU, ms per 1,000 | p50 ms | p99 ms | resident MiB | generator CPU, ms per 1,000 | other processes, cores |")
	fmt.Fprintln(w, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, r := range rep.Rows {
		if r.Failure != "" {
			fmt.Fprintf(w, "| %s | %d | not measured: %s | | | | | | |\n", r.Name, r.Concurrency, strings.ReplaceAll(r.Failure, "|", "/"))
			continue
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s | %s | %s | %s | %s |\n", r.Name, r.Concurrency,
			r.spread(perSecond).format("%.0f"), r.spread(serverCPU).format("%.1f"), r.spread(p50).format("%.2f"),
			r.spread(p99).format("%.2f"), r.spread(rss).format("%.0f"), r.spread(loadCPU).format("%.1f"), r.spread(others).format("%.2f"))
	}
	fmt.Fprint(w, "\n| work | target | reached |\n| --- | --- | --- |\n")
	for _, r := range rep.Rows {
		if asked, reached := rep.verdict(r); asked != "" && r.Failure == "" {
			fmt.Fprintf(w, "| %s | %s | %s |\n", r.Name, asked, reached)
		}
	}
	writeFacts(w, rep.Facts)
	for _, m := range rep.Missing {
		fmt.Fprintf(w, "\nNot measured: %s\n", m)
	}
}

func writeFacts(w io.Writer, facts []fact) {
	for _, f := range facts {
		s := spreadOf(f.Values)
		reached := s.format("%.0f " + f.Unit)
		if s.median > f.AtMost {
			reached = "**missed: " + reached + "**"
		}
		fmt.Fprintf(w, "| %s | ≤ %.0f %s | %s |\n", f.Name, f.AtMost, f.Unit, reached)
	}
}

func (rep *report) writeJSON(file string) error {
	b, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// facts measures starts, memory and size. It comes after the load, whose
// memory it takes from the rows.
func (b *bench) facts(ctx context.Context, rep *report) (facts []fact, missing []string) {
	if info, err := os.Stat(b.signalbox); err == nil {
		facts = append(facts, fact{"binary, stripped", "MB", []float64{float64(info.Size()) / 1e6}, 60})
	}
	starts, idle, err := b.starts(ctx)
	if err != nil {
		missing = append(missing, "start and idle memory: "+firstLine(err))
	} else {
		facts = append(facts, fact{"start to first 200 on discovery", "ms", starts, 150}, fact{"resident memory, idle", "MiB", idle, 45})
	}
	for _, m := range []struct {
		name, env string
		atMost    float64
	}{{"resident memory after the load", "sqlite", 70}, {fmt.Sprintf("resident memory with %d grants", b.stored), "sqlite-full", 100}} {
		// The last scenario on a server, in each run, saw all the load before it.
		var v []float64
		for _, r := range rep.Rows {
			if r.scenario.env == m.env && len(r.Measured) > 0 {
				v = nil
				for _, one := range r.Measured {
					v = append(v, rss(one))
				}
			}
		}
		if v == nil {
			missing = append(missing, m.name)
			continue
		}
		facts = append(facts, fact{m.name, "MiB", v, m.atMost})
	}
	flood, err := b.flood(ctx)
	if err != nil {
		missing = append(missing, "memory under a flood: "+firstLine(err))
	}
	return append(facts, flood...), missing
}

// starts starts the service repeatedly on one database with its keys.
func (b *bench) starts(ctx context.Context) (ms, idle []float64, err error) {
	e, err := b.newEnv("starts")
	if err != nil {
		return nil, nil, err
	}
	e.storage = "sqlite:" + filepath.Join(e.dir, "signalbox.db")
	if err := e.writeConfig(); err != nil {
		return nil, nil, err
	}
	for n := range b.runs + 1 {
		if err := b.serve(ctx, e); err != nil {
			return nil, nil, err
		}
		// Idle means after the garbage of the start is collected.
		time.Sleep(time.Second)
		mem, err := e.proc.Memory()
		if stopErr := e.proc.Stop(); err != nil || stopErr != nil {
			return nil, nil, fmt.Errorf("%v %v", err, stopErr)
		}
		if n == 0 {
			continue // this one made the database and the keys
		}
		ms = append(ms, float64(e.proc.ReadyIn)/float64(time.Millisecond))
		idle = append(idle, mib(mem.Now))
	}
	return ms, idle, nil
}

// signMicros times bare signatures and bare verifications for a fifth of a
// second each, in CPU time, so that other programs do not count.
func signMicros() (sign, verify float64, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, 0, err
	}
	var digest [32]byte
	x, y, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return 0, 0, err
	}
	sign, err = micros(func() error {
		_, _, err := ecdsa.Sign(rand.Reader, key, digest[:])
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	verify, err = micros(func() error {
		if !ecdsa.Verify(&key.PublicKey, digest[:], x, y) {
			return errors.New("a signature of our own is not good")
		}
		return nil
	})
	return sign, verify, err
}

// micros is the CPU time of one call, in microseconds.
func micros(work func() error) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin, n := time.Now(), 0
	before, err := proc.ThreadCPU()
	for ; err == nil && time.Since(begin) < 200*time.Millisecond; n++ {
		err = work()
	}
	after, err2 := proc.ThreadCPU()
	return float64((after - before).Nanoseconds()) / 1000 / float64(n), errors.Join(err, err2)
}

func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}
