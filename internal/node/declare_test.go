package node

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/revocation"
)

const batchGone = "client_id: batch"

// secondNode is a node beside the one of file: the same database and master
// key, a journal and a copy of the file of its own.
func secondFile(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(filepath.Dir(file), "second.yaml")
	if err := os.WriteFile(beside, append(text, "journal: {dir: second}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	return beside
}

func mustOpen(t *testing.T, file string, options ...Options) *Node {
	t.Helper()
	n, err := open(t, file, options...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func mustReload(t *testing.T, n *Node, file string) {
	t.Helper()
	if err := reload(n, file); err != nil {
		t.Fatal(err)
	}
}

func mint(n *Node) (string, error) {
	return n.Mint(context.Background(), "batch", "https://api.example.com", 0)
}

func mustMint(t *testing.T, n *Node) string {
	t.Helper()
	token, err := mint(n)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// alive asks for what has ended, and not for the accounts.
func alive(n *Node, token string) bool {
	_, err := n.reader.Authenticate(token)
	return err == nil
}

// docs/security/threats.md C 42: what a newer file has removed stays removed.
func TestAnOldFileDoesNotUndoANewerOne(t *testing.T) {
	file := testFile(t)
	old := secondFile(t, file)
	first, second := mustOpen(t, file), mustOpen(t, old)
	if first.current.Load().declaration.Revision != 1 || second.current.Load().declaration.Revision != 1 {
		t.Fatal("two nodes with one file do not agree")
	}
	second.Close()
	token := mustMint(t, first)
	edit(t, file, batchGone, "client_id: lot")
	mustReload(t, first, file)
	fresh, err := first.Mint(context.Background(), "lot", "https://api.example.com", 0)
	if err != nil || alive(first, token) {
		t.Fatalf("a client that is gone from the file: %v", err)
	}

	_, err = open(t, old)
	for _, want := range []string{"second.yaml:", "revision", "node " + first.journal.Node(), "(revision 2)", "`revision` that was never used"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("an old node starts, or does not say %q: %v", want, err)
		}
	}
	if err := first.follower.Load(t.Context()); err != nil || !alive(first, fresh) {
		t.Fatalf("an old node has ended what the newer file has: %v", err)
	}

	// The newer file, and then an older one on purpose.
	edit(t, old, batchGone, "client_id: lot")
	second = mustOpen(t, old)
	if got := second.current.Load().declaration.Revision; got != 2 {
		t.Fatalf("the same file on the second node is revision %d", got)
	}
	edit(t, old, "client_id: lot", batchGone+"\n    client_name: Batch")
	edit(t, old, "issuer:", "revision: back-to-monday\nissuer:")
	mustReload(t, second, old)
	if got := second.current.Load().declaration.Revision; got != 3 {
		t.Fatalf("going back is revision %d", got)
	}
}

func TestTheNodeThatKnowsTheNewerFileMayGoBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		n, file := openTest(t)
		for i, step := range [][2]string{{batchGone, "client_id: lot"}, {"client_id: lot", batchGone}} {
			edit(t, file, step[0], step[1])
			if restart {
				n.Close()
				n = mustOpen(t, file)
			} else {
				mustReload(t, n, file)
			}
			if got := n.current.Load().declaration.Revision; got != int64(i+2) {
				t.Fatalf("restart %t: revision %d after step %d", restart, got, i)
			}
		}
		mustMint(t, n)
	}
}

// docs/security/threats.md C 42: a node that still runs the old file gives nothing to whoever
// is gone from the new one.
func TestANodeWithAnOlderFileWithholdsWhatTheNewerOneEnds(t *testing.T) {
	file := testFile(t)
	behind := secondFile(t, file)
	first, second := mustOpen(t, file), mustOpen(t, behind)
	ada := second.directory.StaticUsers()[0]
	edit(t, file, batchGone, "client_id: lot")
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "ada.password"), []byte("another pass phrase"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustReload(t, first, file)
	meanwhile := mustMint(t, second) // it has not heard of it yet
	if !alive(first, meanwhile) {
		t.Fatal("the test is too slow to see what it looks for")
	}
	time.Sleep(2 * time.Millisecond) // an epoch ends what is older than its millisecond

	if err := second.heed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := mint(second); err == nil {
		t.Error("a client that is gone from the newer file gets a token")
	}
	if _, err := second.directory.UserByName(t.Context(), "ada"); err == nil {
		t.Error("the old password of a user is still good")
	}
	if _, err := second.directory.Client(t.Context(), "web"); err != nil {
		t.Errorf("a client that both files have: %v", err)
	}
	if err := first.follower.Load(t.Context()); err != nil || alive(first, meanwhile) || alive(second, meanwhile) {
		t.Errorf("what it gave meanwhile lives on: %v", err)
	}

	// Once more changes nothing; the newer file ends the waiting.
	epochs := second.follower.View.Len()
	if err := second.heed(t.Context()); err != nil || second.follower.View.Len() != epochs || len(second.current.Load().withheld) != 2 {
		t.Errorf("%v", err)
	}
	edit(t, behind, batchGone, "client_id: lot")
	mustReload(t, second, behind)
	if got, err := second.directory.User(t.Context(), ada.ID); err != nil || got.PasswordHash == ada.PasswordHash || second.current.Load().withheld != nil {
		t.Errorf("after the newer file: %v", err)
	}
}

// Whoever is withheld stays so while this node tries a file that comes to nothing.
func TestAReloadThatFailsGivesNobodyBack(t *testing.T) {
	for _, row := range []struct {
		name   string
		change [2]string // of the file of the node that is behind
		store  func(revocation.EndingStore) revocation.EndingStore
	}{
		{"the database does not answer", [2]string{"issuer:", "revision: mine\nissuer:"}, func(s revocation.EndingStore) revocation.EndingStore { return silent{s} }},
		{"the file is an old one", [2]string{"log: {level: warn}", "log: {level: info}"}, func(s revocation.EndingStore) revocation.EndingStore { return s }},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := testFile(t)
			behind := secondFile(t, file)
			first, second := mustOpen(t, file), mustOpen(t, behind)
			edit(t, file, batchGone, "client_id: lot")
			mustReload(t, first, file)
			if err := second.heed(t.Context()); err != nil {
				t.Fatal(err)
			}
			second.endings.Store = watching{row.store(second.endings.Store), func() {
				if _, err := mint(second); err == nil {
					t.Error("while the database is asked, a client that a newer file has ended gets a token")
				}
			}}
			edit(t, behind, row.change[0], row.change[1])
			if err := reload(second, behind); err == nil {
				t.Fatal("it is in force")
			}
			if _, err := mint(second); err == nil {
				t.Error("afterwards, a client that a newer file has ended gets a token")
			}
		})
	}
}

type watching struct {
	revocation.EndingStore
	look func()
}

func (w watching) Declare(ctx context.Context, d authority.Declaration, ran int64) (authority.Declaration, []authority.Revocation, error) {
	w.look()
	return w.EndingStore.Declare(ctx, d, ran)
}

// What a node gave before it heard of a newer file ends also when the database
// fails in that moment.
func TestAnEpochThatCouldNotBeSetIsSetLater(t *testing.T) {
	file := testFile(t)
	behind := secondFile(t, file)
	first, second := mustOpen(t, file), mustOpen(t, behind)
	edit(t, file, batchGone, "client_id: lot")
	mustReload(t, first, file)
	meanwhile := mustMint(t, second)
	time.Sleep(2 * time.Millisecond) // an epoch ends what is older than its millisecond

	store := second.endings.Store
	second.endings.Store = unwilling{store}
	if err := second.heed(t.Context()); err == nil {
		t.Fatal("the database has taken the epoch")
	}
	if _, err := mint(second); err == nil {
		t.Error("a client whose epoch could not be set gets a token")
	}
	second.endings.Store = store
	if err := second.heed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.follower.Load(t.Context()); err != nil || alive(first, meanwhile) || alive(second, meanwhile) {
		t.Errorf("what it gave meanwhile lives on: %v", err)
	}
}

// unwilling is a database that can be read and takes no epoch.
type unwilling struct{ revocation.EndingStore }

func (unwilling) Revoke(context.Context, authority.Revocation) (authority.Revocation, error) {
	return authority.Revocation{}, errors.New("storage: read only")
}

func TestAnEndedAccountMakesANodeLookForANewerFile(t *testing.T) {
	n, _ := openTest(t)
	n.revoked([]authority.Revocation{{Kind: authority.RevokeGrant, Key: "g"}})
	select {
	case <-n.ended:
		t.Error("the end of a grant is none of an account")
	default:
	}
	for _, kind := range []authority.RevocationKind{authority.EpochClient, authority.EpochUser, authority.EpochCluster, authority.EpochIssuer} {
		for range 3 { // nobody waits for whoever looks
			n.revoked([]authority.Revocation{{Kind: kind, Key: "batch"}})
		}
		select {
		case <-n.ended:
		default:
			t.Errorf("nobody looks after the end of a %s", kind)
		}
	}
}

// What is given out while a reload runs either lives on by right or is dead.
func TestNothingSlipsThroughAReload(t *testing.T) {
	n, file := openTest(t)
	got := make(chan string, 100_000)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if token, err := mint(n); err == nil {
				got <- token
			}
		}
	}()
	for len(got) < 10 {
		time.Sleep(time.Millisecond)
	}
	edit(t, file, batchGone, "client_id: lot")
	mustReload(t, n, file)
	if _, err := mint(n); err == nil {
		t.Error("a client that is gone gets a token")
	}
	close(stop)
	<-stopped
	close(got)
	for token := range got {
		if alive(n, token) {
			t.Fatal("a token of a client that is gone from the file is alive")
		}
	}
}

func TestDiscoveryKeysAndDirectoryFollowAReloadTogether(t *testing.T) {
	n, file := openTest(t)
	discovery := func() (algorithms, scopes []string) {
		t.Helper()
		answer := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/.well-known/openid-configuration", nil)
		r.RemoteAddr = "127.0.0.1:1" // plain HTTP is for this machine
		n.public.ServeHTTP(answer, r)
		var document struct {
			Algorithms []string `json:"id_token_signing_alg_values_supported"`
			Scopes     []string `json:"scopes_supported"`
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &document); err != nil {
			t.Fatal(err)
		}
		return document.Algorithms, document.Scopes
	}
	published := func(algorithm string) bool {
		return slices.ContainsFunc(n.ring.Keys(), func(k authority.Key) bool { return k.Algorithm == algorithm })
	}
	if algorithms, scopes := discovery(); !slices.Equal(algorithms, []string{"ES256", "RS256"}) || slices.Contains(scopes, "trips:read") || published("EdDSA") {
		t.Fatalf("before: %v %v", algorithms, scopes)
	}
	edit(t, file, "log: {level: warn}", "log: {level: debug}\nkeys: {algorithms: [EdDSA, ES256]}\ntokens: {access_ttl: 1m}")
	edit(t, file, "scopes: [orders:read]", "scopes: [orders:read, trips:read]")
	edit(t, file, "scope: orders:read\n", "scope: orders:read trips:read\n")
	mustReload(t, n, file)
	if algorithms, scopes := discovery(); !slices.Equal(algorithms, []string{"EdDSA", "ES256"}) || !slices.Contains(scopes, "trips:read") {
		t.Errorf("discovery: %v %v", algorithms, scopes)
	}
	if !published("EdDSA") {
		t.Error("the key set has no key of the new algorithm")
	}
	if client, err := n.directory.Client(t.Context(), "batch"); err != nil || !client.Scopes.Has("trips:read") {
		t.Errorf("the directory: %v", err)
	}
	if n.settings().AccessTTL != time.Minute || n.level.Level() >= 0 {
		t.Errorf("lifetime %s, log level %s", n.settings().AccessTTL, n.level.Level())
	}
}

func TestARefusedReloadChangesNothing(t *testing.T) {
	n, file := openTest(t)
	before := n.current.Load()
	stored, err := n.db.Declaration(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := authority.Clients(n.db).Create(t.Context(), authority.Client{ID: "lot", AuthMethod: oauth.AuthClientSecretBasic, Secrets: make([]authority.ClientSecret, 1)}); err != nil {
		t.Fatal(err)
	}
	edit(t, file, batchGone, "client_id: lot")
	if err := reload(n, file); err == nil {
		t.Fatal("an id of the database is taken")
	}
	if after, err := n.db.Declaration(t.Context()); err != nil || after.Revision != stored.Revision || n.current.Load() != before {
		t.Errorf("something has changed: %v", err)
	}
	mustMint(t, n)
}

// When nobody knows whether the database has taken the end, nobody who may have
// ended gets anything.
func TestAnEndInDoubtIsAnEnd(t *testing.T) {
	n, file := openTest(t)
	edit(t, file, batchGone, "client_id: lot")
	store := n.endings.Store
	n.endings.Store = silent{store}
	if err := reload(n, file); !errors.Is(err, errTryAgain) {
		t.Fatalf("%v", err)
	}
	if _, err := mint(n); err == nil {
		t.Error("a client that may have ended gets a token")
	}
	if err := n.heed(t.Context()); err != nil { // the database answers: it has taken nothing
		t.Fatal(err)
	}
	mustMint(t, n)
	n.endings.Store = store
	mustReload(t, n, file)
}

// silent is a database that does not answer.
type silent struct{ revocation.EndingStore }

func (silent) Declare(context.Context, authority.Declaration, int64) (authority.Declaration, []authority.Revocation, error) {
	return authority.Declaration{}, nil, errors.New("storage: no answer")
}
