package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/test/drill"
)

// Drill 2, docs/explanation/drills.md: a flaw in an application has leaked the tokens of all
// its users. They are ended in one write, and everybody signs in again. PostgreSQL has two nodes.
func TestDrill2_NinetyMillion(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		w := newSQLite(t, "")
		drillNinetyMillion(t, w, w.server)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		w := newPostgres(t, "")
		drillNinetyMillion(t, w, w.node(t))
	})
}

func drillNinetyMillion(t *testing.T, w *world, other *server) {
	report, grants := drill.Begin(t), drill.Size(t, 1_000_000)
	nodes := slices.Compact([]*server{w.server, other})

	// ada also uses another application, in which there is no flaw.
	elsewhere := w.signedIn(t, webApp, ada)
	began := time.Now()
	stolen := w.seed(t, grants, 20)
	report.Say("%s, nodes: %d. %d grants of the application %q, in a database of %d MB (made in %s).", w.engine, len(nodes), grants+1, webTwo.ID, w.megabytes(t), drill.Show(time.Since(began)))

	// A sample of what was leaked. That each of these refreshes says that the rows are real grants.
	access := make([]string, len(stolen))
	for i := range stolen {
		r := nodes[i%len(nodes)].refresh(t, webTwo, stolen[i])
		checkTokenAnswer(t, r, "")
		access[i], stolen[i] = r.str("access_token"), r.str("refresh_token")
		for _, node := range nodes {
			if !node.active(t, access[i]) {
				t.Fatalf("token %d of the sample is not active", i)
			}
		}
	}

	command := func(args ...string) (string, time.Duration) {
		began := time.Now()
		_, told, code := w.command(t, args...)
		took := time.Since(began)
		report.Ran("signalbox "+strings.Join(args, " "), told)
		if code != 0 {
			t.Fatalf("signalbox %q: exit code %d\n%s", args, code, told)
		}
		return told, took
	}
	radius, looked := command("panic", "--client", webTwo.ID, "--dry-run")
	for _, token := range access {
		if !w.active(t, token) {
			t.Fatal("a trial ended a token")
		}
	}
	before := w.megabytes(t)
	w.countWrites(t)

	told, ran := command("panic", "--client", webTwo.ID, "--yes")
	ended := time.Now()

	dead := func(is func() bool) time.Duration {
		for !is() {
			if time.Since(ended) > startLimit {
				t.Fatalf("still alive %v after the end", startLimit)
			}
			time.Sleep(5 * time.Millisecond)
		}
		return time.Since(ended)
	}
	var accessDead, refreshDead time.Duration
	for _, node := range nodes {
		for i := range access {
			accessDead = dead(func() bool { return !node.active(t, access[i]) })
		}
	}
	for i := range stolen {
		refreshDead = dead(func() bool {
			return nodes[(i+1)%len(nodes)].refresh(t, webTwo, stolen[i]).str("error") == "invalid_grant"
		})
	}
	writes := w.writes(t)

	began = time.Now()
	again := w.signedIn(t, webTwo, ada)
	signedIn := time.Since(began)
	good := true
	for _, node := range nodes {
		good = good && node.active(t, again.str("access_token"))
	}
	after := w.megabytes(t)

	report.Table([]string{"what", "measured"},
		[]string{"blast radius shown", drill.Show(looked)},
		[]string{"the command that ends it, from start to end", drill.Show(ran)},
		[]string{"rows written", fmt.Sprint(writes)},
		[]string{"database before and after", fmt.Sprintf("%d MB, %d MB", before, after)},
		[]string{fmt.Sprintf("access tokens of a sample of %d dead, after the command", len(access)), drill.Show(accessDead)},
		[]string{fmt.Sprintf("refresh tokens of a sample of %d refused, after the command", len(stolen)), drill.Show(refreshDead)},
		[]string{"a person signs in again", drill.Show(signedIn)},
	)
	report.Promise("the blast radius counts the grants", fmt.Sprintf("%d", grants+1), strings.Contains(radius, fmt.Sprintf(" %d standing grants end", grants+1)))
	report.Promise("one row ends them all, and no grant is touched", fmt.Sprint(writes), writes["revocations"] == 1 && writes["grants"] == 0)
	report.Promise("their end does not wait until they are counted", drill.Show(ran), strings.Contains(told, "at least 20000 standing grants end"))
	report.Within(within, "access tokens are dead on every node", accessDead)
	report.Within(within, "refresh tokens are dead on every node", refreshDead)
	report.Promise("a person who signs in again has a good token", drill.Show(signedIn), good)
	report.Promise("another application notices nothing", "its tokens are good", w.active(t, elsewhere.str("access_token")) && w.refresh(t, webApp, elsewhere.str("refresh_token")).Status == 200)
	report.Promise("the database does not grow", fmt.Sprintf("%d MB", after-before), after-before <= 1)
}
