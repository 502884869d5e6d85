package docs

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/server/admin"
)

const generated = "<!-- Generated: do not edit. Write it again with: go test ./test/docs -run TestReference -update -->\n"

// TestReference: the generated pages are what the program says today.
func TestReference(t *testing.T) {
	for page, make := range map[string]func(*testing.T) string{
		"docs/reference/command-line.md":       commandLine,
		"docs/reference/configuration.md":      configuration,
		"docs/reference/admin-api.md":          adminAPI,
		"docs/reference/openapi.yaml":          openAPI,
		"docs/reference/signalbox.schema.json": func(*testing.T) string { return string(config.Schema()) },
		"docs/reference/agent.md":              agent,
		"docs/reference/agent.schema.json":     func(*testing.T) string { return string(config.AgentSchema()) },
		"docs/reference/helm.md":               helmValues,
		chart + "values.schema.json":           chartSchema,
		agentChart + "values.schema.json":      agentChartSchema,
	} {
		want := make(t)
		file := filepath.Join(checkout, page)
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s is not up to date: go test ./test/docs -run TestReference -update", page)
		}
	}
}

func help(t *testing.T, path ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(binDir, "signalbox"), append(slices.Clone(path), "--help")...)
	cmd.Env = cleanEnv()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("signalbox %s --help: %v", strings.Join(path, " "), err)
	}
	return strings.TrimRight(string(out), "\n")
}

var available = regexp.MustCompile(`(?s)Available Commands:\n(.*?)\n\n`)

// walkHelp visits a command and all below it, in the order of the help.
func walkHelp(t *testing.T, path []string, visit func(path []string, text string)) {
	t.Helper()
	text := help(t, path...)
	visit(path, text)
	list := available.FindStringSubmatch(text + "\n\n")
	if list == nil {
		return
	}
	for line := range strings.SplitSeq(list[1], "\n") {
		name := strings.Fields(line)[0]
		if name != "help" && name != "completion" {
			walkHelp(t, append(slices.Clone(path), name), visit)
		}
	}
}

func commandLine(t *testing.T) string {
	var b strings.Builder
	b.WriteString(generated + `
# Command line

Exit codes: 0 for done, 1 for failed, 2 for called wrongly. Data goes to standard output, words for people to standard error. Secrets come from
files, standard input or the environment, never from flags. ` + "`signalbox completion bash|zsh|fish`" + ` prints a completion script.

`)
	var toc, body strings.Builder
	walkHelp(t, nil, func(path []string, text string) {
		name := strings.Join(append([]string{"signalbox"}, path...), " ")
		fmt.Fprintf(&toc, "%s- [%s](#%s)\n", strings.Repeat("  ", max(len(path)-1, 0)), name, strings.ReplaceAll(name, " ", "-"))
		fmt.Fprintf(&body, "\n## %s\n\n<!-- illustration -->\n```text\n%s\n```\n", name, text)
	})
	b.WriteString(toc.String() + body.String())
	return b.String()
}

var explainedLine = regexp.MustCompile(`(?m)^  (type|members|required|default|example|environment|restart|danger|keys)? +(.*(?:\n {15}\S.*)*)$`)

func configuration(t *testing.T) string {
	var b strings.Builder
	b.WriteString(generated + `
# Configuration

One YAML file. An unknown or duplicate key, a wrong type and a name that nothing has are refused, with file, line and column. So are anchors and aliases.
Durations are written as ` + "`5m`, `720h`, `10s`" + `. Relative paths start at the file's folder. An environment variable overrides the file;
one that ends in ` + "`_FILE`" + ` names a file that holds a secret.

` + "`signalbox init` writes a file with comments, `signalbox config validate` checks one, `signalbox config explain KEY` prints what is below, and `signalbox config schema`" + `
prints a JSON Schema for editors, which is also [here](signalbox.schema.json). [How to run it in production](../how-to/run-in-production.md) shows a complete file.

A changed file takes effect by itself within seconds, or at once on SIGHUP. A file with a mistake is refused, and the old configuration stays in use.
These need a restart: ` + strings.Join(config.NeedRestart(), ", ") + `.
`)
	explained(t, &b, config.Keys(), config.Explain)
	return b.String()
}

// explained is what the program says of each key.
func explained(t *testing.T, b *strings.Builder, keys []string, explain func(string) (string, error)) {
	for _, key := range keys {
		text, err := explain(key)
		if err != nil {
			t.Fatal(err)
		}
		depth := "###"
		if !strings.Contains(key, ".") {
			depth = "##"
		}
		title, rest, _ := strings.Cut(text, "\n")
		sentence, details, _ := strings.Cut(rest, "\n\n")
		fmt.Fprintf(b, "\n%s `%s`\n\n%s\n", depth, title, strings.Join(strings.Fields(sentence), " "))
		var lines []string
		for _, m := range explainedLine.FindAllStringSubmatch(details, -1) {
			value := strings.Join(strings.Fields(m[2]), " ")
			switch {
			case m[1] == "":
				lines[len(lines)-1] += "; " + value
			case m[1] == "danger":
				lines = append(lines, "- **danger**: "+value)
			case m[1] == "type" || m[1] == "required":
				lines = append(lines, "- "+m[1]+": "+value)
			case m[1] == "keys" || m[1] == "members":
				lines = append(lines, "- "+m[1]+": `"+strings.ReplaceAll(value, ", ", "`, `")+"`")
			case m[1] == "environment":
				name, more, _ := strings.Cut(value, " ")
				if more != "" {
					more = "; `" + strings.Replace(more, " ", "` ", 1)
				}
				lines = append(lines, "- environment: `"+name+"`"+more)
			default:
				lines = append(lines, "- "+m[1]+": `"+value+"`")
			}
		}
		if len(lines) > 0 {
			b.WriteString("\n" + strings.Join(lines, "\n") + "\n")
		}
	}
}

func agent(t *testing.T) string {
	var b strings.Builder
	b.WriteString(generated + `
# Agent

` + "`signalbox agent --config FILE`" + ` keeps tokens fresh in files, kubeconfigs and on a Unix socket. [How to use it](../how-to/agent.md). Its file is YAML, as strict as the service's: relative paths start at
the file's folder, and no environment variable overrides it. ` + "`signalbox config explain --for agent KEY`" + ` prints what is below, and ` + "`signalbox config schema --for agent`" + ` a JSON Schema for
editors, which is also [here](agent.schema.json). A changed file takes effect by itself within seconds, or at once on SIGHUP; a file with a mistake is refused, and the one before stays in use.

## Socket

HTTP over the Unix socket of ` + "`listen.socket`" + `. The kernel says which user asks. The answer is not to be cached.

` + "`GET /token?name=NAME`" + ` answers 200 with ` + "`name`, `access_token`, `token_type` (`Bearer`) and `expires_in`" + ` in seconds. Without ` + "`name`" + ` it is the only token that the user may have.

| status | ` + "`error`" + ` | why |
| --- | --- | --- |
| 400 | ` + "`invalid_request`" + ` | the user may have several tokens, and the request names none; or it names one twice |
| 403 | ` + "`access_denied`" + ` | the user may not have this token, or there is none of this name |
| 404 | ` + "`not_found`" + ` | another path |
| 405 | ` + "`method_not_allowed`" + ` | another method than GET |
| 503 | ` + "`temporarily_unavailable`" + ` | there is no good token now; with ` + "`Retry-After`" + ` |

A user has at most 64 connections at the same time.

## Health and metrics

HTTP on ` + "`listen.health`" + `. ` + "`/livez`" + ` is 200 while the agent runs. ` + "`/readyz`" + ` is 503 while an output has no token, or one past 90 % of its life, with a line for each: the token's name, the output, why.
` + "`/metrics`" + ` has, for each ` + "`token`" + ` and each ` + "`output`" + ` of it (` + "`file PATH`, `kubeconfig PATH`, `secret NAMESPACE/NAME`, `socket`, `on_change`" + `):

| metric | type | what |
| --- | --- | --- |
`)
	metrics := regexp.MustCompile(`prometheus\.NewDesc\("([a-z_]+)", "([^"]+)"`).FindAllStringSubmatch(read(t, "internal/agent/health.go"), -1)
	if len(metrics) != 6 {
		t.Errorf("found %d metrics in the program", len(metrics))
	}
	for _, m := range metrics {
		kind := "gauge"
		if strings.HasSuffix(m[1], "_total") {
			kind = "counter"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m[1], kind, m[2])
	}
	b.WriteString("\n# Keys\n")
	explained(t, &b, config.AgentKeys(), config.ExplainAgent)
	return b.String()
}

// pathOf is what the lines are sorted by: the path, then the method.
func pathOf(line string) string {
	fields := strings.Fields(line)
	return strings.TrimRight(fields[2], "`") + " " + fields[1]
}

// openAPI is the description of the admin API, as YAML that people can read and compare.
func openAPI(t *testing.T) string {
	var document yaml.Node
	if err := yaml.Unmarshal(admin.Description(), &document); err != nil {
		t.Fatal(err)
	}
	plain(&document)
	var b strings.Builder
	b.WriteString("# " + strings.TrimSuffix(strings.TrimPrefix(generated, "<!-- "), " -->\n") + "\n")
	to := yaml.NewEncoder(&b)
	to.SetIndent(2)
	if err := to.Encode(&document); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// plain takes the style of JSON from a node and all below it.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, below := range n.Content {
		plain(below)
	}
}

func adminAPI(t *testing.T) string {
	var api struct {
		Paths map[string]map[string]struct {
			Summary     string
			OperationID string `json:"operationId"`
			Security    []map[string][]string
			Parameters  []struct{ Name, In, Description string }
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]schema
			}
		}
	}
	if err := json.Unmarshal(admin.Description(), &api); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(generated + `
# Admin API

JSON over the admin listener. The complete description, with every body and answer, is OpenAPI 3.1: [openapi.yaml](openapi.yaml), for a generator of clients or a viewer. A node serves
its own at ` + "`/admin/v1/openapi.json`" + `, which needs no token. For Go there is [a client](../how-to/administer-from-go.md). Every other path takes an access token of this issuer for the resource ` + "`urn:signalbox:admin`" + `, in the header
` + "`Authorization: Bearer`" + `, with the scope in this table. [How to get one](../how-to/admin-access.md).

A change is in the journal before it is made, with the caller as ` + "`actor`" + `. What takes access away is done first and recorded afterwards. Errors are
` + "`{\"error\":…,\"error_description\":…,\"request_id\":…}`" + `. Lists have ` + "`limit` and `after`" + `, and give ` + "`next`" + ` while there is more.
What is in the configuration file can be read here, but not changed: 409.

What breaks a rule is refused with all its ` + "`problems`" + `: ` + "`field`, `text` and `fix`" + `. The rules are those of the configuration file. The id of a deleted client or user is never
given again, to nobody: 409. A client that holds a scope of this API which the caller's token lacks cannot be changed, enabled, disabled or deleted by it: 403.

| request | scope | what it does | query |
| --- | --- | --- | --- |
`)
	var lines []string
	for path, methods := range api.Paths {
		for method, op := range methods {
			if op.Summary == "" {
				continue
			}
			scope := "none"
			for _, s := range op.Security {
				for _, scopes := range s {
					if len(scopes) > 0 {
						scope = "`" + scopes[0] + "`"
					}
				}
			}
			var query []string
			for _, p := range op.Parameters {
				if p.In == "query" {
					query = append(query, "`"+p.Name+"`")
				}
			}
			lines = append(lines, fmt.Sprintf("| `%s %s` | %s | %s | %s |\n", strings.ToUpper(method), strings.TrimPrefix(path, "/admin/v1"), scope, op.Summary, strings.Join(query, " ")))
		}
	}
	slices.SortFunc(lines, func(a, b string) int {
		return strings.Compare(pathOf(a), pathOf(b))
	})
	b.WriteString(strings.Join(lines, "") + "\nPaths start with `/admin/v1`. An `{id}` with a slash or colon in it is percent-encoded.\n")
	b.WriteString(`
## Why

` + "`GET /why/{id}` and `POST /why` with `{\"token\":…}`" + ` answer one question: what is this, and why does it not work? An ` + "`{id}`" + ` is the ` + "`request_id`" + ` of an error or an error
page, the ` + "`jti`" + ` of a token, or the id of a grant. A refusal is found for about an hour on the node that answered, and after that where the journal has a record of it. A request id says by
itself which node answered and when, so an id that is not known here leads to the node that may know. The answer is 200 in both cases.

| member | type | what |
| --- | --- | --- |
`)
	for _, name := range []string{"Why", "WhyAsked", "WhyToken", "WhySession", "WhyEnded"} {
		prefix := map[string]string{"WhyAsked": "request.", "WhyToken": "token.", "WhySession": "session.", "WhyEnded": "ended_by."}[name]
		properties := api.Components.Schemas[name].Properties
		for _, member := range slices.Sorted(maps.Keys(properties)) {
			p := properties[member]
			fmt.Fprintf(&b, "| `%s%s` | %s | %s |\n", prefix, member, p.kind(), p.Description)
		}
	}
	return b.String()
}

// schema is a type of the OpenAPI description.
type schema struct {
	Ref         string `json:"$ref"`
	Type        string
	Description string
	Items       *schema
	Enum        []string
}

func (s schema) kind() string {
	switch {
	case s.Items != nil:
		return "list of " + s.Items.kind()
	case s.Ref != "":
		return s.Ref[strings.LastIndex(s.Ref, "/")+1:]
	case s.Enum != nil:
		return "`" + strings.Join(s.Enum, "`, `") + "`"
	default:
		return s.Type
	}
}

// openapi-validate is built by `make test` from the module test/openapi.
func TestTheDescriptionIsOpenAPI(t *testing.T) {
	tool := filepath.Join(checkout, ".cache/tools/openapi-validate")
	if _, err := os.Stat(tool); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI=true, but this machine has no openapi-validate")
		}
		t.Skip("NOT TESTED: this machine has no openapi-validate (make test installs it)")
	}
	if out, err := exec.CommandContext(t.Context(), tool, filepath.Join(checkout, "docs/reference/openapi.yaml")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
