package cli

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/node"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/version"
)

func newDev(env *Environment) *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "The whole service in one command, for trying it and for tests",
		Long: `Run the whole service without any configuration: embedded database, generated
keys, a demo user and demo clients. It prints a first token on standard output,
and what to try next on standard error. The data folder holds the configuration that it made (signalbox.yaml).
dev writes that file again at each start: copy it before you change it, and run
the copy with signalbox serve.

It speaks plain HTTP and listens on loopback only. The admin API is at
127.0.0.1:9090. If that port is in use, it is at the first free one of 9091 to
9099, or else at any; beside --listen with port 0 it is at any free one. Both
the words on standard error and the ready file say where.

With --kubernetes it registers the cluster of a kubeconfig's current context as
dev, watches its pods, and prints a pod to try it with. The kubeconfig holds all
that it names: kubectl config view --minify --flatten --raw > dev.kubeconfig.`,
		Example: `  signalbox dev
  signalbox dev --listen 127.0.0.1:0 --ready-file ready.json   # any free port, for scripts
  signalbox dev --data ./demo                                  # keeps its data
  signalbox dev --kubernetes dev.kubeconfig                    # with the pods of a cluster`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return dev(cmd.Context(), env, o)
		},
	}
	cmd.Flags().StringVar(&o.address, "listen", "127.0.0.1:8080", "loopback host:port to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&o.data, "data", "", "folder for the data (default: a temporary one, removed at the end)")
	cmd.Flags().StringVar(&o.readyFile, "ready-file", "", "write issuer, admin token, users and clients to this JSON file once it serves")
	cmd.Flags().StringVar(&o.kubeconfig, "kubernetes", "", "kubeconfig of a cluster whose pods can get tokens")
	_ = cmd.MarkFlagFilename("kubernetes")
	return cmd
}

// demo is what the ready file says. Its shape is a contract: scripts read it.
type demo struct {
	Issuer     string       `json:"issuer"`
	AdminURL   string       `json:"admin_url"`
	AdminToken string       `json:"admin_token"`
	Users      []demoUser   `json:"users"`
	Clients    []demoClient `json:"clients"`
}

type demoUser struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

type demoClient struct {
	ClientID     string   `json:"client_id"`
	ClientSecret string   `json:"client_secret,omitempty"`
	GrantTypes   []string `json:"grant_types"`
	RedirectURIs []string `json:"redirect_uris"`
}

// devOptions are the flags of dev.
type devOptions struct{ address, data, readyFile, kubeconfig string }

func dev(ctx context.Context, env *Environment, o devOptions) error {
	began := time.Now()
	// Whoever reads what it prints may go, or close the terminal. That ends it as
	// Ctrl-C does: with its folder removed.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGPIPE, syscall.SIGHUP)
	defer stop()
	if err := checkReadyFile(o.readyFile); err != nil { // before anything is started
		return fmt.Errorf("--ready-file: %w", err)
	}
	var cluster *clusterAtHand
	if o.kubeconfig != "" {
		var err error
		if cluster, err = findCluster(ctx, env, o.kubeconfig); err != nil {
			return err
		}
	}
	ln, issuer, err := listenLoopback(o.address)
	if err != nil {
		return err
	}
	data := o.data
	if data == "" {
		if data, err = os.MkdirTemp("", "signalbox-dev-"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(data) }()
	}
	// What an earlier run left tells of another service, and may be taken for this one.
	if err := os.Remove(o.readyFile); o.readyFile != "" && err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("--ready-file: %w", err)
	}
	d, text, err := prepareDemo(data, issuer, ln)
	if err != nil {
		return err
	}
	if cluster != nil {
		text = append(text, cluster.config()...)
	}
	file := filepath.Join(data, "signalbox.yaml")
	cfg, err := config.Parse(file, text, nil)
	if err != nil {
		return err
	}
	opened := progress(env.Err, "starting: a new folder needs new keys")
	n, err := node.Open(ctx, cfg, node.Options{Log: env.Err, Version: version.Get()})
	opened()
	if err != nil {
		return err
	}
	defer n.Close()
	// Written once the folder is known to be ours: another dev may be running on
	// it, whose configuration this is.
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	return n.Serve(ctx, ln, func() error {
		ctx := context.WithoutCancel(ctx)
		d.AdminURL = "http://" + ln.Admin.Addr().String()
		if d.AdminToken, err = n.Mint(ctx, "demo-admin", authority.AdminResource, authority.MaxTokenTTL); err != nil {
			return err
		}
		if err := welcome(ctx, env, n, d, cluster, o.address, data, began); err != nil {
			return err
		}
		return writeReadyFile(o.readyFile, d)
	})
}

// listenLoopback opens both listeners first: the issuer's URL holds the port.
func listenLoopback(address string) (node.Listeners, string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return node.Listeners{}, "", &usageError{fmt.Errorf("--listen must be host:port: %w", err)}
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return node.Listeners{}, "", &usageError{errors.New("--listen must be on loopback (127.0.0.1, [::1] or localhost): dev speaks plain HTTP and its secrets are for demonstration")}
	}
	public, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return node.Listeners{}, "", fmt.Errorf("%s is in use: choose another with --listen 127.0.0.1:0", address)
	}
	if err != nil {
		return node.Listeners{}, "", err
	}
	private, err := listenAdmin(port)
	if err != nil {
		return node.Listeners{}, "", errors.Join(err, public.Close())
	}
	_, port, _ = net.SplitHostPort(public.Addr().String())
	return node.Listeners{Public: public, Admin: private}, "http://" + net.JoinHostPort(host, port), nil
}

// usualAdmin is where the commands look for the admin API, and where Prometheus
// listens by default.
const usualAdmin = "127.0.0.1:9090"

// listenAdmin takes the usual port or the next one that is free; any free one
// beside a public listener of which the same was asked.
func listenAdmin(publicPort string) (net.Listener, error) {
	if publicPort != "0" {
		for port := 9090; port < 9100; port++ {
			if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
				return ln, nil
			}
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// checkReadyFile finds out whether the ready file can be written, while nothing
// runs yet that somebody would wait for in vain.
func checkReadyFile(file string) error {
	if file == "" {
		return nil
	}
	info, err := os.Lstat(file)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a folder: name a file in it", file)
	case err == nil && !info.Mode().IsRegular() && info.Mode()&os.ModeSymlink == 0:
		return fmt.Errorf("%s is not a file that can be replaced", file)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	}
	trial, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*.tmp")
	if err != nil {
		return fmt.Errorf("no file can be made in the folder %s: %w", filepath.Dir(file), errors.Unwrap(err))
	}
	return errors.Join(trial.Close(), os.Remove(trial.Name()))
}

const demoPassword = "ada-loves-trains"

// prepareDemo makes the secrets of the demo's clients, or takes those of an
// earlier run, and the configuration, which is a new one each time: a new port
// makes a new issuer.
func prepareDemo(dir, issuer string, ln node.Listeners) (*demo, []byte, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	d := &demo{Issuer: issuer, Users: []demoUser{{"ada", demoPassword}}}
	redirect := []string{"http://127.0.0.1:8085/callback"}
	d.Clients = []demoClient{
		{ClientID: "demo-service", GrantTypes: []string{"client_credentials"}, RedirectURIs: []string{}},
		{ClientID: "demo-web", GrantTypes: []string{"authorization_code", "refresh_token"}, RedirectURIs: redirect},
		{ClientID: "demo-spa", GrantTypes: []string{"authorization_code", "refresh_token"}, RedirectURIs: redirect},
		{ClientID: "demo-api", GrantTypes: []string{}, RedirectURIs: []string{}},
		{ClientID: "demo-batch", GrantTypes: []string{"client_credentials"}, RedirectURIs: []string{}},
		{ClientID: loginClient, GrantTypes: []string{"authorization_code", "refresh_token", string(oauth.TokenExchange)}, RedirectURIs: []string{"http://127.0.0.1" + loopbackPath}},
	}
	if _, err := keepSecret(dir, "master.key", func() string { return keys.GenerateMasterKey().Encode() }); err != nil {
		return nil, nil, err
	}
	if _, err := keepSecret(dir, "ada.password", func() string { return demoPassword }); err != nil {
		return nil, nil, err
	}
	newSecret := func() string { return oauth.NewSecret(oauth.PrefixClientSecret).Reveal() }
	for i, c := range d.Clients {
		if c.ClientID == "demo-spa" || c.ClientID == loginClient {
			continue
		}
		secret, err := keepSecret(dir, c.ClientID+".secret", newSecret)
		if err != nil {
			return nil, nil, err
		}
		d.Clients[i].ClientSecret = secret
	}
	if _, err := keepSecret(dir, "demo-admin.secret", newSecret); err != nil {
		return nil, nil, err
	}
	text := strings.NewReplacer("$ISSUER", issuer, "$PUBLIC", ln.Public.Addr().String(), "$ADMIN", ln.Admin.Addr().String()).Replace(demoConfig)
	return d, []byte(text), nil
}

// keepSecret returns what the file holds, or fills it first.
func keepSecret(dir, name string, make func() string) (string, error) {
	file := filepath.Join(dir, name)
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		value := make()
		return value, os.WriteFile(file, []byte(value+"\n"), 0o600)
	}
	return strings.TrimSpace(string(data)), err
}

const demoConfig = `# Written by signalbox dev, again at each start: copy it beside this file before you change it.
# Run it by itself with: signalbox serve --config signalbox.yaml
issuer: $ISSUER
listen: {public: "$PUBLIC", admin: "$ADMIN"}
tls: {off: true}                 # plain HTTP is for loopback only
storage: {url: "sqlite:signalbox.db"}
secrets: {master_key_file: master.key}
keys: {algorithms: [ES256, RS256, EdDSA]}
log: {level: warn}
resources:
  - id: https://api.example.com
    scopes: [orders:read, orders:write]
    introspection_clients: [demo-api]
  - id: https://reports.example.com
    scopes: [reports:read]
    token_format: opaque
    introspection_clients: [demo-api]
clients:
  - client_id: demo-service      # a service that acts for itself
    client_name: Demo service
    grant_types: [client_credentials]
    token_endpoint_auth_method: client_secret_basic
    client_secret_file: demo-service.secret
    scope: orders:read orders:write
    resources: ["https://api.example.com"]
  - client_id: demo-web          # a web application with a server
    client_name: Demo web app
    redirect_uris: ["http://127.0.0.1:8085/callback"]
    grant_types: [authorization_code, refresh_token]
    token_endpoint_auth_method: client_secret_basic
    client_secret_file: demo-web.secret
    scope: openid profile email offline_access orders:read orders:write
    resources: ["https://api.example.com"]
    post_logout_redirect_uris: ["http://127.0.0.1:8085/signed-out"]
  - client_id: demo-spa          # an application that cannot keep a secret: PKCE
    client_name: Demo single-page app
    redirect_uris: ["http://127.0.0.1:8085/callback"]
    grant_types: [authorization_code, refresh_token]
    token_endpoint_auth_method: none
    scope: openid profile email offline_access orders:read
    resources: ["https://api.example.com"]
    post_logout_redirect_uris: ["http://127.0.0.1:8085/signed-out"]
  - client_id: demo-api          # a resource server that introspects
    client_name: Demo API
    grant_types: []
    token_endpoint_auth_method: client_secret_basic
    client_secret_file: demo-api.secret
  - client_id: demo-batch        # gets opaque tokens
    client_name: Demo batch job
    grant_types: [client_credentials]
    token_endpoint_auth_method: client_secret_basic
    client_secret_file: demo-batch.secret
    scope: reports:read
    resources: ["https://reports.example.com"]
  - client_id: signalbox-cli     # people at a terminal: signalbox login
    client_name: Signalbox at the terminal
    redirect_uris: ["http://127.0.0.1/callback"]   # any port
    grant_types: [authorization_code, refresh_token, "urn:ietf:params:oauth:grant-type:token-exchange"]
    token_endpoint_auth_method: none
    scope: openid profile
  - client_id: demo-admin        # may do everything over the admin API
    client_name: Demo administrator
    grant_types: [client_credentials]
    token_endpoint_auth_method: client_secret_basic
    client_secret_file: demo-admin.secret
    scope: clients:read clients:write users:read users:write keys:read keys:write grants:read grants:write resources:read resources:write clusters:read clusters:write journal:read journal:write
    resources: ["urn:signalbox:admin"]
users:
  - username: ada
    password_file: ada.password
    name: Ada Lovelace
    email: ada@example.com
    email_verified: true
`

// welcome prints the first token, explained, and what to try next.
func welcome(ctx context.Context, env *Environment, n *node.Node, d *demo, cluster *clusterAtHand, address, dir string, began time.Time) error {
	token, err := n.Mint(ctx, "demo-service", "https://api.example.com", 0)
	if err != nil {
		return err
	}
	tokenFile := filepath.Join(dir, "admin.token")
	if err := os.WriteFile(tokenFile, []byte(d.AdminToken+"\n"), 0o600); err != nil {
		return err
	}
	service, web, api := d.Clients[0], d.Clients[1], d.Clients[3]
	secretFile, err := filepath.Abs(filepath.Join(dir, "demo-admin.secret"))
	if err != nil {
		return err
	}
	if d.AdminURL != "http://"+usualAdmin && !strings.HasSuffix(address, ":0") {
		fmt.Fprintf(env.Err, "%s is in use (Prometheus listens there by default), so the admin API is at %s\n", usualAdmin, d.AdminURL)
	}
	fmt.Fprintf(env.Err, "Signalbox serves %s (%d ms). A first token, for the client %s:\n\n",
		d.Issuer, time.Since(began).Milliseconds(), service.ClientID)
	fmt.Fprintln(env.Out, token) // the one thing here that a program may want
	fmt.Fprintln(env.Err)
	if err := explainToken(env.Err, token, time.Now()); err != nil {
		return err
	}
	verifier := randomText()
	fmt.Fprintf(env.Err, `
Get one yourself:
  curl -s -u '%[2]s:%[3]s' -d grant_type=client_credentials %[1]s/token

Ask whether it is still good, as the API that got it:
  curl -s -u '%[4]s:%[5]s' -d token=TOKEN %[1]s/introspect

Sign in as a person (user %[6]s, password %[7]s), and see the code that the application would get:
  %[1]s/authorize?response_type=code&client_id=%[8]s&redirect_uri=http://127.0.0.1:8085/callback&scope=openid+profile+offline_access+orders:read&state=%[9]s&code_challenge=%[10]s&code_challenge_method=S256

Sign in at a terminal, as the same person:
  signalbox login --issuer %[1]s

Look inside (in another terminal):
  signalbox context create dev --replace --issuer %[1]s --admin-url %[11]s --client-id demo-admin --client-secret-file %[12]s
  export SIGNALBOX_CONTEXT=dev
  signalbox client list
  signalbox audit tail
  signalbox panic --client %[2]s
`, d.Issuer, service.ClientID, service.ClientSecret, api.ClientID, api.ClientSecret,
		d.Users[0].Username, d.Users[0].Password, web.ClientID, verifier[:8], challengeOf(verifier), d.AdminURL, config.ShellQuote(secretFile))
	if cluster != nil {
		if err := cluster.welcome(env.Err, d, api, dir); err != nil {
			return err
		}
	}
	fmt.Fprintf(env.Err, `
Pages: %[1]s/.well-known/openid-configuration, %[1]s/jwks; metrics: %[2]s/metrics
Configuration and data: %[3]s
Stop with Ctrl-C.
`, d.Issuer, d.AdminURL, dir)
	return nil
}

func randomText() string {
	var random [24]byte
	_, _ = rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}

// challengeOf is the S256 challenge of a verifier (RFC 7636 §4.2).
func challengeOf(verifier string) string {
	sum := oauth.SecretOf(verifier).Hash()
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// writeReadyFile writes the file whole or not at all, so that whoever waits
// for it never reads half of it. It holds secrets, and its folder may be one
// that others write to: the temporary file is a new one with a name that nobody
// can know before.
func writeReadyFile(file string, d *demo) error {
	if file == "" {
		return nil
	}
	body, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	_, err = temporary.Write(append(body, '\n'))
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), file)
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
	}
	return err
}
