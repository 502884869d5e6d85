//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/bench/proc"
	"github.com/signalbox-sts/signalbox/test/kube/rig"
)

const (
	deletions  = 100 // a second
	askSoonest = 10 * time.Millisecond
	deathLimit = 500 // ms, of the 99th percentile
	giveUp     = 30 * time.Second
)

// deaths is a real kube-apiserver with its pods, and two nodes on one PostgreSQL. The
// first one watches the pods.
type deaths struct {
	*bench
	cluster *rig.Cluster
	nodes   [2]*env
	client  *http.Client
}

// victim is a pod that will be deleted, its proof, and a token from each node.
type victim struct {
	pod    rig.Pod
	proof  string
	tokens [2]string
}

// measureDeaths deletes pods, and asks both nodes until they refuse the
// pod's proof and its tokens. The time counts from the answer to the deletion.
func (b *bench) measureDeaths(ctx context.Context) error {
	cluster, stop, err := rig.Alone("hub")
	if err != nil {
		return err
	}
	defer stop()
	d := &deaths{bench: b, cluster: cluster, client: &http.Client{Timeout: giveUp, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
	each := int(deletions * b.duration.Seconds())
	pods, err := d.makePods(b.watched + b.runs*each)
	if err != nil {
		return err
	}
	if err := d.startNodes(ctx, len(pods)); err != nil {
		return err
	}
	var runs []deathRun
	for n := range b.runs {
		fmt.Fprintf(os.Stderr, "run %d of %d: %d pods are deleted\n", n+1, b.runs, each)
		list, err := d.victims(ctx, pods[:each])
		if err != nil {
			return err
		}
		pods = pods[each:]
		run, err := d.kill(ctx, list)
		if err != nil {
			return err
		}
		runs = append(runs, run)
	}
	d.write(os.Stdout, runs)
	return nil
}

func (d *deaths) makePods(count int) ([]rig.Pod, error) {
	fmt.Fprintf(os.Stderr, "making %d pods\n", count)
	for _, object := range [][2]string{{"/api/v1/namespaces", "shop"}, {"/api/v1/namespaces/shop/serviceaccounts", "orders"}} {
		if err := d.cluster.Call(http.MethodPost, object[0], map[string]any{"metadata": map[string]any{"name": object[1]}}, nil); err != nil {
			return nil, err
		}
	}
	pods := make([]rig.Pod, count)
	return pods, inParallel(count, func(i int) (err error) {
		pods[i], err = d.cluster.CreatePod("shop", "orders", fmt.Sprintf("orders-%05d", i))
		return err
	})
}

func inParallel(count int, do func(i int) error) error {
	var next atomic.Int64
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < count && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = do(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// startNodes starts both nodes; the second one when the first one watches all pods.
func (d *deaths) startNodes(ctx context.Context, pods int) error {
	first, err := d.newEnv("deaths-1")
	if err != nil {
		return err
	}
	if first.storage, err = d.newDatabase(ctx, "bench_deaths"); err != nil {
		return err
	}
	first.extra = fmt.Sprintf(`clusters:
  - {name: hub, issuer: %q, api_server: %q, ca_file: %q, kubeconfig_file: %q, audiences: [%q]}
  - {name: spoke-a, webhook: {caller: {rs}}}
`, d.cluster.Issuer, d.cluster.Server, d.cluster.CA, d.cluster.Kubeconfig(), proofFor) + workloadPolicy
	if err := first.writeConfig(); err != nil {
		return err
	}
	second, err := d.newEnv("deaths-2")
	if err != nil {
		return err
	}
	second.secret = first.secret
	if err := second.joins(first); err != nil {
		return err
	}
	d.nodes = [2]*env{first, second}
	for i, e := range d.nodes {
		cmd := exec.Command(d.signalbox, "serve", "--config", filepath.Join(e.dir, "signalbox.yaml"))
		if err := e.start(ctx, cmd, "http://"+e.addr+"/readyz"); err != nil {
			return err
		}
		d.envs[e.name] = e // so that it is stopped
		// Of the second: it has heard from the first one that it watches.
		if err := d.await(ctx, first, fmt.Sprintf(`signalbox_cluster_pods{cluster="hub"} %d`, pods)); err != nil {
			return err
		}
		if err := d.await(ctx, e, fmt.Sprintf(`signalbox_cluster_watched_here{cluster="hub"} %d`, 1-i), `signalbox_cluster_watched{cluster="hub"} 1`); err != nil {
			return err
		}
	}
	return nil
}

// joins makes e a node of the same issuer: the same file, but for where it listens and
// where its journal is.
func (e *env) joins(first *env) error {
	text, err := os.ReadFile(filepath.Join(first.dir, "signalbox.yaml"))
	if err != nil {
		return err
	}
	if e.admin, err = freeAddress(); err != nil {
		return err
	}
	text = []byte(strings.NewReplacer(
		fmt.Sprintf("listen: {public: %q, admin: %q}", first.addr, first.admin), fmt.Sprintf("listen: {public: %q, admin: %q}", e.addr, e.admin),
		"journal: {dir: "+first.dir, "journal: {dir: "+e.dir,
	).Replace(string(text)))
	return os.WriteFile(filepath.Join(e.dir, "signalbox.yaml"), text, 0o600)
}

func freeAddress() (string, error) {
	port, err := proc.FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// await waits until the metrics of a node have these lines.
func (d *deaths) await(ctx context.Context, e *env, lines ...string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.admin+"/metrics", nil)
		if err != nil {
			return err
		}
		answer, err := d.client.Do(request)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(lines, func(line string) bool { return !bytes.Contains(text, []byte("\n"+line+"\n")) }) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// victims gives each pod a token from each node.
func (d *deaths) victims(ctx context.Context, pods []rig.Pod) ([]victim, error) {
	list := make([]victim, len(pods))
	return list, inParallel(len(pods), func(i int) error {
		v := &list[i]
		v.pod = pods[i]
		var err error
		if v.proof, err = d.cluster.RequestToken(v.pod, proofFor, time.Hour); err != nil {
			return err
		}
		for n, e := range d.nodes {
			var token string
			if token, err = d.exchange(ctx, e, v.proof); err != nil || token == "" {
				return fmt.Errorf("the exchange of a living pod: %q, %w", token, err)
			}
			v.tokens[n] = token
		}
		return nil
	})
}

// exchange returns no token where the pod is refused.
func (d *deaths) exchange(ctx context.Context, e *env, proof string) (token string, err error) {
	var answer struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
	}
	status, err := d.post(ctx, e, "/token", exchangeForm+proof, &answer)
	switch {
	case err != nil:
		return "", err
	case answer.AccessToken != "", status == http.StatusBadRequest && answer.Error == "invalid_request":
		return answer.AccessToken, nil
	}
	return "", fmt.Errorf("exchange: %d %s", status, answer.Error)
}

func (d *deaths) isActive(ctx context.Context, e *env, token string) (bool, error) {
	var answer struct {
		Active *bool `json:"active"`
	}
	status, err := d.post(ctx, e, "/introspect", "token="+url.QueryEscape(token), &answer)
	if err == nil && answer.Active == nil {
		err = fmt.Errorf("introspection: %d", status)
	}
	return err == nil && *answer.Active, err
}

func (d *deaths) post(ctx context.Context, e *env, path, form string, into any) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+e.addr+path, strings.NewReader(form))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if path == "/introspect" {
		request.SetBasicAuth(introspecID, e.secret)
	}
	answer, err := d.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	return answer.StatusCode, json.NewDecoder(answer.Body).Decode(into)
}

// The questions about a dead pod, in the order of the table.
var questions = []string{
	"introspection at the node that watches", "introspection at the other node",
	"exchange at the node that watches", "exchange at the other node",
}

// deathRun is one run: for each question how long each pod was still accepted, in ms.
type deathRun struct {
	perSecond float64 // deletions
	after     [4][]float64
}

// kill deletes the pods at their rate, whether the answers keep up or not.
func (d *deaths) kill(ctx context.Context, list []victim) (run deathRun, err error) {
	for q := range run.after {
		run.after[q] = make([]float64, len(list))
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var running sync.WaitGroup
	var mu sync.Mutex
	var last time.Time
	begin := time.Now()
	for i, v := range list {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / deletions)))
		running.Go(func() {
			if _, err := d.cluster.EndPod(v.pod, 0); err != nil {
				stop(err)
				return
			}
			deleted := time.Now()
			mu.Lock()
			last = deleted // the latest to come here, give or take a microsecond
			mu.Unlock()
			for q := range questions {
				running.Go(func() {
					at, err := d.refusedAt(ctx, q, v, deleted)
					if err != nil {
						stop(fmt.Errorf("%s: %w", questions[q], err))
					}
					run.after[q][i] = float64(at.Sub(deleted)) / float64(time.Millisecond)
				})
			}
		})
	}
	running.Wait()
	if err := context.Cause(ctx); err != nil {
		return run, err
	}
	run.perSecond = float64(len(list)) / last.Sub(begin).Seconds()
	// What was refused once stays so, at both nodes.
	return run, inParallel(len(list), func(i int) error {
		for q, question := range questions {
			if accepted, err := d.accepted(ctx, q, list[i]); err != nil || accepted {
				return fmt.Errorf("%s: a dead pod is accepted again: %v %w", question, accepted, err)
			}
		}
		return nil
	})
}

// refusedAt asks until the answer is no, at first often and then less, or the questions would be the load.
// So what it returns is up to an eighth too late.
func (d *deaths) refusedAt(ctx context.Context, question int, v victim, deleted time.Time) (time.Time, error) {
	for time.Since(deleted) < giveUp {
		accepted, err := d.accepted(ctx, question, v)
		if err != nil || !accepted {
			return time.Now(), err
		}
		time.Sleep(max(askSoonest, time.Since(deleted)/8))
	}
	return time.Time{}, errors.New("a deleted pod is accepted for ever")
}

// accepted asks a node. About a token it asks where that token does not come from.
func (d *deaths) accepted(ctx context.Context, question int, v victim) (bool, error) {
	node := question % 2
	if question < 2 {
		return d.isActive(ctx, d.nodes[node], v.tokens[1-node])
	}
	token, err := d.exchange(ctx, d.nodes[node], v.proof)
	return token != "", err
}

func (d *deaths) write(w io.Writer, runs []deathRun) {
	var rate []float64
	for _, r := range runs {
		rate = append(rate, r.perSecond)
	}
	fmt.Fprintf(w, "%d pods watched, %s deletions a second, %d runs of %s, median (lowest to highest).\n\n", d.watched, spreadOf(rate).format("%.0f"), len(runs), d.duration)
	fmt.Fprint(w, "| a deleted pod is refused at | p50 ms | p99 ms | max ms | target of p99 | reached |\n| --- | ---: | ---: | ---: | --- | --- |\n")
	for q, question := range questions {
		var columns [3][]float64
		for _, r := range runs {
			sorted := slices.Sorted(slices.Values(r.after[q]))
			for c, i := range []int{len(sorted) / 2, len(sorted) * 99 / 100, len(sorted) - 1} {
				columns[c] = append(columns[c], sorted[i])
			}
		}
		p99 := spreadOf(columns[1])
		reached := fmt.Sprintf("%.0f ms", p99.median)
		if p99.median > deathLimit {
			reached = "**missed: " + reached + "**"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | ≤ %d ms | %s |\n", question, spreadOf(columns[0]).format("%.0f"), p99.format("%.0f"), spreadOf(columns[2]).format("%.0f"), deathLimit, reached)
	}
}
