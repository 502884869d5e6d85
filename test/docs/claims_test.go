package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
)

// TestLinks follows every relative link, to its heading if it names one.
func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(read(t, page), ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), target)
			}
			if strings.HasPrefix(file, "..") {
				t.Errorf("%s: %s leads out of the repository", page, m[1])
				continue
			}
			if _, err := os.Stat(filepath.Join(checkout, file)); err != nil {
				t.Errorf("%s: %s leads nowhere", page, m[1])
				continue
			}
			if anchor != "" && strings.HasSuffix(file, ".md") && !slices.Contains(anchors(read(t, file)), anchor) {
				t.Errorf("%s: %s has no heading #%s", page, file, anchor)
			}
		}
	}
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchors are what GitHub makes of the headings.
func anchors(text string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		plain := notInAnchors.ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(plain, " ", "-"))
	}
	return all
}

// TestEveryPageIsReachable starts at the README and follows links.
func TestEveryPageIsReachable(t *testing.T) {
	reached := map[string]bool{"README.md": true}
	for queue := []string{"README.md"}; len(queue) > 0; queue = queue[1:] {
		for _, m := range link.FindAllStringSubmatch(read(t, queue[0]), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			next := filepath.Join(filepath.Dir(queue[0]), target)
			if strings.Contains(m[1], "://") || !strings.HasSuffix(target, ".md") || reached[next] {
				continue
			}
			if _, err := os.Stat(filepath.Join(checkout, next)); err == nil {
				reached[next] = true
				queue = append(queue, next)
			}
		}
	}
	for _, page := range pages(t) {
		if !reached[page] {
			t.Errorf("no link leads from the README to %s", page)
		}
	}
}

// source is the text of all Go files, of the tests or of the rest.
func source(t *testing.T, tests bool) string {
	t.Helper()
	out, err := command("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.go")
	if err != nil {
		t.Skipf("NOT TESTED: this is not a git checkout: %v", err)
	}
	var all strings.Builder
	for name := range strings.FieldsSeq(out) {
		if strings.HasSuffix(name, "_test.go") != tests {
			continue
		}
		text, err := os.ReadFile(filepath.Join(checkout, name))
		if err != nil {
			continue // deleted and not yet committed
		}
		all.Write(text)
	}
	return all.String()
}

func command(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = checkout
	out, err := cmd.Output()
	return string(out), err
}

var (
	codeWord = regexp.MustCompile("`([A-Za-z_]+)`")
	row      = regexp.MustCompile(`(?m)^\|[^|]*\|[^|]*\|([^|]*)\|([^|]*)\|$`)
)

// TestProtocolsNameWhatExists: each row of docs/protocols.md names functions
// or types that are there and at least one test that is there.
func TestProtocolsNameWhatExists(t *testing.T) {
	code, tests := source(t, false), source(t, true)
	rows := 0
	for _, m := range row.FindAllStringSubmatch(read(t, "docs/protocols.md"), -1) {
		if strings.Contains(m[0], "---") || strings.Contains(m[0], "| where |") {
			continue
		}
		rows++
		for _, name := range codeWord.FindAllStringSubmatch(m[1], -1) {
			if !regexp.MustCompile(`(?m)^(func (\([^)]*\) )?` + name[1] + `\(|type ` + name[1] + ` |\t` + name[1] + `\s.*= )`).MatchString(code) {
				t.Errorf("docs/protocols.md: there is no function or type %s", name[1])
			}
		}
		named := codeWord.FindAllStringSubmatch(m[2], -1)
		if len(named) == 0 {
			t.Errorf("docs/protocols.md: a row without a test: %s", m[0])
		}
		for _, name := range named {
			if !strings.Contains(tests, "func "+name[1]+"(") {
				t.Errorf("docs/protocols.md: there is no test %s", name[1])
			}
		}
	}
	if rows < 40 {
		t.Errorf("only %d rows could be read", rows)
	}
}

var (
	testName   = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)`")
	numberedH2 = regexp.MustCompile(`(?m)^## (\d)\. `)
)

// TestNamedTestsExist: a test that a page names is there. In the pages that promise
// something, each row of a table names one.
func TestNamedTestsExist(t *testing.T) {
	tests := source(t, true)
	for _, page := range pages(t) {
		for _, m := range testName.FindAllStringSubmatch(read(t, page), -1) {
			if !strings.Contains(tests, "func "+m[1]+"(") {
				t.Errorf("%s: there is no test %s", page, m[1])
			}
		}
	}
	for _, page := range []string{"docs/explanation/promises.md", "docs/explanation/threat-model.md"} {
		for line := range strings.Lines(read(t, page)) {
			if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| ---") && !strings.HasSuffix(line, "| test |\n") && !testName.MatchString(line) {
				t.Errorf("%s: a row without a test: %s", page, line)
			}
		}
	}
	var numbers string
	for _, m := range numberedH2.FindAllStringSubmatch(read(t, "docs/explanation/promises.md"), -1) {
		numbers += m[1]
	}
	if numbers != "12345678" {
		t.Errorf("docs/explanation/promises.md has the promises %q, want 1 to 8", numbers)
	}
}

var (
	drillTest = regexp.MustCompile(`func (TestDrill\d_\w+)\(`)
	drillRun  = regexp.MustCompile(`\bdrill\w* (TestDrill\w+)`)
)

// TestDrillsHaveScripts: each drill is a test, a script that runs it, and a link on the page.
func TestDrillsHaveScripts(t *testing.T) {
	page := read(t, "docs/explanation/drills.md")
	var drills, run []string
	for _, m := range drillTest.FindAllStringSubmatch(source(t, true), -1) {
		drills = append(drills, m[1])
	}
	scripts, err := filepath.Glob(filepath.Join(checkout, "examples/drills/*-*.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range scripts {
		name := filepath.Base(script)
		if info, err := os.Stat(script); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s cannot be run: %v", name, err)
		}
		if !strings.Contains(page, "(../../examples/drills/"+name+")") {
			t.Errorf("docs/explanation/drills.md has no link to %s", name)
		}
		for _, m := range drillRun.FindAllStringSubmatch(read(t, "examples/drills/"+name), -1) {
			run = append(run, m[1])
		}
	}
	slices.Sort(drills)
	slices.Sort(run)
	if run = slices.Compact(run); len(run) == 0 || !slices.Equal(drills, run) {
		t.Errorf("the drills are %q, and scripts run %q", drills, run)
	}
}

var (
	threatSection = regexp.MustCompile(`(?m)^## ([A-Z])\. |^(\d+)\. `)
	threatList    = regexp.MustCompile(`threats\.md((?:,? (?:to )?[A-Z] \d+)*)`)
	threatName    = regexp.MustCompile(`[A-Z] \d+`)
	e2eThreat     = regexp.MustCompile(`"([A-K])(\d+) `)
)

// TestThreatsAreInTheList: code refers to an attack by the letter and number of
// docs/security/threats.md, whose numbers go up by one, and names no other list.
func TestThreatsAreInTheList(t *testing.T) {
	known, letter, last := map[string]bool{}, "", 0
	for _, m := range threatSection.FindAllStringSubmatch(read(t, "docs/security/threats.md"), -1) {
		if m[1] != "" {
			letter = m[1]
			continue
		}
		if last++; m[2] != strconv.Itoa(last) {
			t.Fatalf("docs/security/threats.md: %s comes after %d", m[2], last-1)
		}
		known[letter+" "+m[2]] = true
	}
	code := source(t, false) + source(t, true)
	refs := 0
	for line := range strings.Lines(code) {
		for _, m := range threatList.FindAllStringSubmatchIndex(line, -1) {
			if !strings.HasSuffix(line[:m[0]], "docs/security/") && !strings.Contains(line, "`") {
				t.Errorf("a reference to another list than docs/security/threats.md: %s", line)
			}
			for _, name := range threatName.FindAllString(line[m[2]:m[3]], -1) {
				if refs++; !known[name] {
					t.Errorf("there is no threat %s: %s", name, line)
				}
			}
		}
		for _, m := range e2eThreat.FindAllStringSubmatch(line, -1) {
			if m[2] != "0" && !known[m[1]+" "+m[2]] { // 0 is the good request of a table
				t.Errorf("there is no threat %s %s: %s", m[1], m[2], line)
			}
		}
	}
	if refs < 20 || last < 100 {
		t.Errorf("only %d references to %d threats were found", refs, last)
	}
}

// TestArchitectureAgrees compares the page with the tree, with archtest and with the
// functions of the road.
func TestArchitectureAgrees(t *testing.T) {
	page := "ARCHITECTURE.md"
	checkRoad(t, read(t, page))
	blocks, _ := parse(page, read(t, page))
	for _, b := range blocks {
		switch b.mark {
		case "imports":
			checkImports(t, b)
		case "tree":
			checkTree(t, b)
		}
	}
}

var (
	roadRow    = regexp.MustCompile(`(?m)^\|[^|]+\|([^|]+)\| [^|]*\[internal/[^|]+\|$`)
	roadMember = regexp.MustCompile("`(?:[A-Za-z]+\\.)?([A-Za-z]+)`")
)

func checkRoad(t *testing.T, text string) {
	code, names := source(t, false), 0
	for _, m := range roadRow.FindAllStringSubmatch(section(text, "## The road of POST /token"), -1) {
		for _, name := range roadMember.FindAllStringSubmatch(m[1], -1) {
			if names++; !regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + name[1] + `\(`).MatchString(code) {
				t.Errorf("ARCHITECTURE.md: there is no function %s", name[1])
			}
		}
	}
	if names < 10 {
		t.Errorf("ARCHITECTURE.md: only %d functions of the road could be read", names)
	}
}

var ruleLine = regexp.MustCompile(`\{"([^"]+)", (nil|words\((.*?)\))\},`)

func checkImports(t *testing.T, b block) {
	rules := map[string]string{}
	text, _, _ := strings.Cut(read(t, "internal/archtest/archtest.go"), "var fences")
	for _, m := range ruleLine.FindAllStringSubmatch(text, -1) {
		switch {
		case m[2] == "nil":
			rules[m[1]] = "nothing of ours"
		case m[3] == `domain + " internal/server/..."`:
			rules[m[1]] = "the domain, and every folder below internal/server"
		case strings.HasPrefix(m[3], "domain + "):
			rules[m[1]] = "the domain" + strings.Trim(strings.TrimPrefix(m[3], "domain + "), `"`)
		case m[3] == "domain":
			rules[m[1]] = "the domain"
		case m[3] == `"..."`:
			rules[m[1]] = "everything"
		default:
			rules[m[1]] = strings.Trim(m[3], `"`)
		}
	}
	told := map[string]string{}
	for line := range strings.SplitSeq(strings.TrimSpace(b.text), "\n") {
		folder, imports, _ := strings.Cut(line, " ")
		told[folder] = strings.TrimSpace(imports)
	}
	for folder, rule := range rules {
		if _, err := os.Stat(filepath.Join(checkout, folder)); err != nil || folder == "." {
			continue // does not exist yet
		}
		if told[folder] != rule {
			t.Errorf("ARCHITECTURE.md says that %s may import %q; archtest says %q", folder, told[folder], rule)
		}
	}
	for folder := range told {
		if rules[folder] == "" {
			t.Errorf("ARCHITECTURE.md has a line for %s; archtest has none", folder)
		}
	}
}

func checkTree(t *testing.T, b block) {
	drawn := map[string]bool{}
	var parents []string
	for line := range strings.SplitSeq(b.text, "\n") {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasSuffix(name, "/") {
			continue
		}
		depth := (len(line) - len(strings.TrimLeft(line, " "))) / 2
		parents = append(parents[:min(depth, len(parents))], strings.TrimSuffix(name, "/"))
		drawn[filepath.Join(parents...)] = true
	}
	for folder := range drawn {
		if _, err := os.Stat(filepath.Join(checkout, folder)); err != nil {
			t.Errorf("ARCHITECTURE.md draws %s, which is not there", folder)
		}
	}
	for _, pattern := range []string{"internal/*", "internal/server/*", "internal/store/*", "cmd/*", "test/*"} {
		found, _ := filepath.Glob(filepath.Join(checkout, pattern))
		for _, path := range found {
			info, err := os.Stat(path)
			folder, _ := filepath.Rel(checkout, path)
			if err == nil && info.IsDir() && filepath.Base(path) != "testdata" && !drawn[folder] {
				t.Errorf("ARCHITECTURE.md does not draw %s", folder)
			}
		}
	}
}

// TestMarks: the test of the documents finds the mistakes that it is made for.
func TestMarks(t *testing.T) {
	const tick = "```"
	for name, c := range map[string]struct{ page, problem string }{
		"a block without a mark":            {tick + "sh\ntrue\n" + tick, "without a mark"},
		"a mark that does not exist":        {"<!-- jump -->\n" + tick + "sh\ntrue\n" + tick, "no mark"},
		"a skip without a reason":           {"<!-- skip -->\n" + tick + "sh\ntrue\n" + tick, "needs a text"},
		"a command that is an illustration": {"<!-- illustration -->\n" + tick + "sh\ntrue\n" + tick, "is run or skipped"},
		"a fence that is never closed":      {"<!-- run -->\n" + tick + "sh\ntrue\n", "never closed"},
	} {
		if _, errs := parse("page.md", c.page); !strings.Contains(fmt.Sprint(errs), c.problem) {
			t.Errorf("%s: got %v", name, errs)
		}
	}
	for name, c := range map[string]struct {
		output, wanted string
		ok             bool
	}{
		"the same":                         {"one\ntwo", "one\ntwo\n", true},
		"something between":                {"one\nx\ntwo", "one\n…\ntwo\n", true},
		"columns that moved":               {"one   two", "one two\n", true},
		"anything in a line":               {"token eyJ123", "token eyJ…\n", true},
		"a word that differs":              {"one\ntwo", "one\nthree\n", false},
		"another order":                    {"two\none", "one\ntwo\n", false},
		"a line that only begins the same": {"one and more", "one\n", false},
	} {
		if err := holds(c.output, c.wanted); (err == nil) != c.ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

var (
	execStart  = regexp.MustCompile(`(?m)^ExecStart=(\S+) `)
	publicPort = regexp.MustCompile(`(?m)^listen: \{public: ":(\d+)", admin`)
)

// TestTheUnitFitsItsPage checks what TestPages cannot, since its service has a free
// port and its program is elsewhere.
func TestTheUnitFitsItsPage(t *testing.T) {
	page := read(t, "docs/how-to/run-in-production.md")
	program, port := execStart.FindStringSubmatch(page), publicPort.FindStringSubmatch(page)
	if program == nil || port == nil {
		t.Fatal("the page has no ExecStart, or its configuration no listen.public")
	}
	if !strings.Contains(page, "bin/signalbox "+program[1]+"\n") {
		t.Errorf("no step installs %s, which the unit starts", program[1])
	}
	if number, err := strconv.Atoi(port[1]); err != nil || number < 1024 && !strings.Contains(page, "\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n") {
		t.Errorf("the unit may not listen on port %s", port[1])
	}
	if issuer := "issuer: https://sts.example.com\n"; !strings.Contains(page, issuer) || port[1] != "443" {
		t.Errorf("the issuer is at port 443 and the listener at %s", port[1])
	}
}
