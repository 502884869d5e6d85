// OpenAPI 3.1, JSON Schema 2020-12: the description of the API, made from the
// table that serves it and from the types that are sent.
package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

type object = map[string]any

func (a *API) describeAPI(context.Context, *call) (plan, error) { return reads(a.description), nil }

// describe makes the whole description. It never changes while the program runs.
func describe() json.RawMessage {
	schemas := object{}
	paths := object{}
	for _, rt := range routes() {
		path, _ := paths[prefix+rt.path].(object)
		if path == nil {
			path = object{}
			paths[prefix+rt.path] = path
		}
		path[strings.ToLower(rt.method)] = operation(rt, schemas)
	}
	document, err := json.Marshal(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Signalbox administration API", "version": "1",
			"description": "Every change is in the journal before it is answered. What stands in the configuration file is read-only here. " +
				"Errors have one form; error_description says how to mend the request.",
		},
		"paths": paths,
		"components": object{
			"schemas": schemas,
			"securitySchemes": object{"token": object{
				"type": "http", "scheme": "bearer",
				"description": "An access token of this issuer for the resource urn:signalbox:admin, with the scope that the operation names.",
			}},
		},
	})
	if err != nil {
		panic(err) // of values that stand in the source
	}
	return document
}

func operation(rt route, schemas object) object {
	op := object{"operationId": rt.name, "summary": rt.summary}
	if rt.scope != "" {
		op["security"] = []object{{"token": []string{rt.scope}}}
	}
	var parameters []object
	if rt.hasID() {
		parameters = append(parameters, object{"name": "id", "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range rt.query {
		parameters = append(parameters, object{"name": p.name, "in": "query", "description": p.doc, "schema": object{"type": p.kind}})
	}
	if parameters != nil {
		op["parameters"] = parameters
	}
	if rt.in != nil {
		op["requestBody"] = object{"required": true, "content": content("application/json", schemaOf(reflect.TypeOf(rt.in), schemas))}
	}
	status := rt.status
	if status == 0 {
		status = http.StatusOK
	}
	answer := object{"description": http.StatusText(status)}
	if rt.out != nil {
		mediaType := "application/json"
		if rt.stream {
			mediaType = "application/x-ndjson"
		}
		answer["content"] = content(mediaType, schemaOf(reflect.TypeOf(rt.out), schemas))
	}
	failure := object{"description": "It was refused, or cannot be done now.", "content": content("application/json", schemaOf(reflect.TypeFor[Error](), schemas))}
	op["responses"] = object{strconv.Itoa(status): answer, "default": failure}
	return op
}

func content(mediaType string, schema object) object {
	return object{mediaType: object{"schema": schema}}
}

// member is one member of a JSON object, as a Go field says it.
type member struct {
	name     string
	required bool
	field    reflect.StructField
}

// members lists the members of a struct; those of an embedded one are its own.
func members(t reflect.Type) []member {
	var all []member
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("json")
		switch {
		case f.Anonymous && !ok:
			all = append(all, members(f.Type)...)
		case ok && tag != "-":
			name, options, _ := strings.Cut(tag, ",")
			all = append(all, member{name, options != "omitempty", f})
		}
	}
	return all
}

// sent names the members that a body of pointers holds, for the journal.
func sent(body any) string {
	v := reflect.ValueOf(body)
	var names []string
	for _, m := range members(v.Type()) {
		if !v.FieldByIndex(m.field.Index).IsNil() {
			names = append(names, m.name)
		}
	}
	if names == nil {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// schemaOf gives the schema of a type. Named structs go to schemas and are
// referred to.
func schemaOf(t reflect.Type, schemas object) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage]():
		return object{"type": "object"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), schemas)
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return object{"type": "integer"}
	case reflect.Slice:
		return object{"type": "array", "items": schemaOf(t.Elem(), schemas)}
	case reflect.Struct:
		return structSchema(t, schemas)
	default:
		panic("admin: no schema for " + t.String())
	}
}

func structSchema(t reflect.Type, schemas object) object {
	name := schemaName(t)
	reference := object{"$ref": "#/components/schemas/" + name}
	if _, known := schemas[name]; known {
		return reference
	}
	properties := object{}
	schemas[name] = nil // a type may hold itself
	required := []string{}
	for _, m := range members(t) {
		property := schemaOf(m.field.Type, schemas)
		if doc := m.field.Tag.Get("doc"); doc != "" {
			property["description"] = doc
		}
		if values := m.field.Tag.Get("enum"); values != "" {
			property["enum"] = strings.Split(values, ",")
		}
		properties[m.name] = property
		if m.required {
			required = append(required, m.name)
		}
	}
	slices.Sort(required)
	schemas[name] = object{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	return reference
}

// schemaName turns Page[…/admin.Client] into PageOfClient.
func schemaName(t reflect.Type) string {
	name, of, generic := strings.Cut(strings.TrimSuffix(t.Name(), "]"), "[")
	if !generic {
		return name
	}
	return name + "Of" + of[strings.LastIndex(of, ".")+1:]
}
