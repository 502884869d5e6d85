package cli

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/argocd"
)

// fakeKubectl puts a script before every other kubectl.
func fakeKubectl(t *testing.T, script string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("NOT TESTED: kubectl is a shell script here")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestWhatKubectlIsSentIsInNoArgumentAndNoError(t *testing.T) {
	const secret = "hunter2"
	for said, want := range map[string]string{
		"Error from server (Invalid): data.config: Invalid value": "the API server refused it: Invalid",
		"error: unable to decode":                                 "kubectl says no reason that can be repeated",
	} {
		arguments := filepath.Join(t.TempDir(), "arguments")
		fakeKubectl(t, `printf '%s ' "$@" > '`+arguments+`'; printf '%s: ' '`+said+`' >&2; cat >&2; exit 1`)
		_, err := kubectl{}.call(t.Context(), "hub", http.MethodPut, "/api/v1/namespaces/argocd/secrets/a", map[string]string{"config": secret})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%q becomes %v", said, err)
		}
		if text, _ := os.ReadFile(arguments); string(text) != "--context hub replace --raw /api/v1/namespaces/argocd/secrets/a -f - " {
			t.Errorf("the arguments are %q", text)
		}
	}
}

func TestWhatAnAPIServerRefuses(t *testing.T) {
	for said, want := range map[string]error{
		"Error from server (NotFound): the server could not find the requested resource":                                argocd.ErrMissing,
		"Error from server (Conflict): Operation cannot be fulfilled":                                                   argocd.ErrConflict,
		"Error from server (AlreadyExists): secrets \"a\" already exists":                                               argocd.ErrConflict,
		"Warning: v1 is deprecated\nError from server (Forbidden): secrets is forbidden":                                argocd.ErrForbidden,
		"Error from server (InternalError): an error on the server (\"Error from server (NotFound)\") has prevented it": nil,
		"Unable to connect to the server: dial tcp":                                                                     nil,
	} {
		fakeKubectl(t, "cat >/dev/null; cat >&2 <<'END'\n"+said+"\nEND\nexit 1")
		_, err := kubectl{}.call(t.Context(), "hub", http.MethodGet, "/api", nil)
		if err == nil {
			t.Errorf("%q is no error", said)
		}
		for _, e := range []error{argocd.ErrMissing, argocd.ErrConflict, argocd.ErrForbidden} {
			if errors.Is(err, e) != (e == want) {
				t.Errorf("%q becomes %v", said, err)
			}
		}
	}
}

func TestArgoCDMigrateSaysWhatItCannotDo(t *testing.T) {
	s := newShell(t)
	fakeKubectl(t, `echo '{"contexts":[{"name":"hub","context":{"cluster":"hub"}}],"clusters":[{"name":"hub","cluster":{"server":"https://10.0.0.1:6443"}}]}'`)
	for _, row := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--apply", "--finish"}, 2, "say one of --apply, --rollback and --finish"},
		{[]string{"--apply", "--rollback"}, 2, "say one of"},
		{[]string{"--apply", "-o", "json"}, 2, "-o is for the plan alone"},
		{[]string{"--map", "east"}, 2, "--map is SECRET=NAME"},
		{[]string{"--kube-context", "none"}, 2, `no context "none"`},
		{[]string{"--kube-context", "hub", "--spoke-context", "east=none"}, 2, `no context "none"`},
		{[]string{"--kube-context", "hub"}, 1, "no cluster is registered"},
	} {
		s.run(append([]string{"argocd", "migrate"}, row.args...)...).wants(row.code, row.says)
	}
}
