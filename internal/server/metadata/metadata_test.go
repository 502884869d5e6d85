package metadata

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestKeySet(t *testing.T) {
	body, tag := `{"keys":[1]}`, `"one"`
	h := &Handler{KeySet: func() ([]byte, string, time.Duration) { return []byte(body), tag, 5 * time.Minute }}
	ask := func(ifNoneMatch string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/jwks", nil)
		if ifNoneMatch != "" {
			r.Header.Set("If-None-Match", ifNoneMatch)
		}
		answer := httptest.NewRecorder()
		h.JWKS(answer, r)
		if answer.Header().Get("Cache-Control") != "public, max-age=300" || answer.Header().Get("ETag") != tag {
			t.Errorf("%d %v", answer.Code, answer.Header())
		}
		return answer
	}
	if a := ask(""); a.Code != 200 || a.Body.String() != body || a.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	if a := ask(`"one"`); a.Code != 304 || a.Body.Len() != 0 {
		t.Errorf("the same set again: %d %s", a.Code, a.Body)
	}
	if a := ask(`"other"`); a.Code != 200 || a.Body.String() != body {
		t.Errorf("another set: %d %s", a.Code, a.Body)
	}
	body, tag = `{"keys":[1,2]}`, `"two"`
	if a := ask(`"one"`); a.Code != 200 || a.Body.String() != body {
		t.Errorf("63: a new key is not seen: %d %s", a.Code, a.Body)
	}
}

func TestDocumentLeavesOutWhatIsNotServed(t *testing.T) {
	document := Document{Issuer: "https://sts.example.com/tenant"}
	document.SetEndpoint("/token")
	document.SetEndpoint("/nosuch")
	h := &Handler{Document: func() Document { return document }}
	answer := httptest.NewRecorder()
	h.Discovery(answer, httptest.NewRequest("GET", "/", nil))
	var got map[string]any
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for name, value := range got {
		if _, isText := value.(string); isText && name != "issuer" && name != "token_endpoint" {
			t.Errorf("%s is %v", name, value)
		}
	}
	if got["token_endpoint"] != "https://sts.example.com/tenant/token" || !strings.HasPrefix(answer.Header().Get("Cache-Control"), "public, max-age=") {
		t.Errorf("%v %v", got["token_endpoint"], answer.Header())
	}
}
