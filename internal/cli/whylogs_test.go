package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/kube"
)

const (
	podsProof = "3f1c0f0e-0000-4000-8000-000000000002"
	firstJTI  = "019a0000-0000-7000-8000-000000000001"
	secondJTI = "019a0000-0000-7000-8000-000000000002"
)

func logged(at, rest string) string {
	return `{"kind":"Event","apiVersion":"audit.k8s.io/v1","stage":"ResponseComplete","requestReceivedTimestamp":"2026-03-01T` + at + `Z","sourceIPs":["10.0.0.7"],` + rest + "}\n"
}

func usedFor(at, id, rest string) string {
	return logged(at, `"user":{"username":"u","extra":{"authentication.kubernetes.io/credential-id":["JTI=`+id+`"]}},`+rest)
}

var hubsLog = logged("12:00:09", `"auditID":"h1","verb":"create","user":{"username":"system:node:n1"},"objectRef":{"resource":"serviceaccounts","subresource":"token","namespace":"shop","name":"orders"},"responseStatus":{"code":201},"annotations":{"authentication.kubernetes.io/issued-credential-id":"JTI=`+podsProof+`"}`)

// whyServer knows two tokens: one that a pod got, and one that a client got for it.
func whyServer(t *testing.T) map[string]string {
	t.Helper()
	hour := func(second int) time.Time { return time.Date(2026, 3, 1, 12, 0, second, 0, time.UTC) }
	known := map[string]admin.Why{
		firstJTI: {Key: firstJTI, Kind: "token", Found: true, Summary: "An access token.", Token: &admin.WhyToken{TokenID: firstJTI}, Records: []admin.Record{
			{Type: "token.issued", Time: hour(5), TokenID: firstJTI, OriginID: podsProof, OriginHash: "h", OriginPod: "orders-1", Policy: "orders-to-spoke", Audience: []string{"https://sts.example.com/clusters/spoke-a"}, RequestID: "r1", Node: "n1"},
		}},
		secondJTI: {Key: secondJTI, Kind: "token", Found: true, Summary: "Another.", Token: &admin.WhyToken{TokenID: secondJTI}, Records: []admin.Record{
			{Type: "token.revoked", Time: hour(31), TokenID: secondJTI, Actor: "operator", Node: "n1"},
			{Type: "token.issued", Time: hour(20), TokenID: secondJTI, OriginID: firstJTI, OriginHash: "h2", ClientID: "billing", Policy: "p2", Audience: []string{"https://sts.example.com/clusters/spoke-b"}, RequestID: "r2", Node: "n1"},
		}},
		exampleGrant: {Key: exampleGrant, Kind: "grant", Found: true, Summary: "A grant."},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := strings.TrimPrefix(r.URL.Path, "/admin/v1/why/")
		why, is := known[id]
		if !is {
			why = admin.Why{Key: id, Kind: "unknown", Summary: "nothing"}
		}
		_ = json.NewEncoder(w).Encode(why)
	}))
	t.Cleanup(server.Close)
	return map[string]string{"SIGNALBOX_ADMIN_URL": server.URL, "SIGNALBOX_ADMIN_TOKEN": "t"}
}

func logFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantLines: the lines are in the text, in this order.
func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	rest := text
	for _, line := range lines {
		_, after, found := strings.Cut(rest, line)
		if !found {
			t.Fatalf("no %q, or not in its place, in\n%s", line, text)
		}
		rest = after
	}
}

// Scenario 22, without clusters: from hub to spoke and on, in one answer.
func TestWhyJoinsAuditLogs(t *testing.T) {
	vars := whyServer(t)
	hub := logFile(t, "hub.log", hubsLog) // its clock is ahead
	spoke := logFile(t, "spoke.log",
		usedFor("12:00:07", firstJTI, `"auditID":"s2","verb":"get","requestURI":"/version?token=secret","responseStatus":{"code":403}`)+
			usedFor("12:00:06", firstJTI, `"auditID":"s1","verb":"create","objectRef":{"apiGroup":"apps","resource":"deployments","subresource":"scale","namespace":"default","name":"web"},"responseStatus":{"code":201}`)+
			usedFor("12:00:06", podsProof+"x", `"auditID":"s3","verb":"delete"`))
	far := logFile(t, "far.log", usedFor("12:00:30", secondJTI, `"auditID":"f1","verb":"list","objectRef":{"resource":"pods"},"responseStatus":{"code":200}`))

	const first = "issued to service account shop/orders, asked for by system:node:n1: JTI=" + podsProof + ", from 10.0.0.7 ("
	const exchanged = "12:00:05.000Z  exchanged by pod orders-1 for cluster spoke-a, allowed by policy orders-to-spoke: JTI=" + firstJTI + " (request r1, node n1)"
	one := execute(t, t.Context(), vars, strings.NewReader(""), "why", firstJTI, "--audit-log", spoke, "--audit-log", hub).wants(0)
	wantLines(t, one.out, "An access token.", "what happened, oldest first:", "12:00:09.000Z  "+first+hub+")\n", exchanged,
		"12:00:06.000Z  used: create deployments/scale.apps default/web, answered 201, from 10.0.0.7 ("+spoke+")\n", "12:00:07.000Z  used: get /version, answered 403, from")
	if strings.Contains(one.out, "secret") || strings.Contains(one.out, "delete") || one.err != "" {
		t.Errorf("%s%s", one.out, one.err)
	}

	two := execute(t, t.Context(), vars, strings.NewReader(hubsLog), "why", secondJTI, "--audit-log", spoke, "--audit-log", "-", "--audit-log", far).wants(0)
	wantLines(t, two.out, "Another.", first+"-)", exchanged, "create deployments", "12:00:20.000Z  exchanged by client billing for cluster spoke-b, allowed by policy p2: JTI="+secondJTI,
		"12:00:30.000Z  used: list pods, answered 200", "12:00:31.000Z  token.revoked actor=operator")

	var told story
	execute(t, t.Context(), vars, strings.NewReader(""), "why", firstJTI, "--audit-log", spoke, "--audit-log", hub, "-o", "json").wants(0).into(&told)
	var what []string
	for _, s := range told.Story {
		what = append(what, s.What)
	}
	if got := strings.Join(what, " "); got != "issued exchanged used used" || len(told.Logs) != 2 || told.Logs[0].Events != 3 || told.Summary != "An access token." || told.Story[2].Event.Code != 201 {
		t.Errorf("%s %+v", got, told)
	}
}

func TestWhyWithAuditLogsSaysWhatIsMissing(t *testing.T) {
	vars := whyServer(t)
	hub, empty := logFile(t, "hub.log", hubsLog), logFile(t, "empty.log", "")
	run := func(args ...string) result {
		return execute(t, t.Context(), vars, strings.NewReader("x"), append([]string{"why"}, args...)...)
	}
	run(firstJTI, "--audit-log", empty).wants(0, "exchanged by pod", "no log says who got the proof JTI="+podsProof, "no log has a request that was made with it")
	run(firstJTI, "--audit-log", hub).wants(0, "issued to service account", "no log has a request")
	torn := logFile(t, "torn.log", hubsLog+"torn\n"+hubsLog[:100])
	run(firstJTI, "--audit-log", torn).wants(0, "warning: 2 lines of "+torn+" cannot be read, the first is line 2")
	run(firstJTI, "--audit-log", logFile(t, "text", "I am a text")).wants(1, "is no audit log of an API server")
	run(firstJTI, "--audit-log", filepath.Join(t.TempDir(), "nothing")).wants(1, "no such file")
	run(firstJTI, "--audit-log", hub, "--audit-log", hub).wants(2, "given twice")
	run("-", "--audit-log", "-").wants(2, "standard input cannot be")
	run(exampleGrant, "--audit-log", hub).wants(1, "give an access token, or the jti")
	// A proof is not ours, and the logs know it all the same.
	run(podsProof, "--audit-log", hub).wants(1, "nothing", "issued to service account shop/orders")
}

// A token that is used for hours of work has a story of one page.
func TestWhyListsTheFirstRequestsAndCountsTheRest(t *testing.T) {
	var b strings.Builder
	const all = 1000
	for i := range all { // from the last to the first
		second := all - i
		b.WriteString(usedFor(fmt.Sprintf("12:%02d:%02d", second/60, second%60), firstJTI, fmt.Sprintf(`"auditID":"a%d","verb":"get","objectRef":{"resource":"pods","name":"p%d"}`, second, second)))
	}
	watch := usedFor("12:00:00", firstJTI, `"auditID":"w","verb":"watch","objectRef":{"resource":"pods"}`)
	b.WriteString(strings.Replace(watch, "ResponseComplete", "RequestReceived", 1) + strings.Replace(watch, "ResponseComplete", "ResponseStarted", 1) +
		strings.Replace(watch, `"verb"`, `"responseStatus":{"code":200},"verb"`, 1))
	r := execute(t, t.Context(), whyServer(t), strings.NewReader(""), "why", firstJTI, "--audit-log", logFile(t, "spoke.log", b.String())).wants(0)
	if n := strings.Count(r.out, "used: "); n != most {
		t.Errorf("%d requests are listed", n)
	}
	wantLines(t, r.out, "used: watch pods, answered 200", "get pods p1,", "get pods p2,", fmt.Sprintf("get pods p%d,", most-1), fmt.Sprintf("12:16:40.000Z  … until then used for %d more requests", all+1-most))
}

// What a cluster's log holds was written by whoever called the cluster.
func TestAnAuditLogDoesNotMoveTheTerminal(t *testing.T) {
	log := logFile(t, "x.log", usedFor("12:00:00", firstJTI, `"auditID":"a","verb":"get","objectRef":{"resource":"pods","name":"\u001b[2Jx\nforged"}`))
	r := execute(t, t.Context(), whyServer(t), strings.NewReader(""), "why", firstJTI, "--audit-log", log).wants(0)
	if strings.Contains(r.out, "\x1b") || strings.Contains(r.out, "\nforged") {
		t.Errorf("%q", r.out)
	}
	if got := requestText(kube.AuditEvent{Verb: "watch", Path: "/x", Stage: "ResponseStarted"}); got != "watch /x, still going on" {
		t.Error(got)
	}
}
