package server

import (
	"io"
	"log/slog"
	"regexp"
)

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
	slog.TimeKey: true, slog.LevelKey: true, slog.MessageKey: true,
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
		if err, ok := a.Value.Any().(error); ok {
			a.Value = slog.StringValue(looksSecret.ReplaceAllString(err.Error(), "[redacted]"))
		}
	}
	return a
}
