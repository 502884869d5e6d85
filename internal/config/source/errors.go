package source

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Error is one mistake, its place and its cure.
type Error struct {
	File    string
	Line    int    // from 1; 0 when the environment is to blame
	Column  int    // from 1, in characters
	Key     string // "clients[0].redirect_uris[1]"
	Problem string
	Fix     string
	Source  string // the line, with passwords masked; empty when something is missing
	Width   int    // how many characters the caret underlines
}

// Errors are all mistakes found, in the order of the file.
type Errors []Error

// A file full of nonsense must neither fill a terminal nor take long.
const (
	MaxErrors    = 1000 // found
	maxErrorText = 50   // shown
)

func (e Errors) Error() string {
	var b strings.Builder
	for i, x := range e {
		if i == maxErrorText {
			fmt.Fprintf(&b, "\n… and %d more\n", len(e)-i)
			break
		}
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(x.Error())
	}
	return b.String()
}

// Sorted puts the mistakes in the order of the file.
func (e Errors) Sorted() Errors {
	slices.SortStableFunc(e, func(a, b Error) int {
		if (a.Line == 0) != (b.Line == 0) { // the environment comes last
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return e
}

// Error shows the place, the line with a caret, and the cure, and ends with a
// line break.
func (e Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	} else {
		fmt.Fprintf(&b, "%s: ", e.File)
	}
	if e.Key != "" {
		fmt.Fprintf(&b, "%s: ", e.Key)
	}
	b.WriteString(e.Problem + "\n")
	margin := "    "
	if e.Source != "" {
		source, column := window([]rune(e.Source), e.Column)
		number := fmt.Sprintf("%5d", e.Line)
		margin = strings.Repeat(" ", len(number))
		width := max(1, min(e.Width, len(source)-column+1))
		fmt.Fprintf(&b, "%s | %s\n", number, strings.TrimRight(string(source), " "))
		fmt.Fprintf(&b, "%s | %s%s\n", margin, strings.Repeat(" ", column-1), strings.Repeat("^", width))
	}
	if e.Fix != "" {
		fmt.Fprintf(&b, "%s = %s\n", margin, e.Fix)
	}
	return b.String()
}

// window cuts a long line to the part around the column.
func window(line []rune, column int) ([]rune, int) {
	const before, size = 40, 110
	column = max(1, min(column, len(line)+1))
	if len(line) <= size {
		return line, column
	}
	start := max(0, column-1-before)
	end := min(len(line), start+size)
	return line[start:end], column - start
}

var (
	// Greedy up to the last @: a password may hold one, unescaped by mistake.
	urlPassword   = regexp.MustCompile(`(://[^\s/@:"']*:)([^\s"']+)(@)`)
	queryPassword = regexp.MustCompile(`(?i)(passw[a-z]*=)([^&\s"']+)()`)
	// Also keys that we do not know: somebody may have written `password: …`;
	// and the private members of a JSON Web Key. Rather too much than too little:
	// a plain value ends only at a comma or bracket with a space behind it.
	secretKey = regexp.MustCompile(`(?i)(\b(?:[a-z_]*(?:secret|passw|passphrase|master_key|private_key|token)[a-z_]*|d|k|p|q|dp|dq|qi)(?:["']\s*:\s*|\s*:\s+))` +
		`("[^"]*"?|'[^']*'?|\[[^\]]*|[^\s#{\["'](?:[^,}\]]|[,}\]]\S)*)()`)
	// The name of a file is not the secret, if it is one, nor is a choice among few words.
	notSecret = regexp.MustCompile(`(?i)(_file|_method|_format)["']?\s*:\s*$`)
)

// mask hides what may be a secret in a line that is about to be shown. Length
// stays, so that the caret stays right. Control characters go, so that a file
// cannot write to the terminal.
func mask(line string) string {
	for _, hide := range []*regexp.Regexp{urlPassword, queryPassword, secretKey} {
		line = hide.ReplaceAllStringFunc(line, func(m string) string {
			p := hide.FindStringSubmatch(m)
			if named := notSecret.FindStringSubmatch(p[1]); named != nil && (named[1] != "_file" || LooksLikeFile(strings.Trim(p[2], `"'`))) {
				return m
			}
			return p[1] + stars(p[2]) + p[3]
		})
	}
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, line)
}

func stars(s string) string { return strings.Repeat("*", len([]rune(s))) }
