package query

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

func TestSearch(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Options{MaxSegment: 4 << 10, Now: func() time.Time { return day }})
	var grants []authority.ID
	for i := range 60 {
		e := event(i)
		e.At = day.Add(time.Duration(i) * time.Hour)
		grants = append(grants, e.GrantID)
		if i == 30 {
			e.Type, e.Reason = authority.EventTokenRefused, `a "quoted" reason, "client_id":"client-0"`
			e.ClientID = "client \"x\"\n"
			e.Remote = "2001:db8::1"
		}
		if err := j.Append(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	requests := func(q Query) string {
		s := ""
		q.Types = append(q.Types, "token.issued", "token.refused")
		for _, r := range records(t, dir, q) {
			s += r.RequestID[len("req-"):] + " "
		}
		return s
	}
	seqOf := func(i int) uint64 { return records(t, dir, Query{RequestID: fmt.Sprintf("req-%d", i)})[0].Seq }
	for name, c := range map[string]struct {
		q    Query
		want string
	}{
		"a request":                {Query{RequestID: "req-17"}, "17 "},
		"a session":                {Query{SessionID: "nobody's"}, ""},
		"a grant":                  {Query{GrantID: grants[41].String()}, "41 "},
		"a client, the first two":  {Query{ClientID: "client-2", Limit: 2}, "2 5 "},
		"a client, the last three": {Query{ClientID: "client-2", Limit: 3, Newest: true}, "53 56 59 "},
		"further back":             {Query{ClientID: "client-2", Limit: 2, Newest: true, BeforeSeq: seqOf(53)}, "47 50 "},
		"further on":               {Query{ClientID: "client-2", Limit: 2, AfterSeq: seqOf(5)}, "8 11 "},
		"a subject and a client":   {Query{ClientID: "client-0", SubjectID: "user-3"}, "3 18 33 48 "},
		"a client with a quote":    {Query{ClientID: "client \"x\"\n"}, "30 "},
		"text with a quote":        {Query{Text: `"quoted"`}, "30 "},
		"an address":               {Query{Remote: "2001:db8::1"}, "30 "},
		"since":                    {Query{Since: day.Add(57 * time.Hour)}, "57 58 59 "},
		"until":                    {Query{Until: day.Add(2 * time.Hour)}, "0 1 "},
		"between":                  {Query{Since: day.Add(29 * time.Hour), Until: day.Add(32 * time.Hour)}, "29 30 31 "},
		"a value's beginning":      {Query{ClientID: "client-"}, ""},
		"no such hash":             {Query{TokenHash: "00"}, ""},
		"no such jti":              {Query{TokenID: "x"}, ""},
		"another node":             {Query{Node: "b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := requests(c.q); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := records(t, dir, Query{Types: []string{"token.refused"}}); len(got) != 1 {
		t.Errorf("%d refusals", len(got))
	}
	all := records(t, dir, Query{})
	for limit := 1; limit < 20; limit++ {
		got := records(t, dir, Query{Newest: true, Limit: limit})
		for i, want := range all[len(all)-limit:] {
			if len(got) != limit || got[i].Seq != want.Seq {
				t.Fatalf("the newest %d: %+v", limit, got)
			}
		}
	}
	stop := errors.New("stop")
	if err := Search(ctx, dir, Query{}, func(Record) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	for _, q := range []Query{{Limit: -1}, {Newest: true, Limit: MaxNewest + 1}} {
		if err := Search(ctx, dir, q, func(Record) error { return nil }); err == nil {
			t.Errorf("%+v was accepted", q)
		}
	}
}

func TestSearchSkipsSegmentsByTime(t *testing.T) {
	var s []format.Segment
	dir := t.TempDir()
	j := open(t, dir, journal.Options{MaxSegment: 2 << 10, Now: func() time.Time { return day }})
	for i := range 20 {
		e := event(0)
		e.At = day.Add(time.Duration(i) * time.Hour)
		if err := j.Append(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	nodes, err := format.ListSegments(dir)
	if err != nil {
		t.Fatal(err)
	}
	s = nodes["a-1"]
	if n := len(compile(Query{Since: day.Add(9 * time.Hour), Until: day.Add(10 * time.Hour)}).relevant(s)); n > 2 || n < 1 || len(s) < 4 {
		t.Errorf("%d of %d segments are read", n, len(s))
	}
}

func TestSearchMergesNodesByTime(t *testing.T) {
	dir := t.TempDir()
	for n, node := range []string{"a", "b", "c"} {
		j, err := journal.Open(dir, node, journal.Options{Now: func() time.Time { return day }})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			e := event(0)
			e.At, e.RequestID = day.Add(time.Duration(3*i+n)*time.Second), fmt.Sprint(3*i+n)
			if err := j.Append(ctx, e); err != nil {
				t.Fatal(err)
			}
		}
		closed(t, j)
	}
	all := func(q Query) (s string) {
		q.Types = []string{"token.issued"}
		for _, r := range records(t, dir, q) {
			s += r.RequestID + " "
		}
		return s
	}
	if got := all(Query{}); got != "0 1 2 3 4 5 6 7 8 9 10 11 " {
		t.Error(got)
	}
	if got := all(Query{Newest: true, Limit: 5}); got != "7 8 9 10 11 " {
		t.Error(got)
	}
	if got := all(Query{Node: "b", AfterSeq: 1}); got != "4 7 10 " {
		t.Error(got)
	}
	if err := Search(ctx, dir, Query{AfterSeq: 1}, nil); err == nil {
		t.Error("a cursor over several nodes was accepted")
	}
}

func TestTailFollowsOverSegments(t *testing.T) {
	for name, follow := range map[string]func(context.Context, *journal.Journal, uint64, func(Record) error) error{
		"in the process": func(c context.Context, j *journal.Journal, from uint64, fn func(Record) error) error {
			return Tail(c, j, from, fn)
		},
		"from another process": func(c context.Context, j *journal.Journal, from uint64, fn func(Record) error) error {
			return Follow(c, j.Dir(), j.Node(), from, fn)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := open(t, dir, journal.Options{MaxSegment: 2 << 10})
			appendN(t, j, 0, 10)
			c, cancel := context.WithCancel(ctx)
			got := make(chan Record)
			ended := make(chan error)
			from := uint64(3)
			go func() {
				ended <- follow(c, j, from, func(r Record) error { got <- r; return nil })
			}()
			next := from
			for i := 10; i < 40; i++ {
				if i%3 == 0 {
					appendN(t, j, i, 3)
				}
				for n := j.Head(); next <= n; next++ {
					if r := <-got; r.Seq != next || len(r.Raw) == 0 {
						t.Fatalf("record %d, want %d", r.Seq, next)
					}
				}
			}
			cancel()
			for {
				select {
				case r := <-got:
					t.Errorf("unexpected %+v", r)
				case err := <-ended:
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
}
