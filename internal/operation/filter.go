package operation

import (
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"time"
)

// Parameter is one parameter of the query, with its type in JSON Schema.
type Parameter struct{ Name, Kind, Doc string }

// each visits the fields of a filter that are parameters; those of an embedded filter are its own.
func each(filter reflect.Value, visit func(name string, field reflect.StructField, value reflect.Value) error) error {
	for i := range filter.NumField() {
		f := filter.Type().Field(i)
		name := f.Tag.Get("query")
		switch {
		case f.Anonymous:
			if err := each(filter.Field(i), visit); err != nil {
				return err
			}
		case name != "":
			if err := visit(name, f, filter.Field(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Parameters says what a filter is made of.
func Parameters(filter any) (all []Parameter) {
	_ = each(reflect.ValueOf(filter), func(name string, f reflect.StructField, _ reflect.Value) error {
		kind := "string"
		switch f.Type.Kind() {
		case reflect.Bool:
			kind = "boolean"
		case reflect.Int, reflect.Uint64:
			kind = "integer"
		}
		all = append(all, Parameter{name, kind, f.Tag.Get("doc")})
		return nil
	})
	return all
}

// Encode adds what a filter has to a query. The zero value of a field is not sent.
func Encode(to url.Values, filter any) {
	_ = each(reflect.ValueOf(filter), func(name string, _ reflect.StructField, v reflect.Value) error {
		if v.IsZero() {
			return nil
		}
		if at, ok := v.Interface().(time.Time); ok {
			to.Set(name, at.UTC().Format(time.RFC3339Nano))
			return nil
		}
		to.Set(name, fmt.Sprint(v.Interface()))
		return nil
	})
}

// Decode reads a filter, which filter points to. What is not sent stays as it is.
func Decode(get func(name string) string, filter any) error {
	return each(reflect.ValueOf(filter).Elem(), func(name string, _ reflect.StructField, v reflect.Value) error {
		sent := get(name)
		if sent == "" {
			return nil
		}
		switch v.Interface().(type) {
		case string:
			v.SetString(sent)
		case bool:
			if sent != "true" && sent != "false" {
				return fmt.Errorf("%s must be true or false", name)
			}
			v.SetBool(sent == "true")
		case uint64:
			n, err := strconv.ParseUint(sent, 10, 63)
			if err != nil || n == 0 {
				return fmt.Errorf("%s must be a number from 1", name)
			}
			v.SetUint(n)
		case time.Time:
			at, err := time.Parse(time.RFC3339Nano, sent)
			if err != nil {
				return fmt.Errorf("%s must be a time like 2026-01-31T12:00:00Z", name)
			}
			v.Set(reflect.ValueOf(at))
		default:
			panic("operation: a filter cannot have a " + v.Type().String())
		}
		return nil
	})
}
