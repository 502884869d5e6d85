package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

const redacted = "[redacted]"

// Secret is a value that does not print: no verb of fmt, no encoder and no
// logger shows it. Reveal is the only way out.
type Secret struct{ value string }

// NewSecret is for callers that make a configuration by hand.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal returns the secret. Its callers are what a review looks at.
func (s Secret) Reveal() string { return s.value }

// Bytes returns a copy of the secret.
func (s Secret) Bytes() []byte { return []byte(s.value) }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.value == "" }

func (s Secret) String() string               { return redacted }
func (s Secret) GoString() string             { return redacted }
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }

// Format exists because %d would otherwise print the bytes past String.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// StorageURL is sqlite:PATH or postgres://…; it prints without its password.
type StorageURL struct {
	raw    string
	shown  string
	engine string
	path   string
}

// ParseStorageURL accepts sqlite:PATH, postgres://… and postgresql://….
// Its error never holds the text, which may hold a password.
func ParseStorageURL(s string) (StorageURL, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	switch scheme {
	case "sqlite":
		path, _, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "?")
		if path == "" {
			return StorageURL{}, errors.New("has no path")
		}
		if path == ":memory:" {
			return StorageURL{}, errors.New("would keep the data in memory and lose it at every restart")
		}
		return StorageURL{raw: s, shown: s, engine: "sqlite", path: path}, nil
	case "postgres", "postgresql":
		// url.Parse's own errors quote the text: keep them out.
		u, err := url.Parse(s)
		if err != nil || u.Opaque != "" {
			return StorageURL{}, errors.New("is not a valid URL (special characters in a password must be percent-encoded)")
		}
		q := u.Query()
		for k := range q {
			if strings.Contains(strings.ToLower(k), "password") {
				q.Set(k, "xxxxx")
				u.RawQuery = q.Encode()
			}
		}
		return StorageURL{raw: s, shown: u.Redacted(), engine: "postgres"}, nil
	default:
		return StorageURL{}, errors.New("starts with no storage that is known")
	}
}

// under makes a relative path of a database file relative to dir.
func (u StorageURL) under(dir string) StorageURL {
	if u.engine != "sqlite" || filepath.IsAbs(u.path) {
		return u
	}
	query := ""
	if _, after, ok := strings.Cut(u.raw, "?"); ok {
		query = "?" + after
	}
	path := filepath.Join(dir, u.path)
	raw := "sqlite:" + path + query
	return StorageURL{raw: raw, shown: raw, engine: u.engine, path: path}
}

// Reveal returns the URL with its password.
func (u StorageURL) Reveal() string { return u.raw }

// Engine is "sqlite" or "postgres".
func (u StorageURL) Engine() string { return u.engine }

// Path is the database file, for sqlite only.
func (u StorageURL) Path() string { return u.path }

func (u StorageURL) String() string               { return u.shown }
func (u StorageURL) GoString() string             { return u.shown }
func (u StorageURL) MarshalText() ([]byte, error) { return []byte(u.shown), nil }
func (u StorageURL) LogValue() slog.Value         { return slog.StringValue(u.shown) }
func (u StorageURL) Format(f fmt.State, _ rune)   { io.WriteString(f, u.shown) }

// Witness is where heads of the journal are shown: a file, or an http or https URL. It
// prints without the URL's query, which may hold a token.
type Witness struct{ raw, shown, file string }

// ParseWitness accepts a file's name, https://…, and http://… of this machine. Its error
// never holds the text.
func ParseWitness(s string) (Witness, error) {
	if !strings.Contains(s, "://") {
		return Witness{raw: s, shown: s, file: s}, nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Opaque != "" || u.Host == "" || u.Fragment != "":
		return Witness{}, errors.New("is not a valid URL")
	case u.User != nil:
		return Witness{}, errors.New("has a user or a password in it, which is not sent")
	case u.Scheme == "https" || u.Scheme == "http" && OnLoopback(net.JoinHostPort(u.Hostname(), "0")):
	case u.Scheme == "http":
		return Witness{}, errors.New("would send heads unprotected over the network")
	default:
		return Witness{}, errors.New("starts with no scheme that is known")
	}
	shown := *u
	if shown.RawQuery != "" {
		shown.RawQuery = "xxxxx"
	}
	return Witness{raw: s, shown: shown.String()}, nil
}

// IsZero reports whether there is no witness.
func (w Witness) IsZero() bool { return w.raw == "" }

// File is the witness's file; empty for a URL.
func (w Witness) File() string { return w.file }

// URL returns the URL with its query; nil for a file.
func (w Witness) URL() *url.URL {
	if w.file != "" || w.raw == "" {
		return nil
	}
	u, _ := url.Parse(w.raw) // it was parsed before
	return u
}

func (w Witness) String() string               { return w.shown }
func (w Witness) GoString() string             { return w.shown }
func (w Witness) MarshalText() ([]byte, error) { return []byte(w.shown), nil }
func (w Witness) LogValue() slog.Value         { return slog.StringValue(w.shown) }
func (w Witness) Format(f fmt.State, _ rune)   { io.WriteString(f, w.shown) }

// maxSecretFile is far above any secret or key set, and far below harm.
const maxSecretFile = 256 << 10

// readFile reads a small regular file. world tells that others may read it.
// A pipe or device is refused, because reading it could block the start.
func readFile(path string) (data []byte, world bool, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, false, err
	}
	if !st.Mode().IsRegular() {
		return nil, false, errors.New("is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, false, err
	}
	if len(data) > maxSecretFile {
		return nil, false, fmt.Errorf("is larger than %d KiB", maxSecretFile>>10)
	}
	return data, st.Mode().Perm()&0o004 != 0, nil
}

// reason drops the path from a file error: the message already names it.
func reason(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("does not exist")
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("cannot be read: %w", pe.Err)
	}
	return err
}
