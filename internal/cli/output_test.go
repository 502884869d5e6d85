package cli

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// TestYAMLIsTheSameAsJSON: also where a text looks like something else, or
// would act on a terminal.
func TestYAMLIsTheSameAsJSON(t *testing.T) {
	for _, text := range []string{
		`{"b":1,"a":[true,null,"true","null","1","0x10","1e3","~","","- x","a: b","#c","{}","2026-01-01","no"],"e":[],"o":{},"f":1.5,"n":-7,"big":12345678901234567890}`,
		`{"x":"\u001b[2J\r\n\u202egnp\u009b\u2028\u0000\ufeff","\u202ekey\n":"😀 ü \ud83d\ude00"}`,
		`["one"," two ","three\nfour\n"]`, `"text"`, `7`, `null`, `[]`,
	} {
		var want, got any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := printYAML(&out, json.RawMessage(text)); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Load(out.Bytes(), &got); err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
		// Numbers have other types there.
		back, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var again any
		if err := json.Unmarshal(back, &again); err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%s\nbecame %s\n%s", text, back, out.String())
		}
		if i := strings.IndexFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("not printable: %q", out.String())
		}
	}
}

func TestYAMLKeepsTheOrderOfMembers(t *testing.T) {
	var out bytes.Buffer
	if err := printYAML(&out, json.RawMessage(`{"z":1,"a":{"y":2,"b":3}}`)); err != nil {
		t.Fatal(err)
	}
	if want := "z: 1\na:\n  y: 2\n  b: 3\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestNamesAreWhatOtherCommandsTake(t *testing.T) {
	s := newShell(t)
	if got := s.run("client", "list", "-o", "name").wants(0).out; !strings.HasPrefix(got, "demo-admin\n") || strings.Count(got, "\n") != 7 {
		t.Errorf("clients: %q", got)
	}
	if got := s.run("user", "list", "-o", "name").wants(0).out; got != "ada\n" {
		t.Errorf("users: %q", got)
	}
	if got := s.run("resource", "show", "https://api.example.com", "-o", "name").wants(0).out; got != "https://api.example.com\n" {
		t.Errorf("a resource: %q", got)
	}
	for name := range strings.Lines(s.run("key", "list", "-o", "name").wants(0).out) {
		s.run("key", "list").wants(0, strings.TrimSpace(name))
	}
	if got := s.run("grant", "list", "-o", "name").wants(0).out; got != "" {
		t.Errorf("no grants: %q", got)
	}
	s.run("user", "show", "ada", "-o", "yaml").wants(0, "username: ada\n", "email_verified: true\n")
	s.run("audit", "search", "--type", "service.started", "-o", "yaml").wants(0, "---\nnode: ", "type: service.started\n")
	s.run("version", "-o", "yaml").wants(0, "version: ")
}
