package source

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Quote shows a value of the file in a message.
func Quote(s string) string { return strconv.Quote(Clip(s)) }

// Clip keeps a message short whatever the file holds.
func Clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 80 {
		return string(r[:80]) + "…"
	}
	return s
}

var (
	extension = regexp.MustCompile(`\A[\w-]+(\.[\w-]+)*\.[a-z]{2,10}\z`)
	pathStart = regexp.MustCompile(`\A(?:(?:\.{0,2}|~|[A-Za-z]:)[/\\]|[a-z-]+[/\\])`)
	upper     = regexp.MustCompile(`[A-Z]`)
	digit     = regexp.MustCompile(`[0-9]`)
)

// LooksLikeFile says whether a value that names no file may be shown all the
// same. Secrets are random texts or passwords: without a folder before them, and
// without an extension.
func LooksLikeFile(s string) bool {
	if strings.HasPrefix(s, "sbx_") || strings.HasPrefix(s, "eyJ") || strings.ContainsAny(s, "+= \t") {
		return false
	}
	base := s[strings.LastIndexAny(s, `/\`)+1:]
	if base == s {
		return extension.MatchString(s)
	}
	random := len(base) >= 16 && upper.MatchString(base) && digit.MatchString(base)
	return pathStart.MatchString(s) && !random
}
