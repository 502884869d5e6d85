package authority

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Problem is one thing that is wrong with what somebody wrote, and what to do
// about it. Whoever read it adds the place: a line and a column, or a request.
type Problem struct {
	Field string `json:"field"` // as it is written: redirect_uris[2]
	Text  string `json:"text"`  // follows the field: "has a fragment"
	Fix   string `json:"fix"`

	// Where in a value that is a text of its own, such as CEL: from 1, in
	// characters. Zero: the whole value.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
}

func (p Problem) Error() string {
	s := p.Text
	if p.Field != "" {
		s = p.Field + ": " + s
	}
	if p.Fix != "" {
		s += "; " + p.Fix
	}
	return s
}

// Problems is the error of a value that breaks the rule book.
type Problems []Problem

func (p Problems) Error() string {
	var lines []string
	for _, one := range p {
		lines = append(lines, one.Error())
	}
	return strings.Join(lines, "\n")
}

// maxProblems is how many one value is told of: enough to fix it in one go,
// and not more than fits an answer.
const maxProblems = 50

// add tells of one problem. The first one of a field counts: the rest would
// only follow from it.
func (p *Problems) add(field, text, fix string) {
	if len(*p) >= maxProblems {
		return
	}
	for _, known := range *p {
		if known.Field == field {
			return
		}
	}
	*p = append(*p, Problem{Field: field, Text: text, Fix: fix})
}

// at adds what a rule about a single value has found.
func (p *Problems) at(field string, found *Problem) {
	if found != nil {
		p.add(field, found.Text, found.Fix)
	}
}

// each holds the members of a list to a rule about a single value.
func (p *Problems) each(field string, values []string, rule func(string) *Problem) {
	for i, v := range values {
		if found := rule(v); found != nil {
			p.add(member(field, i), found.Text, found.Fix)
		}
	}
}

// list holds a list to its size and to having every member once, and says
// whether its members may be looked at.
func (p *Problems) list(field string, values []string, most int) bool {
	if len(values) > most {
		p.add(field, "has more than "+strconv.Itoa(most)+" members", "split it")
		return false
	}
	for i, v := range values {
		if slices.Contains(values[:i], v) {
			p.add(member(field, i), quote(v)+" is in the list twice", "keep one of the two")
		}
	}
	return true
}

func member(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

func problem(text, fix string) *Problem { return &Problem{Text: text, Fix: fix} }

// quote shows a value in a message: short, on one line, and nothing that a
// terminal obeys.
func quote(s string) string { return strconv.Quote(clip(s)) }

func clip(s string) string {
	const limit = 80
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return s
}
