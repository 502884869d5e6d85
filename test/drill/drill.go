// Package drill is how the drills of docs/explanation/drills.md tell what they measured: the
// commands that were run, tables, and whether each promise was kept. A broken promise fails
// the test.
package drill

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// The scripts in examples/drills set these. The service refuses variables that begin like its own.
const (
	variable = "DRILL"      // short or full
	sizeOf   = "DRILL_SIZE" // a number
)

// Full says whether somebody wants the real times, for which no test suite waits.
func Full() bool { return os.Getenv(variable) == "full" }

// Size is how many there are of what the drill is about: usual, unless somebody wants another number.
func Size(t testing.TB, usual int) int {
	t.Helper()
	text := os.Getenv(sizeOf)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < usual/10 {
		t.Fatalf("%s=%s: a number of at least %d is needed", sizeOf, text, usual/10)
	}
	return n
}

// Report is what one drill tells.
type Report struct {
	t        testing.TB
	out      io.Writer
	promises [][]string
}

// Begin starts a report. It ends with the test, and then shows the promises.
func Begin(t testing.TB) *Report {
	r := &Report{t: t, out: t.Output()}
	t.Cleanup(func() {
		if len(r.promises) > 0 {
			r.Table([]string{"promise", "measured", ""}, r.promises...)
		}
	})
	return r
}

// Say tells one sentence of the story.
func (r *Report) Say(format string, args ...any) {
	fmt.Fprintf(r.out, "\n"+format+"\n", args...)
}

// Ran shows a command and what it wrote.
func (r *Report) Ran(command, wrote string) {
	fmt.Fprintf(r.out, "\n$ %s\n", command)
	for line := range strings.Lines(wrote) {
		fmt.Fprintf(r.out, "  %s\n", strings.TrimRight(line, "\n"))
	}
}

// Table shows a table, aligned, in Markdown.
func (r *Report) Table(head []string, rows ...[]string) {
	width := make([]int, len(head))
	for _, row := range append([][]string{head}, rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell), 3)
		}
	}
	line := func(row []string) {
		for i, cell := range row {
			fmt.Fprintf(r.out, "| %s%s ", cell, strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)))
		}
		fmt.Fprintln(r.out, "|")
	}
	fmt.Fprintln(r.out)
	line(head)
	for i := range head {
		fmt.Fprint(r.out, "| ", strings.Repeat("-", width[i]), " ")
	}
	fmt.Fprintln(r.out, "|")
	for _, row := range rows {
		line(row)
	}
}

// Promise notes a promise, what was measured, and whether it was kept.
func (r *Report) Promise(what, measured string, kept bool) {
	r.t.Helper()
	verdict := "kept"
	if !kept {
		verdict = "BROKEN"
		r.t.Errorf("broken: %s: %s", what, measured)
	}
	r.promises = append(r.promises, []string{what, measured, verdict})
}

// Within is a promise about time. In the suite of all tests, which loads the machine, it has
// four times as long.
func (r *Report) Within(limit time.Duration, what string, took time.Duration) {
	r.t.Helper()
	patience := limit
	if os.Getenv(variable) == "" {
		patience *= 4
	}
	r.Promise(fmt.Sprintf("%s within %v", what, limit), Show(took), took <= patience)
}

// Show writes a duration as people read it.
func Show(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
