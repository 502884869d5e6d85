package kube

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

func refuseTerminating(c *authority.Cluster) { c.Terminating = authority.TerminatingRefuse }

func TestWatch(t *testing.T) {
	run(t, "a pod that is deleted is ended at once, and all others live", func(b *bed) {
		b.run(names("old", 1203)...) // three pages
		b.start()
		b.wantReady(true)
		b.run("new")
		b.settle()
		if s := b.watch.Status(); s.Pods != 1204 || s.Since.IsZero() || s.Failure != "" {
			b.Fatalf("status %+v", s)
		}
		b.remove("old0700", "new")
		b.settle()
		b.wantEnds("old0700", "new")
		b.wantStates(map[string]State{"old0700": Ended, "new": Ended, "old0701": Living, "other": Unknown})
		if until := b.until["new"].Sub(b.at["new"]); until < 70*time.Second || until > time.Hour {
			b.Errorf("proof of a pod that is gone may come for %s more", until)
		}
		b.pass(3 * time.Minute)
		b.wantStates(map[string]State{"new": Unknown}) // forgotten
		b.wantEnds("old0700", "new")
	})
	run(t, "a watch that breaks goes on where it was, and misses nothing", func(b *bed) {
		b.run("a", "b", "c")
		b.start()
		b.breakStreams()
		b.remove("b")
		b.run("d")
		b.pass(2 * time.Second)
		b.wantEnds("b")
		b.wantStates(map[string]State{"a": Living, "d": Living})
		if n := b.count("list"); n != 1 {
			b.Errorf("%d lists", n)
		}
	})
	for how, answer := range map[string]func(http.ResponseWriter){
		"refused": nil,
		"an event": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}`)
		},
	} {
		run(t, "a version that is not known any more leads to a list, and what is gone from it has ended: "+how, func(b *bed) {
			b.run("a", "b", "c")
			b.start()
			b.remove("b")
			b.settle()
			b.compact()
			if answer != nil {
				once := true
				b.on(func(w http.ResponseWriter, r *http.Request) bool {
					if is := r.URL.Query().Has("watch") && once; is {
						once = false
						answer(w)
						return true
					}
					return false
				})
			}
			// The watch hears of nothing, as if the API server had restarted.
			b.freeze()
			b.remove("c")
			b.run("d")
			b.compact()
			b.thaw()
			b.pass(10 * time.Second)
			b.wantEnds("b", "c")
			b.wantStates(map[string]State{"a": Living, "c": Ended, "d": Living})
			b.wantReady(true)
			if n := b.count("list"); n != 2 {
				b.Errorf("%d lists", n)
			}
		})
	}
	run(t, "a bookmark moves on from where a broken watch resumes", func(b *bed) {
		b.run("a")
		b.start()
		b.mu.Lock()
		b.version = 5000 // other objects changed
		b.mu.Unlock()
		b.bookmark()
		b.settle()
		b.compact()
		b.breakStreams()
		b.pass(2 * time.Second)
		if b.count("watch 5000") != 1 || b.count("list") != 1 {
			b.Errorf("requests %q", b.requests)
		}
	})
	run(t, "a pod that is created again under the same name is another one", func(b *bed) {
		b.change("ADDED", fakePod{namespace: "shop", name: "web-0", uid: "first"})
		b.start()
		b.remove("first")
		b.change("ADDED", fakePod{namespace: "shop", name: "web-0", uid: "second"})
		b.settle()
		b.wantEnds("first")
		b.wantStates(map[string]State{"first": Ended, "second": Living})
	})
	run(t, "grace: a pod ends at its deadline, also if the object stays, and not a moment before", func(b *bed) {
		b.run("a", "b")
		b.start()
		b.terminate("a", 30)
		b.terminate("b", 300)
		b.pass(30*time.Second - time.Millisecond)
		b.wantEnds()
		b.wantStates(map[string]State{"a": Terminating})
		b.pass(time.Millisecond)
		b.wantEnds("a")
		b.terminate("b", 5) // asked again, with less
		b.pass(5 * time.Second)
		b.wantEnds("a", "b")
		b.remove("a")
		b.settle()
		b.wantEnds("a", "b")
		b.wantStates(map[string]State{"a": Ended, "b": Ended})
		if s := b.watch.Status(); s.Terminating != 0 || s.Pods != 0 || s.Lag != 0 {
			b.Errorf("status %+v", s)
		}
	})
	run(t, "grace: a deadline passes while the API server is away", func(b *bed) {
		b.run("a")
		b.start()
		b.terminate("a", 30)
		b.settle()
		b.freeze()
		b.pass(30 * time.Second)
		b.wantEnds("a")
		b.thaw()
	})
	run(t, "grace: a deadline that had passed before the list is an end", func(b *bed) {
		b.run("a")
		b.terminate("a", 30)
		time.Sleep(31 * time.Second)
		b.start()
		b.wantEnds("a")
	})
	run(t, "refuse: a pod ends when its deletion is asked for", func(b *bed) {
		b.run("a", "b")
		b.terminate("b", 30)
		b.start()
		b.wantEnds("b")
		b.terminate("a", 3600)
		b.settle()
		b.wantEnds("b", "a")
		if until := b.until["a"].Sub(b.at["a"]); until < time.Hour+70*time.Second {
			b.Errorf("the API server takes its token for another hour, and we remember its end for %s", until)
		}
	}, refuseTerminating)
	run(t, "refuse: a grace period of a thousand years is not remembered that long", func(b *bed) {
		b.run("a")
		b.start()
		p := b.pod("a")
		p.deletion = time.Date(3026, 1, 1, 0, 0, 0, 0, time.UTC)
		b.change("MODIFIED", p)
		b.settle()
		b.wantEnds("a")
		if b.until["a"].Sub(b.at["a"]) > 25*time.Hour {
			b.Errorf("remembered until %s", b.until["a"])
		}
	}, refuseTerminating)
}

func TestWatchHearsThatItIsDown(t *testing.T) {
	run(t, "a connection that carries nothing any more is down after 5 s, and up again after it is back", func(b *bed) {
		b.run("a", "b")
		b.start()
		b.pass(time.Minute)
		b.wantReady(true)
		if b.watch.Silent() > 2*time.Second {
			b.Fatalf("silent for %s", b.watch.Silent())
		}
		b.freeze()
		b.remove("a")
		b.pass(3 * time.Second)
		b.wantReady(false)
		b.pass(3 * time.Second)
		if b.watch.Silent() <= MaxSilence {
			b.Fatalf("silent for %s only", b.watch.Silent())
		}
		b.pass(time.Minute)
		b.thaw()
		b.pass(10 * time.Second)
		b.wantReady(true)
		b.wantEnds("a")
		if n := b.count("list"); n != 1 {
			b.Errorf("%d lists", n)
		}
	})
	run(t, "an API server that has lost its database is down, though the stream is open", func(b *bed) {
		b.run("a")
		b.start()
		b.on(func(w http.ResponseWriter, r *http.Request) bool {
			if !r.URL.Query().Has("watch") {
				refuse(w, 500, "etcdserver: no leader")
				return true
			}
			return false
		})
		b.pass(6 * time.Second)
		if b.watch.Silent() <= MaxSilence || !strings.Contains(b.watch.Status().Failure, "no leader") {
			b.Fatalf("silent for %s, %+v", b.watch.Silent(), b.watch.Status())
		}
		b.on(nil)
		b.pass(time.Second)
		b.wantReady(true)
	})
	run(t, "an API server that answers on another connection does not vouch for the watch", func(b *bed) {
		b.run("a")
		b.start()
		b.mu.Lock()
		for _, c := range b.conns {
			c.dead.Store(true)
		}
		b.mu.Unlock()
		b.remove("a")
		b.watch.Client.http.CloseIdleConnections()
		b.pass(8 * time.Second)
		b.wantEnds("a")
		b.wantReady(true)
	})
	run(t, "a server that sends new requests elsewhere does not vouch for the stream that it still has", func(b *bed) {
		b.run("a")
		b.start()
		once := true
		b.on(func(w http.ResponseWriter, r *http.Request) bool {
			if once && r.URL.Query().Get("limit") == "1" {
				once = false
				w.Header().Set("Connection", "close") // GOAWAY
			}
			return false
		})
		b.pass(4 * time.Second)
		b.wantReady(true)
		if len(b.conns) != 2 || b.count("watch") != 2 || b.count("list") != 1 {
			b.Errorf("%d connections, requests %q", len(b.conns), b.requests)
		}
	})
	run(t, "a heartbeat comes once a second", func(b *bed) {
		b.start()
		before := b.count("beat")
		b.pass(time.Minute)
		if n := b.count("beat") - before; n < 55 || n > 65 {
			b.Errorf("%d heartbeats in a minute", n)
		}
		if len(b.conns) != 1 || b.count("watch") != 1 {
			b.Errorf("%d connections, %d streams", len(b.conns), b.count("watch"))
		}
	})
	run(t, "over HTTP/1.1 there is no watch", func(b *bed) {
		b.apiServer = newAPIServer(b.T, func(a *apiServer) { a.http1 = true })
		b.watch.Client = b.client(b.T, testCluster)
		b.start()
		if s := b.watch.Status(); !strings.Contains(s.Failure, "HTTP/2") || !s.Since.IsZero() {
			b.Errorf("status %+v", s)
		}
	})
}

func TestWatchKeepsOnTelling(t *testing.T) {
	run(t, "the database is away while pods die: they are ended within a second of its return, in order", func(b *bed) {
		uids := names("p", 100)
		b.slow = 4 * time.Millisecond
		b.run(uids...)
		b.start()
		b.failing(errors.New("the database is away"))
		b.remove(uids...)
		b.pass(10 * time.Minute)
		b.wantEnds()
		b.wantReady(false)
		s := b.watch.Status()
		if s.Waiting != 100 || s.WaitingFor < 9*time.Minute || !strings.Contains(s.Failure, "database is away") {
			b.Errorf("status %+v", s)
		}
		b.wantStates(map[string]State{"p0000": Ended, "p0099": Ended})
		b.failing(nil)
		b.pass(time.Second)
		got := b.all()
		if len(got) != 100 {
			b.Fatalf("%d ended", len(got))
		}
		// Those that were under way come back in any order.
		for i, uid := range got {
			if at := slices.Index(uids, uid); at < i-2*endsAtOnce || at > i+2*endsAtOnce {
				b.Errorf("%s came as number %d", uid, i)
			}
		}
		b.wantReady(true)
		if s := b.watch.Status(); s.Ended != 100 || s.Waiting != 0 || s.Failure != "" {
			b.Errorf("status %+v", s)
		}
	})
}

func TestWatchAccountsForWhatOthersSaw(t *testing.T) {
	run(t, "a pod that grants depend on and that is not there has ended", func(b *bed) {
		b.run("alive")
		b.evidence.add(append(names("gone", 2500), "alive")...)
		b.evidence.mu.Lock()
		b.evidence.keys = append(b.evidence.keys, "hub-2/gone", "spoke/gone")
		b.evidence.mu.Unlock()
		b.start()
		got := b.all()
		slices.Sort(got)
		if !slices.Equal(got, names("gone", 2500)) {
			b.Fatalf("ended %d: %.40q", len(got), got)
		}
		b.wantReady(true)
	})
	run(t, "nothing is ended before the list is whole", func(b *bed) {
		b.run(names("p", 600)...)
		b.evidence.add(names("p", 600)...)
		pages := 0
		b.on(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Get("limit") == "500" {
				if pages++; pages == 2 {
					_, _ = io.WriteString(w, `{"metadata":{"resourceVersion":"1700"},"items":[{"metadata":{"uid":"p0501"}}`)
					return true
				}
			}
			return false
		})
		b.start()
		b.wantReady(false)
		b.pass(2 * time.Second)
		b.wantReady(true)
		b.wantEnds()
	})
	run(t, "without the database the watch is not ready, and then it accounts for all", func(b *bed) {
		b.run("alive")
		b.evidence.add("alive", "gone")
		b.evidence.fail = errors.New("the database is away")
		b.start()
		b.wantReady(false)
		b.evidence.mu.Lock()
		b.evidence.fail = nil
		b.evidence.mu.Unlock()
		b.pass(2 * time.Minute)
		b.wantEnds("gone")
		b.wantReady(true)
	})
	run(t, "a grant that was born to a pod that was dead already ends it", func(b *bed) {
		b.start()
		b.evidence.add("dead")
		b.pass(auditEvery + 2*time.Second)
		b.wantEnds()
		b.run("other") // an event past the question
		b.settle()
		b.wantEnds("dead")
		if n := b.count("list"); n != 1 {
			b.Errorf("%d lists", n)
		}
	})
	run(t, "where nothing happens, a list settles it", func(b *bed) {
		b.mu.Lock()
		b.quiet = true
		b.mu.Unlock()
		b.start()
		b.evidence.add("dead")
		b.pass(2*auditEvery + 2*time.Second)
		b.wantEnds("dead")
	})
	t.Run("an event from before the question settles nothing", func(t *testing.T) {
		w := &Watch{Cluster: testCluster, Now: time.Now}
		w.start()
		w.suspects = suspects{uids: []string{"dead", "newborn"}, version: 1005}
		for i, uid := range []string{"old", "newborn", "new"} {
			if err := w.take(event{added, fmt.Appendf(nil, `{"metadata":{"uid":%q}}`, uid), fmt.Sprint(1003 + i)}); err != nil {
				t.Fatal(err)
			}
			if want := map[int]int{2: 1}[i]; len(w.ends.waiting) != want {
				t.Errorf("after %s: %v", uid, w.ends.waiting)
			}
		}
		if w.ends.waiting[0].uid != "dead" || w.Pod("newborn") != Living {
			t.Errorf("ended %v", w.ends.waiting)
		}
	})
	run(t, "a pod that is newer than what the watch has heard is not ended", func(b *bed) {
		b.start()
		b.evidence.add("newborn") // another node has asked the API server about it
		b.pass(auditEvery + 2*time.Second)
		b.run("newborn")
		b.pass(5 * time.Minute)
		b.wantEnds()
		b.wantStates(map[string]State{"newborn": Living})
		b.wantReady(true)
	})
}

func TestWatchWithstandsALyingAPIServer(t *testing.T) {
	answers := func(path string, body string) func(b *bed) {
		return func(b *bed) {
			b.on(func(w http.ResponseWriter, r *http.Request) bool {
				is := r.URL.Query().Get("limit") == "500"
				if r.URL.Query().Has("watch") {
					is = path == "watch"
				} else {
					is = is && path == "list"
				}
				if is {
					_, _ = io.WriteString(w, body)
				}
				return is
			})
		}
	}
	for name, lie := range map[string]func(b *bed){
		"a list without a version":       answers("list", `{"metadata":{},"items":[]}`),
		"a list that is cut off":         answers("list", `{"metadata":{"resourceVersion":"1"},"items":[]`),
		"a list that is not one":         answers("list", `["a"]`),
		"a list of something else":       answers("list", `{"metadata":{"resourceVersion":"1"},"items":"pods"}`),
		"a list that has no end":         answers("list", `{"metadata":{"resourceVersion":"1","continue":"more"},"items":[]}`),
		"an event without a version":     answers("watch", `{"type":"ADDED","object":{"metadata":{"uid":"b"}}}`),
		"an event of no known type":      answers("watch", `{"type":"KILLED","object":{"metadata":{"uid":"a","resourceVersion":"9"}}}`),
		"an event that is not one":       answers("watch", `"ADDED"`),
		"an event that is no JSON":       answers("watch", `{"type":ADDED`),
		"an event longer than an object": answers("watch", `{"type":"ADDED","object":{"metadata":{"uid":"`+strings.Repeat("x", maxObject+1)+`"}}}`),
		"an error that is not 410":       answers("watch", `{"type":"ERROR","object":{"code":500,"message":"\u001b[2J"}}`),
		"a redirect": func(b *bed) {
			b.on(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Host != "api.test:6443" {
					b.Errorf("it was followed to %s", r.Host)
				}
				http.Redirect(w, r, "https://elsewhere.test/", http.StatusTemporaryRedirect)
				return true
			})
		},
	} {
		run(t, name+" ends nobody and is a failure", func(b *bed) {
			b.run("a")
			b.evidence.add("a")
			lie(b)
			b.start()
			b.pass(time.Second)
			if s := b.watch.Status(); s.Failure == "" || strings.ContainsRune(s.Failure, 0x1b) {
				b.Errorf("status %+v", s)
			}
			b.wantEnds()
			b.on(nil)
			b.pass(2 * time.Second)
			b.wantReady(true)
			b.wantEnds()
			b.wantStates(map[string]State{"a": Living})
		})
	}
	run(t, "a uid never comes back to life", func(b *bed) {
		b.run("a")
		b.start()
		b.remove("a")
		b.run("a")
		b.settle()
		b.wantEnds("a")
		b.wantStates(map[string]State{"a": Ended})
	})
	run(t, "what cannot be a uid is not remembered", func(b *bed) {
		for i, uid := range []string{"", "a/b", "a.b", "a\nb", strings.Repeat("x", 65), "ä"} {
			b.change("ADDED", fakePod{namespace: "shop", name: fmt.Sprint(i), uid: uid})
		}
		b.start()
		if s := b.watch.Status(); s.Pods != 0 {
			b.Errorf("status %+v", s)
		}
		b.wantReady(true)
	})
	t.Run("deadlines that move without end take no memory", func(t *testing.T) {
		p, now := newPods(false), time.Now()
		for i := range 10_000 {
			_, _ = p.saw(object{UID: "a", Deletion: now.Add(time.Duration(10_000-i) * time.Hour)}, now)
		}
		if len(p.due) > 100 {
			t.Errorf("%d deadlines of one pod", len(p.due))
		}
		if ends, _ := p.pass(now.Add(time.Hour)); len(ends) != 1 {
			t.Errorf("ended %v", ends)
		}
	})
	t.Run("there is a most to the pods", func(t *testing.T) {
		p, now := newPods(false), time.Now()
		var err error
		for i := 0; i <= maxPods && err == nil; i++ {
			_, err = p.saw(object{UID: fmt.Sprint(i)}, now)
		}
		if err != errTooMany {
			t.Errorf("got %v", err)
		}
		if ends := p.gone("another", now); len(ends) != 0 {
			t.Errorf("ended %v", ends)
		}
	})
}
