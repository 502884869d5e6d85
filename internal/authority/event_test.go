package authority

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

func TestEventTypesListsEveryType(t *testing.T) {
	source, err := os.ReadFile("event.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^\tEvent\w+\s+EventType = "([a-z_.]+)"`).FindAllSubmatch(source, -1)
	for _, d := range declared {
		if !slices.Contains(EventTypes(), EventType(d[1])) {
			t.Errorf("%s is declared and not listed", d[1])
		}
	}
	if len(declared) < 20 || len(declared) != len(EventTypes()) {
		t.Errorf("%d declared, %d listed", len(declared), len(EventTypes()))
	}
}
