package api

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/httpx"
)

// FuzzPage: a cursor is either refused, or an id that any database takes.
func FuzzPage(f *testing.F) {
	f.Add("10", Cursor("dweb"))
	f.Add("0", Cursor("f\x00"))
	f.Add("1001", "' OR 1=1--")
	f.Fuzz(func(t *testing.T, limit, after string) {
		q, err := httpx.ReadQuery(httptest.NewRequest("GET", "/?"+url.Values{"limit": {limit}, "after": {after}}.Encode(), nil))
		if err != nil {
			return
		}
		p, err := page(q)
		if err != nil {
			return
		}
		if p.Limit < 1 || p.Limit > admin.MaxPage || p.After != "" && !Printable(p.After, MaxID+1) {
			t.Fatalf("%+v", p)
		}
	})
}

type aBody struct {
	Name string   `json:"name"`
	List []string `json:"list,omitempty"`
	anEmbeddedBody
}

type anEmbeddedBody struct {
	On *bool `json:"on,omitempty"`
}

// FuzzDecode: what is accepted has no member that the type has not, and says
// the same when it is written and read again.
func FuzzDecode(f *testing.F) {
	f.Add(`{"name":"a","list":["b"]}`)
	f.Add(`{"name":"a","name":"b"}`)
	f.Add(`{"NAME":"a"}`)
	f.Add(`{"on":true} {}`)
	f.Fuzz(func(t *testing.T, body string) {
		got, err := Decode[aBody](&Call{body: []byte(body)})
		if err != nil {
			return
		}
		var loose map[string]any
		if err := json.Unmarshal([]byte(body), &loose); err != nil {
			t.Fatalf("accepted what is not JSON: %v", err)
		}
		for name := range loose {
			if !strings.Contains(" name list on ", " "+name+" ") {
				t.Fatalf("accepted %q", name)
			}
		}
		if len(got.List) == 0 {
			got.List = nil // an empty list is not written
		}
		written, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode[aBody](&Call{body: written})
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%v: %+v became %+v", err, got, again)
		}
	})
}
