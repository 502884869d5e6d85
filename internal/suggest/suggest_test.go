package suggest

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	commands := []string{"list", "show", "create", "disable", "enable", "delete"}
	for _, row := range []struct {
		sentence, word string
		among          []string
		want           string
	}{
		{"a letter is missing", "lst", commands, "list"},
		{"a letter too many", "lisst", commands, "list"},
		{"two neighbours are swapped", "craete", commands, "create"},
		{"the nearer of two", "disble", commands, "disable"},
		{"capitals do not count", "LIST", commands, "list"},
		{"nothing is near", "frobnicate", commands, ""},
		{"a short word is near to nothing", "ab", []string{"abc", "b"}, ""},
		{"a word that is far is not suggested for its first letter", "sow-nothing", commands, ""},
		{"the beginning of longer ones", "refresh", []string{"refresh_ttl", "refresh_grace", "code_ttl"}, "refresh_ttl or refresh_grace"},
		{"nothing was typed", "", commands, ""},
		{"a secret is nobody's slip", strings.Repeat("x", 65), []string{strings.Repeat("x", 64)}, ""},
		{"there is nothing to choose from", "list", nil, ""},
	} {
		if got := Nearest(row.word, row.among); got != row.want {
			t.Errorf("%s: %q, want %q", row.sentence, got, row.want)
		}
	}
	if got := DidYouMean("lst", commands); got != "did you mean list?" {
		t.Errorf("%q", got)
	}
	if got := DidYouMean("frobnicate", commands); got != "" {
		t.Errorf("%q", got)
	}
}
