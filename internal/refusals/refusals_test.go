package refusals

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func refusal(id string, proved bool, remote string) Refusal {
	return Refusal{RequestID: id, At: time.Unix(1, 0), Code: "invalid_grant", ClientID: "web", Proved: proved, Remote: remote}
}

func known(m *Memory, id string) bool { _, known := m.Find(id); return known }

func TestARefusalIsFoundAsItWas(t *testing.T) {
	m := NewMemory()
	want := Refusal{
		RequestID: "1", At: time.Unix(7, 0), Method: "POST", Path: "/token", Status: 400, Code: "invalid_grant", Description: "no", Cause: "it has ended",
		ClientID: "web", Proved: true, Remote: "192.0.2.1",
	}
	m.Add(want)
	if got, found := m.Find("1"); !found || got != want {
		t.Fatalf("%+v", got)
	}
	if known(m, "2") {
		t.Fatal("a request that nobody made")
	}
}

func TestAnHourOfRefusalsIsRemembered(t *testing.T) {
	m := NewMemory()
	for second := range 3600 {
		for i := range 4 {
			m.Add(refusal(fmt.Sprintf("client %d %d", second, i), true, "192.0.2.1"))
		}
		m.Add(refusal(fmt.Sprintf("stranger %d", second), false, "192.0.2.1"))
	}
	for _, id := range []string{"client 0 0", "client 3599 3", "stranger 0", "stranger 3599"} {
		if !known(m, id) {
			t.Errorf("%s is forgotten", id)
		}
	}
}

func TestAFloodOfStrangersPushesOutNoClientAndFewStrangers(t *testing.T) {
	m := NewMemory()
	m.Add(refusal("client", true, "192.0.2.1"))
	for i := range 200 {
		m.Add(refusal(fmt.Sprintf("stranger %d", i), false, fmt.Sprintf("198.51.100.%d", i)))
	}
	for i := range 50_000 {
		m.Add(refusal(fmt.Sprintf("IPv4 %d", i), false, "203.0.113.1"))
		m.Add(refusal(fmt.Sprintf("IPv6 %d", i), false, fmt.Sprintf("2001:db8:0:%x::%x", i%256, i))) // one /56
	}
	if !known(m, "client") {
		t.Error("a client is pushed out")
	}
	left := 0
	for i := range 200 {
		if known(m, fmt.Sprintf("stranger %d", i)) {
			left++
		}
	}
	if left < 100 { // two of eight lanes are flooded
		t.Errorf("of 200 strangers %d are left", left)
	}
	for i := range 50_000 {
		m.Add(refusal(fmt.Sprintf("another client %d", i), true, "203.0.113.1"))
	}
	if known(m, "client") || !known(m, "another client 49999") {
		t.Error("the oldest is not the one that goes")
	}
}

func TestTheMemoryIsBounded(t *testing.T) {
	m := NewMemory()
	long := strings.Repeat("é", 100_000)
	for i := range 100_000 {
		r := refusal(fmt.Sprint(i), i%2 == 0, fmt.Sprintf("2001:db8:%x::1", i))
		r.Description, r.Cause, r.ClientID = long, long, long
		m.Add(r)
	}
	bytes, count := m.clients.bytes, len(m.clients.queue)
	for i := range m.strangers {
		bytes += m.strangers[i].bytes
		count += len(m.strangers[i].queue)
	}
	if most := (ofClients + lanes*ofStrangers) * bytesEach; bytes > most || count == 0 {
		t.Errorf("%d bytes in %d refusals, at most %d", bytes, count, most)
	}
	if len(m.byID) != count {
		t.Errorf("%d are found by id, %d are there", len(m.byID), count)
	}
	r, _ := m.Find("99999")
	if len(r.Cause) > maxText || len(r.Cause) < maxText-1 || strings.Contains(r.Cause, "\ufffd") {
		t.Errorf("a text of %d bytes", len(r.Cause))
	}
}
