package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/signalbox-sts/signalbox/internal/config/source"
	"github.com/signalbox-sts/signalbox/internal/suggest"
)

// Keys lists every key in the order of the file, for completion and lookup.
// Members of lists have no index: "clients.redirect_uris".
func Keys() []string { return paths(table) }

func paths(fields []field) (all []string) {
	walk(fields, "", func(path string, _ field) { all = append(all, path) })
	return all
}

var index = regexp.MustCompile(`\[[0-9]*\]`)

// Explain tells in words what a key means. It takes a path as error messages
// write it ("clients[0].scope"), without indexes, or a variable's name.
func Explain(key string) (string, error) {
	return explainOf(table, key, func(path string, f field) string { return f.env(path) })
}

func explainOf(fields []field, key string, env func(path string, f field) string) (string, error) {
	want := index.ReplaceAllString(strings.TrimSpace(key), "")
	var b strings.Builder
	walk(fields, "", func(path string, f field) {
		if name := env(path, f); path == want || (name != "" && name == want) {
			explain(&b, fields, path, name, f)
		}
	})
	if b.Len() > 0 {
		return b.String(), nil
	}
	fix := elsewhere(want, fields, fields)
	if strings.Contains(want, ".") {
		fix = cmpOr(suggest.DidYouMean(want, paths(fields)), "`signalbox config explain` lists every key")
	}
	return "", errors.New("there is no key " + source.Quote(key) + ": " + fix)
}

func explain(b *strings.Builder, fields []field, path, env string, f field) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "  %-12s %s\n", name, strings.Join(wrap(value, 64), "\n"+strings.Repeat(" ", 15)))
		}
	}
	fmt.Fprintf(b, "%s\n  %s\n\n", path, strings.Join(wrap(f.doc, 76), "\n  "))
	line("type", f.kind())
	if f.isTexts() {
		line("members", strings.Join(f.oneOf, ", "))
	}
	if f.need {
		line("required", "in every member of the list")
	}
	line("default", f.def)
	line("example", f.shownExample(fields, path))
	line("environment", env)
	if f.secret && env != "" {
		line("", env+"_FILE names a file that holds it")
	}
	line("restart", restartNote(fields, path))
	line("danger", f.danger)
	if f.fields != nil {
		line("keys", strings.Join(keysOf(f.fields), ", "))
	}
}

func restartNote(fields []field, path string) string {
	if slices.Contains(needRestart(fields), path) {
		return "needed before a new value takes effect"
	}
	return ""
}

func (f field) shownExample(fields []field, path string) string {
	v := f.value()
	if v == "" || f.envOnly || f.fields != nil {
		return ""
	}
	section, key, nested := strings.Cut(path, ".")
	if !nested {
		return path + ": " + v
	}
	for _, top := range fields {
		if top.key == section && top.isList() {
			path = key // of a member
		}
	}
	parts := strings.Split(path, ".")
	return strings.Join(parts, ": {") + ": " + v + strings.Repeat("}", len(parts)-1)
}

// value is what an example line shows: the example, or else the default.
func (f field) value() string {
	if f.example == "" && f.def == "false" {
		return "true"
	}
	return cmpOr(f.example, f.def)
}

func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
