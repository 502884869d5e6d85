// Testsum reads `go test -json` from standard input, prints one line per
// package, the whole output of each failure and the reason of every skip, and ends
// with the line "N passed, N failed, N skipped".
//
// Every test and subtest that ran counts once. A package that failed without a
// failing test, because it did not build or its process died, counts as one failure.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

func main() {
	failed, err := summarize(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	if failed {
		os.Exit(1)
	}
}

type test struct{ pkg, name string }

type summary struct {
	w                       io.Writer
	passed, failed, skipped int
	output                  map[test]*strings.Builder   // a test's own lines until it ends
	build                   map[string]*strings.Builder // what the compiler said
	ran, failedIn           map[string]int              // by package
}

func summarize(r io.Reader, w io.Writer) (anyFailed bool, err error) {
	s := &summary{
		w:      w,
		output: map[test]*strings.Builder{}, build: map[string]*strings.Builder{},
		ran: map[string]int{}, failedIn: map[string]int{},
	}
	lines := bufio.NewReader(r)
	for err == nil {
		var line string
		line, err = lines.ReadString('\n')
		var e event
		switch {
		case strings.TrimSpace(line) == "":
		case json.Unmarshal([]byte(line), &e) != nil:
			fmt.Fprint(w, line) // what go itself says between the events
		default:
			s.add(e)
		}
	}
	if err != io.EOF {
		return true, err
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	// A run that executed nothing proves nothing.
	return s.failed > 0 || s.passed == 0, nil
}

func (s *summary) add(e event) {
	key := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		into(s.build, e.ImportPath).WriteString(e.Output)
	case "output":
		into(s.output, key).WriteString(e.Output)
	case "pass", "fail", "skip":
		text := into(s.output, key).String()
		delete(s.output, key)
		if e.Test == "" {
			s.endPackage(e, text)
		} else {
			s.endTest(e, text)
		}
	}
}

func (s *summary) endTest(e event, text string) {
	s.ran[e.Package]++
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		s.failedIn[e.Package]++
		fmt.Fprintf(s.w, "FAIL  %s %s\n%s", e.Package, e.Test, indent(text))
	case "skip":
		s.skipped++
		fmt.Fprintf(s.w, "skip  %s %s\n%s", e.Package, e.Test, indent(reason(text)))
	}
}

func (s *summary) endPackage(e event, text string) {
	switch {
	case e.Action == "fail" && s.failedIn[e.Package] == 0:
		s.failed++
		// The process died: the output of its tests is the only trace.
		for k, b := range s.output {
			if k.pkg == e.Package {
				text = b.String() + text
				delete(s.output, k)
			}
		}
		if b := s.build[e.FailedBuild]; b != nil {
			text = b.String() + text
		}
		fmt.Fprintf(s.w, "FAIL  %s\n%s", e.Package, indent(text))
	case e.Action == "fail":
		fmt.Fprintf(s.w, "FAIL  %s  %d failed (%.1fs)\n", e.Package, s.failedIn[e.Package], e.Elapsed)
	case s.ran[e.Package] > 0:
		fmt.Fprintf(s.w, "ok    %s  %d tests (%.1fs)\n", e.Package, s.ran[e.Package], e.Elapsed)
	}
}

func into[K comparable](m map[K]*strings.Builder, k K) *strings.Builder {
	b := m[k]
	if b == nil {
		b = new(strings.Builder)
		m[k] = b
	}
	return b
}

// reason drops the lines that only frame a test.
func reason(text string) string {
	var keep strings.Builder
	for line := range strings.Lines(text) {
		if t := strings.TrimSpace(line); !strings.HasPrefix(t, "=== ") && !strings.HasPrefix(t, "--- ") {
			keep.WriteString(line)
		}
	}
	return keep.String()
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}
