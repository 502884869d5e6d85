package server

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// tlsConfig leaves cipher suites and curves to crypto/tls, which keeps them up
// to date, and takes TLS 1.2 as the least (RFC 9325 §3.1.1).
func tlsConfig(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: certificate, NextProtos: append([]string{"h2", "http/1.1"}, protocols...),
	}
}

// ListenTLSFiles serves a certificate from files, and reads them again when
// they change: a renewed certificate needs no restart.
func ListenTLSFiles(ln net.Listener, certFile, keyFile string) (net.Listener, error) {
	files := &certificateFiles{cert: certFile, key: keyFile}
	if _, err := files.get(nil); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return tls.NewListener(ln, tlsConfig(files.get)), nil
}

type certificateFiles struct {
	cert, key string

	mu      sync.Mutex
	loaded  *tls.Certificate
	changed time.Time // of the certificate's file, when it was loaded
	looked  time.Time
}

const lookAgain = 10 * time.Second

func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loaded != nil && time.Since(f.looked) < lookAgain {
		return f.loaded, nil
	}
	f.looked = time.Now()
	info, err := os.Stat(f.cert)
	if err == nil && f.loaded != nil && info.ModTime().Equal(f.changed) {
		return f.loaded, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(f.cert, f.key)
	}
	switch {
	case err == nil:
		f.loaded, f.changed = &pair, info.ModTime()
		return f.loaded, nil
	case f.loaded != nil:
		return f.loaded, nil // half-written files: the old pair until both are there
	default:
		return nil, err
	}
}

// ListenACME gets and renews certificates by itself (RFC 8555), by the
// TLS-ALPN challenge on the same listener.
func ListenACME(ln net.Listener, issuer, cacheDir, email, directoryURL string) (net.Listener, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil, err
	}
	manager := &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(cacheDir), HostPolicy: autocert.HostWhitelist(u.Hostname()), Email: email,
	}
	if directoryURL != "" {
		manager.Client = &acme.Client{DirectoryURL: directoryURL}
	}
	return tls.NewListener(ln, tlsConfig(manager.GetCertificate, acme.ALPNProto)), nil
}
