// OpenAPI 3.1, JSON Schema 2020-12: the description of the API, made from the
// table that serves it and from the types that are sent.
package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/operation"
)

type document struct {
	OpenAPI    string                                   `json:"openapi"`
	Info       info                                     `json:"info"`
	Servers    []server                                 `json:"servers"`
	Paths      map[string]map[string]describedOperation `json:"paths"`
	Components components                               `json:"components"`
}

type info struct {
	Title       string  `json:"title"`
	Version     string  `json:"version"`
	Description string  `json:"description"`
	License     license `json:"license"`
}

type license struct {
	Name       string `json:"name"`
	Identifier string `json:"identifier"`
}

type server struct {
	URL       string                    `json:"url"`
	Variables map[string]serverVariable `json:"variables"`
}

type serverVariable struct {
	Default     string `json:"default"`
	Description string `json:"description"`
}

type components struct {
	Schemas         map[string]*schema        `json:"schemas"`
	Responses       map[string]response       `json:"responses"`
	SecuritySchemes map[string]securityScheme `json:"securitySchemes"`
}

type securityScheme struct {
	Type        string `json:"type"`
	Scheme      string `json:"scheme"`
	Description string `json:"description"`
}

type describedOperation struct {
	OperationID string                `json:"operationId"`
	Tags        []string              `json:"tags"`
	Summary     string                `json:"summary"`
	Security    []map[string][]string `json:"security"`
	Parameters  []describedParameter  `json:"parameters,omitempty"`
	RequestBody *requestBody          `json:"requestBody,omitempty"`
	Responses   map[string]response   `json:"responses"`
}

type describedParameter struct {
	Name        string  `json:"name"`
	In          string  `json:"in"`
	Required    bool    `json:"required,omitempty"`
	Description string  `json:"description,omitempty"`
	Schema      *schema `json:"schema"`
}

type requestBody struct {
	Required bool             `json:"required"`
	Content  map[string]media `json:"content"`
}

// response is a Ref alone, or the rest.
type response struct {
	Ref         string            `json:"$ref,omitempty"`
	Description string            `json:"description,omitempty"`
	Headers     map[string]header `json:"headers,omitempty"`
	Content     map[string]media  `json:"content,omitempty"`
}

type header struct {
	Description string  `json:"description"`
	Required    bool    `json:"required"`
	Schema      *schema `json:"schema"`
}

type media struct {
	Schema *schema `json:"schema"`
}

type schema struct {
	Ref         string             `json:"$ref,omitempty"`
	Type        string             `json:"type,omitempty"`
	Format      string             `json:"format,omitempty"`
	Description string             `json:"description,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	// Closed says that there are no other members: false is what JSON Schema calls it.
	Closed *bool `json:"additionalProperties,omitempty"`
}

// failures are the answers that are not a success, by their names in the
// description. What no route has a line for is the default: 405, 413 and the like.
var failures = []struct {
	name, status, description string
	header                    string // that it always has
	of                        func(rt Route) bool
}{
	{"Invalid", "400", "invalid_request: what was sent breaks a rule. Nothing was changed.", "", isGuarded},
	{"Unauthenticated", "401", "invalid_token: no access token was sent, or one that is not good here.", "WWW-Authenticate", isGuarded},
	{"Forbidden", "403", "insufficient_scope: the access token lacks a scope.", "WWW-Authenticate", isGuarded},
	{"NotFound", "404", "not_found: there is nothing with this id.", "", func(rt Route) bool { return rt.hasID() }},
	{"Conflict", "409", "already_exists, conflict or read_only: it does not fit what is there.", "", func(rt Route) bool { return rt.Event != "" }},
	{"Unavailable", "503", "temporarily_unavailable: it cannot be done now. What was asked for may be done in part, where it says so.", "Retry-After", isGuarded},
	{"Refused", "default", "It was refused.", "", func(Route) bool { return true }},
}

func isGuarded(rt Route) bool { return rt.Scope != "" }

// Describe is the description of the routes, and of the one that serves it.
func Describe(routes []Route) json.RawMessage {
	d := document{
		OpenAPI: "3.1.0",
		Info: info{
			Title: "Signalbox administration API", Version: "1",
			Description: "Every change is in the journal before it is answered. What the configuration file holds is read-only here. " +
				"Errors have one form; error_description says how to fix the request.",
			License: license{"Apache License 2.0", "Apache-2.0"},
		},
		Servers: []server{{"{admin_url}", map[string]serverVariable{"admin_url": {"http://127.0.0.1:9090", "The admin listener: listen.admin in the configuration."}}}},
		Paths:   map[string]map[string]describedOperation{},
		Components: components{
			Schemas:   map[string]*schema{},
			Responses: map[string]response{},
			SecuritySchemes: map[string]securityScheme{"token": {
				Type: "http", Scheme: "bearer",
				Description: "An access token of this issuer for the resource urn:signalbox:admin, with the scope that the operation names.",
			}},
		},
	}
	for _, f := range failures {
		r := response{Description: f.description, Content: content("application/json", schemaOf(reflect.TypeFor[admin.Error](), d.Components.Schemas))}
		if f.header != "" {
			r.Headers = map[string]header{f.header: {headerDocs[f.header], true, &schema{Type: "string"}}}
		}
		d.Components.Responses[f.name] = r
	}
	for _, rt := range append([]Route{describing}, routes...) {
		path := d.Paths[operation.Prefix+rt.Path]
		if path == nil {
			path = map[string]describedOperation{}
			d.Paths[operation.Prefix+rt.Path] = path
		}
		path[strings.ToLower(rt.Method)] = describeRoute(rt, d.Components.Schemas)
	}
	text, err := json.Marshal(d)
	if err != nil {
		panic(err) // of values that are in the source
	}
	return text
}

var headerDocs = map[string]string{
	"WWW-Authenticate": "RFC 6750 §3: with the scope that is needed, where one is lacking.",
	"Retry-After":      "Seconds.",
}

func describeRoute(rt Route, schemas map[string]*schema) describedOperation {
	kind, _, _ := strings.Cut(strings.TrimPrefix(rt.Path, "/"), "/")
	op := describedOperation{OperationID: rt.Name, Tags: []string{kind}, Summary: rt.Summary, Security: []map[string][]string{}, Responses: map[string]response{}}
	if isGuarded(rt) {
		op.Security = append(op.Security, map[string][]string{"token": {rt.Scope}})
	}
	if rt.hasID() {
		op.Parameters = append(op.Parameters, describedParameter{Name: "id", In: "path", Required: true, Schema: &schema{Type: "string"}})
	}
	for _, p := range rt.Query {
		op.Parameters = append(op.Parameters, describedParameter{Name: p.Name, In: "query", Description: p.Doc, Schema: &schema{Type: p.Kind}})
	}
	if rt.In != nil {
		op.RequestBody = &requestBody{Required: true, Content: content("application/json", schemaOf(reflect.TypeOf(rt.In), schemas))}
	}
	status := rt.Status
	if status == 0 {
		status = http.StatusOK
	}
	answer := response{Description: http.StatusText(status)}
	if rt.Out != nil {
		mediaType := "application/json"
		if rt.Stream {
			mediaType = "application/x-ndjson"
		}
		answer.Content = content(mediaType, schemaOf(reflect.TypeOf(rt.Out), schemas))
	}
	op.Responses[strconv.Itoa(status)] = answer
	for _, f := range failures {
		if f.of(rt) {
			op.Responses[f.status] = response{Ref: "#/components/responses/" + f.name}
		}
	}
	return op
}

func content(mediaType string, s *schema) map[string]media { return map[string]media{mediaType: {s}} }

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
			all = append(all, member{name, options != "omitempty" && options != "omitzero", f})
		}
	}
	return all
}

// Sent names the members that a body of pointers holds, for the journal.
func Sent(body any) string {
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
func schemaOf(t reflect.Type, schemas map[string]*schema) *schema {
	switch t {
	case reflect.TypeFor[time.Time]():
		return &schema{Type: "string", Format: "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return &schema{Type: "object"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), schemas)
	case reflect.String:
		return &schema{Type: "string"}
	case reflect.Bool:
		return &schema{Type: "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return &schema{Type: "integer"}
	case reflect.Slice:
		return &schema{Type: "array", Items: schemaOf(t.Elem(), schemas)}
	case reflect.Struct:
		return structSchema(t, schemas)
	default:
		panic("api: no schema for " + t.String())
	}
}

func structSchema(t reflect.Type, schemas map[string]*schema) *schema {
	name := schemaName(t)
	reference := &schema{Ref: "#/components/schemas/" + name}
	if _, known := schemas[name]; known {
		return reference
	}
	s := &schema{Type: "object", Properties: map[string]*schema{}, Closed: new(bool)}
	schemas[name] = s // before its members: a type may hold itself
	for _, m := range members(t) {
		property := schemaOf(m.field.Type, schemas)
		property.Description = m.field.Tag.Get("doc")
		if values := m.field.Tag.Get("enum"); values != "" {
			property.Enum = strings.Split(values, ",")
		}
		s.Properties[m.name] = property
		if m.required {
			s.Required = append(s.Required, m.name)
		}
	}
	slices.Sort(s.Required)
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
