package server

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Metrics are what Prometheus reads. No label holds anything that a caller
// chooses, so their number is bounded.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	events   *prometheus.CounterVec
	open     *prometheus.GaugeVec
	refused  *prometheus.CounterVec
	synced   prometheus.Histogram
}

// Figure is a metric that is read when somebody asks.
type Figure struct {
	Name, Help string
	Labels     []string
	Counter    bool // it only rises
	// Read emits each series with its values for Labels.
	Read func(emit func(value float64, labels ...string))
}

// NewMetrics registers everything, with the figures that others hold.
func NewMetrics(figures ...Figure) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_requests_total", Help: "Requests by path, status and OAuth error.",
		}, []string{"path", "method", "status", "error"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "signalbox_request_seconds", Help: "Time to answer, by path.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
		}, []string{"path"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_events_total", Help: "Journal events by type, and those about tokens by grant type.",
		}, []string{"type", "grant_type"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signalbox_connections", Help: "Open connections by listener.",
		}, []string{"listener"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signalbox_connections_refused_total", Help: "Connections refused because every other was at work, by listener.",
		}, []string{"listener"}),
		synced: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "signalbox_journal_sync_seconds", Help: "Time to write a batch of journal records and sync it to disk.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
		}),
	}
	m.registry.MustRegister(m.requests, m.duration, m.events, m.open, m.refused, m.synced,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// A series that is born at 1 never rises in the eyes of Prometheus, so an alert
	// would miss the first event: all of them exist from the start.
	for _, eventType := range authority.EventTypes() {
		if eventType.IsJournals() {
			continue // the journal writes those by itself
		}
		m.events.WithLabelValues(string(eventType), "")
		if eventType.HasGrantType() {
			for _, grantType := range oauth.GrantTypes {
				m.events.WithLabelValues(string(eventType), string(grantType))
			}
		}
	}
	for _, f := range figures {
		m.registry.MustRegister(figure{f, prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)})
	}
	return m
}

// figure is a Figure as the library wants it.
type figure struct {
	Figure
	desc *prometheus.Desc
}

func (f figure) Describe(descs chan<- *prometheus.Desc) { descs <- f.desc }

func (f figure) Collect(series chan<- prometheus.Metric) {
	kind := prometheus.GaugeValue
	if f.Counter {
		kind = prometheus.CounterValue
	}
	f.Read(func(value float64, labels ...string) {
		series <- prometheus.MustNewConstMetric(f.desc, kind, value, labels...)
	})
}

// JournalSynced takes the time of one write and sync of the journal.
func (m *Metrics) JournalSynced(took time.Duration) { m.synced.Observe(took.Seconds()) }

// Event counts a journal event. Both labels are words of ours.
func (m *Metrics) Event(e authority.Event) {
	grantType := e.GrantType
	if !e.Type.HasGrantType() {
		grantType = ""
	}
	m.events.WithLabelValues(string(e.Type), grantType).Inc()
}

// ConnectionMetrics are those of one listener.
type ConnectionMetrics struct {
	Open    prometheus.Gauge
	Refused prometheus.Counter
}

// Connections are the metrics of a listener.
func (m *Metrics) Connections(listener string) ConnectionMetrics {
	return ConnectionMetrics{m.open.WithLabelValues(listener), m.refused.WithLabelValues(listener)}
}

func (m *Metrics) handler() http.HandlerFunc {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}).ServeHTTP
}

// routeMetric keeps the counters of one route at hand, so that the request
// path need not look them up by label.
type routeMetric struct {
	path     string
	all      *Metrics
	duration prometheus.Observer
	counters sync.Map // outcome -> prometheus.Counter
}

type outcome struct {
	method string
	status int
	err    string
}

func (m *Metrics) route(path string) *routeMetric {
	return &routeMetric{path: path, all: m, duration: m.duration.WithLabelValues(path)}
}

func (r *routeMetric) observe(method string, status int, err string, took time.Duration) {
	key := outcome{knownMethod(method), status, err}
	counter, ok := r.counters.Load(key)
	if !ok {
		counter, _ = r.counters.LoadOrStore(key, r.all.requests.WithLabelValues(r.path, key.method, strconv.Itoa(status), err))
	}
	counter.(prometheus.Counter).Inc()
	r.duration.Observe(took.Seconds())
}

// knownMethod keeps what a caller invents out of the labels.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}
