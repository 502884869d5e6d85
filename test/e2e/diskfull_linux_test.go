package e2e

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// K114, promise 2: when the journal cannot be written, no token is handed out, but access
// can still be taken away.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "journal")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=3m"); err != nil {
		t.Skipf("NOT TESTED: a small disk for the journal needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(folder, syscall.MNT_DETACH) })
	s := runServe(t, dir, "", serveHead+onSQLite+"tokens: {refresh_grace: 60s}\n"+houseBody, houseFiles())
	t.Cleanup(func() { s.stop() })
	people := s.signedIn(t, webTwo, ada)
	others := s.signedIn(t, webTwo, bob)
	r := newCodeRequest(webTwo)
	redeem := r.redeem(s.code(t, r, bob))
	token, adminToken := s.machineToken(t), s.adminToken(t)

	fill, err := os.Create(filepath.Join(folder, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(fill, endless{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	fill.Close()

	// The journal has reserved some space; soon that is used up.
	told := &told{}
	for {
		r := s.post(t, "/token", params("grant_type", "client_credentials", "resource", api), basic(machine))
		if unavailable(r) {
			break
		}
		told.add(r.str("access_token"))
		if r.Status != http.StatusOK || len(told.tokens) > 20_000 {
			t.Fatalf("client credentials with a full disk, %d tokens later: %s", len(told.tokens), r)
		}
	}
	for what, r := range map[string]reply{
		"client credentials": s.post(t, "/token", params("grant_type", "client_credentials", "resource", api), basic(machine)),
		"an opaque token":    s.post(t, "/token", params("grant_type", "client_credentials", "resource", "https://opaque.example.com"), basic(machine)),
		"a refresh":          s.refresh(t, webTwo, others.str("refresh_token")),
		"redeeming a code":   s.post(t, "/token", redeem, basic(webTwo)),
		"making a client": s.administerAs(t, adminToken, "POST", "/clients", map[string]any{
			"client_id": "unrecorded", "grant_types": []string{"client_credentials"}, "scope": "orders:read", "resources": []string{api}}),
	} {
		if !unavailable(r) {
			t.Errorf("%s with a full disk: %s", what, r)
		}
	}
	// The answer is remembered for a second.
	s.proc.wait(t, "503 from /readyz", func() bool { return s.get(t, "/readyz").Status == http.StatusServiceUnavailable })
	if !s.active(t, token) {
		t.Error("introspection does not work any more")
	}
	// A full disk must not protect a thief.
	s.post(t, "/revoke", params("token", people.str("refresh_token")), basic(webTwo))
	if s.active(t, people.str("access_token")) {
		t.Error("with a full disk a client cannot take back its grant")
	}
	s.administerAs(t, adminToken, "POST", "/revocations", map[string]any{"client_id": machine.ID})
	if s.active(t, token) {
		t.Error("with a full disk an administrator cannot end a client's tokens")
	}

	// With space again and after a restart, nobody has been signed out by the failures.
	if err := os.Remove(filepath.Join(folder, "filler")); err != nil {
		t.Fatal(err)
	}
	s.restart(t)
	verifyJournal(t, s)
	told.check(t, s)
	checkTokenAnswer(t, s.refresh(t, webTwo, others.str("refresh_token")), "")
	if r := s.administer(t, "GET", "/clients/unrecorded", nil); r.Status != http.StatusNotFound {
		t.Errorf("a client was made off the record: %s", r)
	}
	checkTokenAnswer(t, s.refresh(t, webTwo, people.str("refresh_token")), "invalid_grant")
	if s.active(t, token) {
		t.Error("what was ended came back")
	}
	s.machineToken(t)
}

// endless is a reader of zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
