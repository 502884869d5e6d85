// Package contexts keeps named services for the commands that talk to one: the
// issuer, the admin URL, and where the credential comes from. A context never
// holds a secret: it names the file that does, or a command that prints a token.
package contexts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
)

// Context is one service. Its credential is a client's, a token in a file, or a
// command that prints a token; without one, only what needs none works.
type Context struct {
	Name             string   `json:"name"`
	Issuer           string   `json:"issuer"`
	AdminURL         string   `json:"admin_url"`
	ClientID         string   `json:"client_id,omitempty"`
	ClientSecretFile string   `json:"client_secret_file,omitempty"`
	TokenFile        string   `json:"token_file,omitempty"`
	TokenCommand     []string `json:"token_command,omitempty"` // run as it is, by no shell
	// InsecureHTTP lets credentials go to another machine in plain HTTP.
	InsecureHTTP bool `json:"insecure_http,omitempty"`
}

// File is all contexts of one user.
type File struct {
	Current  string    `json:"current,omitempty"`
	Contexts []Context `json:"contexts"`
}

// Names are in the order of the file.
func (f *File) Names() []string {
	names := make([]string, len(f.Contexts))
	for i, c := range f.Contexts {
		names[i] = c.Name
	}
	return names
}

// Find returns the context with this name.
func (f *File) Find(name string) (Context, bool) {
	i := slices.Index(f.Names(), name)
	if i < 0 {
		return Context{}, false
	}
	return f.Contexts[i], true
}

// Put adds a context, or replaces the one of the same name. The first one
// becomes the current one.
func (f *File) Put(c Context) {
	if i := slices.Index(f.Names(), c.Name); i >= 0 {
		f.Contexts[i] = c
		return
	}
	f.Contexts = append(f.Contexts, c)
	if len(f.Contexts) == 1 {
		f.Current = c.Name
	}
}

// Remove takes a context out. If it was the current one, none is.
func (f *File) Remove(name string) {
	f.Contexts = slices.DeleteFunc(f.Contexts, func(c Context) bool { return c.Name == name })
	if f.Current == name {
		f.Current = ""
	}
}

// A name is also the name of a file, on every system.
var name = regexp.MustCompile(`\A[a-z0-9][a-z0-9._-]{0,62}\z`)

// Check says what is wrong with a context. It reads no file.
func (c Context) Check() error {
	if !name.MatchString(c.Name) {
		return errors.New("a context's name has small letters, digits, dots, dashes and underscores, begins with a letter or digit, and has at most 63 of them")
	}
	if !isURL(c.Issuer) {
		return errors.New("the issuer must be a URL like https://sts.example.com")
	}
	if !isURL(c.AdminURL) {
		return errors.New("the admin URL must be a URL like http://127.0.0.1:9090")
	}
	given := 0
	for _, is := range []bool{c.ClientID != "", c.TokenFile != "", len(c.TokenCommand) > 0} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return errors.New("the credential is a client, a token's file or a command: one of the three")
	case c.ClientSecretFile != "" && c.ClientID == "":
		return errors.New("a client's secret needs the client's id")
	case c.ClientID != "" && c.ClientSecretFile == "":
		return errors.New("a client needs the file with its secret")
	}
	for _, file := range []string{c.ClientSecretFile, c.TokenFile} {
		if file != "" && !filepath.IsAbs(file) {
			return errors.New("a file must be named with its whole path: commands run in any folder")
		}
	}
	return nil
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil && u.RawQuery == "" && u.Fragment == "" && len(s) <= 2048
}

// maxFile is far above what anybody writes.
const maxFile = 1 << 20

// parse reads what Save has written, and what a person has edited since. It is
// strict: a misspelled member would be a context without its credential.
func parse(data []byte) (File, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var f File
	if err := decoder.Decode(&f); err != nil {
		return File{}, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return File{}, errors.New("something follows the contexts")
	}
	for i, c := range f.Contexts {
		if err := c.Check(); err != nil {
			return File{}, fmt.Errorf("context %d: %w", i+1, err)
		}
		if slices.Contains(f.Names()[:i], c.Name) {
			return File{}, fmt.Errorf("the context %s is there twice", c.Name)
		}
	}
	if _, ok := f.Find(f.Current); f.Current != "" && !ok {
		return File{}, errors.New("the current context is none of them")
	}
	return f, nil
}

// Store is the file of contexts in a user's configuration folder.
type Store struct{ Dir string }

// Path is where the contexts are.
func (s Store) Path() string { return filepath.Join(s.Dir, "contexts.json") }

// Load reads the contexts. Without a file there are none. A file that others can
// change is refused: it says where secrets go, and names a command to run.
func (s Store) Load() (File, error) {
	f, err := os.Open(s.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return File{}, nil
	}
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return File{}, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return File{}, fmt.Errorf("%s can be changed by other users, so it is not used: check it, then run: chmod 600 %[1]s", s.Path())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return File{}, err
	}
	if len(data) > maxFile {
		return File{}, fmt.Errorf("%s is larger than %d KiB", s.Path(), maxFile>>10)
	}
	file, err := parse(data)
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", s.Path(), err)
	}
	return file, nil
}

// Save replaces the contexts, all or none.
func (s Store) Save(f File) error {
	if f.Contexts == nil {
		f.Contexts = []Context{}
	}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if _, err := parse(data); err != nil {
		return err
	}
	return writeFile(s.Path(), append(data, '\n'))
}

// writeFile puts a file of mode 0600 in place in one step.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
