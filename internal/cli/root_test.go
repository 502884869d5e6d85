package cli

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/version"
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
	if v := signalbox("version").wants(exitOK, "signalbox version "+version.Get().Version).out; v != signalbox("--version").out {
		t.Errorf("version and --version differ: %s", v)
	}
	var build version.Info
	if out := signalbox("version", "-o", "json").wants(exitOK).out; json.Unmarshal([]byte(out), &build) != nil || build != version.Get() {
		t.Errorf("version -o json: %s", out)
	}
	signalbox("version", "-o", "toml").wants(exitUsage, "text, json or yaml")
}

func TestMistypedCommandsAndFlagsSuggestTheNearest(t *testing.T) {
	for _, row := range []struct{ sentence, args, want string }{
		{"a command", "cleint list", `unknown command "cleint": did you mean client?; see signalbox --help`},
		{"a command that nothing is near to", "frobnicate", `unknown command "frobnicate"; see signalbox --help`},
		{"a subcommand", "client lst", `unknown command "lst": did you mean list?; see signalbox client --help`},
		{"a subcommand of config", "config validat", "did you mean validate?"},
		{"a subcommand of token", "token inspct", "did you mean inspect?"},
		{"a flag", "client list --limt 3", "unknown flag --limt: did you mean --limit?; see signalbox client list --help"},
		{"a flag of the group", "client list --admin-ulr x", "did you mean --admin-url?"},
		{"a flag that nothing is near to", "client list --frobnicate", "unknown flag --frobnicate; see"},
		{"a number that is none", "client list --limit many", `--limit must be a whole number, not "many"`},
		{"a duration that is none", "client rotate x --keep-old 1fortnight", "--keep-old must be a duration such as"},
		{"a flag without its value", "client list --limit", "flag needs an argument: --limit"},
	} {
		r := execute(t, t.Context(), nil, strings.NewReader(""), strings.Fields(row.args)...).wants(exitUsage, row.want)
		if r.out != "" || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: %s%s", row.sentence, r.out, r.err)
		}
	}
	for _, args := range []string{"token get --client-secret=hunter2", "user create bob -phunter2"} {
		if r := execute(t, t.Context(), nil, strings.NewReader(""), strings.Fields(args)...).wants(exitUsage, "unknown flag"); strings.Contains(r.err, "hunter2") {
			t.Errorf("the value of a flag that does not exist is shown: %s", r.err)
		}
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
