//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/signalbox-sts/signalbox/bench/proc"
)

const (
	serviceID   = "bench-service" // client credentials
	webID       = "bench-web"     // authorization code and refresh
	introspecID = "bench-rs"      // the resource server that introspects
	jwtAPI      = "https://jwt.bench.example"
	opaqueAPI   = "https://opaque.bench.example"
	userName    = "bench"
	redirectURI = "http://127.0.0.1:9/callback"
	chainCount  = 64
)

// env is one running server with what the scenarios need to talk to it.
type env struct {
	name    string
	proc    *proc.Process
	addr    string // host:port
	admin   string // host:port of the admin listener, once there is a configuration
	issuer  string
	dir     string
	storage string // storage.url
	extra   string // configuration beyond what all have
	secret  string // of every client, and the user's password
	chains  []string
}

// environment starts a server when the first scenario asks for it. It runs
// until the end: an idle server costs the others almost nothing.
func (b *bench) environment(ctx context.Context, name string) (*env, error) {
	if e := b.envs[name]; e != nil {
		return e, nil
	}
	var e *env
	var err error
	switch name {
	case "ideal":
		e, err = b.startIdeal(ctx)
	case "sqlite":
		e, err = b.startStored(ctx, name, 1000)
	case "postgres":
		e, err = b.startStored(ctx, name, 1000)
	case "workloads":
		e, err = b.startWorkloads(ctx)
	case "sqlite-full", "postgres-full":
		e, err = b.startStored(ctx, name, b.stored)
	default:
		err = fmt.Errorf("no environment %q", name)
	}
	if err != nil {
		return nil, err
	}
	b.envs[name] = e
	return e, nil
}

func (b *bench) startIdeal(ctx context.Context) (*env, error) {
	e, err := b.newEnv("ideal")
	if err != nil {
		return nil, err
	}
	key, err := b.hub.publicKey()
	if err := errors.Join(err, os.WriteFile(filepath.Join(e.dir, hubKeyFile), key, 0o644)); err != nil {
		return nil, err
	}
	cmd := exec.Command(b.ideal, "-listen", e.addr, "-client", serviceID, "-secret", e.secret, "-proof-key", hubKeyFile, "-proof-issuer", hubIssuer, "-proof-audience", proofFor)
	return e, e.start(ctx, cmd, e.issuer+"/ready")
}

var errNoService = errors.New("./cmd/signalbox does not build")

// startStored starts Signalbox on a database that holds count grants. The
// service makes its database and keys itself in a first start.
func (b *bench) startStored(ctx context.Context, name string, count int) (*env, error) {
	if b.signalbox == "" {
		return nil, errNoService
	}
	e, err := b.newEnv(name)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(name, "postgres") {
		if e.storage, err = b.newDatabase(ctx, databaseName(name)); err != nil {
			return nil, err
		}
	} else {
		e.storage = "sqlite:" + filepath.Join(e.dir, "signalbox.db")
	}
	if err := e.writeConfig(); err != nil {
		return nil, err
	}
	if err := b.serve(ctx, e); err != nil {
		return nil, err
	}
	if err := e.proc.Stop(); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "  storing %d grants in %s\n", count, name)
	if err := seedGrants(ctx, e.storage, e.issuer, count); err != nil {
		return nil, fmt.Errorf("store %d grants: %w", count, err)
	}
	if strings.HasPrefix(name, "postgres") {
		if err := b.settle(ctx, name); err != nil {
			return nil, err
		}
	}
	if err := b.serve(ctx, e); err != nil {
		return nil, err
	}
	flow := codeFlow{issuer: e.issuer, clientID: webID, secret: e.secret, redirectURI: redirectURI, user: userName, password: e.secret,
		scope: "openid offline_access read", resource: jwtAPI}
	if e.chains, err = flow.refreshTokens(ctx, chainCount); err != nil {
		return nil, errors.Join(fmt.Errorf("sign in for refresh tokens: %w", err), e.proc.Stop())
	}
	return e, nil
}

func (b *bench) serve(ctx context.Context, e *env) error {
	cmd := exec.Command(b.signalbox, "serve", "--config", filepath.Join(e.dir, "signalbox.yaml"))
	return e.start(ctx, cmd, e.issuer+"/.well-known/openid-configuration")
}

func (b *bench) newEnv(name string) (*env, error) {
	port, err := proc.FreePort()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "env-"+name)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	return &env{name: name, addr: addr, issuer: "http://" + addr, dir: dir, secret: "sbx_cs_" + rand.Text() + rand.Text()}, os.Mkdir(dir, 0o700)
}

func (e *env) start(ctx context.Context, cmd *exec.Cmd, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd.Dir = e.dir
	p, err := proc.Start(ctx, cmd, proc.Answers(url), filepath.Join(e.dir, "log"))
	e.proc = p
	return err
}

func (e *env) writeConfig() error {
	var err error
	if e.admin, err = freeAddress(); err != nil {
		return err
	}
	key := make([]byte, 32)
	salt := make([]byte, 16)
	rand.Read(key)
	rand.Read(salt)
	sum := sha256.Sum256([]byte(e.secret))
	b64 := base64.RawStdEncoding
	text := strings.NewReplacer(
		"{issuer}", e.issuer, "{public}", e.addr, "{admin}", e.admin,
		"{storage}", e.storage, "{dir}", e.dir, "{service}", serviceID, "{web}", webID, "{rs}", introspecID,
		"{jwt}", jwtAPI, "{opaque}", opaqueAPI, "{redirect}", redirectURI, "{user}", userName,
		"{hash}", "sha256:"+hex.EncodeToString(sum[:]),
		"{password_hash}", "$argon2id$v=19$m=19456,t=2,p=1$"+b64.EncodeToString(salt)+"$"+b64.EncodeToString(argon2.IDKey([]byte(e.secret), salt, 2, 19456, 1, 32)),
	).Replace(configText + e.extra)
	return errors.Join(
		os.WriteFile(filepath.Join(e.dir, "master.key"), []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600),
		os.WriteFile(filepath.Join(e.dir, "signalbox.yaml"), []byte(text), 0o600))
}

// configText changes no safety setting. It only names the benchmark's clients
// and folders.
const configText = `issuer: {issuer}
listen: {public: "{public}", admin: "{admin}"}
tls: {off: true}
storage: {url: "{storage}"}
journal: {dir: {dir}/journal}
secrets: {master_key_file: {dir}/master.key}
keys: {algorithms: [ES256]}
resources:
  - {id: "{jwt}", scopes: [read], token_format: jwt, introspection_clients: [{rs}]}
  - {id: "{opaque}", scopes: [read], token_format: opaque, introspection_clients: [{rs}]}
clients:
  - client_id: {service}
    grant_types: [client_credentials]
    token_endpoint_auth_method: client_secret_post
    client_secret_hash: "{hash}"
    scope: read
    resources: ["{jwt}", "{opaque}"]
  - client_id: {rs}
    grant_types: [client_credentials]
    token_endpoint_auth_method: client_secret_basic
    client_secret_hash: "{hash}"
    scope: read
    resources: ["{jwt}"]
  - client_id: {web}
    client_name: Benchmark
    redirect_uris: ["{redirect}"]
    grant_types: [authorization_code, refresh_token]
    token_endpoint_auth_method: client_secret_post
    client_secret_hash: "{hash}"
    scope: openid offline_access read
    resources: ["{jwt}"]
users:
  - {username: {user}, password_hash: "{password_hash}"}
`
