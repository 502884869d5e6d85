package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// file is a configuration file as node n1 declares it: its number is its
// content, and the pairs are clients with their digests.
func file(number int, pairs ...string) authority.Declaration {
	d := authority.Declaration{
		Content: hash(number), Node: "n1", At: start.Add(time.Duration(number) * time.Minute).Truncate(time.Millisecond),
		Digests: map[authority.RevocationKind]map[string]string{authority.EpochClient: {}},
	}
	for i := 0; i < len(pairs); i += 2 {
		d.Digests[authority.EpochClient][pairs[i]] = pairs[i+1]
	}
	return d
}

func onNode(node string, d authority.Declaration) authority.Declaration {
	d.Node = node
	return d
}

// declare puts d in force and wants a revision and the clients that end.
func declare(t testing.TB, s Store, d authority.Declaration, ran, revision int64, ends ...string) {
	t.Helper()
	last := int64(0)
	if before := feed(t, s); len(before) > 0 {
		last = before[len(before)-1].Seq
	}
	got, ended, err := s.Declare(t.Context(), d, ran)
	noError(t, err)
	equal(t, got.Revision, revision)
	equal(t, len(ended), len(ends))
	for i, r := range ended {
		equal(t, []any{r.Kind, r.Key, r.NotBefore}, []any{authority.EpochClient, ends[i], d.At})
		if !r.ExpiresAt.After(d.At.Add(authority.MaxGrantTTL)) {
			t.Fatalf("the end of %s is forgotten at %s, before what it ends", r.Key, r.ExpiresAt)
		}
	}
	var written []authority.Revocation
	for _, r := range feed(t, s) {
		if r.Seq > last {
			written = append(written, r)
		}
	}
	equal(t, ended, written)
}

func declaredIs(t testing.TB, s Store, want authority.Declaration, revision int64) {
	t.Helper()
	got, err := s.Declaration(t.Context())
	noError(t, err)
	want.Revision = revision
	equal(t, got, want)
}

// refused wants d to be refused in favour of what is in force.
func refused(t testing.TB, s Store, d authority.Declaration, ran int64) {
	t.Helper()
	current, err := s.Declaration(t.Context())
	noError(t, err)
	before := feed(t, s)
	_, ended, err := s.Declare(t.Context(), d, ran)
	var superseded *authority.SupersededError
	if !errors.As(err, &superseded) || len(ended) > 0 {
		t.Fatalf("got %v, want a SupersededError", err)
	}
	equal(t, []any{superseded.Current.Revision, superseded.Current.Node, superseded.Current.At}, []any{current.Revision, current.Node, current.At})
	declaredIs(t, s, current, current.Revision)
	equal(t, feed(t, s), before)
}

var declaredChecks = []check{
	{"the first declaration ends nothing and comes back, also after a restart", func(t testing.TB, e Engine) {
		s := e.Open(t)
		_, err := s.Declaration(t.Context())
		wantError(t, err, authority.ErrNotFound)
		first := file(1, "web", "a", "cli", "b")
		first.Digests[authority.EpochUser] = map[string]string{"u 1": `"\'`}
		declare(t, s, first, 0, 1)
		declaredIs(t, s, first, 1)
		declaredIs(t, e.Again(t, s), first, 1)
	}},
	{"a declaration ends who is gone or changed, in the same transition", func(t testing.TB, e Engine) {
		s := e.Open(t)
		declare(t, s, file(1, "web", "a", "cli", "b", "batch", "c"), 0, 1)
		second := file(2, "web", "a", "cli", "changed", "new", "d")
		declare(t, s, second, 1, 2, "batch", "cli")
		declaredIs(t, s, second, 2)
		declare(t, s, file(3), 2, 3, "cli", "new", "web")
		declare(t, s, file(4, "web", "a"), 3, 4)
	}},
	{"the same file on another node is in force already and ends nothing", func(t testing.TB, e Engine) {
		s := e.Open(t)
		declare(t, s, file(1, "web", "a", "cli", "b"), 0, 1)
		later := onNode("n2", file(1, "web", "a", "cli", "b"))
		later.At = later.At.Add(time.Hour)
		declare(t, e.Again(t, s), later, 0, 1)
		declare(t, s, later, 1, 1)
		// A newer program may make other digests of the same file.
		declare(t, s, onNode("n2", file(1, "web", "other")), 0, 1)
		declaredIs(t, s, file(1, "web", "other"), 1)
		declare(t, s, file(2, "web", "other"), 1, 2)
	}},
	{"a file that was replaced is refused to a node that does not know its successor", func(t testing.TB, e Engine) {
		s := e.Open(t)
		declare(t, s, file(1, "web", "a", "gone", "b"), 0, 1)
		declare(t, s, file(2, "web", "a"), 1, 2, "gone")
		old := onNode("n2", file(1, "web", "a", "gone", "b"))
		refused(t, s, old, 0)
		refused(t, s, old, 1)
		declare(t, s, file(3), 2, 3, "web")
		refused(t, e.Again(t, s), old, 2)
	}},
	{"a file that nobody has seen is taken from any node", func(t testing.TB, e Engine) {
		s := e.Open(t)
		declare(t, s, file(1, "web", "a"), 0, 1)
		declare(t, s, file(2, "cli", "a"), 1, 2, "web")
		declare(t, s, onNode("n2", file(3, "web", "a")), 1, 3, "cli")
		declare(t, s, onNode("n3", file(4)), 0, 4, "web")
	}},
	{"whoever knows what is in force may go back to an older file", func(t testing.TB, e Engine) {
		s := e.Open(t)
		back := func(number int, d authority.Declaration) authority.Declaration {
			d.Content = hash(number)
			return d
		}
		declare(t, s, file(1, "web", "a"), 0, 1)
		declare(t, s, onNode("n2", file(2, "cli", "a")), 0, 2, "web")
		// A node that runs it, and the node that declared it, after a restart.
		declare(t, s, back(1, file(3, "web", "a")), 2, 3, "cli")
		declare(t, s, back(2, file(4, "cli", "a")), 0, 4, "web")
		refused(t, s, onNode("n2", file(1, "web", "a")), 0)
		refused(t, s, onNode("n2", file(1, "web", "a")), 2)
		declaredIs(t, s, back(2, file(4, "cli", "a")), 4)
	}},
	{"64 nodes declare one file: all agree, and it ends what it ends once", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		declare(t, s, file(1, "web", "a", "cli", "b"), 0, 1)
		ends := make([]int, many)
		for i, err := range atOnce(many, func(i int) error {
			got, ended, err := nodes[i%2].Declare(t.Context(), onNode(fmt.Sprint("n", i), file(2, "web", "a")), 1)
			if err == nil && got.Revision != 2 {
				err = fmt.Errorf("revision %d", got.Revision)
			}
			ends[i] = len(ended)
			return err
		}) {
			if err != nil {
				t.Fatalf("caller %d got %v", i, err)
			}
		}
		total := 0
		for _, n := range ends {
			total += n
		}
		equal(t, total, 1)
		equal(t, feedHas(t, s, authority.EpochClient, "cli"), 1)
		equal(t, feedHas(t, s, authority.EpochClient, "web"), 0)
	}},
	{"64 nodes declare 64 files: each is in force once, and each but the last ends", func(t testing.TB, e Engine) {
		s := e.Open(t)
		nodes := []Store{s, e.Again(t, s)}
		name := func(i int) string { return fmt.Sprint("client ", i) }
		revisions := make([]int64, many)
		endedBy := make([][]authority.Revocation, many)
		for i, err := range atOnce(many, func(i int) error {
			got, ended, err := nodes[i%2].Declare(t.Context(), file(i+1, name(i), "a"), 0)
			revisions[i], endedBy[i] = got.Revision, ended
			return err
		}) {
			if err != nil {
				t.Fatalf("caller %d got %v", i, err)
			}
		}
		by := map[int64]int{}
		for i, r := range revisions {
			by[r] = i
		}
		for r := int64(1); r <= many; r++ {
			i, there := by[r]
			if !there {
				t.Fatalf("nobody got revision %d: %v", r, revisions)
			}
			if r == 1 {
				equal(t, len(endedBy[i]), 0)
				continue
			}
			if len(endedBy[i]) != 1 || endedBy[i][0].Key != name(by[r-1]) {
				t.Fatalf("revision %d ended %+v, want %s", r, endedBy[i], name(by[r-1]))
			}
		}
		declaredIs(t, s, file(by[many]+1, name(by[many]), "a"), many)
		equal(t, len(feed(t, s)), many-1)
	}},
}
