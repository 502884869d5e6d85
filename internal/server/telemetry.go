package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/httpx"
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
}

// NewMetrics registers everything, with gauges for what others hold.
func NewMetrics(gauges map[string]Gauge) *Metrics {
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
	}
	m.open = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "signalbox_connections", Help: "Open connections by listener.",
	}, []string{"listener"})
	m.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signalbox_connections_refused_total", Help: "Connections refused because every other was at work, by listener.",
	}, []string{"listener"})
	m.registry.MustRegister(m.requests, m.duration, m.events, m.open, m.refused,
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
	for name, g := range gauges {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: g.Help}, g.Read))
	}
	return m
}

// Gauge is a figure that is read when somebody asks.
type Gauge struct {
	Help string
	Read func() float64
}

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

// NewTracer sends spans to an OTLP endpoint over HTTP. The returned function
// flushes and ends it. Spans that cannot be sent are lost, and the log says so.
func NewTracer(ctx context.Context, endpoint, version string, log *slog.Logger) (trace.Tracer, func(context.Context) error, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, nil, err
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces" // where every collector listens; the library would post to "/"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()))
	if err != nil {
		return nil, nil, err
	}
	// The library has one handler for the whole process, and would print by itself.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces could not be sent", "cause", err) }))
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "signalbox"), attribute.String("service.version", version))),
	)
	return provider.Tracer("signalbox"), provider.Shutdown, nil
}

func (s *Middleware) startSpan(ctx context.Context, r *http.Request) (context.Context, trace.Span) {
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	return s.Tracer.Start(ctx, knownMethod(r.Method), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("http.request.method", knownMethod(r.Method))))
}

func endSpan(span trace.Span, r *http.Request, route string, req *httpx.Request, status int) {
	span.SetName(knownMethod(r.Method) + " " + route)
	span.SetAttributes(attribute.String("http.route", route),
		attribute.Int("http.response.status_code", status), attribute.String("signalbox.request_id", req.ID))
	if req.Log.ClientID != "" {
		span.SetAttributes(attribute.String("oauth.client_id", req.Log.ClientID))
	}
	if req.Log.Error != "" {
		span.SetAttributes(attribute.String("oauth.error", req.Log.Error))
	}
	if status >= 500 {
		span.SetStatus(codes.Error, req.Log.Error)
	}
	span.End()
}
