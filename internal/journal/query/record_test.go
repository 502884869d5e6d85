package query

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/journal"
	"github.com/signalbox-sts/signalbox/internal/journal/format"
)

// hostile values: each tries to end a line, a string, or to steer a terminal.
var hostile = []string{
	"a\nb", "a\rb", "a\r\n{\"seq\":1}", "\x1b[2J\x1b[31m", "\x00", "\x7f", "\u009b31m", "\u2028\u2029", "\u202e\u200f\ufeff",
	`"},"type":"x`, `\`, `\"`, `\u000a`, "\xff\xfe", "a\xc3", "\xed\xa0\x80", "\U0001f600", "<script>&", "ä",
}

func TestHostileValuesStayInTheirMember(t *testing.T) {
	for _, s := range hostile {
		checkEncoding(t, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, 1, 1)
	}
}

func FuzzEncode(f *testing.F) {
	for i, s := range hostile {
		o := hostile[(i+1)%len(hostile)]
		f.Add(s, o, s, o, s, o, s, o, s, o, s, o, s, o, s, int64(i), uint64(i))
	}
	long := strings.Repeat("ä\n", 3000)
	f.Add(long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, int64(-1), uint64(1<<63))
	f.Fuzz(checkEncoding)
}

// checkEncoding holds the promise of the line format: one line, printable ASCII,
// whole JSON, and what is read is what was written, or marked as cut.
func checkEncoding(t *testing.T, typ, request, remote, actor, client, subIss, sub, kind, grantType, hash, aud, scope, code, reason, target string, exp int64, count uint64) {
	changes := []authority.Change{{Field: "redirect_uris", Old: client, New: target}, {Field: "client_name", New: reason}}
	e := authority.Event{
		Type: authority.EventType("t" + typ), RequestID: request, Remote: remote, Actor: actor, ClientID: client,
		Subject: authority.Subject{Issuer: subIss, ID: sub, Kind: authority.SubjectKind(kind)}, GrantType: grantType,
		TokenHash: hash, Audience: []string{aud, aud}, Scope: scope, Error: code, Reason: reason, Target: target, Changes: changes,
	}
	if exp != 0 {
		e.ExpiresAt = time.Unix(exp, 0)
	}
	line := format.AppendLine(nil, 7, format.AppendBody(nil, &e, day, count), [32]byte{1})
	if n := bytes.IndexByte(line, '\n'); n != len(line)-1 {
		t.Fatalf("not one line: %q", line)
	}
	for _, c := range line[:len(line)-1] {
		if c < 0x20 || c > 0x7e {
			t.Fatalf("byte %#x in %q", c, line)
		}
	}
	if len(line) > format.MaxLine {
		t.Fatalf("%d bytes", len(line))
	}
	fr, ok := format.ParseFrame(line)
	if !ok || fr.Seq != 7 || fr.Prev != [32]byte{1} || string(fr.Time) != "2026-03-04T05:06:07.891234Z" || fr.Checkpoint != (e.Type == authority.EventCheckpoint) {
		t.Fatalf("frame %+v of %q", fr, line)
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	var r Record
	if err := dec.Decode(&r); err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	if want := day.Truncate(time.Microsecond); !r.Time.Equal(want) {
		t.Errorf("time %v", r.Time)
	}
	if count <= 1 && r.Count != 0 || count > 1 && r.Count != count || e.ExpiresAt.IsZero() != (r.ExpiresAt == 0) || r.ExpiresAt != exp && !e.ExpiresAt.IsZero() {
		t.Errorf("count %d, exp %d", r.Count, r.ExpiresAt)
	}
	if r.Subject == nil {
		r.Subject = &admin.Subject{}
	}
	for _, v := range []struct {
		name, in, out string
		limit         int
	}{
		{"type", string(e.Type), r.Type, format.MaxShort}, {"request_id", request, r.RequestID, format.MaxShort}, {"remote", remote, r.Remote, format.MaxShort},
		{"actor", actor, r.Actor, format.MaxName}, {"client_id", client, r.ClientID, format.MaxName}, {"subject.issuer", subIss, r.Subject.Issuer, format.MaxName},
		{"subject.id", sub, r.Subject.ID, format.MaxName}, {"subject.kind", kind, r.Subject.Kind, format.MaxShort}, {"grant_type", grantType, r.GrantType, format.MaxShort},
		{"token_hash", hash, r.TokenHash, format.MaxShort}, {"aud", aud, r.Audience[1], format.MaxName}, {"scope", scope, r.Scope, 2048},
		{"error", code, r.Error, format.MaxShort}, {"reason", reason, r.Reason, format.MaxReason}, {"target", target, r.Target, format.MaxName},
		{"changes[0].old", client, r.Changes[0].Old, format.MaxName}, {"changes[0].new", target, r.Changes[0].New, format.MaxName}, {"changes[1].new", reason, r.Changes[1].New, format.MaxName},
	} {
		want := v.in
		if len(want) > v.limit {
			kept, mark, ok := cutLast(v.out, "...[cut ")
			n, err := strconv.Atoi(strings.TrimSuffix(mark, " bytes]"))
			if !ok || err != nil || n <= 0 || len(want)-n > v.limit {
				t.Errorf("%s: %q is not marked as cut", v.name, v.out)
				continue
			}
			want, v.out = want[:len(want)-n], kept
		}
		if got := strings.ToValidUTF8(want, "\ufffd"); !sameText(got, v.out) {
			t.Errorf("%s: wrote %q, read %q", v.name, want, v.out)
		}
	}
	// A search for the values finds the line.
	q := Query{Types: []string{string(e.Type)}, ClientID: client, SubjectID: sub, RequestID: request, Remote: remote, TokenHash: hash}
	if len(e.Type) <= format.MaxShort && !compile(q).line(line, fr) {
		t.Errorf("%+v does not find %q", q, line)
	}
}

// sameText compares without counting how many replacement characters a run of
// broken bytes became.
func sameText(a, b string) bool {
	one := func(s string) string {
		var out []rune
		for _, r := range s {
			if r == utf8.RuneError && len(out) > 0 && out[len(out)-1] == r {
				continue
			}
			out = append(out, r)
		}
		return string(out)
	}
	return one(a) == one(b)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func TestAudienceOfManyIsCut(t *testing.T) {
	e := authority.Event{Type: "t", Audience: make([]string, 100)}
	r, err := decode("a", format.AppendLine(nil, 1, format.AppendBody(nil, &e, day, 1), [32]byte{}))
	if err != nil || len(r.Audience) != 16+1 || r.Audience[16] != "...[cut 84 entries]" {
		t.Errorf("%v %q", err, r.Audience)
	}
}

func TestManyChangesAreCut(t *testing.T) {
	e := authority.Event{Type: "t", Changes: make([]authority.Change, 10)}
	r, err := decode("a", format.AppendLine(nil, 1, format.AppendBody(nil, &e, day, 1), [32]byte{}))
	if err != nil || len(r.Changes) != authority.MaxChanges+1 || r.Changes[authority.MaxChanges].Field != "...[cut 4 changes]" {
		t.Errorf("%v %q", err, r.Changes)
	}
}

// A search by text finds what was changed, and no other member is taken for it.
func TestChangesAreFound(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, journal.Options{})
	e := event(1)
	e.Type, e.Changes = authority.EventClientChanged, []authority.Change{{Field: "redirect_uris", Old: "https://old.example.com/", New: "https://new.example.com/ä"}}
	for _, one := range []authority.Event{event(0), e} {
		if err := j.Append(ctx, one); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, j)
	for text, want := range map[string]int{"https://old.example.com/": 1, "new.example.com/ä": 1, "redirect_uris": 1, "https://other.example.com/": 0} {
		if got := records(t, dir, Query{Text: text}); len(got) != want {
			t.Errorf("%q: %d records", text, len(got))
		}
	}
	if got := records(t, dir, Query{ClientID: "https://old.example.com/"}); len(got) != 0 {
		t.Errorf("a change is taken for a client: %+v", got)
	}
}

func TestTheLongestLineCanBeRead(t *testing.T) {
	dir := t.TempDir()
	s := strings.Repeat("\x01", 10_000)
	e := authority.Event{Type: authority.EventType(s), RequestID: s, Remote: s, Actor: s, ClientID: s, Subject: authority.Subject{Issuer: s, ID: s, Kind: authority.SubjectKind(s)},
		GrantType: s, TokenHash: s, Scope: s, Error: s, Reason: s, Target: s, Policy: s, Origin: authority.Origin{TokenID: s, TokenHash: s, Pod: s}, Assertion: authority.Origin{TokenID: s, TokenHash: s, Pod: s}, ExpiresAt: day, GrantID: authority.NewID(day), SessionID: authority.NewID(day), TokenID: authority.NewID(day)}
	for range 40 {
		e.Audience = append(e.Audience, s)
		e.Changes = append(e.Changes, authority.Change{Field: s, Old: s, New: s})
	}
	j := open(t, dir, journal.Options{})
	if err := j.Append(ctx, e); err != nil {
		t.Fatal(err)
	}
	closed(t, j)
	info, err := os.Stat(files(t, dir)[0])
	if err != nil || info.Size() > format.MaxLine {
		t.Error(info.Size(), err)
	}
	if got := records(t, dir, Query{ClientID: s}); len(got) != 1 {
		t.Error("not found by a value that was cut")
	}
}

// The hand-written encoder and the decoder know the same members.
func TestEveryMemberIsDecoded(t *testing.T) {
	e := event(1)
	e.SessionID, e.Actor, e.Error, e.Reason, e.Target = e.GrantID, "a", "e", "r", "t"
	e.Origin, e.Assertion, e.Policy = authority.Origin{TokenID: "j", TokenHash: "h", Pod: "p"}, authority.Origin{TokenID: "a", TokenHash: "b", Pod: "c"}, "p"
	e.Changes = []authority.Change{{Field: "f", Old: "o", New: "n"}}
	r, err := decode("", format.AppendLine(nil, 1, format.AppendBody(nil, &e, day, 2), [32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "Node" && name != "Head" && name != "JWS" {
			t.Errorf("%s is empty", name)
		}
	}
}
