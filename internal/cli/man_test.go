package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestEveryCommandHasAManualPage that says what its help says, in plain roff.
func TestEveryCommandHasAManualPage(t *testing.T) {
	dir := t.TempDir()
	execute(t, t.Context(), nil, strings.NewReader(""), "man", dir).wants(0)
	pages := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		data, err := os.ReadFile(filepath.Join(dir, pageName(cmd)+".1"))
		if err != nil {
			t.Error(err)
			return
		}
		pages++
		page := string(data)
		for _, part := range []string{".SH NAME\n", ".SH SYNOPSIS\n", ".SH DESCRIPTION\n", ".SH OPTIONS", roff(cmd.Short)} {
			if !strings.Contains(page, part) {
				t.Errorf("%s has no %q", pageName(cmd), part)
			}
		}
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				walk(sub)
			}
		}
	}
	walk(newRoot(&Environment{}))
	if pages < 50 {
		t.Errorf("%d pages", pages)
	}
	if got := roff(".a\n'b \\ -x é"); got != "\\&.a\n\\&'b \\e \\-x \\[u00E9]" {
		t.Errorf("%q", got)
	}
}
