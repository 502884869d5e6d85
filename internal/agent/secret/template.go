package secret

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// Limits of the templates of one Secret, in bytes. Kubernetes takes 1 MiB.
const (
	maxTemplates = 16 << 10
	maxOutput    = 256 << 10
	maxKeys      = 32
)

// values are all that a template may say.
type values struct{ Token, ExpiresAt, Issuer string }

var (
	fields    = []string{"Token", "ExpiresAt", "Issuer"}
	functions = template.FuncMap{
		"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"json": func(s string) (string, error) {
			text, err := json.Marshal(s)
			return string(text), err
		},
	}
	// urlquery is the template package's own.
	allowed = []string{"base64", "json", "urlquery"}
)

// templates are those of one Secret, by key, checked.
type templates map[string]*template.Template

// parsed reads templates. They come from whoever may declare a token, so they are
// text with placeholders and nothing else: no conditions, no loops, and none of the
// functions with which a short text makes a long one.
func parsed(texts map[string]string) (templates, error) {
	size := 0
	for key, text := range texts {
		size += len(key) + len(text)
	}
	if size > maxTemplates || len(texts) > maxKeys {
		return nil, fmt.Errorf("is more than %d keys or %d bytes", maxKeys, maxTemplates)
	}
	all := templates{}
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		if !isKey(key) {
			return nil, fmt.Errorf("%q is not a key of a Secret: use at most 253 of a to z, A to Z, 0 to 9, -, _ and .", clip(key))
		}
		t, err := template.New("").Funcs(functions).Parse(texts[key])
		if err != nil { // its text repeats the template, in which somebody may have put a secret
			return nil, fmt.Errorf("%s is not a template", key)
		}
		if len(t.Templates()) > 1 {
			return nil, fmt.Errorf("%s defines another template", key)
		}
		if t.Tree != nil {
			for _, node := range t.Root.Nodes {
				if err := placeholder(node); err != nil {
					return nil, fmt.Errorf("%s: %w", key, err)
				}
			}
		}
		all[key] = t
	}
	return all, nil
}

var errPlaceholder = errors.New("is more than text and placeholders")

// placeholder accepts text, and a field that passes through functions of ours.
func placeholder(node parse.Node) error {
	action, is := node.(*parse.ActionNode)
	if !is {
		if node.Type() == parse.NodeText {
			return nil
		}
		return errPlaceholder
	}
	if len(action.Pipe.Decl) > 0 {
		return errPlaceholder
	}
	for i, command := range action.Pipe.Cmds {
		if len(command.Args) != 1 {
			return errPlaceholder
		}
		switch arg := command.Args[0].(type) {
		case *parse.FieldNode:
			if i > 0 || len(arg.Ident) != 1 || !slices.Contains(fields, arg.Ident[0]) {
				return fmt.Errorf("there is no %s", clip(arg.String()))
			}
		case *parse.IdentifierNode:
			if i == 0 || !slices.Contains(allowed, arg.Ident) {
				return errPlaceholder
			}
		default:
			return errPlaceholder
		}
	}
	return nil
}

// execute fills all of them in.
func (t templates) execute(v values) (map[string][]byte, error) {
	data := map[string][]byte{}
	left := maxOutput
	for key, one := range t {
		out := limited{text: []byte{}, left: left}
		if err := one.Execute(&out, v); err != nil {
			if out.full {
				return nil, fmt.Errorf("the Secret would be larger than %d bytes", maxOutput)
			}
			return nil, fmt.Errorf("%s cannot be filled in", key)
		}
		data[key], left = out.text, out.left
	}
	return data, nil
}

// limited takes no more than left.
type limited struct {
	text []byte
	left int
	full bool
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		l.full = true
		return 0, errors.New("full")
	}
	l.text, l.left = append(l.text, p...), l.left-len(p)
	return len(p), nil
}

func isKey(s string) bool {
	return s != "" && len(s) <= 253 && s != "." && s != ".." && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}
