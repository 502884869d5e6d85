package e2e

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector receives what an OpenTelemetry collector would (OTLP over HTTP, protobuf).
type collector struct {
	mu    sync.Mutex
	paths map[string]bool
	raw   []byte
	spans []*tracepb.Span
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request coltrace.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(body, &request) != nil {
		http.Error(w, "not an export", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paths[r.URL.Path] = true
	c.raw = append(c.raw, body...)
	for _, resource := range request.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	answer, _ := proto.Marshal(&coltrace.ExportTraceServiceResponse{})
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(answer)
}

func TestTraces(t *testing.T) {
	c := &collector{paths: map[string]bool{}}
	server := httptest.NewServer(c)
	defer server.Close()
	s := startServe(t, serveHead+onSQLite+"telemetry: {otlp_endpoint: \""+server.URL+"\"}\n"+houseBody, houseFiles())

	const trace = "\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c"
	body := "grant_type=client_credentials&client_id=" + machinePost.ID + "&client_secret=" + machinePost.Secret
	r, err := http.NewRequest(http.MethodPost, s.Issuer+"/token", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	resp, err := plainClient.Do(r)
	got := readReply(t, resp, err)
	token := got.str("access_token")
	if got.Status != http.StatusOK || token == "" {
		t.Fatalf("%s", got)
	}
	s.get(t, "/authorize?client_id=web&state=in-the-query")
	s.stop() // what is queued is sent before the process ends

	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.paths["/v1/traces"] || len(c.paths) != 1 {
		t.Errorf("sent to %v", c.paths)
	}
	var found *tracepb.Span
	for _, span := range c.spans {
		if string(span.TraceId) == trace {
			found = span
		}
	}
	if found == nil {
		t.Fatalf("no span of the caller's trace among %d", len(c.spans))
	}
	attributes := map[string]string{}
	for _, a := range found.Attributes {
		attributes[a.Key] = a.Value.GetStringValue()
	}
	if found.Name != "POST /token" || found.Kind != tracepb.Span_SPAN_KIND_SERVER || attributes["oauth.client_id"] != machinePost.ID ||
		attributes["signalbox.request_id"] != got.Header.Get("X-Request-Id") {
		t.Errorf("the span is %v", found)
	}
	for _, secret := range []string{machinePost.Secret, token, "in-the-query"} {
		if bytes.Contains(c.raw, []byte(secret)) {
			t.Errorf("a trace holds %.8s…", secret)
		}
	}
}

func TestTracesWithoutACollector(t *testing.T) {
	s := startServe(t, serveHead+onSQLite+"telemetry: {otlp_endpoint: \"http://"+freeAddress(t)+"\"}\n"+houseBody, houseFiles())
	s.machineToken(t)
	s.stop() // tries to send what is queued
	if said := s.proc.out.String(); !strings.Contains(said, `"level":"WARN","msg":"traces could not be sent"`) {
		t.Errorf("the log does not say that traces are lost:\n%s", said)
	}
	for line := range strings.Lines(s.proc.out.String()) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("not a line of the log: %s", line)
		}
	}
}
