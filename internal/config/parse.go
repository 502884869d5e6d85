package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/internal/suggest"
)

// document is one file on its way to a Config.
type document struct {
	file   string
	lines  []string
	config *Config
	where  map[string]place // where each key was set
	failed map[string]bool  // one complaint per key; the rest would only follow from it
	inside map[string]bool  // keys with a complaint about them or about something in them
	masked map[int]string   // lines as they may be shown
	// contents are hashes of files, by the path of the key that names one
	contents map[string]string
	broken   bool // not YAML: nothing more can be said
	errors   Errors
}

// place is where a value came from: the file or a variable.
type place struct {
	key, value *yaml.Node
	env        string
}

// mistake is a problem and its cure, before it has a place.
type mistake struct{ problem, fix string }

func newDocument(file string, data []byte) *document {
	d := &document{file: file, config: new(Config), where: map[string]place{}, failed: map[string]bool{}, inside: map[string]bool{}, masked: map[int]string{}, contents: map[string]string{}}
	if len(data) <= maxDocument {
		d.lines = strings.Split(string(data), "\n")
	}
	return d
}

// set reports whether the file or the environment gave the key.
func (d *document) set(path string) bool { _, ok := d.where[path]; return ok }

// fail complains about the value at path, or about its nearest parent when
// the key itself is missing.
func (d *document) fail(path, problem, fix string) {
	if d.failed[path] || len(d.errors) >= maxErrors {
		return
	}
	d.failed[path] = true
	for p := path; p != "" && !d.inside[p]; p = parent(p) {
		d.inside[p] = true
	}
	e := Error{File: d.file, Line: 1, Column: 1, Key: path, Problem: problem, Fix: fix}
	for p := path; p != ""; p = parent(p) {
		w, ok := d.where[p]
		if !ok {
			continue
		}
		if w.env != "" {
			e.File, e.Line, e.Column = "environment "+w.env, 0, 0
		} else {
			d.point(&e, w.node())
		}
		break
	}
	d.errors = append(d.errors, e)
}

// node is what the caret points at: a value, or the key of a whole section.
func (w place) node() *yaml.Node {
	if w.key != nil && w.value.Kind != yaml.ScalarNode && w.value.Kind != yaml.AliasNode {
		return w.key
	}
	return w.value
}

func (d *document) failNode(n *yaml.Node, key, problem, fix string) {
	if len(d.errors) >= maxErrors {
		return
	}
	e := Error{File: d.file, Key: key, Problem: problem, Fix: fix}
	d.point(&e, n)
	d.errors = append(d.errors, e)
}

func (d *document) point(e *Error, n *yaml.Node) {
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

// parent of "clients[0].scope" is "clients[0]", and of that "clients".
func parent(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }

// yaml turns the bytes into one node: a mapping, or nil.
func (d *document) yaml(data []byte) *yaml.Node {
	d.broken = true
	if len(data) > maxDocument {
		d.fail("", fmt.Sprintf("the file is larger than %d KiB", maxDocument>>10), "a configuration is small; is this the right file?")
		return nil
	}
	if i := badByte(data); i >= 0 {
		before := data[:i]
		line := bytes.Count(before, []byte("\n")) + 1
		column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
		d.failNode(&yaml.Node{Line: line, Column: column}, "", "the file is not plain UTF-8 text", "save it as UTF-8, without control characters")
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		d.fail("", err.Error(), "")
		return nil
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		d.broken = false // an empty file: all may come from the environment
		return nil
	} else if err != nil {
		d.syntax(err)
		return nil
	}
	if err := loader.Load(&second); err == nil {
		d.failNode(&second, "", "a second YAML document starts here", "keep one document: remove the `---` between them")
		return nil
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		d.broken = false
		return nil
	}
	if !d.plain(doc.Content[0], 0) {
		return nil
	}
	root := doc.Content[0]
	switch {
	case root.Kind == yaml.MappingNode:
		d.broken = false
		return root
	case root.Tag == "!!null":
		d.broken = false
		return nil
	}
	d.failNode(root, "", "expected keys such as `issuer:`, found "+found(root), "the file starts with a section name, a colon and its value")
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
func (d *document) plain(n *yaml.Node, depth int) bool {
	switch {
	case depth > maxDepth:
		d.failNode(n, "", "nested too deeply", "no key is deeper than a few levels")
		return false
	case n.Anchor != "" || n.Kind == yaml.AliasNode: // an alias never comes before its anchor
		d.failNode(n, "", "YAML anchors and aliases are not accepted", "remove &"+clip(n.Anchor)+" and write the value out: a reviewer must see what is in force")
		return false
	case n.Tag != "" && (!strings.HasPrefix(n.Tag, "!!") || n.Style&yaml.TaggedStyle != 0):
		d.failNode(n, "", "YAML tags are not accepted", "remove "+clip(n.Tag))
		return false
	}
	for _, c := range n.Content {
		if !d.plain(c, depth+1) {
			return false
		}
	}
	return true
}

func (d *document) syntax(err error) {
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		d.fail("", "not valid YAML", err.Error())
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
	d.failNode(&yaml.Node{Line: at.Line, Column: at.Column}, "", problem, "look for a missing quote, bracket or colon, or for a tab in the indentation")
}

// mapping reads the keys of a section into owner.
func (d *document) mapping(n *yaml.Node, path string, fields []field, owner any) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if len(d.errors) >= maxErrors {
			return
		}
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.failNode(key, path, "expected a key, found "+found(key), "")
			continue
		}
		at := join(path, key.Value)
		if line, dup := seen[key.Value]; dup {
			d.failNode(key, clip(at), fmt.Sprintf("the key stands here a second time, first in line %d", line), "keep one of the two")
			continue
		}
		seen[key.Value] = key.Line
		f, ok := find(fields, key.Value)
		if !ok {
			d.failNode(key, clip(at), "unknown key", elsewhere(key.Value, fields))
			continue
		}
		d.where[at] = place{key: key, value: value}
		d.value(value, at, f, owner)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func find(fields []field, key string) (field, bool) {
	for _, f := range fields {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

// elsewhere is the advice for an unknown key: a near name here, the same name
// in another section, or all names.
func elsewhere(key string, fields []field) string {
	var here []string
	for _, f := range fields {
		if !f.envOnly {
			here = append(here, f.key)
		}
	}
	if s := suggest.DidYouMean(key, here); s != "" {
		return s
	}
	var there []string
	walk(table, "", func(path string, f field) {
		if strings.HasSuffix(path, "."+key) {
			there = append(there, path)
		}
	})
	if len(there) == 0 {
		var last []string
		walk(table, "", func(path string, _ field) { last = append(last, path[strings.LastIndexByte(path, '.')+1:]) })
		if near := suggest.Nearest(key, last); near != "" {
			walk(table, "", func(path string, _ field) {
				if strings.HasSuffix(path, "."+near) {
					there = append(there, path)
				}
			})
		}
	}
	if len(there) > 0 {
		return "did you mean " + strings.Join(there, " or ") + "?"
	}
	return "known here: " + strings.Join(here, ", ")
}

// value reads one node into the place of its field.
func (d *document) value(n *yaml.Node, path string, f field, owner any) {
	// `users:` with every member commented out is an empty list, not a mistake.
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" && (f.fields != nil || f.later) {
		return
	}
	switch {
	case f.envOnly:
		d.fail(path, "may not stand in the file", "use "+f.key+"_file, or the environment variable "+f.env(path))
	case f.isSection():
		if n.Kind != yaml.MappingNode {
			d.fail(path, "expected a section with keys, found "+found(n), "its keys: "+strings.Join(keysOf(f.fields), ", "))
			return
		}
		d.mapping(n, path, f.fields, owner)
	case f.later:
		if n.Kind != yaml.SequenceNode {
			d.fail(path, "expected a list, found "+found(n), "write []")
		} else if len(n.Content) > 0 {
			d.fail(path, "not supported by this version", "leave it out, or write []")
		}
	case f.isList():
		if n.Kind != yaml.SequenceNode {
			d.fail(path, "expected a list, found "+found(n), "start each member with a dash: `- "+f.fields[0].key+": …`")
			return
		}
		for i, item := range n.Content {
			at := path + "[" + strconv.Itoa(i) + "]"
			d.where[at] = place{value: item}
			member := f.at(owner) // also for a wrong one, so that indexes stay right
			setDefaults(f.fields, member)
			if item.Kind != yaml.MappingNode {
				d.fail(at, "expected keys, found "+found(item), "its keys: "+strings.Join(keysOf(f.fields), ", "))
				continue
			}
			d.mapping(item, at, f.fields, member)
			for _, k := range f.fields {
				if k.need && !d.set(at+"."+k.key) {
					d.fail(at+"."+k.key, "is missing", "add `"+k.key+": "+k.example+"`")
				}
			}
		}
	case f.isTexts():
		d.texts(n, path, f, f.at(owner))
	default:
		if place, ok := f.at(owner).(*json.RawMessage); ok {
			d.json(n, path, place)
			return
		}
		d.scalar(n, path, f, f.at(owner))
	}
}

// texts reads a list of texts.
func (d *document) texts(n *yaml.Node, path string, f field, to any) {
	if n.Kind != yaml.SequenceNode {
		d.fail(path, "expected a list, found "+found(n), "write "+cmpOr(f.example, "["+clip(n.Value)+"]"))
		return
	}
	empty(to)
	for i, item := range n.Content {
		at := path + "[" + strconv.Itoa(i) + "]"
		d.where[at] = place{value: item}
		if item.Kind != yaml.ScalarNode || item.Tag != "!!str" {
			d.fail(at, "expected text, found "+found(item), quoteAdvice(item))
			continue
		}
		if m := appendText(f, to, item.Value); m != nil {
			d.fail(at, m.problem, m.fix)
		}
	}
}

func (d *document) scalar(n *yaml.Node, path string, f field, to any) {
	want := "!!str"
	if _, ok := to.(*bool); ok {
		want = "!!bool"
	}
	if n.Kind != yaml.ScalarNode || n.Tag != want {
		expected := map[string]string{"!!str": "text", "!!bool": "true or false"}[want]
		fix := quoteAdvice(n)
		if _, ok := to.(*time.Duration); ok {
			expected, fix = "a duration", "write a number with its unit, such as 90s, 5m or 24h"
		} else if want == "!!bool" {
			fix = "write true or false"
		} else if strings.HasPrefix(path, "listen.") && n.Kind == yaml.ScalarNode {
			host, _, _ := net.SplitHostPort(strings.Trim(f.def, `"`)) // the default is an address
			expected, fix = "host:port", addressFix(host, n.Value)
		} else if f.key == "scope" && n.Kind == yaml.SequenceNode {
			fix = "write one text, separated by spaces: " + f.example
		}
		what := found(n)
		if f.secret && n.Kind == yaml.ScalarNode {
			what, fix = "something else", "put it in quotes"
		}
		d.fail(path, "expected "+expected+", found "+what, fix)
		return
	}
	if m := assign(f, to, n.Value); m != nil {
		d.fail(path, m.problem, m.fix)
	}
}

// json turns YAML into JSON. The caller has bounded depth and refused aliases.
func (d *document) json(n *yaml.Node, path string, to *json.RawMessage) {
	if n.Kind != yaml.MappingNode {
		d.fail(path, "expected a JSON Web Key Set, found "+found(n), "write {keys: [ … ]}")
		return
	}
	out, err := json.Marshal(d.jsonValue(n, path))
	if err != nil {
		d.fail(path, "cannot be written as JSON", "")
		return
	}
	*to = out
}

func (d *document) jsonValue(n *yaml.Node, path string) any {
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if _, dup := m[k.Value]; dup || k.Kind != yaml.ScalarNode {
				d.failNode(k, path, "the key stands here a second time", "keep one of the two")
			}
			m[k.Value] = d.jsonValue(n.Content[i+1], path)
		}
		return m
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			list = append(list, d.jsonValue(c, path))
		}
		return list
	}
	switch n.Tag {
	case "!!bool":
		return n.Value == "true"
	case "!!null":
		return nil
	}
	// Every member of a JWK that we read is text; x or y may look like a number.
	return n.Value
}

func found(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!int", "!!float":
		return "the number " + clip(n.Value)
	case "!!bool":
		return clip(n.Value)
	case "!!null":
		return "nothing"
	case "!!str":
		return "text"
	default:
		return "a " + strings.TrimPrefix(clip(n.Tag), "!!")
	}
}

func quoteAdvice(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	if n.Tag == "!!null" {
		return "write a value, or remove the key"
	}
	return `put it in quotes: "` + clip(n.Value) + `"`
}

func keysOf(fields []field) []string {
	var keys []string
	for _, f := range fields {
		if !f.envOnly {
			keys = append(keys, f.key)
		}
	}
	return keys
}

func quote(s string) string { return strconv.Quote(clip(s)) }

// clip keeps a message short whatever the file holds.
func clip(s string) string {
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

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
