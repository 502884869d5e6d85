package cli

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/signalbox-sts/signalbox/admin"
)

// unsigned is a token that nobody checks: the commands only look at its scope.
func unsigned(claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"ES256","typ":"at+jwt"}`)) + "." + encode([]byte(claims)) + ".AAAA"
}

func TestUsernamesAreBesideIDs(t *testing.T) {
	var asked atomic.Int32
	ada, gone, job := admin.Subject{ID: "u_1", Kind: "user"}, admin.Subject{ID: "u_2", Kind: "user"}, admin.Subject{ID: "job", Kind: "client"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/admin/v1/grants":
			_ = json.NewEncoder(w).Encode(admin.Page[admin.Grant]{Items: []admin.Grant{{GrantID: "g1", Subject: ada}, {GrantID: "g2", Subject: gone}, {GrantID: "g3", Subject: ada}, {GrantID: "g4", Subject: job}}})
		case "/admin/v1/journal":
			_ = json.NewEncoder(w).Encode(admin.Page[admin.Record]{Items: []admin.Record{{Type: "user.signed_in", Subject: &ada}, {Type: "user.signed_in", Subject: &gone}}})
		case "/admin/v1/users/u_1":
			asked.Add(1)
			_ = json.NewEncoder(w).Encode(admin.User{UserID: "u_1", Username: "ada"})
		default:
			asked.Add(1)
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	vars := map[string]string{"SIGNALBOX_ADMIN_URL": server.URL, "SIGNALBOX_ADMIN_TOKEN": unsigned(`{"scope":"grants:read users:read journal:read"}`)}
	run := func(args ...string) result {
		t.Helper()
		asked.Store(0)
		return execute(t, t.Context(), vars, strings.NewReader(""), args...).wants(0)
	}
	if r := run("grant", "list"); strings.Count(r.out, "ada (u_1)") != 2 || !strings.Contains(r.out, " u_2 ") || !strings.Contains(r.out, " job ") || asked.Load() != 2 {
		t.Errorf("%d questions: %s", asked.Load(), r.out)
	}
	if r := run("audit", "search"); !strings.Contains(r.out, "user=ada subject=u_1") || !strings.Contains(r.out, "signed_in subject=u_2") || asked.Load() != 2 {
		t.Errorf("%d questions: %s", asked.Load(), r.out)
	}
	for _, args := range [][]string{{"grant", "list", "-o", "json"}, {"audit", "search", "-o", "json"}} {
		if r := run(args...); strings.Contains(r.out, "ada") || asked.Load() != 0 {
			t.Errorf("%v: %d questions: %s", args, asked.Load(), r.out)
		}
	}
	vars["SIGNALBOX_ADMIN_TOKEN"] = unsigned(`{"scope":"grants:read journal:read"}`)
	for _, args := range [][]string{{"grant", "list"}, {"audit", "search"}} {
		if r := run(args...); !strings.Contains(r.out, "u_1") || asked.Load() != 0 {
			t.Errorf("%v: a caller who cannot read users asked for %d, which is recorded: %s", args, asked.Load(), r.out)
		}
	}
}
