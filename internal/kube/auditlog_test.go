package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	ourID  = "019a0000-0000-7000-8000-000000000001"
	hubsID = "3f1c0f0e-0000-4000-8000-000000000002"
)

// What kube-apiserver 1.36 wrote, shortened.
const (
	issueLine = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Request","auditID":"a-1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/serviceaccounts/orders/token?x=secret","verb":"create","user":{"username":"system:node:n1","groups":["system:nodes"]},"sourceIPs":["10.0.0.7"],"userAgent":"kubelet/v1.36.3","objectRef":{"resource":"serviceaccounts","namespace":"shop","name":"orders","apiVersion":"v1","subresource":"token"},"responseStatus":{"metadata":{},"code":201},"requestObject":{"spec":{"boundObjectRef":{"kind":"Pod","name":"orders-1"}}},"requestReceivedTimestamp":"2026-03-01T12:00:00.123456Z","stageTimestamp":"2026-03-01T12:00:00.200000Z","annotations":{"authentication.kubernetes.io/issued-credential-id":"JTI=` + hubsID + `","authorization.k8s.io/decision":"allow"}}`
	useLine   = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"b-1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/default/configmaps","verb":"create","user":{"username":"signalbox:cluster:hub:ns:shop:sa:orders","groups":["system:authenticated"],"extra":{"authentication.kubernetes.io/credential-id":["JTI=` + ourID + `"]}},"sourceIPs":["127.0.0.1"],"objectRef":{"resource":"configmaps","namespace":"default","name":"synced"},"responseStatus":{"code":201},"requestReceivedTimestamp":"2026-03-01T12:00:02.5Z"}`
	otherLine = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"c-1","stage":"ResponseComplete","verb":"get","user":{"username":"x","extra":{"authentication.kubernetes.io/credential-id":["JTI=another"]}}}`
)

func findAll(t testing.TB, log string) (events []AuditEvent, read AuditLogRead) {
	t.Helper()
	read, err := FindInAuditLog(t.Context(), strings.NewReader(log), []string{hubsID, ourID}, func(e AuditEvent) error {
		events = append(events, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return events, read
}

func TestTokensAreFoundInAnAuditLog(t *testing.T) {
	events, read := findAll(t, issueLine+"\n"+otherLine+"\r\n\n"+useLine)
	if len(events) != 2 || read != (AuditLogRead{Events: 3}) {
		t.Fatalf("%+v %+v", events, read)
	}
	issued, used := events[0], events[1]
	if issued.Issued != hubsID || issued.Used != "" || issued.Username != "system:node:n1" || issued.Pod != "orders-1" || issued.Code != 201 ||
		issued.Path != "/api/v1/namespaces/shop/serviceaccounts/orders/token" || issued.Object != (AuditObject{"", "serviceaccounts", "token", "shop", "orders"}) ||
		!issued.Time.Equal(time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)) {
		t.Errorf("%+v", issued)
	}
	if used.Used != ourID || used.Issued != "" || used.Verb != "create" || used.Object.Name != "synced" {
		t.Errorf("%+v", used)
	}
}

func TestWhatIsNoEventIsCounted(t *testing.T) {
	long := strings.Replace(useLine, `"code":201`, `"code":201,"message":"`+strings.Repeat("x", MaxAuditLine)+`"`, 1)
	for _, row := range []struct {
		name, line string
		unread     int
		events     int // found
	}{
		{"a whole event", useLine, 0, 1},
		{"an event of several buffers", strings.Replace(useLine, `"code":201`, `"code":201,"message":"`+strings.Repeat("x", 3<<20)+`"`, 1), 0, 1},
		{"a torn line", useLine[:len(useLine)-10], 1, 0},
		{"the other half", useLine[40:], 1, 0},
		{"two in one", useLine + useLine, 1, 0},
		{"text", "12:00:00 started JTI=" + ourID, 1, 0},
		{"JSON of something else", `{"msg":"JTI=` + ourID + `"}`, 1, 0},
		{"another kind", strings.Replace(useLine, `"Event"`, `"EventList"`, 1), 1, 0},
		{"an older version", strings.Replace(useLine, `k8s.io/v1"`, `k8s.io/v1beta1"`, 1), 1, 0},
		{"a line that is too long", long, 1, 0},
		{"a user agent with the id", strings.Replace(otherLine, `"verb"`, `"userAgent":"JTI=`+ourID+`","verb"`, 1), 0, 0},
		{"the id as a part of another", strings.Replace(useLine, ourID, ourID+"0", 1), 0, 0},
		{"another annotation with the id", strings.Replace(strings.Replace(issueLine, "issued-credential-id", "x", 1), "JTI="+hubsID, "JTI="+ourID, 1), 0, 0},
	} {
		events, read := findAll(t, otherLine+"\n"+row.line+"\n"+otherLine)
		if len(events) != row.events || read.Unread != row.unread || read.Events != 3-row.unread || read.FirstUnread != 2*row.unread {
			t.Errorf("%s: %d events, %+v", row.name, len(events), read)
		}
	}
}

func TestReadingAnAuditLogEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := FindInAuditLog(ctx, strings.NewReader(useLine), []string{ourID}, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	enough := errors.New("enough")
	if _, err := FindInAuditLog(t.Context(), strings.NewReader(useLine), []string{ourID}, func(AuditEvent) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
}

func FuzzAuditLog(f *testing.F) {
	f.Add([]byte(issueLine+"\n"+useLine), hubsID, ourID)
	f.Add([]byte(otherLine+"\n\n{}\n{\"audit.k8s.io/v1\"}"), "another", "")
	f.Add([]byte(strings.Replace(useLine, ourID, `a\"\n`, 1)), "a\"\n", "x")
	f.Fuzz(func(t *testing.T, log []byte, one, two string) {
		found := 0
		read, err := FindInAuditLog(t.Context(), bytes.NewReader(log), []string{one, two}, func(e AuditEvent) error {
			found++
			if (e.Issued == "" || e.Issued != one && e.Issued != two) && (e.Used == "" || e.Used != one && e.Used != two) {
				return fmt.Errorf("about another token: %+v", e)
			}
			if strings.Contains(e.Path, "?") {
				return errors.New("a query is shown")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Count(log, []byte("\n")) + 1
		if found > read.Events || read.Events+read.Unread > lines || read.FirstUnread > lines || (read.FirstUnread == 0) != (read.Unread == 0) {
			t.Errorf("%d found, %d lines, %+v", found, lines, read)
		}
	})
}
