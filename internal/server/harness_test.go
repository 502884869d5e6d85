package server

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/refusals"
)

// logBuffer is a log that a test may read while a server writes.
type logBuffer struct {
	lines *LineWriter
	mu    sync.Mutex
	buf   bytes.Buffer
}

func newLog(format string, level slog.Level) (*slog.Logger, *logBuffer) {
	log := new(logBuffer)
	log.lines = NewLineWriter(log)
	return NewLogger(log.lines, format, level), log
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	_ = b.lines.Flush()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newMiddleware() (*Middleware, *logBuffer) {
	logger, log := newLog("json", slog.LevelInfo)
	return &Middleware{Log: logger, Metrics: NewMetrics(), Node: "n1", Refusals: refusals.NewMemory(), Now: time.Now}, log
}

// ask sends one request to a handler.
func ask(h http.Handler, method, target, body string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, r)
	return answer.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Ask and Text are for the tests on a whole node, which are outside of the package.
var Ask, Text = ask, text
