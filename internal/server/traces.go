package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/signalbox-sts/signalbox/internal/httpx"
)

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
