package e2e

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The password of PostgreSQL need not be in the configuration: docs/how-to/several-nodes.md
// names two files that may hold it. The database here only asks for the password and then
// hangs up, so the test needs no PostgreSQL.
func TestDatabasePasswordInAFile(t *testing.T) {
	const password = "orders-and-trains"
	for _, row := range []struct {
		name, urlInFile, query string
	}{
		{"the whole URL in the file of SIGNALBOX_STORAGE_URL_FILE", "postgres://signalbox:" + password + "@", ""},
		{"the password in the passfile of the URL", "", "&passfile="},
	} {
		t.Run(row.name, func(t *testing.T) {
			address, asked := askPassword(t)
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			files := map[string]string{"passfile": strings.Join([]string{host, port, "accounts", "signalbox", password}, ":") + "\n"}
			config, env := serveHead, []string(nil)
			if row.urlInFile != "" {
				files = map[string]string{"storage-url": row.urlInFile + address + "/accounts?sslmode=disable\n"}
				env = []string{"SIGNALBOX_STORAGE_URL_FILE=" + filepath.Join(dir, "storage-url")}
			} else {
				config += "storage: {url: \"postgres://signalbox@" + address + "/accounts?sslmode=disable&passfile={{.Dir}}/passfile\"}\n"
			}
			configure(t, dir, "", config+"journal: {dir: \"{{.Dir}}/journal\"}\n", files)
			p := start(t, dir, env, "serve", "--config", filepath.Join(dir, "signalbox.yaml"))
			select {
			case got := <-asked:
				if got != password {
					t.Errorf("the database got the password %q", got)
				}
			case <-p.done:
				t.Fatal("the service ended before it sent a password")
			case <-time.After(startLimit):
				t.Fatal("the service sent no password")
			}
			<-p.done
			if strings.Contains(p.out.tail(1<<20), password) {
				t.Error("the service prints the password")
			}
		})
	}
}

// askPassword listens like a PostgreSQL that wants a password in clear and takes none.
func askPassword(t *testing.T) (address string, asked <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	passwords := make(chan string, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b := pgproto3.NewBackend(conn, conn)
				if _, err := b.ReceiveStartupMessage(); err != nil {
					return
				}
				b.Send(&pgproto3.AuthenticationCleartextPassword{})
				if b.Flush() != nil || b.SetAuthType(pgproto3.AuthTypeCleartextPassword) != nil {
					return
				}
				if m, err := b.Receive(); err == nil {
					if sent, ok := m.(*pgproto3.PasswordMessage); ok {
						passwords <- sent.Password
					}
				}
				b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "password authentication failed"})
				_ = b.Flush()
			}()
		}
	}()
	return l.Addr().String(), passwords
}
