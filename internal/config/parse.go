package config

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/internal/config/source"
	"github.com/signalbox-sts/signalbox/internal/suggest"
)

// document is one file on its way to a Config.
type document struct {
	*source.Document
	table  []field // its keys
	config *Config
	// contents are hashes of files, by the path of the key that names one
	contents map[string]string
	// written are the files that an agent writes, and by which key
	written map[string]string
	// policiesOnly is what LoadPolicies says
	policiesOnly bool
}

func newDocument(file string, data []byte, keys []field) *document {
	return &document{Document: source.New(file, data), table: keys, config: new(Config), contents: map[string]string{}}
}

// mistake is a problem and its cure, before it has a place.
type mistake struct{ problem, fix string }

// mapping reads the keys of a section into owner.
func (d *document) mapping(n *yaml.Node, path string, fields []field, owner any) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if len(d.Errors) >= source.MaxErrors {
			return
		}
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.FailNode(key, path, "expected a key, found "+source.Found(key), "")
			continue
		}
		at := source.Join(path, key.Value)
		if line, dup := seen[key.Value]; dup {
			d.FailNode(key, source.Clip(at), fmt.Sprintf("the key is here a second time, first in line %d", line), "keep one of the two")
			continue
		}
		seen[key.Value] = key.Line
		f, ok := find(fields, key.Value)
		if !ok {
			d.FailNode(key, source.Clip(at), "unknown key", elsewhere(key.Value, fields, d.table))
			continue
		}
		d.Where[at] = source.Place{Key: key, Value: value}
		d.value(value, at, f, owner)
	}
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
func elsewhere(key string, fields, all []field) string {
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
	walk(all, "", func(path string, f field) {
		if strings.HasSuffix(path, "."+key) {
			there = append(there, path)
		}
	})
	if len(there) == 0 {
		var last []string
		walk(all, "", func(path string, _ field) { last = append(last, path[strings.LastIndexByte(path, '.')+1:]) })
		if near := suggest.Nearest(key, last); near != "" {
			walk(all, "", func(path string, _ field) {
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
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" && (f.fields != nil || f.unsupported) {
		return
	}
	switch {
	case f.envOnly:
		d.Fail(path, "must not be in the file", "use "+f.key+"_file, or the environment variable "+f.env(path))
	case f.isSection():
		if n.Kind != yaml.MappingNode {
			d.Fail(path, "expected a section with keys, found "+source.Found(n), "its keys: "+strings.Join(keysOf(f.fields), ", "))
			return
		}
		d.mapping(n, path, f.fields, owner)
	case f.unsupported:
		if n.Kind != yaml.SequenceNode {
			d.Fail(path, "expected a list, found "+source.Found(n), "write []")
		} else if len(n.Content) > 0 {
			d.Fail(path, "not supported by this version", "omit it, or write []")
		}
	case f.isList():
		if n.Kind != yaml.SequenceNode {
			d.Fail(path, "expected a list, found "+source.Found(n), "start each member with a dash: `- "+f.fields[0].key+": …`")
			return
		}
		for i, item := range n.Content {
			at := path + "[" + strconv.Itoa(i) + "]"
			d.Where[at] = source.Place{Value: item}
			member := f.at(owner) // also for a wrong one, so that indexes stay right
			setDefaults(f.fields, member)
			if item.Kind != yaml.MappingNode {
				d.Fail(at, "expected keys, found "+source.Found(item), "its keys: "+strings.Join(keysOf(f.fields), ", "))
				continue
			}
			d.mapping(item, at, f.fields, member)
			for _, k := range f.fields {
				if k.need && !d.IsSet(at+"."+k.key) {
					d.Fail(at+"."+k.key, "is missing", "add `"+k.key+": "+k.example+"`")
				}
			}
		}
	case f.isTexts():
		d.texts(n, path, f, f.at(owner))
	default:
		switch place := f.at(owner).(type) {
		case *json.RawMessage:
			d.json(n, path, place)
		case *map[string]string:
			d.textsByName(n, path, f, place)
		default:
			d.scalar(n, path, f, place)
		}
	}
}

// texts reads a list of texts.
func (d *document) texts(n *yaml.Node, path string, f field, to any) {
	if n.Kind != yaml.SequenceNode {
		d.Fail(path, "expected a list, found "+source.Found(n), "write "+cmpOr(f.example, "["+source.Clip(n.Value)+"]"))
		return
	}
	empty(to)
	tag, want := "!!str", "text"
	if _, numbers := to.(*[]uint32); numbers {
		tag, want = "!!int", "a number"
	}
	for i, item := range n.Content {
		at := path + "[" + strconv.Itoa(i) + "]"
		d.Where[at] = source.Place{Value: item}
		if item.Kind != yaml.ScalarNode || item.Tag != tag {
			fix := source.QuoteAdvice(item)
			if tag == "!!int" {
				fix = "write it like " + f.example
			}
			d.Fail(at, "expected "+want+", found "+source.Found(item), fix)
			continue
		}
		if m := appendText(f, to, item.Value); m != nil {
			d.Fail(at, m.problem, m.fix)
		}
	}
}

// textsByName reads names that the file may choose, each with a text.
func (d *document) textsByName(n *yaml.Node, path string, f field, to *map[string]string) {
	if n.Kind != yaml.MappingNode {
		d.Fail(path, "expected keys with texts, found "+source.Found(n), "write "+f.example)
		return
	}
	*to = map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.FailNode(key, path, "expected a name, found "+source.Found(key), "")
			continue
		}
		at := source.Join(path, key.Value)
		_, twice := (*to)[key.Value]
		switch {
		case len(*to) >= maxTexts:
			d.Fail(path, "has more than "+strconv.Itoa(maxTexts)+" members", "split it")
			return
		case twice:
			d.FailNode(key, source.Clip(at), "the key is here a second time", "keep one of the two")
		case value.Kind != yaml.ScalarNode || value.Tag != "!!str":
			d.FailNode(value, source.Clip(at), "expected text, found "+source.Found(value), source.QuoteAdvice(value))
		}
		(*to)[key.Value] = value.Value
	}
}

func (d *document) scalar(n *yaml.Node, path string, f field, to any) {
	want := "!!str"
	switch to.(type) {
	case *bool, **bool:
		want = "!!bool"
	}
	if n.Kind != yaml.ScalarNode || n.Tag != want {
		expected := map[string]string{"!!str": "text", "!!bool": "true or false"}[want]
		fix := source.QuoteAdvice(n)
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
		what := source.Found(n)
		if f.secret && n.Kind == yaml.ScalarNode {
			what, fix = "something else", "put it in quotes"
		}
		d.Fail(path, "expected "+expected+", found "+what, fix)
		return
	}
	if m := assign(f, to, n.Value); m != nil {
		d.Fail(path, m.problem, m.fix)
	}
}

// json turns YAML into JSON. The caller has bounded depth and refused aliases.
func (d *document) json(n *yaml.Node, path string, to *json.RawMessage) {
	if n.Kind != yaml.MappingNode {
		d.Fail(path, "expected a JSON Web Key Set, found "+source.Found(n), "write {keys: [ … ]}")
		return
	}
	out, err := json.Marshal(d.jsonValue(n, path))
	if err != nil {
		d.Fail(path, "cannot be written as JSON", "")
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
				d.FailNode(k, path, "the key is here a second time", "keep one of the two")
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

func keysOf(fields []field) []string {
	var keys []string
	for _, f := range fields {
		if !f.envOnly {
			keys = append(keys, f.key)
		}
	}
	return keys
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
