package nodetest

import (
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

func TestARigDoesWhatItIsTold(t *testing.T) {
	r := New(t, Setup{Static: authority.StaticObjects{Clients: map[string]authority.Client{"web": {ID: "web"}}}})
	answer := httptest.NewRecorder()
	r.Public.ServeHTTP(answer, httptest.NewRequest("GET", Issuer+"/jwks", nil))
	if answer.Code != 200 {
		t.Fatal(answer.Code, answer.Body)
	}
	start := r.Now()
	if r.Pass(time.Hour); r.Now().Sub(start) != time.Hour {
		t.Error("the clock moves by itself, or not at all")
	}
	if _, err := r.Directory.Client(t.Context(), "web"); err != nil {
		t.Error(err)
	}
	r.Static.Clients = nil
	r.Declare()
	if _, err := r.Directory.Client(t.Context(), "web"); !errors.Is(err, authority.ErrNotFound) {
		t.Error(err)
	}
	through := &store{r.DB, r}
	full := errors.New("full")
	r.Fail("TakeTicket", full)
	ticket := authority.Ticket{Kind: "k", ExpiresAt: start.Add(2 * time.Hour)}
	if err := through.TakeTicket(t.Context(), ticket); !errors.Is(err, full) {
		t.Error(err)
	}
	r.Fail("TakeTicket", nil)
	var seen []string
	r.Before(func(m string) { seen = append(seen, "before "+m) })
	r.After(func(m string) { seen = append(seen, "after "+m) })
	if err := through.TakeTicket(t.Context(), ticket); err != nil || len(seen) != 2 {
		t.Error(err, seen)
	}
	if err := through.TakeTicket(t.Context(), ticket); !errors.Is(err, authority.ErrSpent) || len(seen) != 3 {
		t.Error(err, seen)
	}
}
