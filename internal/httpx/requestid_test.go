package httpx

import (
	"testing"
	"time"
)

func TestARequestIDSaysWhoAndWhen(t *testing.T) {
	at := time.Date(2026, 11, 24, 21, 38, 29, 999, time.UTC)
	id := NewRequestID(TagOf("node-1"), at)
	tag, made, ok := ParseRequestID(id)
	if !ok || tag != TagOf("node-1") || tag == TagOf("node-2") || !made.Equal(at.Truncate(time.Second)) || len(id) != 24 {
		t.Fatalf("%s: %v %v %v", id, tag, made, ok)
	}
	if NewRequestID(TagOf("node-1"), at) == id {
		t.Fatal("two requests have one id")
	}
	for name, s := range map[string]string{
		"too short": id[1:], "too long": id + "00", "capitals": "ABCDEF" + id[6:], "no hexadecimal": "x" + id[1:], "nothing": "",
	} {
		if _, _, ok := ParseRequestID(s); ok {
			t.Errorf("%s is taken", name)
		}
	}
}
