package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/config"
)

// Request is what a token is asked for with: the proof of a workload, which is
// exchanged, or a client's secret.
type Request struct {
	SubjectToken           string
	ClientID, ClientSecret string
	Cluster, Resource      string // one of the two
	Scopes                 []string
}

func (Request) String() string { return "[redacted]" }

// GoString keeps %#v from printing it.
func (r Request) GoString() string { return r.String() }

// Service asks an issuer for tokens. An error that matches ErrRefused says that it
// has decided.
type Service func(ctx context.Context, r Request) (value string, life time.Duration, err error)

// askFor reads the proof again each time: its platform renews it.
func askFor(service Service, t config.AgentToken) Ask {
	return func(ctx context.Context) (string, time.Duration, error) {
		r := Request{Cluster: t.To.Cluster, Resource: t.To.Resource, Scopes: t.To.Scopes, ClientID: t.From.ClientID}
		file, to := t.From.SubjectTokenFile, &r.SubjectToken
		if r.ClientID != "" {
			file, to = t.From.ClientSecretFile, &r.ClientSecret
		}
		var err error
		if *to, err = readLine(file); err != nil {
			return "", 0, err
		}
		return service(ctx, r)
	}
}

const maxLine = 64 << 10

// readLine reads a file with one secret in it. The error does not repeat it.
func readLine(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxLine+1))
	if err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(data))
	switch {
	case len(data) > maxLine:
		err = errors.New("is longer than 64 KiB")
	case line == "":
		err = errors.New("is empty")
	case strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }):
		err = errors.New("holds more than one line of text")
	default:
		return line, nil
	}
	return "", fmt.Errorf("%s %w", path, err)
}
