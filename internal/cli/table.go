package cli

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"golang.org/x/text/width"

	"github.com/signalbox-sts/signalbox/internal/explain"
)

// screen is what a table must fit.
type screen struct {
	columns int // 0: no limit
	colour  bool
}

// screenOf: a pipe and a file get whole cells and no colour, since programs
// read them.
func screenOf(env *Environment, wide bool) screen {
	file, ok := fileOf(env.Out)
	if !ok || !isTerminal(env.Out) {
		return screen{}
	}
	s := screen{colour: env.Getenv("NO_COLOR") == "" && env.Getenv("TERM") != "dumb" && runtime.GOOS != "windows"}
	if columns, _, err := term.GetSize(int(file.Fd())); err == nil && !wide {
		s.columns = columns
	}
	return s
}

func wideFlag(cmd *cobra.Command, wide *bool) {
	cmd.Flags().BoolVar(wide, "wide", false, "whole cells, also where they do not fit the terminal")
}

const (
	gap = 2
	// narrowest is what is left of a cell at least: three letters and the mark.
	narrowest = 4
)

// printTable writes rows under a head. Cells that do not fit are cut with …,
// the widest first and the first column, which holds the names, last.
func printTable(w io.Writer, s screen, head []string, rows [][]string) error {
	all := rows
	if head != nil {
		all = append([][]string{head}, rows...)
	}
	widths := make([]int, 0, 8)
	for _, row := range all {
		for i, cell := range row {
			row[i] = explain.Printable(cell)
			if cell == "" {
				row[i] = "-"
			}
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], displayWidth(row[i]))
		}
	}
	fit(widths, s.columns)
	out := bufio.NewWriter(w)
	for n, row := range all {
		for i, cell := range row {
			cell = cut(cell, widths[i])
			text := cell
			if s.colour {
				text = coloured(cell, head != nil && n == 0)
			}
			out.WriteString(text)
			if i < len(row)-1 {
				out.WriteString(strings.Repeat(" ", widths[i]-displayWidth(cell)+gap))
			}
		}
		out.WriteByte('\n')
	}
	return out.Flush()
}

// fit makes columns narrower until all of them fit, or none can give more.
func fit(widths []int, columns int) {
	if columns <= 0 {
		return
	}
	total := gap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > columns; total-- {
		widest := 0
		for i := 1; i < len(widths); i++ {
			if widths[i] > narrowest && (widest == 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widths[widest] <= narrowest {
			return
		}
		widths[widest]--
	}
}

func cut(cell string, to int) string {
	if displayWidth(cell) <= to {
		return cell
	}
	used := 0
	for i, r := range cell {
		if used += runeWidth(r); used > to-1 {
			return cell[:i] + "…"
		}
	}
	return cell
}

func displayWidth(s string) (n int) {
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// runeWidth is how many columns a terminal gives to r.
func runeWidth(r rune) int {
	switch kind := width.LookupRune(r).Kind(); {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case kind == width.EastAsianWide || kind == width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// The words of states, and how they look: red is what works no more.
const (
	bold, red, green, yellow = "1", "31", "32", "33"
)

var colours = map[string]string{
	"enabled": green, "active": green, "current": green, "alive": green,
	"pending": yellow, "next": yellow,
	"disabled": red, "ended": red, "dead": red,
}

func coloured(cell string, head bool) string {
	colour := colours[cell]
	if head {
		colour = bold
	}
	if colour == "" {
		return cell
	}
	return "\x1b[" + colour + "m" + cell + "\x1b[0m"
}

// age says how long ago t was, or how far off it is.
func age(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	if d := now.Sub(*t); d >= 0 {
		return roughly(d)
	}
	return "in " + roughly(t.Sub(now))
}

// roughly is a length of time in one number.
func roughly(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d < 2*365*day:
		return fmt.Sprintf("%dd", d/day)
	}
	return fmt.Sprintf("%dy", d/(365*day))
}
