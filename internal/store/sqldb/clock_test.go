package sqldb

import (
	"strings"
	"testing"
	"time"
)

func TestAMachineWithTheWrongTimeIsRefused(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		name   string
		theirs time.Duration // the database's clock, when it was asked
		took   time.Duration
		refuse bool
	}{
		{"the same time", 0, 0, false},
		{"half a minute ahead", -30 * time.Second, 0, false},
		{"half a minute behind", 30 * time.Second, 0, false},
		{"more than that ahead", -31 * time.Second, 0, true},
		{"more than that behind", 31 * time.Second, 0, true},
		{"a slow answer", 31 * time.Second, 2 * time.Second, false},
		{"a machine that starts in 1970", 56 * 365 * 24 * time.Hour, 0, true},
	} {
		err := sameTime(at, at.Add(row.theirs), at.Add(row.took))
		if (err != nil) != row.refuse || row.refuse && !strings.Contains(err.Error(), "run NTP on both") {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}
