package server

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// LineWriter is where the log goes. Lines gather for a moment, so that a busy
// service does not make a system call for each; a warning takes them with it at
// once. What matters after a crash is in the journal.
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

// Write takes a line.
func (l *LineWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, line...)
	switch {
	case len(l.buf) >= gatherBytes:
		return len(line), l.flush()
	case !l.timing:
		l.timing = true
		time.AfterFunc(gatherLines, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.timing = false
			_ = l.flush() // nobody is there to be told that the log cannot be written
		})
	}
	return len(line), nil
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

// NewLogger makes the service's own log. Values that look like a token or a
// secret are redacted wherever they are: no code of ours logs one, and this
// is for the day when some code does.
func NewLogger(lines *LineWriter, format string, level slog.Leveler) *slog.Logger {
	if format == "json" {
		return slog.New(urgent{&jsonHandler{level: level, out: lines}, lines})
	}
	return slog.New(urgent{slog.NewTextHandler(lines, &slog.HandlerOptions{
		Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { return redact(a) },
	}), lines})
}

// urgent flushes behind a warning.
type urgent struct {
	slog.Handler
	lines *LineWriter
}

func (h urgent) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn && err == nil {
		err = h.lines.Flush()
	}
	return err
}

func (h urgent) WithAttrs(attrs []slog.Attr) slog.Handler {
	return urgent{h.Handler.WithAttrs(attrs), h.lines}
}
func (h urgent) WithGroup(name string) slog.Handler {
	return urgent{h.Handler.WithGroup(name), h.lines}
}

// jsonHandler writes the line that slog's own JSON handler would, but for groups,
// which are a prefix of the name. There is a line for every request, and this one
// takes a fifth of the time.
type jsonHandler struct {
	level  slog.Leveler
	out    io.Writer
	group  string // the prefix
	before []byte // what With has added, encoded
}

func (h *jsonHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h *jsonHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	more := *h
	more.before = slices.Clip(h.before)
	for _, a := range attrs {
		more.before = appendAttr(more.before, h.group, a)
	}
	return &more
}

func (h *jsonHandler) WithGroup(name string) slog.Handler {
	more := *h
	more.group += name + "."
	return &more
}

var lineBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

func (h *jsonHandler) Handle(_ context.Context, r slog.Record) error {
	buf := lineBuffers.Get().(*[]byte)
	defer lineBuffers.Put(buf)
	line := append((*buf)[:0], `{"time":"`...)
	line = r.Time.AppendFormat(line, time.RFC3339Nano)
	line = append(append(line, `","level":"`...), r.Level.String()...)
	line = appendText(append(line, `","msg":`...), redactText(r.Message))
	line = append(line, h.before...)
	r.Attrs(func(a slog.Attr) bool {
		line = appendAttr(line, h.group, a)
		return true
	})
	line = append(line, "}\n"...)
	*buf = line
	_, err := h.out.Write(line)
	return err
}

// appendAttr appends ,"name":value and nothing for an empty attribute.
func appendAttr(line []byte, group string, a slog.Attr) []byte {
	if a.Equal(slog.Attr{}) {
		return line
	}
	a = redact(a)
	switch v := a.Value; v.Kind() {
	case slog.KindGroup:
		if a.Key != "" {
			group += a.Key + "."
		}
		for _, inside := range v.Group() {
			line = appendAttr(line, group, inside)
		}
		return line
	case slog.KindInt64:
		return strconv.AppendInt(appendName(line, group, a.Key), v.Int64(), 10)
	case slog.KindUint64:
		return strconv.AppendUint(appendName(line, group, a.Key), v.Uint64(), 10)
	case slog.KindDuration:
		return strconv.AppendInt(appendName(line, group, a.Key), int64(v.Duration()), 10)
	case slog.KindBool:
		return strconv.AppendBool(appendName(line, group, a.Key), v.Bool())
	default:
		return appendText(appendName(line, group, a.Key), v.String())
	}
}

func appendName(line []byte, group, key string) []byte {
	if group != "" {
		key = group + key
	}
	return append(appendText(append(line, ','), key), ':')
}

// appendText appends a JSON string. Nearly every one is plain.
func appendText(line []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e || s[i] == '"' || s[i] == '\\' {
			quoted, _ := json.Marshal(s) // a string can always be encoded
			return append(line, quoted...)
		}
	}
	return append(append(append(line, '"'), s...), '"')
}

var looksSecret = regexp.MustCompile(`sbx_[a-z]{2}_[A-Za-z0-9_-]{8,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*|(?i:(password|client_secret|refresh_token|access_token|code_verifier|client_assertion|authorization)=)[^&\s]+|(?i:bearer|basic) [A-Za-z0-9+/_.~=-]{16,}`)

// redactText spares most texts the pattern: what it finds has one of these in it.
func redactText(s string) string {
	if strings.ContainsAny(s, "= ") || strings.Contains(s, "sbx_") || strings.Contains(s, "eyJ") {
		return looksSecret.ReplaceAllString(s, "[redacted]")
	}
	return s
}

func redact(a slog.Attr) slog.Attr {
	switch a.Value = a.Value.Resolve(); a.Value.Kind() {
	case slog.KindString, slog.KindAny:
		a.Value = slog.StringValue(redactText(a.Value.String()))
	}
	return a
}
