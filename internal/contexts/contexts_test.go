package contexts

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func good() Context {
	return Context{Name: "prod", Issuer: "https://sts.example.com", AdminURL: "http://127.0.0.1:9090", ClientID: "ops", ClientSecretFile: "/etc/signalbox/ops.secret"}
}

func TestAContextIsChecked(t *testing.T) {
	for _, row := range []struct {
		sentence string
		change   func(*Context)
		refused  string
	}{
		{"a client with its secret", func(*Context) {}, ""},
		{"a client without its secret", func(c *Context) { c.ClientSecretFile = "" }, "secret"},
		{"no credential at all", func(c *Context) { c.ClientID, c.ClientSecretFile = "", "" }, ""},
		{"a token's file", func(c *Context) { c.ClientID, c.ClientSecretFile, c.TokenFile = "", "", "/run/token" }, ""},
		{"a command", func(c *Context) {
			c.ClientID, c.ClientSecretFile, c.TokenCommand = "", "", []string{"pass", "show", "x"}
		}, ""},
		{"two credentials", func(c *Context) { c.TokenFile = "/run/token" }, "one of the three"},
		{"a secret of nobody", func(c *Context) { c.ClientID = "" }, "client's id"},
		{"a path that depends on the folder", func(c *Context) { c.ClientSecretFile = "ops.secret" }, "whole path"},
		{"a token's path that depends on the folder", func(c *Context) { c.ClientID, c.ClientSecretFile, c.TokenFile = "", "", "token" }, "whole path"},
		{"no name", func(c *Context) { c.Name = "" }, "name"},
		{"a name that leaves the folder", func(c *Context) { c.Name = "../x" }, "name"},
		{"a name with a line break", func(c *Context) { c.Name = "prod\n" }, "name"},
		{"a name that another system takes for a smaller one", func(c *Context) { c.Name = "Prod" }, "name"},
		{"a hidden name", func(c *Context) { c.Name = ".prod" }, "name"},
		{"a long name", func(c *Context) { c.Name = strings.Repeat("x", 64) }, "name"},
		{"no issuer", func(c *Context) { c.Issuer = "" }, "issuer"},
		{"a password in the issuer", func(c *Context) { c.Issuer = "https://a:b@sts.example.com" }, "issuer"},
		{"an admin URL of another scheme", func(c *Context) { c.AdminURL = "file:///etc" }, "admin URL"},
	} {
		c := good()
		row.change(&c)
		if err := c.Check(); (err == nil) != (row.refused == "") || err != nil && !strings.Contains(err.Error(), row.refused) {
			t.Errorf("%s: %v, want %q", row.sentence, err, row.refused)
		}
	}
}

func TestContextsAreKept(t *testing.T) {
	s := Store{filepath.Join(t.TempDir(), "signalbox")}
	f, err := s.Load()
	if err != nil || len(f.Contexts) != 0 {
		t.Fatalf("before the first one: %+v, %v", f, err)
	}
	other := good()
	other.Name = "staging"
	f.Put(good())
	f.Put(other)
	if f.Current != "prod" {
		t.Errorf("the first one is not the current one: %q", f.Current)
	}
	if err := s.Save(f); err != nil {
		t.Fatal(err)
	}
	if again, err := s.Load(); err != nil || !reflect.DeepEqual(again, f) {
		t.Errorf("%+v, %v", again, err)
	}
	for path, want := range map[string]os.FileMode{s.Path(): 0o600, s.Dir: 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	changed := good()
	changed.Issuer = "https://new.example.com"
	f.Put(changed)
	if got, _ := f.Find("prod"); got.Issuer != changed.Issuer || len(f.Contexts) != 2 {
		t.Errorf("not replaced: %+v", f)
	}
	f.Remove("prod")
	if _, ok := f.Find("prod"); ok || f.Current != "" {
		t.Errorf("not removed: %+v", f)
	}
	if left, err := filepath.Glob(filepath.Join(s.Dir, ".*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	bad := good()
	bad.Issuer = "x"
	f.Put(bad)
	if err := s.Save(f); err == nil {
		t.Error("a context that cannot be read back was saved")
	}
}

func TestAFileThatOthersCanChangeIsRefused(t *testing.T) {
	s := Store{t.TempDir()}
	f := File{}
	f.Put(good())
	if err := s.Save(f); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o620, 0o602} {
		if err := os.Chmod(s.Path(), mode); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(); err == nil || !strings.Contains(err.Error(), "chmod 600 ") {
			t.Errorf("%o: %v", mode, err)
		}
	}
}

func TestAWrongFileIsRefused(t *testing.T) {
	const start = `{"current":"prod","contexts":[{"name":"prod","issuer":"https://sts.example.com","admin_url":"http://127.0.0.1:9090"`
	for sentence, text := range map[string]string{
		"not JSON":                    `contexts:`,
		"an unknown member":           start + `,"client_secret":"hunter2"}]}`,
		"a context twice":             start + `},{"name":"prod","issuer":"https://sts.example.com","admin_url":"http://127.0.0.1:9090"}]}`,
		"a current one that is none":  strings.Replace(start, `"current":"prod"`, `"current":"x"`, 1) + `}]}`,
		"a context that is wrong":     start + `,"token_file":"x"}]}`,
		"something after it":          start + `}]} {}`,
		"more than anybody writes":    start + `}]}` + strings.Repeat(" ", maxFile),
		"a member of the wrong kind":  start + `,"token_command":"pass show x"}]}`,
		"a file that was cut off":     start,
		"a file with nothing in it":   "",
		"a list and not an object":    "[]",
		"a context without its parts": `{"contexts":[{}]}`,
	} {
		s := Store{t.TempDir()}
		if err := os.WriteFile(s.Path(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if f, err := s.Load(); err == nil || !strings.HasPrefix(err.Error(), s.Path()) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %+v, %v", sentence, f, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"current":"prod","contexts":[{"name":"prod","issuer":"https://sts.example.com","admin_url":"http://127.0.0.1:9090","token_command":["a","b"]}]}`))
	f.Add([]byte(`{"contexts":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parse(data)
		if err != nil {
			return
		}
		s := Store{t.TempDir()}
		if err := s.Save(file); err != nil {
			t.Fatalf("%q was read and cannot be saved: %v", data, err)
		}
		again, err := s.Load()
		if err != nil || again.Current != file.Current || !reflect.DeepEqual(again.Names(), file.Names()) {
			t.Fatalf("%q: %+v, %v", data, again, err)
		}
	})
}

func TestTokensAreKept(t *testing.T) {
	now := time.Unix(1772366400, 0)
	tokens := Tokens{filepath.Join(t.TempDir(), "tokens")}
	if _, _, ok := tokens.Get(good(), now); ok {
		t.Error("a token from nowhere")
	}
	if err := tokens.Put(good(), "secret-token", now.Add(5*time.Minute)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(tokens.path(good()))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, row := range []struct {
		sentence string
		change   func(*Context)
		after    time.Duration
		want     bool
	}{
		{"the same context", func(*Context) {}, 0, true},
		{"almost at its end", func(*Context) {}, 5*time.Minute - usable, true},
		{"at its end", func(*Context) {}, 5*time.Minute - usable + 1, false},
		{"the context has another issuer now", func(c *Context) { c.Issuer = "https://other.example.com" }, 0, false},
		{"the context has another client now", func(c *Context) { c.ClientID = "auditor" }, 0, false},
		{"another context", func(c *Context) { c.Name = "staging" }, 0, false},
	} {
		c := good()
		row.change(&c)
		if token, _, ok := tokens.Get(c, now.Add(row.after)); ok != row.want || ok && token != "secret-token" {
			t.Errorf("%s: %q, %v", row.sentence, token, ok)
		}
	}
	for range 2 {
		if err := tokens.Forget(good()); err != nil {
			t.Error(err)
		}
	}
	if _, _, ok := tokens.Get(good(), now); ok {
		t.Error("it was forgotten")
	}
	if err := os.WriteFile(tokens.path(good()), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := tokens.Get(good(), now); ok {
		t.Error("half a file is a token")
	}
}
