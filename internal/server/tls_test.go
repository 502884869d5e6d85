package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writePair puts a certificate of that name and its key into files.
func writePair(t *testing.T, certFile, keyFile, name string, changed time.Time) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"sts.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(file, kind string, body []byte) {
		if file == "" {
			return
		}
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: body}), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, changed, changed); err != nil {
			t.Fatal(err)
		}
	}
	write(keyFile, "PRIVATE KEY", key)
	write(certFile, "CERTIFICATE", der)
}

func TestCertificateFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	at := time.Now().Add(-time.Hour)
	files := &certificateFiles{cert: cert, key: key}
	name := func() string {
		t.Helper()
		pair, err := files.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	later := func() { files.looked = files.looked.Add(-lookAgain) }
	if _, err := files.get(nil); err == nil {
		t.Fatal("files that are not there are a certificate")
	}
	writePair(t, cert, key, "first", at)
	later()
	if name() != "first" {
		t.Fatal("not the first")
	}
	writePair(t, cert, key, "second", at.Add(time.Minute))
	if name() != "first" {
		t.Fatal("the files are read on every handshake")
	}
	if later(); name() != "second" {
		t.Fatal("a renewed certificate needs a restart")
	}
	writePair(t, cert, "", "half", at.Add(2*time.Minute)) // the key comes later
	if later(); name() != "second" {
		t.Fatal("a certificate without its key is served")
	}
	writePair(t, cert, key, "third", at.Add(2*time.Minute)) // both there now, the certificate as old as the half one
	if later(); name() != "third" {
		t.Fatal("files that were half written once are never read again")
	}
	if err := os.WriteFile(cert, []byte("noise"), 0o600); err != nil {
		t.Fatal(err)
	}
	if later(); name() != "third" {
		t.Fatal("noise is served")
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if later(); name() != "third" {
		t.Fatal("without files the old certificate is gone")
	}
}

func TestTLSListener(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plain.Close() })
	if _, err := ListenTLSFiles(plain, cert, key); err == nil {
		t.Fatal("promise 8: it listens without a certificate")
	}
	writePair(t, cert, key, "first", time.Now())
	ln, err := ListenTLSFiles(plain, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	for _, row := range []struct {
		name     string
		min, max uint16
		ok       bool
	}{
		{"TLS 1.3", tls.VersionTLS13, tls.VersionTLS13, true},
		{"TLS 1.2", tls.VersionTLS12, tls.VersionTLS12, true},
		{"TLS 1.1", tls.VersionTLS10, tls.VersionTLS11, false},
	} {
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{MinVersion: row.min, MaxVersion: row.max, InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if (err == nil) != row.ok {
			t.Errorf("%s: %v", row.name, err)
		}
		if err == nil {
			if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
				t.Errorf("%s speaks %q", row.name, got)
			}
			_ = conn.Close()
		}
	}
}
