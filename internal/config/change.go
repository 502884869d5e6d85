package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/internal/config/source"
)

// change says what a new value of a key needs. The keys of a section have that
// of the section.
type change int

const (
	// atRestart is for what is built once. A key that says nothing has it, so that
	// nobody can forget to say so.
	atRestart change = iota
	// atReload is for what a running node takes from the file again.
	atReload
	// declared is for what a running node takes from the file again and what all
	// nodes must agree on: see Declaration.
	declared
)

// keysThatChange visits every key with a value of its own, and what a new value
// of it needs.
func keysThatChange(fields []field, visit func(path string, f field, c change)) {
	var walk func(fields []field, prefix string, c change)
	walk = func(fields []field, prefix string, c change) {
		for _, f := range fields {
			if f.isSection() {
				walk(f.fields, prefix+f.key+".", max(c, f.change))
			} else {
				visit(prefix+f.key, f, max(c, f.change))
			}
		}
	}
	walk(fields, "", atRestart)
}

// NeedRestart lists the keys that only a restart can change, for documents.
func NeedRestart() []string { return needRestart(table) }

func needRestart(fields []field) []string {
	var keys []string
	keysThatChange(fields, func(path string, _ field, c change) {
		if c == atRestart {
			keys = append(keys, path)
		}
	})
	return keys
}

// Fixed lists the keys in which next differs from c although they cannot change
// while the service runs.
func (c *Config) Fixed(next *Config) []string { return fixed(table, c, next) }

func fixed(fields []field, old, next any) []string {
	var keys []string
	keysThatChange(fields, func(path string, f field, change change) {
		if change == atRestart && !reflect.DeepEqual(f.at(old), f.at(next)) {
			keys = append(keys, path)
		}
	})
	return keys
}

// Declaration names all that the file declares: who and what there is, how long
// things live, how tokens are signed. It is the same wherever the file says the
// same, in whatever layout and to whatever version of this program, and another
// when anything of it changes, also in a file that it names. It is a plain hash
// over secrets too: it must not leave the process as it is.
func (c *Config) Declaration() [32]byte {
	all := map[string]any{}
	keysThatChange(table, func(path string, f field, change change) {
		d := c.origin
		switch {
		case change != declared || !d.IsSet(path):
		case f.isList() || f.unsupported:
			all[path] = d.canonical(path, d.Where[path].Value)
		case f.secret:
			all[path] = f.at(c).(*Secret).Reveal()
		default:
			all[path] = fmt.Sprint(reflect.ValueOf(f.at(c)).Elem())
		}
	})
	text, _ := json.Marshal(all) // texts, lists and maps: sorted, and never an error
	return sha256.Sum256(text)
}

// canonical is a part of the file without its layout, and with the contents of
// files in the place of their names.
func (d *document) canonical(path string, n *yaml.Node) any {
	switch n.Kind {
	case yaml.MappingNode:
		keys := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			keys[key] = d.canonical(source.Join(path, key), n.Content[i+1])
		}
		return keys
	case yaml.SequenceNode:
		members := []any{}
		for i, member := range n.Content {
			members = append(members, d.canonical(path+"["+strconv.Itoa(i)+"]", member))
		}
		return members
	}
	if content, ok := d.contents[path]; ok {
		return content
	}
	return n.Tag + " " + n.Value
}

// note remembers what a file held that the key at path names. A line break at
// its end is no difference.
func (d *document) note(path string, data []byte) {
	sum := sha256.Sum256(bytes.TrimRight(data, "\r\n"))
	d.contents[path] = "content " + string(fmt.Appendf(nil, "%x", sum))
}
