package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

func schema(t *testing.T) object {
	t.Helper()
	var s object
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchemaHasEveryKey(t *testing.T) {
	if schema(t)["$id"] != SchemaID || !strings.HasPrefix(string(Sample(Start{Issuer: "https://sts.example.com"})), "# yaml-language-server: $schema="+SchemaID+"\n") {
		t.Error("a file does not name the schema as the schema does")
	}
	if schema(t)["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Error("the schema does not say which it is")
	}
	var look func(s object, fields []field, prefix string)
	look = func(s object, fields []field, prefix string) {
		if items, ok := s["items"].(object); ok {
			s = items
		}
		properties := s["properties"].(object)
		if s["additionalProperties"] != false {
			t.Errorf("%s accepts unknown keys", prefix)
		}
		for _, f := range fields {
			p, ok := properties[f.key].(object)
			switch {
			case f.envOnly && ok:
				t.Errorf("%s%s must not be in the file, but is in the schema", prefix, f.key)
			case f.envOnly:
			case !ok:
				t.Errorf("the schema has no %s%s", prefix, f.key)
			case p["description"] == "":
				t.Errorf("%s%s is not described", prefix, f.key)
			case f.fields != nil:
				look(p, f.fields, prefix+f.key+".")
			}
		}
	}
	look(schema(t), table, "")
}

// The schema and the parser must agree on shape.
func TestSchemaAgreesWithTheParser(t *testing.T) {
	for _, row := range []struct {
		name, doc string
		good      bool
	}{
		{"the good document", good, true},
		{"the sample", string(Sample(Start{Issuer: "https://sts.example.com"})), true},
		{"an empty section", good + "journal:\n", true},
		{"inline keys", with(t, `client_secret_hash: "sha256:`+exampleHash+`"`, "token_endpoint_auth_method: private_key_jwt\n    jwks: {keys: [{kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo}]}"), true},
		{"an unknown key", good + "bogus: 1\n", false},
		{"an unknown key in a member", with(t, "client_id: web", "client_id: web\n    bogus: 1"), false},
		{"a member without its id", with(t, "client_id: api", "client_name: api"), false},
		{"a number for a text", with(t, "client_id: web", "client_id: 1"), false},
		{"a text for a list", good + "keys: {algorithms: ES256}\n", false},
		{"a word that is not in the list", good + "log: {level: loud}\n", false},
		{"a duration without unit", good + "tokens: {access_ttl: '5'}\n", false},
		{"a duration in days", good + "tokens: {access_ttl: 5d}\n", false},
		{"a hash that is too short", with(t, exampleHash, "abc"), false},
		{"a cluster", good + "clusters: [{name: a, webhook: {caller: api}}]\n", true},
		{"a cluster without its name", good + "clusters: [{issuer: a}]\n", false},
		{"a webhook of nobody known", good + "clusters: [{name: a, webhook: {url: x}}]\n", false},
		{"a policy", good + "clusters: [{name: a}]\npolicies: [{name: p, from: {user_group: sre}, to: {cluster: a}}]\n", true},
		{"claims of a proof", good + "trusted_issuers: [{name: ci, issuer: 'https://ci.example.com'}]\npolicies: [{name: p, from: {trusted_issuer: ci, claims: {env: prod}}, to: {resource: 'https://api.example.com'}}]\n", true},
		{"a claim that is no text", good + "trusted_issuers: [{name: ci, issuer: 'https://ci.example.com'}]\npolicies: [{name: p, from: {trusted_issuer: ci, claims: {attempt: 1}}, to: {resource: 'https://api.example.com'}}]\n", false},
		{"an unknown key of a nested section", good + "clusters: [{name: a}]\npolicies: [{name: p, from: {group: sre}, to: {cluster: a}}]\n", false},
		{"an identity provider", good + "identity_providers: [{name: a}]\n", false},
		{"a master key in the file", good + "secrets: {master_key: x}\n", false},
		{"the same scope twice", with(t, "[orders:read]", "[orders:read, orders:read]"), false},
		{"keys without kty", with(t, `client_secret_hash: "sha256:`+exampleHash+`"`, "token_endpoint_auth_method: private_key_jwt\n    jwks: {keys: [{}]}"), false},
	} {
		var doc any
		if err := yaml.Load([]byte(row.doc), &doc); err != nil {
			t.Fatal(err)
		}
		problem := check(schema(t), normal(doc), "")
		if (problem == "") != row.good {
			t.Errorf("%s: the schema says %q", row.name, problem)
		}
		_, err := parse(t, row.doc)
		if row.name != "the sample" && (err == nil) != row.good {
			t.Errorf("%s: the parser says %v", row.name, err)
		}
	}
}

func normal(v any) any {
	switch v := v.(type) {
	case map[any]any:
		m := object{}
		for k, x := range v {
			m[fmt.Sprint(k)] = normal(x)
		}
		return m
	case map[string]any:
		for k, x := range v {
			v[k] = normal(x)
		}
	case []any:
		for i, x := range v {
			v[i] = normal(x)
		}
	}
	return v
}

// check knows the words of JSON Schema that Schema uses, and fails on others.
func check(s object, v any, path string) string {
	types := map[string]bool{}
	switch want := s["type"].(type) {
	case string:
		types[want] = true
	case []any:
		for _, w := range want {
			types[w.(string)] = true
		}
	}
	kind := "other"
	switch v.(type) {
	case nil:
		kind = "null"
	case string:
		kind = "string"
	case bool:
		kind = "boolean"
	case object:
		kind = "object"
	case []any:
		kind = "array"
	}
	if !types[kind] {
		return path + ": is " + kind
	}
	if v == nil {
		return ""
	}
	for word, arg := range s {
		switch word {
		case "type", "description", "default", "examples", "title", "$schema", "$id", "additionalProperties", "properties":
		case "enum":
			if !slices.Contains(arg.([]any), v) {
				return path + ": not in enum"
			}
		case "pattern":
			if !regexp.MustCompile(arg.(string)).MatchString(v.(string)) {
				return path + ": pattern"
			}
		case "required":
			for _, k := range arg.([]any) {
				if _, ok := v.(object)[k.(string)]; !ok {
					return path + ": has no " + k.(string)
				}
			}
		case "maxItems":
			if float64(len(v.([]any))) > arg.(float64) {
				return path + ": too many"
			}
		case "minItems":
			if float64(len(v.([]any))) < arg.(float64) {
				return path + ": too few"
			}
		case "uniqueItems":
			for i, a := range v.([]any) {
				for _, b := range v.([]any)[:i] {
					if reflect.DeepEqual(a, b) {
						return path + ": twice"
					}
				}
			}
		case "items":
			for i, x := range v.([]any) {
				if p := check(arg.(object), x, fmt.Sprintf("%s[%d]", path, i)); p != "" {
					return p
				}
			}
		default:
			return "the checker does not know " + word
		}
	}
	if m, ok := v.(object); ok {
		properties, _ := s["properties"].(object)
		for k, x := range m {
			p, ok := properties[k].(object)
			if !ok {
				switch more := s["additionalProperties"].(type) {
				case object:
					p = more
				case bool:
					return path + "." + k + ": unknown"
				default:
					continue
				}
			}
			if problem := check(p, x, strings.TrimPrefix(path+"."+k, ".")); problem != "" {
				return problem
			}
		}
	}
	return ""
}
