// Package suggest finds the word that somebody meant to type.
package suggest

import "strings"

// DidYouMean asks whether one of among was meant, or returns "".
func DidYouMean(word string, among []string) string {
	if s := Nearest(word, among); s != "" {
		return "did you mean " + s + "?"
	}
	return ""
}

// maxWord bounds the work: nobody mistypes more than that.
const maxWord = 64

// Nearest is the closest of among, or those that word begins, or "".
func Nearest(word string, among []string) string {
	if word == "" || len(word) > maxWord {
		return ""
	}
	var longer []string
	best, distance := "", min(3, len(word)/3)+1
	for _, c := range among {
		if strings.HasPrefix(c, word+"_") {
			longer = append(longer, c)
		}
		if d := edits(strings.ToLower(word), strings.ToLower(c)); d < distance {
			best, distance = c, d
		}
	}
	if best == "" && len(longer) > 0 {
		best = strings.Join(longer, " or ")
	}
	return best
}

// edits counts insertions, deletions, replacements and swaps of neighbours.
func edits(a, b string) int {
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
