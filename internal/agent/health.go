package agent

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// status is how an output is.
type status struct {
	token, output string
	// red is why it is not ready; empty: it is.
	red          string
	puts, failed uint64
	hasToken     bool
	left         time.Duration // of the token's life
	changed      time.Time
}

// statuses are those of all outputs, sorted.
func (a *Agent) statuses() (all []status) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.entries {
		all = append(all, r.statuses()...)
	}
	slices.SortFunc(all, func(x, y status) int { return cmp.Or(cmp.Compare(x.token, y.token), cmp.Compare(x.output, y.output)) })
	return all
}

func (r *running) statuses() (all []status) {
	_, refused, _ := r.keeper.current()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock()
	for _, s := range r.slots {
		st := status{token: r.Name, output: s.String(), puts: s.puts, failed: s.failed, changed: s.changed, hasToken: s.held.Life > 0, left: s.held.Life - s.held.age(now)}
		switch {
		case !st.hasToken && refused:
			st.red = "it has no token: the service refuses one"
		case !st.hasToken:
			st.red = "it has no token yet"
		case s.held.Ended(now):
			st.red = "its token has ended"
		case s.held.late(now):
			st.red = "its token is past 90 % of its life"
		}
		if st.red != "" && s.problem != nil {
			st.red += fmt.Sprintf(", and it cannot be written: %v", s.problem)
		}
		all = append(all, st)
	}
	if r.OnChange != nil {
		all = append(all, status{token: r.Name, output: "on_change", puts: r.hook.puts, failed: r.hook.failed})
	}
	return all
}

// Handler answers /livez, /readyz and /metrics. No token is in any of them. Ready is
// whoever keeps what its own file says and hears what is declared elsewhere: what
// comes of that is in the statuses there, and in the metrics.
func (a *Agent) Handler(controller Controller) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		red := a.red(controller)
		if len(red) == 0 {
			fmt.Fprintln(w, "ok")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		for _, line := range red {
			fmt.Fprintln(w, line)
		}
	})
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics{a, controller})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return mux
}

// red is why the agent is not ready, a line for each reason.
func (a *Agent) red(controller Controller) (lines []string) {
	for _, s := range a.statuses() {
		if s.red != "" {
			lines = append(lines, s.token+": "+s.output+": "+s.red)
		}
	}
	if deaf := controller.Up(); deaf != nil {
		lines = append(lines, deaf.Error())
	}
	return lines
}

// metrics reads what is known when it is asked: nothing is counted twice.
type metrics struct {
	*Agent
	controller Controller
}

var (
	labels   = []string{"token", "output"}
	renewals = prometheus.NewDesc("signalbox_agent_renewals_total", "How often a new token was put into the output, or on_change has succeeded.", labels, nil)
	failures = prometheus.NewDesc("signalbox_agent_failures_total", "How often that failed.", labels, nil)
	expires  = prometheus.NewDesc("signalbox_agent_token_expires_in_seconds", "Until the token in the output ends. Negative: since it has ended.", labels, nil)
	changed  = prometheus.NewDesc("signalbox_agent_last_change_timestamp_seconds", "When the output changed for the last time.", labels, nil)
	ready    = prometheus.NewDesc("signalbox_agent_ready", "1 while the agent is ready, as /readyz says; else 0. Without labels.", nil, nil)
	serves   = prometheus.NewDesc("signalbox_agent_serves", "1 while this agent serves SignalboxTokens, 0 while another one may. Without labels, and only where the file names namespaces.", nil, nil)
)

func (metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{renewals, failures, expires, changed, ready, serves} {
		to <- d
	}
}

func (m metrics) Collect(to chan<- prometheus.Metric) {
	all := m.statuses()
	declared := m.controller.Tokens()
	if declared != nil {
		all = append(all, declared.statuses()...)
	}
	yes := func(desc *prometheus.Desc, is bool) {
		value := 0.0
		if is {
			value = 1
		}
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	yes(ready, len(m.red(m.controller)) == 0)
	if m.controller.Run != nil {
		yes(serves, declared != nil)
	}
	for _, s := range all {
		to <- prometheus.MustNewConstMetric(renewals, prometheus.CounterValue, float64(s.puts), s.token, s.output)
		to <- prometheus.MustNewConstMetric(failures, prometheus.CounterValue, float64(s.failed), s.token, s.output)
		if s.hasToken {
			to <- prometheus.MustNewConstMetric(expires, prometheus.GaugeValue, s.left.Seconds(), s.token, s.output)
		}
		if !s.changed.IsZero() {
			to <- prometheus.MustNewConstMetric(changed, prometheus.GaugeValue, float64(s.changed.UnixMilli())/1000, s.token, s.output)
		}
	}
}
