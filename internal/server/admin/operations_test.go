package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/operation"
	server "github.com/signalbox-sts/signalbox/internal/server/admin"
)

// toService brings the client's requests to a service, and holds each against the description.
type toService struct {
	s    *service
	last string // method and path of the newest request
}

func (to *toService) RoundTrip(r *http.Request) (*http.Response, error) {
	to.last = r.Method + " " + strings.TrimPrefix(r.URL.EscapedPath(), operation.Prefix)
	w := httptest.NewRecorder()
	if strings.HasSuffix(r.URL.Path, "/tail") { // TestTail
		return w.Result(), nil
	}
	if err := to.s.Node.CatchUp(r.Context()); err != nil {
		return nil, err
	}
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(sent))
	to.s.Admin.ServeHTTP(w, r)
	d, err := described()
	if err == nil {
		err = d.exchange(r.Method, strings.TrimPrefix(r.URL.EscapedPath(), operation.Prefix), sent, answer{to.s.T, w.Code, w.Header(), w.Body.Bytes()})
	}
	return w.Result(), err
}

// TestTheClientHasEveryOperation: each route has a method of admin.API by its name, which sends what the route
// takes and understands what it answers. A new route fails here until the client has it.
func TestTheClientHasEveryOperation(t *testing.T) {
	static := declared()
	static.TrustedIssuers = map[string]authority.TrustedIssuer{"ci": {Name: "ci"}}
	s := newServiceOf(t, static)
	to := &toService{s: s}
	client, err := admin.New("http://127.0.0.1", admin.Options{
		Token:      func(context.Context, string) (string, error) { return s.admin(), nil },
		HTTPClient: &http.Client{Transport: to},
	})
	if err != nil {
		t.Fatal(err)
	}
	samples, methods := s.sample(), map[string]bool{"Describe": true}
	if _, err := client.Describe(t.Context()); err != nil {
		t.Error(err)
	}
	for _, rt := range server.Routes() {
		name := strings.ToUpper(rt.Name[:1]) + rt.Name[1:]
		methods[name] = true
		method := reflect.ValueOf(client).MethodByName(name)
		if !method.IsValid() {
			t.Errorf("admin.API has no method %s for %s %s", name, rt.Method, rt.Path)
			continue
		}
		sample := samples[rt.Name]
		results := method.Call(arguments(t, method.Type(), rt.Path, sample.path, sample.body))
		if err, _ := results[len(results)-1].Interface().(error); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want := rt.Method + " " + sample.path; to.last != want {
			t.Errorf("%s sends %s, not %s", name, to.last, want)
		}
		if in := reflect.TypeOf(rt.In); in != nil && method.Type().In(method.Type().NumIn()-1) != in {
			t.Errorf("%s takes %s, but the route %s", name, method.Type(), in)
		}
		if out := reflect.TypeOf(rt.Out); out != nil && !rt.Stream && method.Type().Out(0) != out {
			t.Errorf("%s answers %s, but the route %s", name, method.Type(), out)
		}
	}
	for i := range reflect.TypeOf(client).NumMethod() {
		if name := reflect.TypeOf(client).Method(i).Name; !methods[name] {
			t.Errorf("admin.API has a method %s, for which there is no route", name)
		}
	}
}

// arguments are those of a method for a sample: its id, its body, and the zero value for everything else.
func arguments(t *testing.T, method reflect.Type, template, path string, body any) []reflect.Value {
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	var id string
	for i, part := range strings.Split(template, "/") {
		if part == "{id}" {
			if id, err = url.PathUnescape(strings.Split(path, "/")[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	arguments := []reflect.Value{reflect.ValueOf(t.Context())}
	for i := 1; i < method.NumIn(); i++ {
		argument := reflect.New(method.In(i))
		switch {
		case method.In(i).Kind() == reflect.String:
			argument.Elem().SetString(id)
		case i == method.NumIn()-1 && body != nil:
			if err := json.Unmarshal(text, argument.Interface()); err != nil {
				t.Fatal(err)
			}
		}
		arguments = append(arguments, argument.Elem())
	}
	return arguments
}
