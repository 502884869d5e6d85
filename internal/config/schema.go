package config

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"
)

type object = map[string]any

// SchemaID is where the schema can be got. Editors read it from the first line of
// a file that `signalbox init` wrote.
const SchemaID = "https://raw.githubusercontent.com/signalbox-sts/signalbox/main/docs/reference/signalbox.schema.json"

// Schema is the JSON Schema (2020-12) of the file, for editors. It knows the
// shape; what one key means for another only validation knows.
func Schema() []byte { return schemaOf(table, SchemaID, "Signalbox configuration") }

func schemaOf(fields []field, id, title string) []byte {
	s := section(fields)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = id
	s["title"] = title
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("config: schema: " + err.Error()) // only texts and maps are in it
	}
	return append(out, '\n')
}

func section(fields []field) object {
	properties, required := object{}, []string{}
	for _, f := range fields {
		if f.envOnly {
			continue
		}
		properties[f.key] = property(f)
		if f.need {
			required = append(required, f.key)
		}
	}
	s := object{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func property(f field) object {
	var p object
	switch {
	case f.isSection():
		p = section(f.fields)
		p["type"] = []string{"object", "null"}
	case f.isList():
		p = object{"type": []string{"array", "null"}, "items": section(f.fields)}
	case f.unsupported:
		p = object{"type": []string{"array", "null"}, "maxItems": 0}
	default:
		p = leaf(f)
	}
	p["description"] = strings.TrimSpace(f.doc + " " + f.danger)
	return p
}

func leaf(f field) object {
	text := object{"type": "string"}
	if f.oneOf != nil {
		text["enum"] = f.oneOf
	}
	switch f.at(nil).(type) {
	case *bool, **bool:
		return object{"type": "boolean", "default": f.def == "true"}
	case *time.Duration:
		text["pattern"] = `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`
	case *[]byte:
		text["pattern"] = `^sha256:[0-9A-Fa-f]{64}$`
	case *json.RawMessage:
		return object{"type": "object", "required": []string{"keys"}, "properties": object{
			"keys": object{"type": "array", "minItems": 1, "items": object{"type": "object", "required": []string{"kty"}}}}}
	case *map[string]string:
		return object{"type": "object", "additionalProperties": text}
	case *[]uint32:
		return object{"type": "array", "uniqueItems": true, "items": object{"type": "integer", "minimum": 0}}
	case *[]string, *[]netip.Prefix:
		p := object{"type": "array", "uniqueItems": true, "items": text}
		if f.def != "" {
			p["default"] = strings.Split(strings.Trim(f.def, "[]"), ", ")
		}
		return p
	}
	if f.def != "" {
		text["default"] = strings.Trim(f.def, `"`)
	}
	if f.example != "" {
		text["examples"] = []string{strings.Trim(f.example, `"`)}
	}
	return text
}
