package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestTablesFit(t *testing.T) {
	head := []string{"GRANT", "CLIENT", "SCOPE", "STATE"}
	row := []string{"019a3f5c-7d2e-7b41-9c55-2f1e08d6a9b3", "night-job", "orders:read orders:write reports:read", "active"}
	for _, c := range []struct {
		sentence string
		columns  int
		want     string // the row
	}{
		{"a pipe gets all of it", 0, "019a3f5c-7d2e-7b41-9c55-2f1e08d6a9b3  night-job  orders:read orders:write reports:read  active"},
		{"so does a wide terminal", 94, "019a3f5c-7d2e-7b41-9c55-2f1e08d6a9b3  night-job  orders:read orders:write reports:read  active"},
		{"the widest cell is cut first", 80, "019a3f5c-7d2e-7b41-9c55-2f1e08d6a9b3  night-job  orders:read orders:wri…  active"},
		{"then the others", 60, "019a3f5c-7d2e-7b41-9c55-2f1e08d6a9b3  night…  order…  active"},
		{"the id comes last", 40, "019a3f5c-7d2e-7b41-9c…  nig…  ord…  act…"},
		{"a tiny one breaks the lines", 5, "019…  nig…  ord…  act…"},
	} {
		var out bytes.Buffer
		if err := printTable(&out, screen{columns: c.columns}, head, [][]string{append([]string{}, row...)}); err != nil {
			t.Fatal(err)
		}
		_, got, _ := strings.Cut(out.String(), "\n")
		if got != c.want+"\n" {
			t.Errorf("%s:\n%q, want\n%q", c.sentence, got, c.want)
		}
	}
}

func TestColumnsAreStraight(t *testing.T) {
	var out bytes.Buffer
	rows := [][]string{{"日本", "x", "y"}, {"e\u0301te", "", "y"}, {"a\tb", "x", "y"}}
	if err := printTable(&out, screen{}, []string{"NAME", "B", "C"}, rows); err != nil {
		t.Fatal(err)
	}
	if want := "NAME  B  C\n日本  x  y\ne\u0301te   -  y\na\ufffdb   x  y\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	out.Reset()
	if err := printTable(&out, screen{columns: 12}, []string{"A", "B"}, [][]string{{"id", "日本語日本語"}}); err != nil {
		t.Fatal(err)
	}
	if want := "A   B\nid  日本語…\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestColourSaysWhatIsDead(t *testing.T) {
	var out bytes.Buffer
	if err := printTable(&out, screen{colour: true}, []string{"CLIENT", "STATE"}, [][]string{{"web", "disabled"}, {"app", "enabled"}}); err != nil {
		t.Fatal(err)
	}
	if want := "\x1b[1mCLIENT\x1b[0m  \x1b[1mSTATE\x1b[0m\nweb     \x1b[31mdisabled\x1b[0m\napp     \x1b[32menabled\x1b[0m\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestAge(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for ago, want := range map[time.Duration]string{
		0: "0s", 119 * time.Second: "119s", 5 * time.Minute: "5m", 119 * time.Minute: "119m", 3 * time.Hour: "3h", 47 * time.Hour: "47h",
		3 * day: "3d", 729 * day: "729d", 731 * day: "2y", -5 * time.Minute: "in 5m", -29 * day: "in 29d",
	} {
		at := now.Add(-ago)
		if got := age(&at, now); got != want {
			t.Errorf("%s ago: %q, want %q", ago, got, want)
		}
	}
	if got := age(nil, now); got != "" {
		t.Errorf("never: %q", got)
	}
}

func TestHowLongAgo(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "24h": 24 * time.Hour, "7d": 168 * time.Hour, "2w": 336 * time.Hour, "1w2d3h4m": 219*time.Hour + 4*time.Minute, "0d": 0,
	} {
		if got, ok := parseAgo(s); !ok || got != want {
			t.Errorf("%s: %s, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "7", "d", "-7d", "7d-1h", "1d1w", "1.5d", "99999w", "7 d", "yesterday", "1h1d", "7D"} {
		if got, ok := parseAgo(s); ok {
			t.Errorf("%q is %s", s, got)
		}
	}
}

func FuzzParseAgo(f *testing.F) {
	for _, s := range []string{"7d", "1w2d3h", "9999w99999d2540400h", "h", "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ago, ok := parseAgo(s); ok && ago < 0 {
			t.Errorf("%q is in the future: %s", s, ago)
		}
	})
}
