package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImports judges the packages that are in the tree now.
func TestImports(t *testing.T) {
	pkgs := list(t)
	if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.ImportPath == module+"/internal/archtest" }) {
		t.Fatalf("go list did not even find this package among %d: the rules were not checked", len(pkgs))
	}
	for _, v := range violations(pkgs) {
		t.Error(v)
	}
}

// Who administers from a program of their own gets nothing with it but the standard library.
func TestTheAdminClientIsLight(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./admin")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Fields(string(out)), []string{module + "/internal/operation", module + "/admin"}; !slices.Equal(got, want) {
		t.Errorf("it links %v, not %v", got, want)
	}
}

// list asks for one platform at a time and takes the build tags of this one; a file
// for another platform is judged where it is built.
func list(t *testing.T) []pkg {
	t.Helper()
	var stderr bytes.Buffer
	// -e: a package in the middle of an edit still has imports to judge.
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

// TestForbiddenImportIsFound plants one import at a time in a made-up tree.
func TestForbiddenImportIsFound(t *testing.T) {
	ours := func(folder string) string { return module + "/" + folder }
	rows := []struct {
		sentence     string
		from, to     string
		wantSentence string // empty: allowed
	}{
		{"oauth imports nothing of ours", ours("internal/oauth"), ours("internal/jose"), "internal/oauth imports internal/jose"},
		{"the domain does not know the store", ours("internal/authority"), ours("internal/store/sqldb"), "internal/authority imports internal/store/sqldb"},
		{"the domain knows the words of the protocol", ours("internal/authority"), ours("internal/oauth"), ""},
		{"keys may know the domain", ours("internal/keys"), ours("internal/authority"), ""},
		{"keys may sign", ours("internal/keys"), ours("internal/jose"), ""},
		{"the journal does not know the keys", ours("internal/journal"), ours("internal/keys"), "internal/journal imports internal/keys"},
		{"revocation does not know the journal", ours("internal/revocation"), ours("internal/journal"), "internal/revocation imports internal/journal"},
		{"a handler may issue", ours("internal/server/token"), ours("internal/issue"), ""},
		{"a handler does not know the database", ours("internal/server/token"), ours("internal/store/sqldb"), "internal/server/token imports internal/store/sqldb"},
		{"handlers do not know each other", ours("internal/server/token"), ours("internal/server/authorize"), "internal/server/token imports internal/server/authorize"},
		{"the server wires its handlers", ours("internal/server"), ours("internal/server/token"), ""},
		{"the command wires everything", ours("internal/cli"), ours("internal/store/sqldb"), ""},
		{"nothing imports the command", ours("internal/server"), ours("internal/cli"), "internal/server imports internal/cli"},
		{"the public package stays free of the domain", module, ours("internal/authority"), ". imports internal/authority"},
		{"the verifier stays free of the server", ours("verify"), ours("internal/server"), "verify imports internal/server"},
		{"the agent uses the public package", ours("internal/agent"), module, ""},
		{"a new folder needs a line", ours("internal/surprise"), "fmt", "internal/surprise has no line"},
		{"a like-named folder is another folder", ours("internal/storekeeper"), "fmt", "internal/storekeeper has no line"},
		{"a folder below takes the line above", ours("internal/oauth/pkce"), ours("internal/jose"), "internal/oauth/pkce imports internal/jose"},

		{"the JOSE library is for tests alone, also in jose", ours("internal/jose"), "github.com/go-jose/go-jose/v4", "belongs only in tests"},
		{"and elsewhere", ours("internal/keys"), "github.com/go-jose/go-jose/v4/jwt", "belongs only in tests"},
		{"a driver outside the store", ours("internal/journal"), "modernc.org/sqlite", "belongs only in internal/store/sqldb"},
		{"PostgreSQL outside the store", ours("internal/store/storetest"), "github.com/jackc/pgx/v5", "belongs only in internal/store/sqldb"},
		{"migrations outside the store", ours("internal/cli"), "github.com/pressly/goose/v3", "belongs only in internal/store/sqldb"},
		{"CEL in policy", ours("internal/policy"), "cel.dev/cel-go/cel", ""},
		{"CEL elsewhere", ours("internal/config"), "cel.dev/cel-go/common/types", "belongs only in internal/policy"},
		{"the Kubernetes client, also in kube", ours("internal/kube"), "k8s.io/client-go/rest", "belongs only in tests"},
		{"metrics in the server", ours("internal/server"), "github.com/prometheus/client_golang/prometheus", ""},
		{"metrics in the store", ours("internal/store/sqldb"), "github.com/prometheus/client_golang/prometheus", "belongs only in internal/server, internal/node, internal/cli, internal/agent"},
		{"traces in the domain", ours("internal/issue"), "go.opentelemetry.io/otel/trace", "belongs only in internal/server, internal/node, internal/cli"},
		{"YAML in config", ours("internal/config"), "go.yaml.in/yaml/v4", ""},
		{"YAML in kube, for a kubeconfig", ours("internal/kube"), "go.yaml.in/yaml/v4", ""},
		{"YAML in the command, for -o yaml", ours("internal/cli"), "go.yaml.in/yaml/v4", ""},
		{"YAML elsewhere", ours("internal/server"), "go.yaml.in/yaml/v4", "belongs only in internal/config, internal/cli, internal/kube, internal/doctor"},

		{"benchmarks are exempt", ours("bench/rivals"), "github.com/go-jose/go-jose/v4", ""},
		{"test programs are exempt", ours("test/e2e"), ours("internal/jose"), ""},
	}
	for _, row := range rows {
		t.Run(row.sentence, func(t *testing.T) {
			got := violations([]pkg{{ImportPath: row.from, Imports: []string{"context", row.to}}})
			switch {
			case row.wantSentence == "" && len(got) != 0:
				t.Errorf("allowed, but got %q", got)
			case row.wantSentence != "" && (len(got) != 1 || !strings.Contains(got[0], row.wantSentence)):
				t.Errorf("want one sentence with %q, got %q", row.wantSentence, got)
			}
		})
	}
}

// TestEveryServerFolderHasItsOwnLine: the line of internal/server allows all below it,
// so a handler folder that fell back to it could import its siblings unseen.
func TestEveryServerFolderHasItsOwnLine(t *testing.T) {
	for _, p := range list(t) {
		from, _ := folder(p.ImportPath)
		if !within(from, "internal/server") || from == "internal/server" {
			continue
		}
		var own bool
		for _, r := range mayImport {
			own = own || (r.folder != "internal/server" && within(from, r.folder))
		}
		if !own {
			t.Errorf("%s has no line of its own in mayImport", from)
		}
	}
}
