package admin_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	server "github.com/signalbox-sts/signalbox/internal/server/admin"
)

type object = map[string]any

// description is docs/reference/openapi.yaml, with a validator of others.
type description struct {
	Paths      map[string]map[string]object
	Components struct{ Responses map[string]object }

	compiler *jsonschema.Compiler

	mu      sync.Mutex
	schemas map[string]*jsonschema.Schema
}

const committed = "../../../docs/reference/openapi.yaml"

// described is what has been committed: what users read is what is tested.
var described = sync.OnceValues(func() (*description, error) {
	text, err := os.ReadFile(committed)
	if err != nil {
		return nil, err
	}
	var document any
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	if text, err = json.Marshal(document); err != nil { // as JSON has it
		return nil, err
	}
	d := &description{compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	if err := json.Unmarshal(text, d); err != nil {
		return nil, err
	}
	if document, err = jsonschema.UnmarshalJSON(bytes.NewReader(text)); err != nil {
		return nil, err
	}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	return d, d.compiler.AddResource("openapi.json", document)
})

// valid holds JSON against the schema at a place in the description.
func (d *description) valid(place []string, text []byte) error {
	pointer := "openapi.json#"
	for _, part := range place {
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(part)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	schema := d.schemas[pointer]
	if schema == nil {
		var err error
		if schema, err = d.compiler.Compile(pointer); err != nil {
			return err
		}
		d.schemas[pointer] = schema
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// exchange holds a request that was taken, and every answer, against the
// description. Paths that no operation has are not the API's.
func (d *description) exchange(method, path string, sent []byte, got answer) error {
	path, _, _ = strings.Cut(path, "?")
	for template, item := range d.Paths {
		op, ok := item[strings.ToLower(method)]
		if !ok || !fits(strings.TrimPrefix(template, "/admin/v1"), path) {
			continue
		}
		place := []string{"paths", template, strings.ToLower(method)}
		if _, has := op["requestBody"]; got.status < 300 && (has || len(sent) > 0) {
			if err := d.valid(append(slices.Clone(place), "requestBody", "content", "application/json", "schema"), sent); err != nil {
				return fmt.Errorf("the request: %w", err)
			}
		}
		return d.response(op, place, got)
	}
	return nil
}

func (d *description) response(op object, place []string, got answer) error {
	responses := op["responses"].(object)
	status := fmt.Sprint(got.status)
	response, ok := responses[status].(object)
	if !ok && got.status >= 400 {
		status = "default"
		response, ok = responses[status].(object)
	}
	if !ok {
		return fmt.Errorf("status %s is not described", status)
	}
	place = append(place, "responses", status)
	if ref, ok := response["$ref"].(string); ok {
		place = []string{"components", "responses", ref[strings.LastIndex(ref, "/")+1:]}
		response = d.Components.Responses[place[2]]
	}
	headers, _ := response["headers"].(object)
	for name := range headers {
		if got.header.Get(name) == "" {
			return fmt.Errorf("the header %s is missing", name)
		}
	}
	content, has := response["content"].(object)
	switch mediaType := got.header.Get("Content-Type"); {
	case !has && len(got.body) > 0:
		return errors.New("there is a body, which is not described")
	case !has:
		return nil
	case content[mediaType] == nil:
		return fmt.Errorf("%q is not described", mediaType)
	default:
		return d.valid(append(place, "content", mediaType, "schema"), got.body)
	}
}

// fits says whether a path is one of a template.
func fits(template, path string) bool {
	t, p := strings.Split(template, "/"), strings.Split(path, "/")
	return slices.EqualFunc(t, p, func(t, p string) bool { return t == p || t == "{id}" && p != "" })
}

// A route that is not committed, or is committed otherwise, fails here: write the file again
// with go test ./test/docs -run TestReference -update.
func TestOpenAPIDescribesEveryRoute(t *testing.T) {
	d, err := described()
	if err != nil {
		t.Fatal(err)
	}
	operations, names := 0, map[string]bool{}
	for _, item := range d.Paths {
		operations += len(item)
	}
	for _, rt := range server.Routes() {
		op, ok := d.Paths["/admin/v1"+rt.Path][strings.ToLower(rt.Method)]
		if !ok || op["operationId"] != rt.Name || op["summary"] != rt.Summary || names[rt.Name] {
			t.Errorf("%s %s is not described, or its name %q is taken", rt.Method, rt.Path, rt.Name)
			continue
		}
		names[rt.Name] = true
		if got := fmt.Sprint(op["security"]); got != "[map[token:["+rt.Scope+"]]]" {
			t.Errorf("%s does not say which scope it needs: %s", rt.Name, got)
		}
		if (rt.In != nil) != (op["requestBody"] != nil) {
			t.Errorf("%s: request body", rt.Name)
		}
		for _, p := range rt.Query {
			if !strings.Contains(fmt.Sprint(op["parameters"]), "name:"+p.Name+" ") {
				t.Errorf("%s does not describe %s: %v", rt.Name, p.Name, op["parameters"])
			}
		}
		responses := op["responses"].(object)
		for _, status := range []string{"400", "401", "403", "503", "default"} {
			if responses[status] == nil {
				t.Errorf("%s does not describe the answer %s", rt.Name, status)
			}
		}
		if success := responses[strconv.Itoa(cmp.Or(rt.Status, http.StatusOK))]; success == nil || (rt.Out != nil) != (success.(object)["content"] != nil) {
			t.Errorf("%s: what it answers: %v", rt.Name, success)
		}
	}
	if operations != len(server.Routes())+1 {
		t.Errorf("%d operations for %d routes and the description", operations, len(server.Routes()))
	}
}

// Whoever asks a node gets what is committed.
func TestANodeServesTheCommittedDescription(t *testing.T) {
	s := newService(t)
	served := s.call("", "GET", "/openapi.json", nil).wants(http.StatusOK).body
	text, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := errors.Join(yaml.Unmarshal(text, &want), yaml.Unmarshal(served, &got)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(want, got) {
		t.Errorf("%s is not what a node serves: go test ./test/docs -run TestReference -update", committed)
	}
}
