package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/test/drill"
)

// leak is one value that was published.
type leak struct {
	kind    string
	value   string
	refused func(t *testing.T) bool // whether the service, or an API that asks it, refuses the value now
	once    bool                    // trying it spends it, so it is tried at the end only
}

// Drill 3, docs/explanation/drills.md: a repository and its logs were published, with secrets in
// them, some in places where nobody looks.
func TestDrill3_TheLeakedSpace(t *testing.T) {
	_, err := exec.LookPath("git")
	need(t, err == nil, "git")
	report := drill.Begin(t)
	signer, files := hubKeys(t)
	maps.Copy(files, houseFiles())
	introspected := strings.Replace(podsOfHub, "{name: spoke-a}", "{name: spoke-a, webhook: {caller: "+apiServer.ID+"}}", 1)
	p := pods{startServe(t, serveHead+onSQLite+introspected+houseBody, files), signer}
	neighbour := newHouse(t) // another company's Signalbox, whose tokens are in the same files

	space := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(space, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", filepath.Join(space, "repo"), "-c", "user.name=ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
		return string(out)
	}

	// Values of every kind, other ones in each place.
	type place struct {
		name  string
		leaks []leak
	}
	var places []place
	lines := func(name, format string, encode func(string) string) string {
		leaks := p.leaks(t, fmt.Sprintf("job-%d", len(places)))
		places = append(places, place{name, leaks})
		var text strings.Builder
		for _, l := range leaks {
			fmt.Fprintf(&text, format+"\n", encode(l.value))
		}
		return text.String()
	}
	plain := func(s string) string { return s }
	in64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

	write("repo/README.md", "# Orders\n")
	git("init", "-q", "-b", "main")
	write("repo/deploy/old.env", lines("a file that an old commit has deleted", "export TOKEN=%q", plain))
	git("add", ".")
	git("commit", "-qm", "Deploy")
	git("rm", "-q", "deploy/old.env")
	git("commit", "-qm", "Remove credentials")
	git("checkout", "-qb", "try")
	write("repo/test.http", lines("a branch that was never merged", "GET https://api.example.com/orders?access_token=%s&page=2", plain))
	git("add", ".")
	git("commit", "-qm", "Try", "-m", lines("the message of a commit", "It fails with %s, why?", plain))
	git("checkout", "-q", "main")
	write("repo/deploy/secret.yaml", "kind: Secret\ndata:\n"+lines("base64, in a Kubernetes Secret", "  token: %s", in64))
	write("repo/backup.yaml", "tokens:\n"+lines("base64, in lines of 76", "  - |\n%s", func(s string) string {
		var all []string
		for line := range slices.Chunk([]byte(in64(s)), 76) {
			all = append(all, "    "+string(line))
		}
		return strings.Join(all, "\n")
	}))
	git("add", ".")
	git("commit", "-qm", "Add the Secret")

	write("logs/access.log", lines("a log, in headers", `10.0.0.1 "GET /orders" Authorization: Bearer %s "curl/8"`, plain)+
		lines("a log, in JSON", `{"level":"debug","msg":"answer","body":"{\"token\":\"%s\"}"}`, plain)+
		lines("a log, in the base64 of HTTP Basic", "Authorization: Basic %s", func(s string) string { return in64("orders:" + s) }))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprint(z, lines("a log that gzip has compressed", "token=%s", plain))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write("logs/access.log.1.gz", packed.String())

	// What looks alike, and must be let alone.
	_, claims := claimsOf(t, p.machineToken(t))
	claims["iss"], claims["aud"] = "https://sts.example.org", "https://api.example.org"
	foreign := neighbour.signedIn(t, webTwo, ada)
	opaque := neighbour.post(t, "/token", params("grant_type", "client_credentials", "resource", "https://opaque.example.com"), basic(machine)).str("access_token")
	cut := p.signedIn(t, webTwo, ada)
	decoys := []string{
		foreign.str("access_token"), foreign.str("id_token"), // another Signalbox
		jws(map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": "x"}, claims, newECKey()),
		jws(map[string]any{"alg": "ES256", "typ": "JWT"}, map[string]any{"iss": "https://accounts.google.com", "aud": "some-app", "sub": "1"}, newECKey()),
		jws(map[string]any{"alg": "ES256"}, map[string]any{"iss": "https://kubernetes.default.svc", "aud": []string{"https://kubernetes.default.svc"}, "sub": "system:serviceaccount:shop:web"}, newECKey()),
		"ghp_" + strings.Repeat("a1B2", 9), "AKIAIOSFODNN7EXAMPLE", "eyJub3QiOiJhIHRva2VuIn0", "eyJhIjoxfQ.eyJiIjoyfQ.", "0190163d-8694-739b-aea5-966c26f8ad91", "sbx_", "sbx_rt_", "sbx_zz_abc",
	}
	masked := []string{cut.str("refresh_token")[:40] + "…", cut.str("refresh_token")[:20] + "********"}
	strangers := []string{opaque, foreign.str("refresh_token")} // by their checksum these are tokens of a Signalbox; which one, only it can say
	write("repo/decoys.txt", strings.Join(slices.Concat(decoys, masked, strangers), "\n")+"\n")
	git("add", ".")
	git("commit", "-qm", "Add examples")

	history := git("log", "-p", "--all")
	type finding struct {
		TokenHash string `json:"token_hash"`
		Alive     *bool  `json:"alive"`
		Ended     bool   `json:"ended"`
	}
	// scan runs the command over the history and over the logs.
	scan := func(args ...string) (found map[string]finding, damaged int) {
		t.Helper()
		found = map[string]finding{}
		for _, c := range []struct{ stdin, target, shown string }{{history, "-", "git log -p --all | signalbox scan -"}, {"", filepath.Join(space, "logs"), "signalbox scan logs"}} {
			stdout, stderr, _ := run(t, c.stdin, append([]string{"scan", c.target, "--issuer", p.Issuer, "-o", "json"}, args...)...)
			var r struct {
				Findings []finding
				Damaged  int
			}
			if err := json.Unmarshal([]byte(stdout), &r); err != nil {
				t.Fatalf("%v: %s%s", err, stdout, stderr)
			}
			for _, f := range r.Findings {
				if before, twice := found[f.TokenHash]; !twice || before.Alive != nil && *before.Alive {
					found[f.TokenHash] = f
				}
			}
			damaged += r.Damaged
			for _, place := range places {
				for _, l := range place.leaks {
					if strings.Contains(stdout+stderr, l.value) {
						t.Fatalf("%s shows a value", c.shown)
					}
				}
			}
			short := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.ContainsAny(a, "/:") || strings.HasPrefix(a, "--admin") })
			report.Ran(strings.Join(append([]string{c.shown}, short...), " "), stderr)
		}
		return found, damaged
	}

	kinds, planted := []string{}, map[string]bool{}
	for _, l := range places[0].leaks {
		kinds = append(kinds, l.kind)
	}
	for _, place := range places {
		for _, l := range place.leaks {
			planted[journalHash(l.value)] = true
			if !l.once && l.refused(t) {
				t.Fatalf("%s, %s: never good", place.name, l.kind)
			}
		}
	}

	report.Say("%d values of %d kinds in %d places, and %d that look alike. Offline:", len(planted), len(kinds), len(places), len(decoys)+len(masked)+len(strangers))
	offline, damaged := scan("--offline", "--admin-url", "http://127.0.0.1:1") // where nobody answers
	missed, falseAlarms := 0, 0
	rows := [][]string{}
	for _, place := range places {
		n := 0
		for _, l := range place.leaks {
			if _, found := offline[journalHash(l.value)]; found {
				n++
			} else {
				missed++
				t.Logf("missed: %s, %s", place.name, l.kind)
			}
		}
		rows = append(rows, []string{place.name, fmt.Sprint(len(place.leaks)), fmt.Sprint(n)})
	}
	for hash := range offline {
		if !planted[hash] && !slices.ContainsFunc(strangers, func(s string) bool { return journalHash(s) == hash }) {
			falseAlarms++
		}
	}

	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(p.adminToken(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	report.Say("Which are alive, and their end:")
	ended, _ := scan("--end", "--yes", "--admin-url", p.AdminURL, "--admin-token-file", token)
	taken := 0 // for ours although they are the neighbour's
	for _, s := range strangers {
		if f := ended[journalHash(s)]; f.Ended || f.Alive != nil && *f.Alive {
			taken++
		}
	}
	report.Table(append([]string{"where"}, "planted", "found"), rows...)

	// What cannot be ended by its value is replaced, as the scan says: secrets of clients, and what pods prove themselves with.
	byEnd := map[string]int{}
	for _, place := range places {
		for _, l := range place.leaks {
			if l.refused(t) {
				byEnd[l.kind]++
			}
		}
	}
	for i := range places {
		name := fmt.Sprintf("job-%d", i)
		for _, args := range [][]string{{"client", "rotate", name, "--secret-file", filepath.Join(t.TempDir(), name)}, {"panic", "--client", name, "--yes"}} {
			if _, told, code := p.command(t, args...); code != 0 {
				t.Fatalf("signalbox %q: %s", args, told)
			}
		}
	}
	if _, told, code := p.command(t, "panic", "--workload", "cluster:hub:ns:shop", "--yes"); code != 0 {
		t.Fatalf("panic --workload: %s", told)
	}
	dead := map[string]int{}
	for _, place := range places {
		for _, l := range place.leaks {
			if l.refused(t) {
				dead[l.kind]++
			} else {
				t.Logf("alive: %s, %s", place.name, l.kind)
			}
		}
	}
	rows = nil
	total := 0
	for _, kind := range kinds {
		rows = append(rows, []string{kind, fmt.Sprint(byEnd[kind]), fmt.Sprint(dead[kind])})
		total += dead[kind]
	}
	report.Table([]string{"kind", "dead after --end", "dead after what the scan says to do"}, rows...)

	report.Promise("every value is found, offline", fmt.Sprintf("%d of %d", len(planted)-missed, len(planted)), missed == 0)
	report.Promise("nothing else is taken for one", fmt.Sprintf("%d false alarms", falseAlarms), falseAlarms == 0)
	report.Promise("what is cut off or masked is counted", fmt.Sprint(damaged), damaged == len(masked))
	report.Promise("all are dead afterwards", fmt.Sprintf("%d of %d", total, len(planted)), total == len(planted))
	for _, kind := range []string{"access token of a person", "opaque access token", "refresh token", "authorization code", "token of a pod for a cluster"} {
		report.Promise("--end alone ends each "+kind, fmt.Sprintf("%d of %d", byEnd[kind], len(places)), byEnd[kind] == len(places))
	}
	report.Promise("another Signalbox's tokens are not taken for ours", fmt.Sprintf("%d of %d", taken, len(strangers)), taken == 0)
	untouched := neighbour.active(t, foreign.str("access_token")) && neighbour.active(t, opaque) && neighbour.refresh(t, webTwo, foreign.str("refresh_token")).Status == http.StatusOK
	report.Promise("and are as good as before", fmt.Sprint(untouched), untouched)
	kept := p.active(t, cut.str("access_token"))
	report.Promise("ada's token that was not published is as good as before", fmt.Sprint(kept), kept)
}

// leaks makes one value of each kind. name is that of a client made for them.
func (p pods) leaks(t *testing.T, name string) []leak {
	t.Helper()
	inactive := func(token string) func(*testing.T) bool {
		return func(t *testing.T) bool { return !p.active(t, token) }
	}
	person, other := p.signedIn(t, webTwo, ada), p.signedIn(t, webTwo, bob)
	job := p.newClient(t, name)
	opaque := p.post(t, "/token", params("grant_type", "client_credentials", "resource", "https://opaque.example.com"), basic(machine)).str("access_token")
	request := newCodeRequest(webTwo)
	code := p.code(t, request, bob)
	file := filepath.Join(t.TempDir(), "proof")
	p.proof(t, file, name, name)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	proof := string(raw)
	exchange := func(t *testing.T) reply {
		return p.post(t, "/token", params("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange", "audience", "spoke-a",
			"subject_token", proof, "subject_token_type", "urn:ietf:params:oauth:token-type:jwt"))
	}
	exchanged := exchange(t).str("access_token")
	return []leak{
		{kind: "access token of a person", value: person.str("access_token"), refused: inactive(person.str("access_token"))},
		{kind: "ID token (no API takes one)", value: other.str("id_token"), refused: inactive(other.str("id_token")), once: true},
		{kind: "opaque access token", value: opaque, refused: inactive(opaque)},
		{kind: "refresh token", value: other.str("refresh_token"), once: true, refused: func(t *testing.T) bool {
			return p.refresh(t, webTwo, other.str("refresh_token")).str("error") == "invalid_grant"
		}},
		{kind: "authorization code", value: code, once: true, refused: func(t *testing.T) bool {
			return p.post(t, "/token", request.redeem(code), basic(webTwo)).str("error") == "invalid_grant"
		}},
		{kind: "client secret", value: job.Secret, refused: func(t *testing.T) bool {
			return p.post(t, "/token", params("grant_type", "client_credentials", "resource", api), basic(job)).Status == http.StatusUnauthorized
		}},
		{kind: "pod's own token", value: proof, refused: func(t *testing.T) bool { return exchange(t).Status != http.StatusOK }},
		{kind: "token of a pod for a cluster", value: exchanged, refused: inactive(exchanged)},
	}
}
