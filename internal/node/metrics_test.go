package node

import (
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/version"
)

// metric reads one series of /metrics.
func metric(t *testing.T, n *Node, series string) float64 {
	t.Helper()
	answer := httptest.NewRecorder()
	n.admin.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(answer.Body.String())
	if found == nil {
		t.Fatalf("there is no series %s in\n%s", series, answer.Body)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestMetricsOfANode(t *testing.T) {
	now := time.Now()
	n, err := open(t, testFile(t), Options{
		Now: func() time.Time { return now }, Version: version.Info{Version: "v1.2.3", Commit: "abc", Go: "go1.26"},
	})
	if err != nil {
		t.Fatal(err)
	}
	is := func(series string, want float64) {
		t.Helper()
		if got := metric(t, n, series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	is(`signalbox_build_info{commit="abc",go="go1.26",version="v1.2.3"}`, 1)
	is(`signalbox_ready`, 1)
	is(`signalbox_revocation_lag_seconds`, 0)
	is(`signalbox_keys{alg="ES256",state="current"}`, 1)
	is(`signalbox_keys{alg="ES256",state="retired"}`, 0)
	is(`signalbox_config_last_reload_successful`, 1)
	if at := metric(t, n, `signalbox_config_loaded_timestamp_seconds`); at != float64(now.UnixMilli())/1e3 {
		t.Errorf("the configuration was loaded at %v, want %v", at, now.Unix())
	}
	left := n.config().Keys.RotateEvery.Seconds()
	if got := metric(t, n, `signalbox_key_rotation_seconds{alg="ES256"}`); got < left-2 || got > left+2 {
		t.Errorf("the key is replaced in %v s, want %v", got, left)
	}
	for series, least := range map[string]float64{
		`signalbox_journal_seq`: 2, `signalbox_journal_sync_seconds_count`: 1, `signalbox_database_connections_max`: 2,
		`signalbox_events_total{grant_type="",type="config.loaded"}`: 1,
	} {
		if got := metric(t, n, series); got < least {
			t.Errorf("%s is %v", series, got)
		}
	}

	now = now.Add(n.config().Keys.RotateEvery + time.Hour)
	is(`signalbox_ready`, 0)
	if lag := metric(t, n, `signalbox_revocation_lag_seconds`); lag < left {
		t.Errorf("nobody has heard from the database for %v s", lag)
	}
	if got := metric(t, n, `signalbox_key_rotation_seconds{alg="ES256"}`); got > -3590 {
		t.Errorf("an overdue key is replaced in %v s", got)
	}
}

func TestARefusedConfigurationShowsUntilAGoodOneComes(t *testing.T) {
	n, file := openTest(t)
	asked, told := make(chan os.Signal), make(chan error)
	next := errors.New("line 3: a mistake")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Follow(ctx, asked, func() (*config.Config, error) {
			if next != nil {
				return nil, next
			}
			return config.Load(file, nil)
		}, func(err error) { told <- err })
	}()
	for _, row := range []struct {
		err  error
		want float64
	}{{next, 0}, {nil, 1}} {
		next = row.err
		asked <- syscall.SIGHUP
		if err := <-told; !errors.Is(err, row.err) {
			t.Errorf("it tells %v of %v", err, row.err)
		}
		if got := metric(t, n, `signalbox_config_last_reload_successful`); got != row.want {
			t.Errorf("after %v it is %v", row.err, got)
		}
	}
	stop()
	<-done
}
