package config

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/signalbox-sts/signalbox/internal/config/source"
)

// What is said of a file that cannot be read: which user tried, and the command
// that helps. And nothing of a value that may be the secret itself.

// unreadable is a problem with a file, and its fix.
func unreadable(file, raw string, err error) *mistake {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return forbidden(file, userName())
	case !source.LooksLikeFile(raw):
		return &mistake{"is not the name of a file that is there", "is it the secret itself? Then put it in a file with mode 0600, and name that file here"}
	}
	return &mistake{source.Quote(file) + " " + reason(err).Error(), "make the file, or correct the path (it starts at the folder of the configuration)"}
}

// forbidden looks for what keeps the user out: the file, or a folder above it.
func forbidden(file, who string) *mistake {
	if _, err := os.Stat(file); errors.Is(err, fs.ErrPermission) {
		for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
			if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
				return &mistake{source.Quote(file) + " cannot be read by the user " + who + ", who cannot enter the folder " + source.Clip(dir),
					"move the file to a folder that " + who + " can enter; or, if that folder is for Signalbox alone, run as root: chown " + who + " " + ShellQuote(dir)}
			}
		}
	}
	return &mistake{source.Quote(file) + " cannot be read by the user " + who,
		"run as root: chown " + who + " " + ShellQuote(file) + " && chmod 600 " + ShellQuote(file)}
}

func userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}

var plainWord = regexp.MustCompile(`\A[\w@%+:,./-]+\z`)

// ShellQuote writes a word so that a shell reads it as one.
func ShellQuote(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
