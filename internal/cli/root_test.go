package cli

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// The commands that the library makes keep the rules of ours.
func TestHelpCompletionAndVersion(t *testing.T) {
	signalbox := func(args ...string) result {
		t.Helper()
		return execute(t, t.Context(), nil, strings.NewReader(""), args...)
	}
	for _, row := range []struct{ args, want string }{
		{"help nosuch", `no help on "nosuch"`},
		{"help token nosuch", `no help on "token nosuch"`},
		{"completion tcsh", `not "tcsh"`},
		{"completion bash zsh", `takes no argument "zsh"`},
		{"version 2", `takes no argument "2"`},
	} {
		if r := signalbox(strings.Fields(row.args)...).wants(exitUsage, row.want); r.out != "" || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: %s%s", row.args, r.out, r.err)
		}
	}
	if long := signalbox("help", "token", "get").wants(exitOK).out; long != signalbox("token", "get", "--help").wants(exitOK, "client credentials").out {
		t.Errorf("help and --help differ: %s", long)
	}
	signalbox("help").wants(exitOK, "signalbox dev")
	signalbox("completion").wants(exitOK, "powershell")
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		signalbox("completion", shell).wants(exitOK, "__complete")
	}
	if v := signalbox("version").wants(exitOK, "signalbox version "+version).out; v != signalbox("--version").out {
		t.Errorf("version and --version differ: %s", v)
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || !strings.Contains(cmd.Example, "signalbox ") || cmd.Args == nil {
			t.Errorf("%s has no summary, example or check of its arguments", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&Environment{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Getenv: func(string) string { return "" }}))
}
