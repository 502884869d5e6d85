package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/admin"
)

func readSecretFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%s: %v %v", path, info.Mode(), err)
	}
	return string(data)
}

// TestSecretFile: the secret is in the file and nowhere else, and a file that
// cannot be had changes nothing.
func TestSecretFile(t *testing.T) {
	s := newShell(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "night-job.secret")
	create := []string{"client", "create", "night-job", "--grant-type", "client_credentials", "--secret-file"}
	rotate := []string{"client", "rotate", "night-job", "--secret-file"}

	s.run(append(create, "-")...).wants(2, "--secret-file")
	s.run(append(create, filepath.Join(dir, "missing", "x"))...).wants(1, "no such file", "nothing was changed")
	if err := os.WriteFile(file, []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.run(append(create, file)...).wants(1, "is there already")
	if readSecretFile(t, file) != "mine\n" || strings.Contains(r.out, "sbx_cs_") {
		t.Fatalf("the file was touched, or %q shows a secret", r.out)
	}
	s.run("client", "show", "night-job").wants(1, "no client")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}

	r = s.run(append(create, file)...).wants(0, "night-job.secret")
	first := readSecretFile(t, file)
	if !strings.HasPrefix(first, "sbx_cs_") || strings.Contains(r.out+r.err, "sbx_cs_") {
		t.Fatalf("file %q, shown %q", first, r.out+r.err)
	}
	s.run(append(create, filepath.Join(dir, "other"))...).wants(1, "already") // the id is taken
	s.run("client", "update", "night-job", "--name", "Night", "--secret-file", filepath.Join(dir, "other")).wants(0, "no secret was made")

	// The example of the help: the file of create.
	r = s.run(append(rotate, file, "--keep-old", "1h")...).wants(0, "night-job.secret")
	second := readSecretFile(t, file)
	if second == first || !strings.HasPrefix(second, "sbx_cs_") || strings.Contains(r.out+r.err, "sbx_cs_") {
		t.Fatalf("file %q, shown %q", second, r.out+r.err)
	}
	var before, after admin.Client
	s.run("client", "show", "night-job", "-o", "json").wants(0).into(&before)
	s.run(append(rotate, "-")...).wants(2, "--secret-file")
	s.run(append(rotate, filepath.Join(dir, "missing", "x"))...).wants(1, "nothing was changed")
	s.run(append(rotate, dir)...).wants(1, "not a file", "nothing was changed")
	s.run("client", "rotate", "nobody", "--secret-file", file).wants(1, "no client")
	s.run("client", "show", "night-job", "-o", "json").wants(0).into(&after)
	if !before.UpdatedAt.Equal(*after.UpdatedAt) || readSecretFile(t, file) != second {
		t.Fatal("a refused rotation changed something")
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	s.run(append(rotate, link)...).wants(0)
	if third := readSecretFile(t, file); third == second {
		t.Fatal("the file behind the link was not replaced")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Fatalf("left behind: %v %v", left, err)
	}
}

// TestSecretFileFailsLast: the service has made a secret, and then the file
// cannot be written. The secret is not shown; what has happened is said.
func TestSecretFileFailsLast(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.secret")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		// What stood beside the file goes away while the service answers.
		names, _ := filepath.Glob(filepath.Join(dir, ".*"))
		for _, name := range names {
			_ = os.Remove(name)
		}
		_ = json.NewEncoder(w).Encode(admin.ClientCredentials{Client: admin.Client{ClientID: "x"}, ClientSecret: "sbx_cs_new"})
	}))
	defer server.Close()
	vars := map[string]string{"SIGNALBOX_ADMIN_URL": server.URL, "SIGNALBOX_ADMIN_TOKEN": "t"}
	r := execute(t, t.Context(), vars, strings.NewReader(""), "client", "rotate", "x", "--secret-file", file, "--keep-old", "1h").
		wants(1, "the old secret of x ends in 1h0m0s", "is lost", "signalbox client rotate x")
	if strings.Contains(r.out+r.err, "sbx_cs_") {
		t.Errorf("the secret is shown: %q", r.out+r.err)
	}
}
