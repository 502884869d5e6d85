package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAuditVerifyWithTheConfiguration(t *testing.T) {
	n, file := openDemo(t)
	for range 3 {
		if _, err := n.Mint(t.Context(), "demo-service", "https://api.example.com", 0); err != nil {
			t.Fatal(err)
		}
	}
	n.Close()
	verify := func() (int, string) {
		var out strings.Builder
		code := Run(context.Background(), &Environment{In: strings.NewReader(""), Out: &out, Err: &out, Getenv: func(string) string { return "" }},
			[]string{"audit", "verify", "--config", file})
		return code, out.String()
	}
	if code, out := verify(); code != exitOK || !strings.Contains(out, "signed up to record") || !strings.Contains(out, "anchored up to record") {
		t.Fatalf("%d %s", code, out)
	}
	// Cut off the end: the chain and the signatures that are left are whole.
	segments, err := filepath.Glob(filepath.Join(filepath.Dir(file), "journal", "journal-*.jsonl"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	if err := os.WriteFile(segments[0], []byte(strings.Join(lines[:len(lines)-3], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := verify(); code != exitFailed || !strings.Contains(out, "truncated") {
		t.Fatalf("%d %s", code, out)
	}
}
