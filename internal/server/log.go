package server

import (
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// LineWriter is where the log goes. Lines of requests gather for a moment, so
// that a busy service does not make a system call for each; any other line
// takes them with it at once. What matters after a crash is in the journal.
type LineWriter struct {
	mu     sync.Mutex
	out    io.Writer
	buf    []byte
	timing bool
}

const (
	gatherLines = 100 * time.Millisecond
	gatherBytes = 32 << 10
)

// NewLineWriter writes to out. Flush it at the end.
func NewLineWriter(out io.Writer) *LineWriter { return &LineWriter{out: out} }

// Write writes a line, and those that have gathered before it.
func (l *LineWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, line...)
	return len(line), l.flush()
}

// Flush writes what has gathered.
func (l *LineWriter) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flush()
}

func (l *LineWriter) flush() error {
	if len(l.buf) == 0 {
		return nil
	}
	_, err := l.out.Write(l.buf)
	l.buf = l.buf[:0]
	return err
}

// gather adds a line that make appends.
func (l *LineWriter) gather(make func(buf []byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = make(l.buf)
	if len(l.buf) >= gatherBytes {
		_ = l.flush() // nobody is there to be told that the log cannot be written
		return
	}
	if !l.timing {
		l.timing = true
		time.AfterFunc(gatherLines, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.timing = false
			_ = l.flush()
		})
	}
}

// appendRequestLine writes the line of a request as slog's JSON handler would,
// at a tenth of its cost. All texts must be plain (see isPlain).
func appendRequestLine(buf []byte, now time.Time, id, method, path string, status int, took time.Duration, remote, clientID, oauthError string) []byte {
	buf = append(buf, `{"time":"`...)
	buf = now.AppendFormat(buf, time.RFC3339Nano)
	buf = append(buf, `","level":"INFO","msg":"request"`...)
	text := func(name, value string) {
		if value == "" {
			return
		}
		buf = append(buf, `,"`...)
		buf = append(buf, name...)
		buf = append(buf, `":"`...)
		buf = append(buf, value...)
		buf = append(buf, '"')
	}
	text("request_id", id)
	text("method", method)
	text("path", path)
	buf = strconv.AppendInt(append(buf, `,"status":`...), int64(status), 10)
	buf = strconv.AppendInt(append(buf, `,"took":`...), int64(took), 10)
	text("remote", remote)
	text("client_id", clientID)
	text("error", oauthError)
	return append(buf, '}', '\n')
}

// isPlain says that a text needs no escape in JSON and cannot hold a secret
// that would have to be redacted.
func isPlain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return len(s) <= 64
}

// NewLogger makes the service's own log. Values that look like a token or a
// secret are redacted wherever they stand: no code of ours logs one, and this
// is for the day when some code does.
func NewLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: redact}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

var looksSecret = regexp.MustCompile(`sbx_[a-z]{2}_[A-Za-z0-9_-]{8,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*|(?i:(password|client_secret|refresh_token|access_token|code_verifier|client_assertion|authorization)=)[^&\s]+|(?i:bearer|basic) [A-Za-z0-9+/_.~=-]{16,}`)

// neverSecret are the attributes of the request line, which hold words and
// numbers of ours; the pattern need not be run over them.
var neverSecret = map[string]bool{
	slog.TimeKey: true, slog.LevelKey: true,
	"request_id": true, "method": true, "path": true, "status": true, "took": true, "remote": true,
}

func redact(_ []string, a slog.Attr) slog.Attr {
	if neverSecret[a.Key] {
		return a
	}
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(looksSecret.ReplaceAllString(a.Value.String(), "[redacted]"))
	case slog.KindAny:
		a.Value = slog.StringValue(looksSecret.ReplaceAllString(fmt.Sprint(a.Value.Any()), "[redacted]"))
	}
	return a
}
