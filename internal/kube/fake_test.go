package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// certificate is the API server's, and its own CA.
var certificate, certificatePEM, keyPEM = func() (tls.Certificate, []byte, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC),
		DNSNames: []string{"api.test"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}()

// fakePod is a pod as an API server has it.
type fakePod struct {
	namespace, name, uid string
	version              int
	created, deletion    time.Time
	grace                int
}

func (p fakePod) json() map[string]any {
	m := map[string]any{"name": p.name, "namespace": p.namespace, "uid": p.uid, "resourceVersion": strconv.Itoa(p.version),
		"creationTimestamp": p.created.UTC().Format(time.RFC3339), "labels": map[string]string{"app": "x"}}
	if !p.deletion.IsZero() {
		m["deletionTimestamp"], m["deletionGracePeriodSeconds"] = p.deletion.UTC().Format(time.RFC3339), p.grace
	}
	return map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": m}
}

// apiServer is the part of a kube-apiserver that we talk to, in memory, with HTTP/2
// over TLS. Its clock is that of its test.
type apiServer struct {
	t      testing.TB
	server *http.Server
	http1  bool

	mu        sync.Mutex
	version   int
	pods      map[string]fakePod // by namespace/name
	log       []logged
	compacted int // versions before this one are not known any more
	changed   chan struct{}
	broken    chan struct{} // closed to break all streams
	conns     []*pipe
	conn      chan net.Conn
	frozen    bool // nothing goes in or out any more
	closed    chan struct{}
	requests  []string
	tokens    []string // what came as bearer token
	answer    func(w http.ResponseWriter, r *http.Request) bool
	review    map[string]any // status of every TokenReview
	asked     []map[string]any
	quiet     bool // sends no bookmark by itself
}

type logged struct {
	version int
	kind    string
	pod     fakePod
}

func newAPIServer(t testing.TB, change ...func(*apiServer)) *apiServer {
	a := &apiServer{
		t: t, version: 1000, pods: map[string]fakePod{}, changed: make(chan struct{}), broken: make(chan struct{}),
		conn: make(chan net.Conn), closed: make(chan struct{}),
	}
	for _, c := range change {
		c(a)
	}
	a.server = &http.Server{Handler: a, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	if a.http1 {
		a.server.Protocols = new(http.Protocols)
		a.server.Protocols.SetHTTP1(true)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = a.server.ServeTLS(a, "", "")
	}()
	t.Cleanup(func() {
		a.thaw()
		a.breakStreams()
		_ = a.server.Close()
		<-served
	})
	return a
}

func (a *apiServer) Accept() (net.Conn, error) {
	select {
	case c := <-a.conn:
		return c, nil
	case <-a.closed:
		return nil, net.ErrClosed
	}
}
func (a *apiServer) Close() error   { close(a.closed); return nil }
func (a *apiServer) Addr() net.Addr { return &net.TCPAddr{} }

func (a *apiServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p := &pipe{Conn: ours, closed: make(chan struct{})}
	a.mu.Lock()
	frozen := a.frozen
	a.conns = append(a.conns, p)
	a.mu.Unlock()
	if frozen {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	select {
	case a.conn <- theirs:
		return p, nil
	case <-a.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pipe is a connection that may stop to carry anything without saying so.
type pipe struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
	dead   atomic.Bool
}

func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if p.dead.Load() {
		<-p.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (p *pipe) Write(b []byte) (int, error) {
	if p.dead.Load() {
		return len(b), nil
	}
	return p.Conn.Write(b)
}

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Conn.Close()
}

// freeze lets all connections go dead, and those that are dialled too.
func (a *apiServer) freeze() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.frozen = true
	for _, c := range a.conns {
		c.dead.Store(true)
	}
}

func (a *apiServer) thaw() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.frozen = false
}

func (a *apiServer) breakStreams() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.broken)
	a.broken = make(chan struct{})
}

// change makes one change of the pods, which moves the version on.
func (a *apiServer) change(kind string, p fakePod) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	p.version = a.version
	if kind == "DELETED" {
		delete(a.pods, p.namespace+"/"+p.name)
	} else {
		a.pods[p.namespace+"/"+p.name] = p
	}
	a.log = append(a.log, logged{a.version, kind, p})
	close(a.changed)
	a.changed = make(chan struct{})
}

// send sends an event that is none of the pods'.
func (a *apiServer) bookmark() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log = append(a.log, logged{a.version, "BOOKMARK", fakePod{version: a.version}})
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *apiServer) run(uids ...string) {
	for _, uid := range uids {
		a.change("ADDED", fakePod{namespace: "shop", name: uid, uid: uid, created: time.Now()})
	}
}

func (a *apiServer) remove(uids ...string) {
	for _, uid := range uids {
		a.change("DELETED", a.pod(uid))
	}
}

func (a *apiServer) pod(uid string) fakePod {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pods {
		if p.uid == uid {
			return p
		}
	}
	a.t.Fatalf("there is no pod %s", uid)
	return fakePod{}
}

func (a *apiServer) terminate(uid string, grace int) {
	p := a.pod(uid)
	p.deletion, p.grace = time.Now().Add(time.Duration(grace)*time.Second), grace
	a.change("MODIFIED", p)
}

// compact forgets all versions up to now.
func (a *apiServer) compact() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.compacted, a.log = a.version, nil
}

func (a *apiServer) on(answer func(w http.ResponseWriter, r *http.Request) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

// count counts requests of a kind.
func (a *apiServer) count(prefix string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	what := r.Method + " " + r.URL.Path
	switch {
	case q.Has("watch"):
		what = "watch " + q.Get("resourceVersion")
	case r.URL.Path == "/api/v1/pods" && q.Get("limit") == "1":
		what = "beat"
	case r.URL.Path == "/api/v1/pods":
		what = "list " + q.Get("continue")
	}
	a.mu.Lock()
	a.requests = append(a.requests, what)
	a.tokens = append(a.tokens, r.Header.Get("Authorization"))
	answer := a.answer
	a.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	switch {
	case strings.HasPrefix(what, "watch"):
		a.watch(w, r)
	case r.URL.Path == "/api/v1/pods":
		a.list(w, q.Get("limit"), q.Get("continue"))
	case strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/"):
		part := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/"), "/pods/")
		a.mu.Lock()
		p, there := a.pods[strings.Join(part, "/")]
		a.mu.Unlock()
		if !there {
			refuse(w, 404, "pods not found")
			return
		}
		_ = json.NewEncoder(w).Encode(p.json())
	case strings.HasSuffix(r.URL.Path, "/tokenreviews"):
		var asked map[string]any
		_ = json.NewDecoder(r.Body).Decode(&asked)
		a.mu.Lock()
		a.asked = append(a.asked, asked)
		review := a.review
		a.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "TokenReview", "status": review})
	case r.URL.Path == "/openid/v1/jwks":
		_, _ = io.WriteString(w, `{"keys":[]}`)
	default:
		refuse(w, 404, "no such path")
	}
}

func refuse(w http.ResponseWriter, code int, message string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "code": code, "message": message})
}

func (a *apiServer) list(w http.ResponseWriter, limit, after string) {
	a.mu.Lock()
	names := slices.Sorted(maps.Keys(a.pods))
	n, _ := strconv.Atoi(limit)
	start := 0
	if after != "" {
		start, _ = strconv.Atoi(after)
	}
	end, next := min(len(names), start+n), ""
	if end < len(names) {
		next = strconv.Itoa(end)
	}
	items := []any{}
	for _, name := range names[start:end] {
		items = append(items, a.pods[name].json())
	}
	version := strconv.Itoa(a.version)
	a.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
		"metadata": map[string]any{"resourceVersion": version, "continue": next, "remainingItemCount": 3}, "items": items,
	})
}

func (a *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	a.mu.Lock()
	broken, gone, next := a.broken, from < a.compacted, 0
	for next < len(a.log) && a.log[next].version <= from {
		next++
	}
	a.mu.Unlock()
	if gone {
		refuse(w, 410, "too old resource version")
		return
	}
	send := func(kind string, object any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": object})
		w.(http.Flusher).Flush()
	}
	w.(http.Flusher).Flush()
	for {
		a.mu.Lock()
		news, changed := slices.Clone(a.log[min(next, len(a.log)):]), a.changed
		next = len(a.log)
		a.mu.Unlock()
		for _, e := range news {
			send(e.kind, e.pod.json())
		}
		timer := time.NewTimer(time.Minute)
		select {
		case <-changed:
		case <-timer.C:
			a.mu.Lock()
			version, quiet := a.version, a.quiet
			a.mu.Unlock()
			if !quiet {
				send("BOOKMARK", fakePod{version: version}.json())
			}
		case <-broken:
			timer.Stop()
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

var testCluster = authority.Cluster{
	Name: "hub", Issuer: "https://kubernetes.default.svc", APIServer: "https://api.test:6443", CA: certificatePEM,
	Credential: authority.CredentialSelf, Pods: authority.PodsWatched, Terminating: authority.TerminatingGrace,
}

func selfToken(context.Context, string) (string, time.Time, error) {
	return "self", time.Now().Add(time.Hour), nil
}

func (a *apiServer) client(t testing.TB, cluster authority.Cluster) *Client {
	t.Helper()
	c, err := NewClient(cluster, selfToken)
	if err != nil {
		t.Fatal(err)
	}
	c.http.Transport.(*http.Transport).DialContext = a.dial
	t.Cleanup(c.Close)
	return c
}

// evidence is a database with keys of evidence.
type evidence struct {
	mu   sync.Mutex
	keys []string
	fail error
}

func (e *evidence) read(_ context.Context, kind authority.EvidenceKind, prefix string, p authority.Page) (keys []string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail != nil {
		return nil, e.fail
	}
	slices.Sort(e.keys)
	for _, k := range e.keys {
		if kind == authority.EvidencePod && strings.HasPrefix(k, prefix) && k > p.After && len(keys) < p.Limit {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func (e *evidence) add(uids ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, uid := range uids {
		e.keys = append(e.keys, authority.PodEvidence("hub", uid).Key)
	}
}

func (e *evidence) remove(uid string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keys = slices.DeleteFunc(e.keys, func(k string) bool { return k == authority.PodEvidence("hub", uid).Key })
}

// told is what was told of ends.
type told struct {
	guard sync.Mutex
	ends  []string
	at    map[string]time.Time
	until map[string]time.Time
	fail  error
	slow  time.Duration
}

func (d *told) end(_ context.Context, uid string, until time.Time) error {
	d.guard.Lock()
	defer d.guard.Unlock()
	if d.fail != nil {
		return d.fail
	}
	if d.slow > 0 {
		d.guard.Unlock()
		time.Sleep(d.slow)
		d.guard.Lock()
	}
	if d.at == nil {
		d.at, d.until = map[string]time.Time{}, map[string]time.Time{}
	}
	d.ends = append(d.ends, uid)
	d.at[uid], d.until[uid] = time.Now(), until
	return nil
}

func (d *told) failing(err error) {
	d.guard.Lock()
	defer d.guard.Unlock()
	d.fail = err
}

func (d *told) all() []string {
	d.guard.Lock()
	defer d.guard.Unlock()
	return slices.Clone(d.ends)
}

// bed is a watch on a fake API server, in a bubble with a clock of its own.
type bed struct {
	*testing.T
	*apiServer
	*told
	evidence *evidence
	watch    *Watch
	stop     func()
}

func run(t *testing.T, name string, test func(b *bed), change ...func(*authority.Cluster)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cluster := testCluster
			for _, c := range change {
				c(&cluster)
			}
			b := &bed{T: t, apiServer: newAPIServer(t), told: &told{}, evidence: &evidence{}}
			b.watch = &Watch{Client: b.client(t, cluster), Cluster: cluster, End: b.end, Evidence: b.evidence.read, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
			defer func() {
				if b.stop != nil {
					b.stop()
				}
			}()
			test(b)
		})
	})
}

func (b *bed) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.watch.Run(ctx)
	}()
	b.stop = func() { cancel(); <-done; b.stop = nil }
	b.settle()
}

// settle waits until nothing happens any more, without time passing.
func (b *bed) settle() { synctest.Wait() }

// pass lets time pass.
func (b *bed) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bed) wantEnds(uids ...string) {
	b.Helper()
	if got := b.all(); !slices.Equal(got, uids) {
		b.Fatalf("ended %q, want %q", got, uids)
	}
}

func (b *bed) wantStates(want map[string]State) {
	b.Helper()
	for uid, state := range want {
		if got := b.watch.Pod(uid); got != state {
			b.Errorf("%s is %v, want %v", uid, got, state)
		}
	}
}

func (b *bed) wantReady(want bool) {
	b.Helper()
	if got := b.watch.Ready(); got != want {
		b.Fatalf("ready is %v, want %v: %+v", got, want, b.watch.Status())
	}
}

func names(prefix string, n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("%s%04d", prefix, i))
	}
	return list
}
