package httpx

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func post(body string, change ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest("POST", "/token", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range change {
		c(r)
	}
	return r
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func TestReadForm(t *testing.T) {
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	for _, row := range []struct {
		name    string
		request *http.Request
		status  int // 0: it is read
	}{
		{"a form", post("a=b"), 0},
		{"nothing", post(""), 0},
		{"a form whose length is not announced", post("a=b", chunked), 0},
		{"with a charset", post("a=b", header("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")), 0},
		{"the media type in another letter case", post("a=b", header("Content-Type", "Application/X-WWW-Form-Urlencoded")), 0},
		{"13: a parameter twice", post("a=b&a=b"), 400},
		{"13: a parameter twice under two spellings", post("a=b&%61=c"), 400},
		{"13: a parameter with and without a value", post("a=&a=b"), 0},
		{"13: a parameter twice without a value", post("a&a="), 0},
		{"RFC 8707: resource may be repeated", post("resource=x&resource=y"), 0},
		{"13: Resource may not", post("Resource=x&Resource=y"), 400},
		{"14: parameters in the URL", post("a=b", func(r *http.Request) { r.URL.RawQuery = "c=d" }), 400},
		{"14: the same parameter in both", post("a=b", func(r *http.Request) { r.URL.RawQuery = "a=b" }), 400},
		{"14: NUL in a value", post("a=b%00c"), 400},
		{"14: CR in a value", post("a=b%0dc"), 400},
		{"14: LF in a value", post("a=b%0ac"), 400},
		{"14: LF in a name", post("a%0a=b"), 400},
		{"a raw line break", post("a=b\nc"), 400},
		{"a percent sign alone", post("a=%"), 400},
		{"a percent sign alone in a name", post("%g=1"), 400},
		{"112: JSON", post(`{"a":"b"}`, header("Content-Type", "application/json")), 400},
		{"112: multipart", post("a=b", header("Content-Type", "multipart/form-data; boundary=x")), 400},
		{"112: text", post("a=b", header("Content-Type", "text/plain")), 400},
		{"112: no media type", post("a=b", func(r *http.Request) { r.Header.Del("Content-Type") }), 400},
		{"112: a media type that is none", post("a=b", header("Content-Type", "application/x-www-form-urlencoded; charset")), 400},
		{"112: gzip", post("a=b", header("Content-Encoding", "gzip")), 400},
		{"112: 64 parameters", post(strings.TrimSuffix(params(64), "&")), 0},
		{"112: 65 parameters", post(strings.TrimSuffix(params(65), "&")), 400},
		{"112: 60,000 empty parameters", post(strings.Repeat("&", 60_000)), 400},
		{"15: a value of 32 KiB", post("a=" + strings.Repeat("b", 32<<10)), 0},
		{"15: a longer value", post("a=" + strings.Repeat("b", 32<<10+1)), 400},
		{"112: 64 KiB", post(long(MaxForm)), 0},
		{"112: 64 KiB, not announced", post(long(MaxForm), chunked), 0},
		{"112: more than 64 KiB, announced", post(long(MaxForm + 1)), 413},
		{"112: more than 64 KiB, not announced", post(long(MaxForm+1), chunked), 413},
		{"112: more than 64 KiB announced, little sent", post("a=b", func(r *http.Request) { r.ContentLength = MaxForm + 1 }), 413},
		{"less than announced", post("a=b", func(r *http.Request) { r.ContentLength = 100 }), 400},
		{"much less than announced", post(long(5000), func(r *http.Request) { r.ContentLength = 50_000 }), 400},
		{"a body that breaks off", post("", chunked, func(r *http.Request) { r.Body = io.NopCloser(io.MultiReader(strings.NewReader("a=b"), broken{})) }), 400},
	} {
		t.Run(row.name, func(t *testing.T) {
			form, err := ReadForm(row.request)
			if (err == nil) != (row.status == 0) {
				t.Fatalf("%v %v", form, err)
			}
			if err == nil {
				return
			}
			answer := httptest.NewRecorder()
			Error(answer, row.request, err)
			if answer.Code != row.status || !strings.Contains(answer.Body.String(), `"invalid_request"`) || len(form.pairs) > 0 {
				t.Fatalf("%d %s, want %d", answer.Code, answer.Body, row.status)
			}
			if text := oauth.AsError(err).Description; strings.Contains(text, "bbbb") || len(text) > 200 {
				t.Errorf("the answer repeats what was sent: %.100s", text)
			}
		})
	}
}

// long is a form of n bytes, in parameters that are not too long by themselves.
func long(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "&p%d=%s", i, strings.Repeat("b", 30_000))
	}
	return b.String()[1 : n+1]
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func params(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "p%d=x&", i)
	}
	return b.String()
}

// endless gives bytes forever and counts them.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) { e.read += len(p); return len(p), nil }

func TestABodyIsNotReadBeyondItsBound(t *testing.T) { // 112
	source := new(endless)
	r := post("", func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(source), -1 })
	if _, err := ReadBody(r); err == nil || source.read > MaxBody+1<<10 {
		t.Fatalf("%d bytes were read, error %v", source.read, err)
	}
}

func TestParams(t *testing.T) {
	form, err := ReadForm(post("a=1&empty=&resource=x&b=%2B+%C3%A9&resource=y&=z&flag"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "1", "empty": "", "b": "+ é", "flag": "", "nosuch": "", "A": "", "": ""} {
		if got := form.Get(name); got != want || form.Has(name) != (want != "") {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
	if got := form.All("resource"); !slices.Equal(got, []string{"x", "y"}) || form.All("empty") != nil {
		t.Errorf("%q", got)
	}
	query, err := ReadQuery(httptest.NewRequest("GET", "/authorize?a=b&c=d", nil))
	if err != nil || query.Get("c") != "d" {
		t.Errorf("%v %v", query, err)
	}
	if _, err := ReadQuery(httptest.NewRequest("GET", "/authorize?a=b&a=d", nil)); err == nil {
		t.Error("13: twice in the URL")
	}
}

// FuzzParams: what we read is what the standard library reads; where we
// refuse, we say nothing else; and no value that gets through breaks a bound.
func FuzzParams(f *testing.F) {
	f.Add("grant_type=client_credentials&scope=a+b&resource=x&resource=y")
	f.Add("a=%00&b=%zz&c;d=e&&=&a=")
	f.Add("%61=1&a=")
	f.Fuzz(func(t *testing.T, encoded string) {
		params, err := parse(encoded)
		if err != nil {
			if oauth.AsError(err).Code != oauth.InvalidRequest || len(params.pairs) > 0 {
				t.Fatalf("%v, and yet %v", err, params)
			}
			return
		}
		seen := map[string]bool{}
		for _, kv := range params.pairs {
			if kv.name == "" || kv.value == "" || len(kv.value) > maxValue || strings.ContainsAny(kv.name+kv.value, "\x00\r\n") {
				t.Fatalf("%q got through", kv)
			}
			if seen[kv.name] && kv.name != "resource" {
				t.Fatalf("13: %q twice", kv.name)
			}
			seen[kv.name] = true
		}
		if len(params.pairs) > maxParams {
			t.Fatalf("%d parameters", len(params.pairs))
		}
		standard, err := url.ParseQuery(encoded)
		if err != nil {
			return // the standard library refuses a semicolon
		}
		for name, values := range standard {
			values = slices.DeleteFunc(values, func(v string) bool { return v == "" })
			if name != "" && !slices.Equal(params.All(name), values) && len(params.All(name))+len(values) > 0 {
				t.Fatalf("%q: %q is %q, the standard library says %q", encoded, name, params.All(name), values)
			}
		}
		for _, kv := range params.pairs {
			if _, ok := standard[kv.name]; !ok {
				t.Fatalf("%q: the standard library knows no %q", encoded, kv.name)
			}
		}
	})
}

func TestError(t *testing.T) {
	cause := errors.New("SELECT failed: password=hunter2")
	for _, row := range []struct {
		name   string
		err    error
		status int
		want   oauth.Code
		header string // that must be there
	}{
		{"a refusal", oauth.Errorf(oauth.InvalidGrant, "no").Because(cause), 400, oauth.InvalidGrant, ""},
		{"a client that is none", oauth.Errorf(oauth.InvalidClient, "no").Because(cause), 401, oauth.InvalidClient, "Www-Authenticate"},
		{"69: a fault of ours is never invalid_grant", cause, 503, oauth.TemporarilyUnavailable, "Retry-After"},
		{"69: a wrapped fault of ours", fmt.Errorf("grant: %w", cause), 503, oauth.TemporarilyUnavailable, "Retry-After"},
		{"too many attempts", ErrTooMany, 429, oauth.TemporarilyUnavailable, "Retry-After"},
		{"too large", errFormTooLarge, 413, oauth.InvalidRequest, ""},
		{"too slow", errSlow, 408, oauth.InvalidRequest, ""},
		{"no room", errNoRoom, 503, oauth.TemporarilyUnavailable, "Retry-After"},
		{"a wrapped refusal", fmt.Errorf("x: %w", oauth.Errorf(oauth.InvalidScope, "no")), 400, oauth.InvalidScope, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			req := &Request{ID: "the-id"}
			r := httptest.NewRequest("POST", "/token", nil)
			r = r.WithContext(WithRequest(r.Context(), req))
			answer := httptest.NewRecorder()
			Error(answer, r, row.err)
			var body map[string]string
			if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			if answer.Code != row.status || body["error"] != string(row.want) || body["request_id"] != "the-id" || body["error_description"] == "" || len(body) != 3 {
				t.Fatalf("%d %s", answer.Code, answer.Body)
			}
			h := answer.Header()
			if h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || row.header != "" && h.Get(row.header) == "" {
				t.Errorf("%v", h)
			}
			if strings.Contains(answer.Body.String(), "SELECT") || strings.Contains(fmt.Sprint(h), "SELECT") {
				t.Errorf("the inside leaks: %s %v", answer.Body, h)
			}
			if req.Log.Error != string(row.want) || errors.Is(row.err, cause) && !errors.Is(req.Log.Cause, cause) {
				t.Errorf("the log learns %+v", req.Log)
			}
		})
	}
	if RequestOf(t.Context()) == nil {
		t.Error("a handler outside a server breaks")
	}
	answer := httptest.NewRecorder()
	if JSON(answer, 200, func() {}); answer.Code != 500 {
		t.Errorf("what cannot be encoded is %d", answer.Code)
	}
}
