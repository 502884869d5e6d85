// Package archtest holds the import rules of ARCHITECTURE.md as a test.
//
// Only what ships is judged: files that end in _test.go, bench/ and test/ may
// import what they need to prove something.
package archtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const module = "github.com/signalbox-sts/signalbox"

// pkg is one package as `go list` sees it: import paths in full, without the imports of tests.
type pkg struct {
	ImportPath string
	Imports    []string
}

// words splits a line of the tables below.
func words(s string) []string { return strings.Fields(s) }

// domain is what a handler may be built from.
const domain = "internal/oauth internal/jose internal/dpop internal/authority internal/policy internal/keys " +
	"internal/trust internal/kube internal/issue internal/journal internal/journal/query internal/revocation " +
	"internal/seal internal/password internal/refusals internal/httpx internal/clientauth internal/browser internal/signin internal/logout internal/ui"

// mayImport says which packages of ours a package may import. A line speaks for the
// folder and all below it, unless a longer line does; an entry that ends in /... means
// the same. A package that no line speaks for is itself a violation, so a new folder
// cannot arrive without its rule.
var mayImport = []struct {
	folder  string
	imports []string
}{
	{"internal/oauth", nil},
	{"internal/jose", nil},
	{"internal/suggest", nil},
	{"internal/contexts", nil},
	{"internal/userdir", nil},
	{"internal/tokencache", words("internal/userdir")},
	{"internal/logins", words("internal/seal internal/userdir")},
	{"internal/ui", nil},
	{"internal/seal", nil},
	{"internal/password", nil},
	{"internal/refusals", nil},
	{"internal/version", nil},
	{"internal/outbound", nil},
	{"internal/systemd", nil},
	{"internal/archtest", nil},
	{"scripts", nil},
	{"examples", words(". verify")}, // what others may import

	{"internal/config", words("internal/agent/secret internal/authority internal/config/source internal/oauth internal/password internal/suggest")},
	{"internal/config/source", nil},
	{"internal/dpop", words("internal/jose")},
	{"internal/authority", words("internal/jose internal/oauth")},
	{"internal/httpx", words("internal/oauth")},
	{"internal/scan", words("internal/jose internal/oauth")},
	{"internal/doctor", words("internal/agent/secret internal/jose")},
	{"internal/argocd", words("internal/agent/secret internal/doctor")},
	{"internal/explain", words("internal/jose internal/oauth")}, // `token inspect`, for the command alone
	{"internal/keys", words("internal/authority internal/jose")},
	{"internal/policy", words("internal/authority internal/jose internal/oauth")},
	{"internal/journal", words("internal/authority internal/journal/format")},
	{"internal/journal/format", words("internal/authority")},
	{"internal/journal/query", words("admin internal/journal/format")}, // a record is what the public package says
	{"internal/journal/verify", words("internal/authority internal/journal/format")},
	{"internal/journal/witness", words("internal/authority internal/journal/format")},
	{"internal/journal/journaltest", words("internal/authority")},
	{"internal/revocation", words("internal/authority internal/oauth")},
	{"internal/store", words("internal/authority internal/oauth")},
	{"internal/trust", words("internal/authority internal/jose internal/outbound")},
	{"internal/kube", words("internal/authority internal/jose")},
	{"internal/issue", words("internal/authority internal/jose internal/keys internal/oauth internal/seal")},

	{"internal/logout", words("internal/authority internal/oauth")},
	{"internal/browser", words("internal/authority internal/httpx internal/oauth internal/revocation internal/seal internal/ui")},
	{"internal/signin", words("internal/authority internal/browser internal/httpx internal/oauth internal/password internal/seal internal/ui")},
	{"internal/clientauth", words("internal/authority internal/httpx internal/jose internal/oauth")},

	// The folder server wires its siblings; a folder below it knows the domain only.
	{"internal/server", words(domain + " internal/server/...")},
	{"internal/server/token", words(domain)},
	{"internal/server/authorize", words(domain)},
	{"internal/server/account", words(domain)},
	{"internal/server/metadata", words(domain)},
	{"internal/server/kubernetes", words(domain)},
	{"internal/server/admin", words(domain + " internal/server/admin/api admin internal/operation")},
	{"internal/server/gate", words(domain)},

	// What other programs import must not drag the server in.
	{".", words("internal/jose internal/dpop internal/oauth")},
	{"verify", words("internal/jose internal/dpop internal/oauth")},
	{"admin", words("internal/operation")}, // what is sent and answered is written there once, for both sides
	{"internal/operation", nil},
	{"signalboxtest", words("...")},
	{"internal/agent", words(". internal/agent/secret internal/config internal/kube")}, // config reads its file
	{"internal/agent/secret", nil},
	{"internal/agent/controller", words("internal/agent internal/agent/secret internal/jose internal/kube")},

	{"internal/node", words("...")},
	{"internal/cli", words("...")},
	{"cmd/signalbox", words("internal/cli")},
}

// fences says where a library of others may be imported; nowhere else.
var fences = []struct {
	library string
	folders []string
}{
	{"github.com/go-jose/go-jose", nil}, // the oracle of tests: docs/decisions/0017
	{"modernc.org/sqlite", words("internal/store/sqldb")},
	{"github.com/jackc/pgx", words("internal/store/sqldb")},
	{"github.com/pressly/goose", words("internal/store/sqldb")},
	{"cel.dev", words("internal/policy")},
	{"k8s.io", nil}, // docs/decisions/0021
	{"sigs.k8s.io", nil},
	{"github.com/prometheus", words("internal/server internal/node internal/cli internal/agent")},
	{"go.opentelemetry.io", words("internal/server internal/node internal/cli")},
	{"golang.org/x/mod", words("internal/journal/witness")},
	{"github.com/zalando/go-keyring", words("internal/logins")},
	{"go.yaml.in/yaml", words("internal/config internal/cli internal/kube internal/doctor")}, // the one file, -o yaml, a kubeconfig
	{"gopkg.in/yaml.v3", nil}, // one YAML parser is enough
}

// exempt folders hold no code that ships.
var exempt = words("bench test")

// violations names every import that a rule forbids, one sentence each.
func violations(pkgs []pkg) []string {
	var bad []string
	for _, p := range pkgs {
		from, ours := folder(p.ImportPath)
		if !ours || slices.ContainsFunc(exempt, func(e string) bool { return within(from, e) }) {
			continue
		}
		allowed, known := ruleFor(from)
		if !known {
			bad = append(bad, fmt.Sprintf("%s has no line in mayImport: say what it may import", from))
		}
		for _, path := range p.Imports {
			to, ours := folder(path)
			if ours {
				if known && to != from && !allows(allowed, to) {
					bad = append(bad, fmt.Sprintf("%s imports %s, which its line in mayImport does not name", from, to))
				}
				continue
			}
			for _, f := range fences {
				if within(path, f.library) && !slices.ContainsFunc(f.folders, func(in string) bool { return within(from, in) }) {
					bad = append(bad, fmt.Sprintf("%s imports %s, which belongs only in %s", from, path, cmp.Or(strings.Join(f.folders, ", "), "tests")))
				}
			}
		}
	}
	return bad
}

// folder turns an import path of ours into its folder, "." for the root.
func folder(path string) (string, bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

// ruleFor finds the longest line that speaks for the folder.
func ruleFor(from string) (allowed []string, known bool) {
	best := -1
	for _, r := range mayImport {
		if within(from, r.folder) && len(r.folder) > best {
			best, allowed, known = len(r.folder), r.imports, true
		}
	}
	return allowed, known
}

func allows(allowed []string, to string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		if a == "..." || a == to {
			return true
		}
		tree, isTree := strings.CutSuffix(a, "/...")
		return isTree && within(to, tree)
	})
}

// within reports whether path is root or is below it. Whole elements count:
// internal/storekeeper is not within internal/store.
func within(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}
