package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// What Kubernetes puts into every pod. Variables for tests.
var (
	serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	serviceAccountCA    = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
)

// credential gives the bearer token that proves us to an API server. fresh says
// that the one before was refused.
type credential interface {
	token(ctx context.Context, fresh bool) (string, error)
}

// rereadAfter is how old a token file's content may get: the kubelet replaces it
// long before it expires.
const rereadAfter = time.Minute

const maxToken = 64 << 10

// fromFile is a token that somebody else renews, in a file.
type fromFile struct {
	path string

	mu   sync.Mutex
	last string
	read time.Time
}

func (f *fromFile) token(_ context.Context, fresh bool) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !fresh && f.last != "" && time.Since(f.read) < rereadAfter {
		return f.last, nil
	}
	file, err := os.Open(f.path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxToken))
	if err != nil {
		return "", err
	}
	token, err := headerValue(string(text))
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.path, err)
	}
	f.last, f.read = token, time.Now()
	return token, nil
}

// fromSelf is a token that we issue to ourselves.
type fromSelf struct {
	issue func(ctx context.Context) (string, time.Time, error)

	mu    sync.Mutex
	last  string
	renew time.Time
}

func (s *fromSelf) token(ctx context.Context, fresh bool) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !fresh && s.last != "" && now.Before(s.renew) {
		return s.last, nil
	}
	text, expires, err := s.issue(ctx)
	if err != nil {
		return "", err
	}
	token, err := headerValue(text)
	if err != nil {
		return "", err
	}
	s.last, s.renew = token, now.Add(expires.Sub(now)*2/3)
	return token, nil
}

// headerValue is a token that fits into a header. The error does not repeat it.
func headerValue(text string) (string, error) {
	token := strings.TrimSpace(text)
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("there is no token in it")
	}
	return token, nil
}
