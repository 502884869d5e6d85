package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// service is a server that answers in turn, and what it was asked.
type service struct {
	*httptest.Server
	answers []http.HandlerFunc
	asked   []string // method, path and token
	paused  []time.Duration
}

func newService(t *testing.T, answers ...http.HandlerFunc) *service {
	s := &service{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked = append(s.asked, r.Method+" "+r.RequestURI+" "+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		s.answers[min(len(s.asked), len(s.answers))-1](w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// api is the client of the service. Its tokens are token-1, token-2 and so on, each once the one before was refused.
func (s *service) api(t *testing.T) *API {
	t.Helper()
	n := 1
	a, err := New(s.URL, Options{Token: func(_ context.Context, refused string) (string, error) {
		if refused != "" {
			n++
		}
		return fmt.Sprint("token-", n), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	a.pause = func(_ context.Context, d time.Duration) error {
		s.paused = append(s.paused, d)
		return nil
	}
	return a
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}
}

var (
	refuses     = says(401, `{"error":"invalid_token","error_description":"it has expired","request_id":"r1"}`)
	unavailable = says(503, `{"error":"temporarily_unavailable","error_description":"not now"}`)
	gives       = says(200, `{"client_id":"c","grant_types":[],"token_endpoint_auth_method":"none","scope":"","disabled":false,"source":"file"}`)
)

func TestWhatARefusalSays(t *testing.T) {
	a := newService(t, says(400, `{"error":"invalid_request","error_description":"client_id has a space","request_id":"r7","problems":[{"field":"client_id","text":"has a space","fix":"omit it"}]}`)).api(t)
	_, err := a.CreateClient(t.Context(), NewClient{})
	var refused *Error
	if !errors.As(err, &refused) || refused.Status != 400 || refused.Code != "invalid_request" || refused.RequestID != "r7" ||
		len(refused.Problems) != 1 || refused.Problems[0] != (Problem{Field: "client_id", Text: "has a space", Fix: "omit it"}) {
		t.Fatalf("%#v", err)
	}
	if err.Error() != "client_id has a space (request r7)" {
		t.Error(err)
	}
}

func TestWhatIsNotTheAPI(t *testing.T) {
	for _, answer := range []http.HandlerFunc{says(200, "<html>"), says(404, "<html>"), says(500, `{}`), says(200, `{"client_id":7}`)} {
		_, err := newService(t, answer).api(t).ShowClient(t.Context(), "c")
		var other *NotAPIError
		if !errors.As(err, &other) || other.StatusCode == 0 {
			t.Errorf("%#v", err)
		}
	}
	s := newService(t, gives)
	a := s.api(t)
	s.Close()
	_, err := a.ShowClient(t.Context(), "c")
	var unreached *UnreachedError
	if !errors.As(err, &unreached) || strings.Contains(err.Error(), "token-1") {
		t.Errorf("%v", err)
	}
}

// An answer without an end must not fill the memory of whoever asked.
func TestAnAnswerIsBounded(t *testing.T) {
	s := newService(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"client_name":"`)
		for part := strings.Repeat("a", 1<<20); ; {
			if _, err := fmt.Fprint(w, part); err != nil {
				return
			}
		}
	})
	if _, err := s.api(t).ShowClient(t.Context(), "c"); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Error(err)
	}
}

// Whoever answers in place of the service must not get the token elsewhere.
func TestARedirectIsNotFollowed(t *testing.T) {
	elsewhere := newService(t, gives)
	s := newService(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	a, err := New(s.URL, Options{Token: StaticToken("secret"), HTTPClient: &http.Client{}}) // whose own policy follows
	if err != nil {
		t.Fatal(err)
	}
	for _, do := range []func() error{
		func() error { _, err := a.ShowClient(t.Context(), "c"); return err },
		func() error { return a.DeleteClient(t.Context(), "c") },
	} {
		if err := do(); err == nil || len(elsewhere.asked) > 0 {
			t.Errorf("%v, and the token went to %v", err, elsewhere.asked)
		}
	}
}

func TestWhatIsSentAgain(t *testing.T) {
	show := func(a *API) error { _, err := a.ShowClient(t.Context(), "c"); return err }
	create := func(a *API) error { _, err := a.CreateClient(t.Context(), NewClient{}); return err }
	const get, post = "GET /admin/v1/clients/c ", "POST /admin/v1/clients "
	for _, row := range []struct {
		name    string
		answers []http.HandlerFunc
		do      func(a *API) error
		asked   []string
		fails   bool
	}{
		{"a refused token, with the next one", []http.HandlerFunc{refuses, gives}, create, []string{post + "token-1", post + "token-2"}, false},
		{"a second refused token, not", []http.HandlerFunc{refuses}, show, []string{get + "token-1", get + "token-2"}, true},
		{"a question that cannot be answered now", []http.HandlerFunc{unavailable, unavailable, gives}, show, []string{get + "token-1", get + "token-1", get + "token-1"}, false},
		{"a question, not for ever", []http.HandlerFunc{unavailable}, show, []string{get + "token-1", get + "token-1", get + "token-1"}, true},
		{"a change that may be done in part, not", []http.HandlerFunc{unavailable}, create, []string{post + "token-1"}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newService(t, row.answers...)
			if err := row.do(s.api(t)); (err != nil) != row.fails {
				t.Error(err)
			}
			if fmt.Sprint(s.asked) != fmt.Sprint(row.asked) {
				t.Errorf("%v, want %v", s.asked, row.asked)
			}
			for _, d := range s.paused {
				if d != time.Second {
					t.Errorf("it paused for %v, and not as Retry-After says", d)
				}
			}
		})
	}
	s := newService(t, refuses)
	a, err := New(s.URL, Options{Token: StaticToken("the only one")})
	if err != nil {
		t.Fatal(err)
	}
	if err := show(a); err == nil || len(s.asked) != 1 {
		t.Errorf("%v: the same token was sent again: %v", err, s.asked)
	}
}

func TestAnIDIsOnePartOfThePath(t *testing.T) {
	s := newService(t, gives)
	a := s.api(t)
	for id, path := range map[string]string{"https://api.example.com/x": "/admin/v1/resources/https:%2F%2Fapi.example.com%2Fx", "../users": "/admin/v1/resources/..%2Fusers", "a?b#c": "/admin/v1/resources/a%3Fb%23c"} {
		s.asked = nil
		if err := a.DeleteResource(t.Context(), id); err != nil || len(s.asked) != 1 || s.asked[0] != "DELETE "+path+" token-1" {
			t.Errorf("%q: %v %v", id, s.asked, err)
		}
	}
	s.asked = nil
	for _, id := range []string{"", ".", ".."} { // of /users/, a server makes /users; of /users/.., what is above
		if err := a.DeleteUser(t.Context(), id); err == nil || len(s.asked) > 0 {
			t.Errorf("%q: %v %v", id, s.asked, err)
		}
	}
}

func TestEachReadsAllPages(t *testing.T) {
	page := func(next string, ids ...string) http.HandlerFunc {
		p := Page[Key]{Next: next}
		for _, id := range ids {
			p.Items = append(p.Items, Key{KeyID: id})
		}
		text, _ := json.Marshal(p)
		return says(200, string(text))
	}
	s := newService(t, page("n1", "a", "b"), page("n2"), page("", "c"))
	a := s.api(t)
	got := ""
	for key, err := range Each(t.Context(), a.ListKeys) {
		if err != nil {
			t.Fatal(err)
		}
		got += key.KeyID
	}
	if got != "abc" || len(s.asked) != 3 || !strings.Contains(s.asked[1], "?after=n1&limit=1000 ") {
		t.Errorf("%s %v", got, s.asked)
	}
	s = newService(t, page("n1", "a"), says(403, `{"error":"insufficient_scope","error_description":"no"}`))
	items, failures := 0, 0
	for _, err := range Each(t.Context(), s.api(t).ListKeys) {
		if err != nil {
			failures++
		} else {
			items++
		}
	}
	if items != 1 || failures != 1 {
		t.Errorf("%d items, %d errors", items, failures)
	}
	s = newService(t, page("n1", "a", "b"))
	for range Each(t.Context(), s.api(t).ListKeys) {
		break
	}
	if len(s.asked) != 1 {
		t.Errorf("whoever has enough is not asked for more: %v", s.asked)
	}
}

func TestTailEndsWithItsStream(t *testing.T) {
	s := newService(t, says(200, "{\"seq\":4,\"type\":\"token.issued\"}\n{\"seq\":5}\n"))
	a := s.api(t)
	var seen []uint64
	each := func(r Record) error { seen = append(seen, r.Seq); return nil }
	if err := a.TailJournal(t.Context(), TailFilter{JournalMatch: JournalMatch{Type: "token.issued"}, From: 4}, each); err != nil || len(seen) != 2 {
		t.Error(seen, err)
	}
	if s.asked[0] != "GET /admin/v1/journal/tail?from=4&type=token.issued token-1" {
		t.Error(s.asked)
	}
	enough := errors.New("enough")
	if err := a.TailJournal(t.Context(), TailFilter{}, func(Record) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
	long := newService(t, says(200, `{"reason":"`+strings.Repeat("a", maxRecord)+"\"}\n"))
	if err := long.api(t).TailJournal(t.Context(), TailFilter{}, each); !errors.Is(err, bufio.ErrTooLong) {
		t.Errorf("a record of any length is read: %v", err)
	}
}

func TestWhereATokenDoesNotGo(t *testing.T) {
	token := Options{Token: StaticToken("secret")}
	for _, row := range []struct {
		url string
		o   Options
		bad bool
	}{
		{"https://sts-admin.example.com", token, false},
		{"https://sts-admin.example.com/behind/a/proxy/", token, false},
		{"http://127.0.0.1:9090", token, false},
		{"http://[::1]:9090", token, false},
		{"http://localhost:9090", token, false},
		{"http://sts-admin.example.com", token, true},
		{"http://127.0.0.1.example.com", token, true},
		{"http://sts-admin.example.com", Options{Token: token.Token, InsecureHTTP: true}, false},
		{"https://ada:secret@sts-admin.example.com", token, true},
		{"https://sts-admin.example.com?x=y", token, true},
		{"sts-admin.example.com", token, true},
		{"ftp://sts-admin.example.com", token, true},
		{"https://sts-admin.example.com", Options{}, true},
	} {
		if _, err := New(row.url, row.o); (err != nil) != row.bad || err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", row.url, err)
		}
	}
}
