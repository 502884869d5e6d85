package operation

import (
	"net/url"
	"reflect"
	"testing"
	"time"
)

type match struct {
	Name string `query:"name" doc:"Only this one."`
}

type filter struct {
	match
	On    bool      `query:"on"`
	From  uint64    `query:"from"`
	Since time.Time `query:"since"`
	Limit int       `query:"limit"`
	Local string    // no parameter
}

func TestBothSidesReadAFilterAlike(t *testing.T) {
	if got, want := Parameters(filter{}), []Parameter{{"name", "string", "Only this one."}, {"on", "boolean", ""}, {"from", "integer", ""}, {"since", "string", ""}, {"limit", "integer", ""}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	type decoded struct {
		match
		On    bool      `query:"on"`
		From  uint64    `query:"from"`
		Since time.Time `query:"since"`
	}
	at := time.Date(2026, 1, 31, 12, 0, 0, 123456789, time.UTC)
	for _, sent := range []decoded{{}, {match{"a&b=c"}, true, 7, at}} {
		query := url.Values{}
		Encode(query, sent)
		var got decoded
		if err := Decode(query.Get, &got); err != nil || got != sent {
			t.Errorf("%+v became %+v by %s: %v", sent, got, query.Encode(), err)
		}
	}
	query := url.Values{}
	Encode(query, filter{Local: "x"})
	if len(query) > 0 {
		t.Errorf("what was not set was sent: %v", query)
	}
	for _, wrong := range []string{"on=yes", "from=0", "from=-1", "from=x", "since=yesterday"} {
		query, _ := url.ParseQuery(wrong)
		if err := Decode(query.Get, &decoded{}); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}
