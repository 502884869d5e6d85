package admin

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/httpx"
)

// FuzzPage: a cursor is either refused, or an id that any database takes.
func FuzzPage(f *testing.F) {
	f.Add("10", cursor("dweb"))
	f.Add("0", cursor("f\x00"))
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
		if p.Limit < 1 || p.Limit > maxPage || p.After != "" && !printable(p.After, maxID+1) {
			t.Fatalf("%+v", p)
		}
	})
}

// FuzzDecode: what is accepted has no member that the type has not, and says
// the same when it is written and read again.
func FuzzDecode(f *testing.F) {
	f.Add(`{"username":"a","password":"b"}`)
	f.Add(`{"username":"a","username":"b"}`)
	f.Add(`{"USERNAME":"a"}`)
	f.Add(`{"email_verified":true} {}`)
	f.Fuzz(func(t *testing.T, body string) {
		user, err := decode[NewUser](&call{body: []byte(body)})
		if err != nil {
			return
		}
		var loose map[string]any
		if err := json.Unmarshal([]byte(body), &loose); err != nil {
			t.Fatalf("accepted what is not JSON: %v", err)
		}
		for name := range loose {
			if !strings.Contains(" username password name email email_verified ", " "+name+" ") {
				t.Fatalf("accepted %q", name)
			}
		}
		written, err := json.Marshal(user)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode[NewUser](&call{body: written})
		if err != nil || !reflect.DeepEqual(user, again) {
			t.Fatalf("%v: %+v became %+v", err, user, again)
		}
	})
}
