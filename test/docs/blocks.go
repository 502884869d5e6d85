// Package docs runs the documents: every command and snippet in them, as a
// reader would type it, against the built binary. CONTRIBUTING.md lists the
// marks that say how each block is tested. A block without a mark is a failure.
package docs

import (
	"fmt"
	"regexp"
	"strings"
)

// block is one fenced block of a page.
type block struct {
	page string
	line int // of the opening fence
	lang string
	mark string // what the comment before it says: "run", "output", …
	more string // after the mark's colon
	text string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

var (
	fence   = regexp.MustCompile("^( *)```([a-z]*)$")
	comment = regexp.MustCompile(`^<!-- ([a-z]+)(?: in)?(?:: (.*?))? -->$`)
)

// marks are all there are. The value says whether something must follow.
var marks = map[string]bool{
	"run": false, "background": true, "dev": false, "output": false, "config": false, "file": true,
	"apiserver": false, "illustration": false, "skip": true, "tree": false, "imports": false,
}

// parse finds the blocks of a page. Every mistake in the marks is an error.
func parse(page, text string) (blocks []block, errs []error) {
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		open := fence.FindStringSubmatch(lines[i])
		if open == nil {
			if strings.HasPrefix(strings.TrimSpace(lines[i]), "```") {
				errs = append(errs, fmt.Errorf("%s:%d: a fence that this test cannot read: %s", page, i+1, lines[i]))
			}
			continue
		}
		b := block{page: page, line: i + 1, lang: open[2]}
		if i > 0 {
			if m := comment.FindStringSubmatch(lines[i-1]); m != nil {
				b.mark, b.more = m[1], m[2]
			}
		}
		needsMore, known := marks[b.mark]
		switch {
		case b.mark == "":
			errs = append(errs, fmt.Errorf("%s: a block without a mark: say how it is tested (CONTRIBUTING.md)", b))
		case !known:
			errs = append(errs, fmt.Errorf("%s: there is no mark %q", b, b.mark))
		case needsMore && b.more == "":
			errs = append(errs, fmt.Errorf("%s: %s needs a text after a colon", b, b.mark))
		}
		var body []string
		for i++; i < len(lines) && lines[i] != open[1]+"```"; i++ {
			body = append(body, strings.TrimPrefix(lines[i], open[1]))
		}
		if i == len(lines) {
			errs = append(errs, fmt.Errorf("%s: the fence is never closed", b))
		}
		b.text = strings.Join(body, "\n") + "\n"
		if b.lang == "sh" && b.mark == "illustration" {
			errs = append(errs, fmt.Errorf("%s: a command is run or skipped with a reason", b))
		}
		blocks = append(blocks, b)
	}
	return blocks, errs
}

// holds says whether output has the wanted lines in this order. "…" in a line
// matches anything in that line; a line that is only "…" is a hint for the reader,
// since other lines may be between in any case.
func holds(output, wanted string) error {
	lines := strings.Split(output, "\n")
	next := 0
	for want := range strings.SplitSeq(strings.TrimRight(wanted, "\n"), "\n") {
		if strings.TrimSpace(want) == "…" || strings.TrimSpace(want) == "" {
			continue
		}
		pattern := likeLine(want)
		for next < len(lines) && !pattern.MatchString(lines[next]) {
			next++
		}
		if next == len(lines) {
			return fmt.Errorf("no line (any more) like\n  %s\nin\n%s", want, indent(output))
		}
		next++
	}
	return nil
}

var spaces = regexp.MustCompile(`\s+`)

// likeLine compares white space loosely: columns move with what is in them.
func likeLine(want string) *regexp.Regexp {
	var b strings.Builder
	for i, part := range strings.Split(strings.TrimSpace(want), "…") {
		if i > 0 {
			b.WriteString(".*")
		}
		b.WriteString(spaces.ReplaceAllString(regexp.QuoteMeta(part), `\s+`))
	}
	return regexp.MustCompile(`^\s*(?:` + b.String() + `)\s*$`)
}

func indent(s string) string {
	return "  | " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n  | ")
}
