// Package source is the text of the configuration file: YAML without its
// traps, where each value is, and mistakes that are shown with their place and
// their cure, and without secrets. It knows no key.
package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// MaxSize bounds the file before anything parses it.
const MaxSize = 1 << 20

// Document is one file and what is wrong with it.
type Document struct {
	File   string
	Where  map[string]Place // where each key was set
	Failed map[string]bool  // one complaint per key; the rest would only follow from it
	Inside map[string]bool  // keys with a complaint about them or about something in them
	Broken bool             // not YAML: nothing more can be said
	Absent bool             // there is no file: whatever is set comes from the environment
	Errors Errors

	lines  []string
	masked map[int]string // lines as they may be shown
}

// Place is where a value came from: the file or a variable.
type Place struct {
	Key, Value *yaml.Node
	Env        string
}

// New makes a document of a file's text. Root reads it.
func New(file string, data []byte) *Document {
	d := &Document{File: file, Where: map[string]Place{}, Failed: map[string]bool{}, Inside: map[string]bool{}, masked: map[int]string{}}
	if len(data) <= MaxSize {
		d.lines = strings.Split(string(data), "\n")
	}
	return d
}

// Again is the same file with nothing wrong with it yet.
func (d *Document) Again() *Document {
	again := *d
	again.Errors, again.Failed, again.Inside = nil, map[string]bool{}, map[string]bool{}
	return &again
}

// IsSet reports whether the file or the environment gave the key.
func (d *Document) IsSet(path string) bool { _, ok := d.Where[path]; return ok }

// Fail complains about the value at path, or about its nearest parent when
// the key itself is missing.
func (d *Document) Fail(path, problem, fix string) {
	if d.Failed[path] || len(d.Errors) >= MaxErrors {
		return
	}
	d.Failed[path] = true
	for p := path; p != "" && !d.Inside[p]; p = Parent(p) {
		d.Inside[p] = true
	}
	e := Error{File: d.File, Line: 1, Column: 1, Key: path, Problem: problem, Fix: fix}
	if d.Absent {
		e.Line, e.Column = 0, 0
	}
	for p := path; p != ""; p = Parent(p) {
		w, ok := d.Where[p]
		if !ok {
			continue
		}
		if w.Env != "" {
			e.File, e.Line, e.Column = "environment "+w.Env, 0, 0
		} else {
			d.point(&e, w.node())
		}
		break
	}
	d.Errors = append(d.Errors, e)
}

// node is what the caret points at: a value, or the key of a whole section.
func (w Place) node() *yaml.Node {
	if w.Key != nil && w.Value.Kind != yaml.ScalarNode && w.Value.Kind != yaml.AliasNode {
		return w.Key
	}
	return w.Value
}

// FailNode complains about a node of the file.
func (d *Document) FailNode(n *yaml.Node, key, problem, fix string) {
	if len(d.Errors) >= MaxErrors {
		return
	}
	e := Error{File: d.File, Key: key, Problem: problem, Fix: fix}
	d.point(&e, n)
	d.Errors = append(d.Errors, e)
}

// FailInside complains about a place in the text at path, which is a language of
// its own: a line and a column of that text, from 1, in characters.
func (d *Document) FailInside(path string, line, column int, problem, fix string) {
	before := len(d.Errors)
	d.Fail(path, problem, fix)
	if len(d.Errors) == before || line < 1 {
		return
	}
	e, w := &d.Errors[before], d.Where[path]
	if w.Env == "" && w.Value != nil && w.Value.Kind == yaml.ScalarNode {
		at, text := w.Value.Line, w.Value.Value
		if w.Value.Style&yaml.LiteralStyle != 0 {
			at += line // each line of the file is one of the text
			text = strings.Split(text+strings.Repeat("\n", line), "\n")[line-1]
		}
		// Where the file spells the text otherwise (escapes, folded lines), its places are not the file's.
		if at <= len(d.lines) && (line == 1 || w.Value.Style&yaml.LiteralStyle != 0) {
			if start := strings.LastIndex(d.lines[at-1], text); start >= 0 && text != "" {
				d.point(e, &yaml.Node{Line: at, Column: utf8.RuneCountInString(d.lines[at-1][:start]) + column})
				return
			}
		}
	}
	e.Problem = fmt.Sprintf("line %d, column %d of the text: %s", line, column, e.Problem)
}

func (d *Document) point(e *Error, n *yaml.Node) {
	e.Line, e.Column, e.Width = max(1, n.Line), max(1, n.Column), 1
	if n.Kind == yaml.ScalarNode {
		e.Width = utf8.RuneCountInString(n.Value)
		if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
			e.Width += 2
		}
	}
	if e.Line <= len(d.lines) {
		line, ok := d.masked[e.Line]
		if !ok {
			line = mask(strings.TrimRight(d.lines[e.Line-1], "\r\n"))
			d.masked[e.Line] = line
		}
		e.Source = line
	}
}

// Parent of "clients[0].scope" is "clients[0]", and of that "clients".
func Parent(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }

// Root turns the bytes into one node: a mapping, or nil.
func (d *Document) Root(data []byte) *yaml.Node {
	d.Broken = true
	if len(data) > MaxSize {
		d.Fail("", fmt.Sprintf("the file is larger than %d KiB", MaxSize>>10), "a configuration is small; is this the right file?")
		return nil
	}
	if i := badByte(data); i >= 0 {
		before := data[:i]
		line := bytes.Count(before, []byte("\n")) + 1
		column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
		d.FailNode(&yaml.Node{Line: line, Column: column}, "", "the file is not plain UTF-8 text", "save it as UTF-8, without control characters")
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		d.Fail("", err.Error(), "")
		return nil
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		d.Broken = false // an empty file: all may come from the environment
		return nil
	} else if err != nil {
		d.syntax(err)
		return nil
	}
	if err := loader.Load(&second); err == nil {
		d.FailNode(&second, "", "a second YAML document starts here", "keep one document: remove the `---` between them")
		return nil
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		d.Broken = false
		return nil
	}
	if !d.plain(doc.Content[0], 0) {
		return nil
	}
	root := doc.Content[0]
	switch {
	case root.Kind == yaml.MappingNode:
		d.Broken = false
		return root
	case root.Tag == "!!null":
		d.Broken = false
		return nil
	}
	d.FailNode(root, "", "expected keys such as `issuer:`, found "+Found(root), "the file starts with a section name, a colon and its value")
	return nil
}

// badByte finds what is neither text nor a line break, or returns -1.
func badByte(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		// A lone carriage return would also be a line break to YAML, and put
		// every later line number off by one.
		if r == '\r' && (i+1 == len(data) || data[i+1] != '\n') {
			return i
		}
		if r != '\t' && r != '\n' && r != '\r' && unicode.IsControl(r) {
			return i
		}
		if r == '\u2028' || r == '\u2029' {
			return i
		}
		i += size
	}
	return -1
}

// maxDepth is far deeper than any key of the table.
const maxDepth = 32

// plain refuses what YAML can do and a configuration does not need: aliases
// (and with them alias bombs), anchors, own tags, and endless nesting.
func (d *Document) plain(n *yaml.Node, depth int) bool {
	switch {
	case depth > maxDepth:
		d.FailNode(n, "", "nested too deeply", "no key is deeper than a few levels")
		return false
	case n.Anchor != "" || n.Kind == yaml.AliasNode: // an alias never comes before its anchor
		d.FailNode(n, "", "YAML anchors and aliases are not accepted", "remove &"+Clip(n.Anchor)+" and write the value out: a reviewer must see what is in force")
		return false
	case n.Tag != "" && (!strings.HasPrefix(n.Tag, "!!") || n.Style&yaml.TaggedStyle != 0):
		d.FailNode(n, "", "YAML tags are not accepted", "remove "+Clip(n.Tag))
		return false
	}
	for _, c := range n.Content {
		if !d.plain(c, depth+1) {
			return false
		}
	}
	return true
}

func (d *Document) syntax(err error) {
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		d.Fail("", "not valid YAML", err.Error())
		return
	}
	problem := "not valid YAML: " + le.Message
	at := le.Mark
	if le.ContextMsg != "" {
		problem += " (" + le.ContextMsg + ")"
	}
	// "End of file" is seldom where the mistake is: point at what was opened.
	if le.ContextMark.Line > 0 && at.Line >= len(d.lines) {
		at = le.ContextMark
	}
	d.FailNode(&yaml.Node{Line: at.Line, Column: at.Column}, "", problem, "look for a missing quote, bracket or colon, or for a tab in the indentation")
}

// Join is the path of a key below another.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// Found says in words what is in a place where something else was expected.
func Found(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!int", "!!float":
		return "the number " + Clip(n.Value)
	case "!!bool":
		return Clip(n.Value)
	case "!!null":
		return "nothing"
	case "!!str":
		return "text"
	default:
		return "a " + strings.TrimPrefix(Clip(n.Tag), "!!")
	}
}

// QuoteAdvice is the cure for a value that YAML takes for something else than text.
func QuoteAdvice(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	if n.Tag == "!!null" {
		return "write a value, or remove the key"
	}
	return `put it in quotes: "` + Clip(n.Value) + `"`
}
