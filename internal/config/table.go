package config

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"
)

// field is one key of the file. The table of fields is the only place where a
// key is written down: parsing, defaults, environment, Explain, Schema and
// Sample all read it.
type field struct {
	key         string
	at          func(owner any) any // where the value goes; for a list of sections: appends one and returns it
	fields      []field             // the keys of a section, or of each member of a list
	def         string              // as written in the file; empty: none
	example     string              // as written in the file
	doc         string
	danger      string
	oneOf       []string
	need        bool // every member of a list must have it
	secret      bool // never shown; may also come from a file named by …_FILE
	envOnly     bool // must not be in the file
	unsupported bool // a list that this version accepts only empty
	sample      bool // written as a live line by Sample, not as a comment
	lines       bool // text that may have line breaks
	change      change
}

// in makes a typed place; a nil owner gives a place to look at, for its type.
func in[T any](f func(*T) any) func(any) any {
	return func(owner any) any {
		if owner == nil {
			return f(new(T))
		}
		return f(owner.(*T))
	}
}

func (f field) isSection() bool { return f.at == nil && !f.unsupported }
func (f field) isList() bool    { return f.at != nil && f.fields != nil }

// kind is the word for the type that error messages and Explain use.
func (f field) kind() string {
	switch {
	case f.isSection():
		return "section"
	case f.isList():
		return "list of sections"
	case f.unsupported:
		return "list"
	case len(f.oneOf) > 0 && !f.isTexts():
		return "one of " + strings.Join(f.oneOf, ", ")
	}
	switch f.at(nil).(type) {
	case *time.Duration:
		return "duration"
	case *bool, **bool:
		return "true or false"
	case *[]string:
		return "list of texts"
	case *[]netip.Prefix:
		return "list of networks (CIDR)"
	case *[]uint32:
		return "list of numbers"
	case *json.RawMessage:
		return "JSON Web Key Set"
	case *map[string]string:
		return "texts by name"
	case *StorageURL:
		return "storage URL"
	case *Witness:
		return "file or URL"
	case *Secret:
		return "secret text"
	default:
		return "text"
	}
}

func (f field) isTexts() bool {
	if f.at == nil || f.fields != nil {
		return false
	}
	switch f.at(nil).(type) {
	case *[]string, *[]netip.Prefix, *[]uint32:
		return true
	}
	return false
}

// env is the variable that overrides the key at path, or "". Members of lists
// have none: an index in a variable's name would be a trap.
func (f field) env(path string) string {
	if f.at == nil || f.fields != nil {
		return ""
	}
	switch f.at(nil).(type) {
	case *json.RawMessage, *map[string]string:
		return ""
	}
	head, _, _ := strings.Cut(path, ".")
	for _, top := range table {
		if top.key == head && top.isList() {
			return ""
		}
	}
	return "SIGNALBOX_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// walk visits every key with its path, sections before their keys.
func walk(fields []field, prefix string, visit func(path string, f field)) {
	for _, f := range fields {
		visit(prefix+f.key, f)
		walk(f.fields, prefix+f.key+".", visit)
	}
}

// setDefaults fills owner. The members of lists get theirs when they are made.
func setDefaults(fields []field, owner any) {
	for _, f := range fields {
		switch {
		case f.isSection():
			setDefaults(f.fields, owner)
		case f.def != "" && !f.isList():
			if m := assign(f, f.at(owner), strings.Trim(f.def, `[]"`)); m != nil {
				panic("config: default of " + f.key + ": " + m.problem)
			}
		}
	}
}

const unsupported = "Not supported by this version: only the empty list is accepted."

// table is filled in init because its functions look at the table themselves.
var table []field

func init() {
	table = []field{
		{key: "issuer", at: in(func(c *Config) any { return &c.Issuer }), example: "https://sts.example.com", sample: true,
			doc:    "The URL of this service: the `iss` of every token and the base of every endpoint. It is never derived from a request. https, without query, fragment or trailing slash; http only for a loopback address.",
			danger: "Changing it makes every token and every client's configuration invalid."},
		{key: "revision", at: in(func(c *Config) any { return &c.Revision }), example: "back-to-monday", change: declared,
			doc: "A word that tells this file from all earlier ones. It is needed only to go back to an older file, where nodes would take that for a mistake: give it a value that was never used."},
		{key: "listen", doc: "The two addresses that the service listens on.", sample: true, fields: []field{
			{key: "public", at: in(func(c *Config) any { return &c.Listen.Public }), def: `":8443"`, sample: true,
				doc: "Address of the OAuth and OpenID Connect endpoints, host:port."},
			{key: "admin", at: in(func(c *Config) any { return &c.Listen.Admin }), def: `"127.0.0.1:9090"`, sample: true,
				doc:    "Address of the admin API, health and metrics, host:port.",
				danger: "It speaks plain HTTP: keep it on loopback or on a network that you trust."},
		}},
		{key: "tls", doc: "How the public listener gets its certificate: from files, by ACME, or off behind a proxy. Exactly one of the three.", sample: true, fields: []field{
			{key: "cert_file", at: in(func(c *Config) any { return &c.TLS.CertFile }), example: "tls.crt", sample: true,
				doc: "PEM file with the certificate and its chain."},
			{key: "key_file", at: in(func(c *Config) any { return &c.TLS.KeyFile }), example: "tls.key", sample: true,
				doc: "PEM file with the certificate's private key."},
			{key: "off", at: in(func(c *Config) any { return &c.TLS.Off }), def: "false",
				doc:    "true when a proxy in front ends TLS. Needs trusted_proxies, and answers nobody else.",
				danger: "Tokens and passwords travel in clear between the proxy and this service."},
			{key: "trusted_proxies", at: in(func(c *Config) any { return &c.TLS.TrustedProxies }), example: "[10.0.0.0/8]",
				doc:    "Networks of the proxies that end TLS. Only they are answered, and only their X-Forwarded-For is believed. Only with off.",
				danger: "Whoever is in these networks can claim any client address."},
			{key: "acme", doc: "Automatic certificates (RFC 8555) for the issuer's host. The public listener must be reachable on port 443.", fields: []field{
				{key: "email", at: in(func(c *Config) any { return &c.TLS.ACME.Email }), example: "ops@example.com",
					doc: "Where the certificate authority writes about trouble."},
				{key: "cache_dir", at: in(func(c *Config) any { return &c.TLS.ACME.CacheDir }), def: "/var/lib/signalbox/acme",
					doc: "Folder that keeps the account and the certificates."},
				{key: "directory_url", at: in(func(c *Config) any { return &c.TLS.ACME.DirectoryURL }), def: "https://acme-v02.api.letsencrypt.org/directory",
					doc: "The certificate authority's directory."},
				{key: "accept_tos", at: in(func(c *Config) any { return &c.TLS.ACME.AcceptTOS }), def: "false", example: "true",
					doc: "true says that you accept the certificate authority's terms of service. ACME does not work without."},
			}},
		}},
		{key: "storage", doc: "Where grants, keys and sessions are kept.", sample: true, fields: []field{
			{key: "url", at: in(func(c *Config) any { return &c.Storage.URL }), def: `"sqlite:/var/lib/signalbox/signalbox.db"`, sample: true, secret: true,
				example: `"postgres://signalbox@db.example.com/signalbox?sslmode=verify-full"`,
				doc:     "sqlite:PATH for one machine, postgres://… for more than one.",
				danger:  "Whoever can read the file can read a password in it: keep the password in a passfile (?passfile=FILE), or the URL in SIGNALBOX_STORAGE_URL_FILE."},
		}},
		{key: "secrets", doc: "The master key, which seals private keys and derives refresh secrets.", sample: true, fields: []field{
			{key: "master_key_file", at: in(func(c *Config) any { return &c.Secrets.MasterKeyFile }), example: "master.key", sample: true,
				doc:    "File with the master key: 32 random bytes, as they are, in base64 or in hex. Make it with: openssl rand -base64 32",
				danger: "Without it the signing keys in the database cannot be opened: back it up, apart from the database."},
			{key: "master_key", at: in(func(c *Config) any { return &c.Secrets.MasterKey }), secret: true, envOnly: true,
				doc:    "The master key itself. Only through the environment; it must not be in the file.",
				danger: "Other processes of the same user can read the environment: prefer master_key_file."},
			{key: "operator_secret", at: in(func(c *Config) any { return &c.Secrets.OperatorSecret }), secret: true, envOnly: true, change: declared,
				doc:    "The secret of a client `" + Operator + "` that may administer, for a service without a file. Only through the environment: SIGNALBOX_SECRETS_OPERATOR_SECRET_FILE names the file that holds it.",
				danger: "Whoever has it rules this service."},
		}},
		{key: "keys", doc: "The keys that sign tokens.", sample: true, change: declared, fields: []field{
			{key: "algorithms", at: in(func(c *Config) any { return &c.Keys.Algorithms }), def: "[ES256, RS256]", example: "[ES256, RS256]", sample: true,
				oneOf: []string{"ES256", "RS256", "EdDSA"},
				doc:   "Signature algorithms. The first signs, unless a client asks for another; RS256 is for clients that know nothing else and costs far more time."},
			{key: "rotate_every", at: in(func(c *Config) any { return &c.Keys.RotateEvery }), def: "720h", sample: true,
				doc: "How long a key signs before the next takes over. From 1h to 8760h."},
		}},
		{key: "tokens", doc: "How long things live.", sample: true, change: declared, fields: []field{
			{key: "access_ttl", at: in(func(c *Config) any { return &c.Tokens.AccessTTL }), def: "5m", sample: true,
				doc:    "Lifetime of access tokens. At most 1h.",
				danger: "A verifier that works offline accepts a revoked token until it ends."},
			{key: "id_ttl", at: in(func(c *Config) any { return &c.Tokens.IDTTL }), def: "5m", sample: true,
				doc: "Lifetime of ID tokens. At most 1h."},
			{key: "refresh_ttl", at: in(func(c *Config) any { return &c.Tokens.RefreshTTL }), def: "720h", sample: true,
				doc: "After this time a grant ends, however busy it is. At most 8760h."},
			{key: "refresh_idle_ttl", at: in(func(c *Config) any { return &c.Tokens.RefreshIdleTTL }), def: "24h", sample: true,
				doc: "A grant that is not refreshed for this long ends. Not shorter than access_ttl, not longer than refresh_ttl."},
			{key: "refresh_grace", at: in(func(c *Config) any { return &c.Tokens.RefreshGrace }), def: "10s", sample: true,
				doc:    "A refresh token used again within this time gives the same successor; later, it ends the grant. At most 60s.",
				danger: "A thief has the same time."},
			{key: "code_ttl", at: in(func(c *Config) any { return &c.Tokens.CodeTTL }), def: "60s", sample: true,
				doc: "Lifetime of an authorization code. At most 60s."},
		}},
		{key: "resources", at: in(func(c *Config) any { return grow(&c.Resources) }), fields: resourceFields(), change: declared,
			doc: "The APIs that accept our tokens (RFC 8707)."},
		{key: "clients", at: in(func(c *Config) any { return grow(&c.Clients) }), fields: clientFields(), change: declared,
			doc: "The registered applications. Names as in RFC 7591."},
		{key: "users", at: in(func(c *Config) any { return grow(&c.Users) }), fields: userFields(), change: declared,
			doc: "People, for small installations."},
		{key: "identity_providers", unsupported: true, change: declared, doc: "Upstream identity providers. " + unsupported},
		{key: "clusters", at: in(func(c *Config) any { return grow(&c.Clusters) }), fields: clusterFields(), change: declared,
			doc: "The Kubernetes clusters: those whose pods prove themselves, and those that tokens are for. A token for a cluster has the `aud` ISSUER/clusters/NAME."},
		{key: "trusted_issuers", at: in(func(c *Config) any { return grow(&c.TrustedIssuers) }), fields: trustedIssuerFields(), change: declared,
			doc:    "Other issuers whose tokens are accepted as proof of a workload: CI systems, clouds, SPIFFE trust domains.",
			danger: "An issuer can say anything about those whom it vouches for. Of a public one anybody can have a token: policies must pin whose."},
		{key: "policies", at: in(func(c *Config) any { return grow(&c.Policies) }), fields: policyFields(), change: declared,
			doc: "The trust policies: which proof may be exchanged for which tokens. What none allows is refused."},
		{key: "outbound", doc: "What this service fetches and calls: keys and discovery documents of other issuers, and the sign-out URLs of clients. Private addresses are refused.", fields: []field{
			{key: "allow_loopback", at: in(func(c *Config) any { return &c.Outbound.AllowLoopback }), def: "false",
				doc:    "true lets it call this machine itself, also in plain HTTP: for local runs and tests. Refused unless the issuer is on a loopback address.",
				danger: "What listens on this machine's loopback addresses can be reached by whoever may name a URL."},
			{key: "ca_file", at: in(func(c *Config) any { return &c.Outbound.CAFile }), example: "/etc/signalbox/ca.crt",
				doc: "PEM file with the certificates to trust in place of the system's."},
		}},
		{key: "journal", doc: "The audit journal.", fields: []field{
			{key: "dir", at: in(func(c *Config) any { return &c.Journal.Dir }), example: "/var/lib/signalbox/journal",
				doc: "Folder of this machine's journal. Default: `journal` beside the SQLite file, otherwise /var/lib/signalbox/journal. Never shared by two machines."},
			{key: "witness", at: in(func(c *Config) any { return &c.Journal.Witness }), example: "https://witness.example.com/heads/", secret: true,
				doc: "Who is shown the journal's head while there are new records, at most every ten seconds: a file that is added to, a URL that ends in / (PUT of an object for each head), or another URL (POST). It should keep what this machine cannot change. Empty: nobody."},
		}},
		{key: "telemetry", doc: "Traces.", fields: []field{
			{key: "otlp_endpoint", at: in(func(c *Config) any { return &c.Telemetry.OTLPEndpoint }), example: "https://otel.example.com:4318",
				doc: "Where traces are sent (OTLP over HTTP). A URL without a path means its /v1/traces. Empty: off."},
		}},
		{key: "log", doc: "The service's own log, on standard error.", sample: true, fields: []field{
			{key: "format", at: in(func(c *Config) any { return &c.Log.Format }), def: "json", oneOf: []string{"text", "json"}, sample: true,
				doc: "json for machines, text for people."},
			{key: "level", at: in(func(c *Config) any { return &c.Log.Level }), def: "info", change: atReload, oneOf: []string{"debug", "info", "warn", "error"}, sample: true,
				doc: "The least important line that is written."},
		}},
	}
}

func grow[T any](list *[]T) *T {
	*list = append(*list, *new(T))
	return &(*list)[len(*list)-1]
}
