package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/server/admin"
)

type object = map[string]any

// described holds every answer of every test against the description. It
// knows as much of JSON Schema as the description uses.
func (s *service) described(method, path string, got answer) {
	s.Helper()
	path, _, _ = strings.Cut(path, "?")
	var document map[string]any
	if err := json.Unmarshal(s.description, &document); err != nil {
		s.Fatal(err)
	}
	for template, item := range document["paths"].(object) {
		op, ok := item.(object)[strings.ToLower(method)].(object)
		if !ok || !fits(strings.TrimPrefix(template, "/admin/v1"), path) {
			continue
		}
		responses := op["responses"].(object)
		response, ok := responses[strconv.Itoa(got.status)].(object)
		if !ok && got.status >= 400 {
			response, ok = responses["default"].(object)
		}
		if !ok {
			s.Fatalf("%s %s answered %d, which is not described", method, path, got.status)
		}
		content, has := response["content"].(object)
		if !has {
			if len(got.body) > 0 {
				s.Fatalf("%s %s has a body, which is not described: %s", method, path, got.body)
			}
			return
		}
		mediaType := got.header.Get("Content-Type")
		described, ok := content[mediaType].(object)
		if !ok {
			s.Fatalf("%s %s answered %q, which is not described", method, path, mediaType)
		}
		var value any
		if err := json.Unmarshal(got.body, &value); err != nil {
			s.Fatalf("%v: %s", err, got.body)
		}
		if err := valid(document, described["schema"].(object), value, "$"); err != nil {
			s.Fatalf("%s %s: %v in %s", method, path, err, got.body)
		}
		return
	}
}

// fits says whether a path is one of a template.
func fits(template, path string) bool {
	t, p := strings.Split(template, "/"), strings.Split(path, "/")
	return slices.EqualFunc(t, p, func(t, p string) bool { return t == p || t == "{id}" && p != "" })
}

func valid(document, schema object, value any, at string) error {
	if ref, ok := schema["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		target, ok := document["components"].(object)["schemas"].(object)[name].(object)
		if !ok {
			return fmt.Errorf("%s: no schema %q", at, name)
		}
		return valid(document, target, value, at)
	}
	if values, ok := schema["enum"].([]any); ok && !slices.Contains(values, value) {
		return fmt.Errorf("%s is %v, not one of %v", at, value, values)
	}
	switch schema["type"] {
	case "object":
		members, ok := value.(object)
		if !ok {
			return fmt.Errorf("%s is not an object", at)
		}
		properties, closed := schema["properties"].(object)
		if !closed {
			return nil
		}
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, ok := members[name.(string)]; !ok {
				return fmt.Errorf("%s lacks %s", at, name)
			}
		}
		for name, member := range members {
			property, ok := properties[name].(object)
			if !ok {
				return fmt.Errorf("%s has %s, which is not described", at, name)
			}
			if err := valid(document, property, member, at+"."+name); err != nil {
				return err
			}
		}
	case "array":
		list, ok := value.([]any)
		if !ok {
			return fmt.Errorf("%s is not an array", at)
		}
		for i, item := range list {
			if err := valid(document, schema["items"].(object), item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "string":
		text, ok := value.(string)
		if !ok {
			return fmt.Errorf("%s is not a string", at)
		}
		if schema["format"] == "date-time" {
			if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
		}
	case "integer":
		if n, ok := value.(float64); !ok || n != float64(int64(n)) {
			return fmt.Errorf("%s is not an integer", at)
		}
	case "boolean":
		if _, ok := value.(bool); !ok {
			return fmt.Errorf("%s is not true or false", at)
		}
	default:
		return fmt.Errorf("%s: schema without a type", at)
	}
	return nil
}

func TestOpenAPIDescribesEveryRoute(t *testing.T) {
	s := newService(t)
	var document object
	s.call("", "GET", "/openapi.json", nil).wants(http.StatusOK).into(&document)
	if document["openapi"] != "3.1.0" {
		t.Fatal(document["openapi"])
	}
	paths := document["paths"].(object)
	operations, names := 0, map[string]bool{}
	for _, item := range paths {
		operations += len(item.(object))
	}
	for _, rt := range admin.Routes() {
		op, ok := paths["/admin/v1"+rt.Path].(object)[strings.ToLower(rt.Method)].(object)
		if !ok || op["summary"] == "" || names[rt.Name] {
			t.Fatalf("%s %s is not described, or its name %q is taken", rt.Method, rt.Path, rt.Name)
		}
		names[rt.Name] = true
		if rt.Scope != "" && !strings.Contains(fmt.Sprint(op["security"]), rt.Scope) {
			t.Errorf("%s does not say which scope it needs: %v", rt.Name, op["security"])
		}
		if (rt.In != nil) != (op["requestBody"] != nil) {
			t.Errorf("%s: request body", rt.Name)
		}
		for _, p := range rt.Query {
			if !strings.Contains(fmt.Sprint(op["parameters"]), "name:"+p.Name+" ") {
				t.Errorf("%s does not describe %s: %v", rt.Name, p.Name, op["parameters"])
			}
		}
	}
	if operations != len(admin.Routes())+1 {
		t.Errorf("%d operations for %d routes and the description", operations, len(admin.Routes()))
	}
	// Whatever is referred to is there.
	text := string(s.description)
	schemas := document["components"].(object)["schemas"].(object)
	for _, part := range strings.Split(text, "#/components/schemas/")[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if _, ok := schemas[name].(object); !ok {
			t.Errorf("schema %q is missing", name)
		}
	}
}
