package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/internal/explain"
)

// What the API sends may hold what somebody else chose: a client's name, a
// reason. Nothing of it may act on the terminal or forge a line.

// The forms that a command can print its data in. Only what has a name can be
// printed as one.
var (
	dataForms = []string{"text", "json", "yaml"}
	nameForms = []string{"text", "json", "yaml", "name"}
)

// outputFlag adds -o to flags, those of cmd or those that it hands down.
func outputFlag(cmd *cobra.Command, flags *pflag.FlagSet, output *string, forms []string) {
	flags.StringVarP(output, "output", "o", "text", oneOfWords(forms))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
}

func checkOutput(output string, forms []string) error {
	if !slices.Contains(forms, output) {
		return &usageError{fmt.Errorf("-o must be %s, not %q", oneOfWords(forms), output)}
	}
	return nil
}

// oneOfWords is "text, json or yaml".
func oneOfWords(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// printData writes one value in a form that programs read.
func printData(w io.Writer, form string, value any) error {
	switch form {
	case "yaml":
		return printYAML(w, value)
	case "name":
		name, err := nameOf(value)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, explain.Printable(name))
		return err
	}
	return printJSON(w, value)
}

// printJSON writes one value, indented. What is not printable is escaped, so
// that the value stays the same and the terminal is left alone.
func printJSON(w io.Writer, value any) error {
	data, err := encodeJSON(value, "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, plainJSON(string(data)))
	return err
}

func encodeJSON(value any, indent string) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	err := encoder.Encode(value)
	return b.Bytes(), err
}

// plainJSON escapes what is not printable; outside strings JSON has none but
// white space.
func plainJSON(s string) string {
	return escape(s, func(r rune) string {
		if r > 0xffff {
			high, low := utf16.EncodeRune(r)
			return fmt.Sprintf(`\u%04x\u%04x`, high, low)
		}
		return fmt.Sprintf(`\u%04x`, r)
	})
}

func escape(s string, unprintable func(rune) string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(unprintable(r))
		}
	}
	return b.String()
}

// printYAML writes what printJSON writes as a YAML document, with the members
// in the same order.
func printYAML(w io.Writer, value any) error {
	data, err := encodeJSON(value, "")
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	node, err := yamlNode(decoder)
	if err != nil {
		return err
	}
	text, err := yaml.Dump(node, yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		return err
	}
	// The emitter leaves bidirectional marks and the like as they are. They are
	// only in double quotes, where YAML knows the same escapes as JSON.
	_, err = io.WriteString(w, escape(string(text), func(r rune) string { return fmt.Sprintf(`\U%08x`, r) }))
	return err
}

// yamlNode reads one value of a JSON text.
func yamlNode(decoder *json.Decoder) (*yaml.Node, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	scalar := func(tag, value string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value} }
	switch token := token.(type) {
	case json.Delim:
		node := &yaml.Node{Kind: yaml.SequenceNode}
		if token == '{' {
			node.Kind = yaml.MappingNode
		}
		for decoder.More() { // a mapping's keys and values alternate in both
			member, err := yamlNode(decoder)
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, member)
		}
		if len(node.Content) == 0 {
			node.Style = yaml.FlowStyle // {} and [], since nothing at all is null
		}
		_, err := decoder.Token()
		return node, err
	case string:
		node := scalar("!!str", token)
		if strings.ContainsFunc(token, func(r rune) bool { return !unicode.IsPrint(r) }) {
			node.Style = yaml.DoubleQuotedStyle
		}
		return node, nil
	case json.Number:
		tag := "!!int"
		if strings.ContainsAny(token.String(), ".eE") {
			tag = "!!float"
		}
		return scalar(tag, token.String()), nil
	case bool:
		return scalar("!!bool", fmt.Sprint(token)), nil
	}
	return scalar("!!null", "null"), nil
}

// names are the members that hold a thing's name, the more telling first.
var names = []string{"grant_id", "kid", "username", "name", "client_id", "user_id", "id"}

// nameOf is what other commands call a thing.
func nameOf(value any) (string, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return "", err
	}
	for _, member := range names {
		var name string
		if json.Unmarshal(members[member], &name) == nil && name != "" {
			return name, nil
		}
	}
	return "", errors.New("what the service answered has no name: use -o json")
}

// printList writes several things: a list, or their names a line each.
func printList[T any](w io.Writer, form string, items []T) error {
	if form != "name" {
		return printData(w, form, items)
	}
	for _, item := range items {
		if err := printData(w, form, item); err != nil {
			return err
		}
	}
	return nil
}
