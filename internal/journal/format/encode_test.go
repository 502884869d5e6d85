package format

import (
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/journal/journaltest"
)

func TestAppendTimeIsRFC3339(t *testing.T) {
	for _, at := range []time.Time{journaltest.Day, time.Unix(0, 0), time.Unix(253402300799, 999999999), journaltest.Day.In(time.FixedZone("x", 3600)), time.Date(2028, 2, 29, 23, 59, 59, 1000, time.UTC)} {
		if got, want := string(AppendTime(nil, at)), at.UTC().Format(TimeLayout); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
