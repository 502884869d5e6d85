package config

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config/source"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// validate checks what no single key can tell. It runs after the environment.
func (d *document) validate() {
	d.issuer()
	if !d.policiesOnly {
		d.listen()
		d.tls()
		d.secrets()
		d.operator()
		d.keys()
		d.lifetimes()
		d.journal()
		d.telemetry()
		d.outbound()
	}
	refs := d.references()
	d.resources(refs)
	d.clients(refs)
	d.users(refs)
	d.clusters(refs)
	d.policies(refs)
}

func (d *document) warn(path, text string) {
	d.config.Warnings = append(d.config.Warnings, path+": "+text)
}

func (d *document) issuer() {
	c := d.config
	switch {
	case d.Failed["issuer"]:
	case !d.IsSet("issuer"):
		d.Fail("issuer", "is missing", d.advice("add `issuer: https://…`, the URL under which clients reach this service",
			"set SIGNALBOX_ISSUER to the URL under which clients reach this service, https://…"))
	default:
		if p := authority.CheckIssuer(c.Issuer); p != nil {
			d.Fail("issuer", p.Text, p.Fix)
		}
	}
}

func (d *document) listen() {
	c := d.config
	ok := d.address("listen.public", c.Listen.Public, "")
	ok = d.address("listen.admin", c.Listen.Admin, "127.0.0.1") && ok
	if ok && c.Listen.Public == c.Listen.Admin && !strings.HasSuffix(c.Listen.Public, ":0") {
		d.Fail("listen.admin", "is the same address as listen.public", "use another port: the admin API never shares the public one")
	}
	if ok && !OnLoopback(c.Listen.Admin) {
		d.warn("listen.admin", c.Listen.Admin+" can be reached from other machines, in plain HTTP; keep it on a network that you trust")
	}
}

// address checks a host:port. usual is the host that most people want.
func (d *document) address(path, s, usual string) bool {
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.Atoi(port)
	if err != nil || perr != nil || n < 0 || n > 65535 || strings.ContainsAny(host, " /@") {
		d.Fail(path, "expected host:port, found "+source.Quote(s), addressFix(usual, s))
		return false
	}
	return true
}

// addressFix completes a port without a host, with the quotes that YAML needs.
func addressFix(usual, s string) string {
	if n, err := strconv.Atoi(s); err == nil && 0 <= n && n <= 65535 {
		return `write "` + net.JoinHostPort(usual, s) + `"`
	}
	return `write ":8443" for every interface, "127.0.0.1:9090" for one`
}

// OnLoopback says whether only this machine can reach a host:port to listen on.
func OnLoopback(s string) bool {
	host, _, _ := net.SplitHostPort(s)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (d *document) tls() {
	c, t := d.config, &d.config.TLS
	d.resolve("tls.cert_file", &t.CertFile)
	d.resolve("tls.key_file", &t.KeyFile)
	d.resolve("tls.acme.cache_dir", &t.ACME.CacheDir)
	files := t.CertFile != "" || t.KeyFile != ""
	acme := d.IsSet("tls.acme")
	for path := range d.Where {
		acme = acme || strings.HasPrefix(path, "tls.acme.")
	}
	loopbackHTTP := strings.HasPrefix(c.Issuer, "http://")
	switch n := count(files, acme, t.Off); {
	case d.Failed["tls"] || d.Failed["tls.acme"] || d.Failed["tls.off"]:
		return
	case n > 1:
		d.Fail("tls", "has more than one of cert_file, acme and off", "keep one of them")
		return
	case n == 0 && loopbackHTTP:
		t.Off = true
	case n == 0:
		d.Fail("tls", "says nowhere where the certificate comes from", d.advice("add cert_file and key_file, or acme, or `off: true` with trusted_proxies",
			"set SIGNALBOX_TLS_CERT_FILE and SIGNALBOX_TLS_KEY_FILE, or SIGNALBOX_TLS_ACME_ACCEPT_TOS=true, or SIGNALBOX_TLS_OFF=true with SIGNALBOX_TLS_TRUSTED_PROXIES"))
		return
	case loopbackHTTP && !t.Off:
		d.Fail("tls", "the issuer is http, but TLS is on", "make the issuer https, or remove this section")
		return
	}
	if !t.Off && len(t.TrustedProxies) > 0 {
		d.Fail("tls.trusted_proxies", "has meaning only with `off: true`", "remove it, or set off")
	}
	switch {
	case files:
		t.Mode = TLSFiles
		d.certificate()
	case acme:
		t.Mode = TLSACME
		d.acme()
	default:
		t.Mode = TLSOff
		if !loopbackHTTP && len(t.TrustedProxies) == 0 && !d.Failed["issuer"] && !d.Inside["tls.trusted_proxies"] {
			d.Fail("tls.off", "needs trusted_proxies", d.advice("add `trusted_proxies: [10.0.0.0/8]` with the network of the proxy that ends TLS",
				"set SIGNALBOX_TLS_TRUSTED_PROXIES to the network of the proxy that ends TLS, such as 10.0.0.0/8"))
		}
		if loopbackHTTP && !OnLoopback(c.Listen.Public) && !d.Failed["listen.public"] {
			d.warn("listen.public", c.Listen.Public+" is open to other machines, which are refused: plain HTTP is for this machine and trusted_proxies; use 127.0.0.1")
		}
	}
}

func count(bs ...bool) (n int) {
	for _, b := range bs {
		if b {
			n++
		}
	}
	return n
}

func (d *document) certificate() {
	t := d.config.TLS
	if t.CertFile == "" {
		d.Fail("tls.cert_file", "is missing beside key_file", d.advice("add it", "set SIGNALBOX_TLS_CERT_FILE"))
		return
	}
	if t.KeyFile == "" {
		d.Fail("tls.key_file", "is missing beside cert_file", d.advice("add it", "set SIGNALBOX_TLS_KEY_FILE"))
		return
	}
	cert, _, ok := d.read("tls.cert_file", t.CertFile)
	key, world, ok2 := d.read("tls.key_file", t.KeyFile)
	if !ok || !ok2 {
		return
	}
	if world {
		d.warnWorld("tls.key_file", t.KeyFile)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		d.Fail("tls.key_file", "is no pair with cert_file: "+source.Clip(strings.TrimPrefix(err.Error(), "tls: ")), "both files are PEM, and the key belongs to the first certificate")
		return
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		d.Fail("tls.cert_file", "holds no readable certificate", "check it with: openssl x509 -noout -text -in FILE")
		return
	}
	if u, err := url.Parse(d.config.Issuer); err == nil && u.Hostname() != "" && leaf.VerifyHostname(u.Hostname()) != nil {
		d.warn("tls.cert_file", "the certificate is not for the issuer's host "+u.Hostname())
	}
	if time.Now().After(leaf.NotAfter) {
		d.warn("tls.cert_file", "the certificate ended on "+leaf.NotAfter.UTC().Format(time.DateOnly))
	}
}

func (d *document) acme() {
	a := d.config.TLS.ACME
	if !a.AcceptTOS {
		d.Fail("tls.acme.accept_tos", "is not true", "read the certificate authority's terms of service and write `accept_tos: true`")
	}
	if a.Email != "" && !isEmail(a.Email) {
		d.Fail("tls.acme.email", "expected an e-mail address, found "+source.Quote(a.Email), "")
	}
	if u, err := url.Parse(a.DirectoryURL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		d.Fail("tls.acme.directory_url", "expected an https URL, found "+source.Quote(a.DirectoryURL), "")
	}
	if a.CacheDir == "" {
		d.Fail("tls.acme.cache_dir", "is empty", "name a folder: without it every start asks for a new certificate, until the authority refuses")
	}
	if u, err := url.Parse(d.config.Issuer); err == nil && u.Hostname() != "" && (net.ParseIP(u.Hostname()) != nil || !strings.Contains(u.Hostname(), ".")) {
		d.Fail("tls.acme", "cannot get a certificate for "+u.Hostname(), "the issuer needs a public host name")
	}
}

// minMasterKey is 32 characters: base64 of 24 random bytes is 192 bits.
const minMasterKey = 32

func (d *document) secrets() {
	s := &d.config.Secrets
	d.resolve("secrets.master_key_file", &s.MasterKeyFile)
	byEnv, fileByEnv := d.Where["secrets.master_key"].Env, d.Where["secrets.master_key_file"].Env
	if d.Failed["secrets.master_key"] || d.Failed["secrets.master_key_file"] || d.Failed["secrets"] {
		return
	}
	path := "secrets.master_key_file"
	switch {
	case byEnv != "" && fileByEnv != "":
		d.Fail("secrets.master_key", fileByEnv+" is set as well", "keep one of the two")
		return
	case byEnv != "":
		path, s.MasterKeyFile = "secrets.master_key", ""
	case s.MasterKeyFile == "":
		d.Fail(path, "is missing", "make one with `openssl rand -base64 32`, in a file that only this service may read, and "+
			d.advice("name it here", "set SIGNALBOX_SECRETS_MASTER_KEY_FILE to its name"))
		return
	default:
		v, ok := d.secretFile(path, s.MasterKeyFile)
		if !ok {
			return
		}
		s.MasterKey = Secret{v}
	}
	if len(s.MasterKey.Reveal()) < minMasterKey {
		d.Fail(path, fmt.Sprintf("the master key has fewer than %d characters", minMasterKey), "make one with: openssl rand -base64 32")
	}
}

// operator adds the client that administers a service that has no file to name one.
func (d *document) operator() {
	const path = "secrets.operator_secret"
	secret := d.config.Secrets.OperatorSecret
	switch {
	case !d.IsSet(path) || d.Failed[path]:
		return
	case slices.ContainsFunc(d.config.Clients, func(c Client) bool { return c.ClientID == Operator }):
		d.Fail(path, "is beside a client "+Operator+" in the file", "keep one of the two")
		return
	case len(secret.Reveal()) < minClientSecret:
		d.Fail(path, fmt.Sprintf("the secret has fewer than %d characters", minClientSecret), "make one with: openssl rand -hex 32")
		return
	}
	sum := sha256.Sum256([]byte(secret.Reveal()))
	var client Client
	setDefaults(clientFields(), &client)
	client.ClientID, client.ClientName = Operator, "Operators"
	client.GrantTypes, client.Scope, client.Resources = []string{string(oauth.ClientCredentials)}, authority.AdminScopes.String(), []string{authority.AdminResource}
	client.Secret, client.SecretHash, client.ClientSecrets = secret, sum[:], []authority.ClientSecret{{Hash: sum}}
	d.config.Clients = append(d.config.Clients, client)
}

func (d *document) keys() {
	k := d.config.Keys
	if len(k.Algorithms) == 0 && !d.Inside["keys.algorithms"] {
		d.Fail("keys.algorithms", "is empty", "write [ES256]")
	}
	d.between("keys.rotate_every", k.RotateEvery, time.Hour, 8760*time.Hour)
}

func (d *document) lifetimes() {
	t := d.config.Tokens
	ok := d.between("tokens.access_ttl", t.AccessTTL, time.Second, time.Hour)
	d.between("tokens.id_ttl", t.IDTTL, time.Second, time.Hour)
	d.between("tokens.code_ttl", t.CodeTTL, time.Second, time.Minute)
	d.between("tokens.refresh_grace", t.RefreshGrace, 0, time.Minute)
	ok = d.between("tokens.refresh_ttl", t.RefreshTTL, time.Second, 8760*time.Hour) && ok
	ok = d.between("tokens.refresh_idle_ttl", t.RefreshIdleTTL, time.Second, 8760*time.Hour) && ok
	if !ok {
		return
	}
	if t.RefreshIdleTTL > t.RefreshTTL {
		d.Fail("tokens.refresh_idle_ttl", short(t.RefreshIdleTTL)+" is longer than refresh_ttl, "+short(t.RefreshTTL), "make it at most refresh_ttl")
	}
	if t.RefreshIdleTTL < t.AccessTTL {
		d.Fail("tokens.refresh_idle_ttl", short(t.RefreshIdleTTL)+" is shorter than access_ttl, "+short(t.AccessTTL), "make it longer: a grant would end before anybody has to refresh")
	}
	if t.RefreshGrace >= t.RefreshIdleTTL {
		d.Fail("tokens.refresh_grace", short(t.RefreshGrace)+" is not shorter than refresh_idle_ttl", "make it a few seconds")
	}
}

func (d *document) between(path string, v, low, high time.Duration) bool {
	if d.Failed[path] {
		return false
	}
	if v < low || v > high {
		d.Fail(path, short(v)+" is out of range", "write a duration from "+short(low)+" to "+short(high))
		return false
	}
	return true
}

// short writes 24h, not 24h0m0s.
func short(v time.Duration) string {
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (d *document) journal() {
	c := d.config
	if d.Where["storage.url"].Env == "" {
		c.Storage.URL = c.Storage.URL.under(filepath.Dir(d.File))
	}
	d.resolve("journal.dir", &c.Journal.Dir)
	if file := c.Journal.Witness.File(); file != "" && d.Where["journal.witness"].Env == "" {
		file = d.path(file)
		c.Journal.Witness = Witness{raw: file, shown: file, file: file}
	}
	switch {
	case d.IsSet("journal.dir") && c.Journal.Dir == "" && !d.Failed["journal.dir"]:
		d.Fail("journal.dir", "is empty", "name a folder, or remove the key")
	case c.Journal.Dir != "":
	case c.Storage.URL.Engine() == "sqlite":
		c.Journal.Dir = filepath.Join(filepath.Dir(c.Storage.URL.Path()), "journal")
	default:
		c.Journal.Dir = "/var/lib/signalbox/journal"
	}
}

func (d *document) telemetry() {
	s := d.config.Telemetry.OTLPEndpoint
	if s == "" {
		return
	}
	if u, err := url.Parse(s); err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		d.Fail("telemetry.otlp_endpoint", "expected an http or https URL without a password and a query", "write it like https://otel.example.com:4318")
	}
}

// resolve makes a path of the file relative to the file. What the environment
// gives is relative to where the service runs, as everywhere.
func (d *document) resolve(path string, p *string) {
	if d.Where[path].Env == "" {
		*p = d.path(*p)
	}
}

// read reads a file that the configuration names.
func (d *document) read(path, file string) (data []byte, world, ok bool) {
	if d.Failed[path] {
		return nil, false, false
	}
	if !slices.ContainsFunc(d.config.Files, func(f File) bool { return f.Path == file }) {
		d.config.Files = append(d.config.Files, look(file))
	}
	data, world, err := readFile(file)
	if err != nil && d.policiesOnly {
		// As after a mistake that has been told: what follows from it is not told.
		d.Failed[path], d.Inside[path] = true, true
		return nil, false, false
	}
	if err != nil {
		raw := file
		if n := d.Where[path].Value; n != nil {
			raw = n.Value
		}
		m := unreadable(file, raw, err)
		d.Fail(path, m.problem, m.fix)
		return nil, false, false
	}
	if len(data) == 0 {
		d.Fail(path, source.Quote(file)+" is empty", "write the value into it")
		return nil, false, false
	}
	d.note(path, data)
	return data, world, true
}

// secretFile reads a secret without the line break that editors and echo add.
func (d *document) secretFile(path, file string) (string, bool) {
	data, world, ok := d.read(path, file)
	if !ok {
		return "", false
	}
	if world {
		d.warnWorld(path, file)
	}
	s := strings.TrimRight(string(data), "\r\n")
	if s == "" {
		d.Fail(path, source.Quote(file)+" is empty", "write the value into it")
		return "", false
	}
	return s, true
}

func (d *document) warnWorld(path, file string) {
	d.warn(path, file+" can be read by every user of this machine; run: chmod 600 "+file)
}

func isEmail(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && len(s) <= 254
}
