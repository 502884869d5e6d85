package e2e

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestAnonymous: K116, promise 4. After 100,000 anonymous requests the database has not
// grown, and the journal is bounded.
func TestAnonymous(t *testing.T) {
	requests := 100_000
	onEachEngine(t, "log: {level: error}\n", func(t *testing.T, w *world) {
		tokens := w.signedIn(t, webTwo, ada)
		w.allKeys(t)
		w.restart(t)
		rows, size, journal := w.rows(t), w.fileSize(t), journalSize(t, w.server)

		statuses := w.flood(t, requests, anonymousRequests(w.server, tokens))
		t.Logf("statuses %v", statuses)
		for status := range statuses {
			if status >= 500 {
				t.Errorf("%d answers with status %d", statuses[status], status)
			}
			if status == http.StatusOK && statuses[status] == requests {
				t.Error("every answer was 200: was anything asked for?")
			}
		}
		for _, r := range []reply{w.refresh(t, webTwo, tokens.str("refresh_token"))} {
			checkTokenAnswer(t, r, "") // and the service serves its clients
		}

		w.restart(t)
		after := w.rows(t)
		for table, n := range after {
			if n != rows[table] {
				t.Errorf("table %s: %d rows before, %d after", table, rows[table], n)
			}
		}
		if grown := w.fileSize(t) - size; grown > 0 {
			t.Errorf("the database grew by %d bytes", grown)
		}
		// A kind of refusal costs one record a minute, and there are at most 256 kinds.
		if grown := journalSize(t, w.server) - journal; grown > 1<<20 {
			t.Errorf("the journal grew by %d bytes", grown)
		} else {
			t.Logf("the journal grew by %d bytes", grown)
		}
		verifyJournal(t, w.server)
	})
}

// allKeys waits for the next key of each algorithm, which a first start makes a little later.
func (w *world) allKeys(t *testing.T) {
	t.Helper()
	w.proc.wait(t, "the next signing keys", func() bool { return w.number(t, "SELECT count(*) FROM signing_keys") == 4 })
}

// fileSize is the size of the SQLite file with all of its log written back.
func (w *world) fileSize(t *testing.T) int64 {
	t.Helper()
	if w.engine != "SQLite" {
		return 0
	}
	if _, err := w.db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(w.dir, "signalbox.db"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// anonymousRequests are what anybody can send without a secret: good requests, bad ones,
// and guesses.
func anonymousRequests(s *server, tokens reply) []func(n uint64) string {
	host := strings.TrimPrefix(s.Issuer, "http://")
	get := func(path, more string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + more + "\r\n"
	}
	post := func(path, more, form string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n%s\r\n%s", path, host, len(form), more, form)
	}
	authorize := func(n uint64, change func(url.Values)) string {
		q := newCodeRequest(webApp).query
		q.Set("state", fmt.Sprint(n))
		if change != nil {
			change(q)
		}
		return get("/authorize?"+q.Encode(), "")
	}
	guess := func(n uint64, prefix string) string { return fmt.Sprintf("%s%032x", prefix, n) }
	wrong := func(id string, n uint64) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("%s:guess-%d", id, n))) + "\r\n"
	}
	return []func(n uint64) string{
		func(n uint64) string { return authorize(n, nil) },
		func(n uint64) string { return authorize(n, func(q url.Values) { q.Set("prompt", "none") }) },
		func(n uint64) string {
			return authorize(n, func(q url.Values) { q.Set("client_id", guess(n, "nobody")) })
		},
		func(n uint64) string { return authorize(n, func(q url.Values) { q.Set("scope", guess(n, "s")) }) },
		func(n uint64) string { return post("/token", "", "grant_type=client_credentials") },
		func(n uint64) string { return post("/token", wrong("machine", n), "grant_type=client_credentials") },
		func(n uint64) string {
			return post("/token", wrong(guess(n, "nobody"), n), "grant_type=client_credentials")
		},
		func(n uint64) string { // a public client is anybody
			return post("/token", "", "grant_type=authorization_code&client_id=native&redirect_uri=http://127.0.0.1/callback&code_verifier="+strings.Repeat("v", 43)+"&code="+guess(n, "sbx_ac_"))
		},
		func(n uint64) string {
			return post("/token", "", "grant_type=refresh_token&client_id=native&refresh_token="+guess(n, "sbx_rt_"))
		},
		func(n uint64) string { // somebody else's real token, by a client that is not its own
			return post("/token", "", "grant_type=refresh_token&client_id=native&refresh_token="+tokens.str("refresh_token"))
		},
		func(n uint64) string { return post("/introspect", "", "token="+guess(n, "t")) },
		func(n uint64) string {
			return post("/introspect", wrong(guess(n, "nobody"), n), "token="+guess(n, "t"))
		},
		func(n uint64) string {
			return post("/introspect", "", "client_id=native&token="+tokens.str("access_token"))
		},
		func(n uint64) string { return post("/revoke", "", "client_id=native&token="+guess(n, "sbx_rt_")) },
		func(n uint64) string {
			return post("/revoke", "", "client_id=native&token="+tokens.str("refresh_token"))
		},
		func(n uint64) string { return get("/userinfo", "Authorization: Bearer "+guess(n, "t")+"\r\n") },
		func(n uint64) string { return post("/login", "", "username=ada&password="+guess(n, "p")) },
		func(n uint64) string { return get("/logout?id_token_hint="+guess(n, "e30."), "") },
		func(n uint64) string { return get("/"+guess(n, "nowhere"), "") },
	}
}

// flood sends n requests over a few connections that stay open, and counts the statuses.
func (w *world) flood(t *testing.T, n int, requests []func(uint64) string) map[int]int {
	t.Helper()
	const connections = 8
	var sent atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := map[int]int{}
	for range connections {
		wg.Go(func() {
			statuses, err := floodOne(strings.TrimPrefix(w.Issuer, "http://"), &sent, int64(n), requests)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for s, c := range statuses {
				total[s] += c
			}
		})
	}
	wg.Wait()
	return total
}

func floodOne(address string, sent *atomic.Int64, n int64, requests []func(uint64) string) (map[int]int, error) {
	statuses := map[int]int{}
	var conn net.Conn
	var in *bufio.Reader
	for {
		i := sent.Add(1)
		if i > n {
			if conn != nil {
				conn.Close()
			}
			return statuses, nil
		}
		if conn == nil {
			var err error
			if conn, err = net.Dial("tcp", address); err != nil {
				return statuses, err
			}
			in = bufio.NewReader(conn)
		}
		if _, err := io.WriteString(conn, requests[int(i)%len(requests)](rand.Uint64())); err != nil {
			return statuses, err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses, err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return statuses, err
		}
		statuses[resp.StatusCode]++
		if resp.Close {
			conn.Close()
			conn = nil
		}
	}
}
