// Package config reads the one YAML file of a Signalbox service: it fills in
// defaults, lets the environment override, refuses what is wrong with the
// place and the cure, and explains every key. What a client, a resource or a
// user may be is the domain's rule book; this package adds line and column.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config/source"
)

// Config is one valid configuration. Load and Parse are the only way to a
// validated one; a Config is never changed afterwards, a reload makes another.
type Config struct {
	Issuer    string
	Revision  string
	Listen    Listen
	TLS       TLS
	Storage   Storage
	Secrets   Secrets
	Keys      SigningKeys
	Tokens    Tokens
	Resources []Resource
	Clients   []Client
	Users     []User

	Clusters       []Cluster
	TrustedIssuers []TrustedIssuer
	Policies       []Policy
	Outbound       Outbound

	Journal   Journal
	Telemetry Telemetry
	Log       Log

	// Warnings are things that work but are weak, for the log at start.
	Warnings []string
	// Elsewhere are clusters that policies name and this file has not: the admin
	// API may keep them. Until one is there, the policy leads nowhere.
	Elsewhere []Reference
	// Files are all files that were read, the configuration first: what a
	// reload has to watch.
	Files []File

	origin *document // for Refuse
}

// Name is the path of the file, or what Parse was told.
func (c *Config) Name() string { return c.origin.File }

// Refuse is an error about one key of this configuration, with its place, for
// rules that only the one who uses the value knows.
func (c *Config) Refuse(key, problem, fix string) error {
	d := c.origin.Again()
	d.Fail(key, problem, fix)
	return d.Errors
}

// RefuseAll is an error about several values, each with its place, and with the
// place inside it where the value is a text of its own.
func (c *Config) RefuseAll(found []authority.Problem) error {
	d := c.origin.Again()
	for _, p := range found {
		d.FailInside(p.Field, p.Line, p.Column, p.Text, p.Fix)
	}
	return d.Errors.Sorted()
}

// Reference is a name in the file: where it is, and what it names.
type Reference struct{ Key, Name string }

// Alone refuses a file that names clusters which neither it nor known has: those
// that the admin API keeps, as far as the caller knows.
func (c *Config) Alone(known []string) error {
	d := c.origin.Again()
	for _, r := range c.Elsewhere {
		if !slices.Contains(known, r.Name) {
			d.Fail(r.Key, "there is no cluster "+source.Quote(r.Name)+" in this file",
				cmpOr(c.origin.nearCluster(r.Name), "add it to clusters; or, if the admin API keeps it, say so with --cluster "+r.Name))
		}
	}
	if len(d.Errors) > 0 {
		return d.Errors.Sorted()
	}
	return nil
}

// Error and Errors are mistakes in the file, with place and cure.
type (
	Error  = source.Error
	Errors = source.Errors
)

// Listen holds two host:port addresses.
type Listen struct {
	Public string
	Admin  string
}

// TLSMode says where the public listener's certificate comes from.
type TLSMode string

const (
	TLSFiles TLSMode = "files" // CertFile and KeyFile, a matching pair
	TLSACME  TLSMode = "acme"  // ACME, for the issuer's host name
	TLSOff   TLSMode = "off"   // plain HTTP: behind TrustedProxies, or a loopback issuer
)

// TLS of the public listener. Mode is derived; the rest is as written.
type TLS struct {
	Mode           TLSMode
	CertFile       string
	KeyFile        string
	Off            bool
	TrustedProxies []netip.Prefix
	ACME           ACME
}

// ACME has meaning only in mode TLSACME.
type ACME struct {
	Email        string
	CacheDir     string
	DirectoryURL string
	AcceptTOS    bool
}

// Storage says where grants, keys and sessions live.
type Storage struct{ URL StorageURL }

// Secrets holds the master key, read from MasterKeyFile or the environment, and
// the secret of the client Operator, if the environment has one.
type Secrets struct {
	MasterKeyFile  string // empty when the environment gave the key itself
	MasterKey      Secret
	OperatorSecret Secret
}

// SigningKeys: how tokens are signed. The first algorithm is the default.
type SigningKeys struct {
	Algorithms  []string
	RotateEvery time.Duration
}

// Tokens are the lifetimes.
type Tokens struct {
	AccessTTL      time.Duration
	IDTTL          time.Duration
	RefreshTTL     time.Duration
	RefreshIdleTTL time.Duration
	RefreshGrace   time.Duration
	CodeTTL        time.Duration
}

// Resource is an API that accepts our tokens. AccessTTL is Tokens.AccessTTL
// when not written; IntrospectionClients are client ids of this file.
type Resource struct{ authority.ResourceMetadata }

// Client is a client and where its secret or keys are. ClientSecrets and JWKS
// hold them; IDTokenSignedResponseAlg is Keys.Algorithms[0] when not written.
type Client struct {
	authority.ClientMetadata
	SecretFile string
	Secret     Secret // what SecretFile holds; empty when only a hash was given
	SecretHash []byte // SHA-256 of the secret, 32 bytes, from file or hash; nil without a secret
	JWKSFile   string
}

// User is a person of a small installation. Sub is empty when not written: it
// is derived where the master key is known.
type User struct {
	authority.UserProfile
	PasswordHash Secret // argon2id PHC string; empty when PasswordFile is used
	PasswordFile string
	Password     Secret // what PasswordFile holds
	Disabled     bool
}

// Cluster is a Kubernetes cluster, and where its keys and its kubeconfig are:
// JWKS, CA and Kubeconfig hold what the files do.
type Cluster struct {
	authority.ClusterMetadata
	JWKSFile       string
	CAFile         string
	KubeconfigFile string
}

// TrustedIssuer is another issuer whose tokens count as proof. JWKS holds what
// JWKSFile does.
type TrustedIssuer struct {
	authority.TrustedIssuerMetadata
	JWKSFile string
}

// Policy is a trust policy. The node compiles its CEL.
type Policy struct{ authority.PolicyMetadata }

// Outbound says what may be fetched and called. CA holds what CAFile does, as PEM.
type Outbound struct {
	AllowLoopback bool
	CAFile        string
	CA            []byte
}

// Journal says where the audit record is appended, and who is shown its heads.
type Journal struct {
	Dir     string
	Witness Witness
}

// Telemetry sends traces. Empty means off.
type Telemetry struct{ OTLPEndpoint string }

// Log is how the service's own log is written.
type Log struct {
	Format string // "text" or "json"
	Level  string // "debug", "info", "warn" or "error"
}

// Default returns the defaults alone. It is not valid: it has no issuer and
// no master key.
func Default() *Config {
	c := new(Config)
	setDefaults(table, c)
	return c
}

// Load reads, completes and validates the file at path. env is os.Environ(). An
// empty path means that there is no file and the environment says all.
// A wrong file gives Errors; FilesOf tells which files they depend on. Relative paths in the file are relative to it.
func Load(path string, env []string) (*Config, error) {
	d, files, err := load(path, env)
	if err != nil {
		return nil, err
	}
	if len(d.Errors) > 0 {
		return nil, &refused{d.Errors.Sorted(), files}
	}
	d.config.Files = files
	return d.config, nil
}

// AdminAddress is where the admin listener is of a service that runs with this
// configuration. Nothing else in it matters, right or wrong: a file with a mistake
// is not in use yet.
func AdminAddress(path string, env []string) (string, error) {
	d, _, err := load(path, env)
	if err != nil {
		return "", err
	}
	if d.Broken {
		d.environment(env)
	}
	for _, e := range d.Errors {
		if e.Key == "listen.admin" || e.Key == "listen" {
			return "", Errors{e}
		}
	}
	return d.config.Listen.Admin, nil
}

// load reads and judges a configuration. The files are those that it depends on.
func load(path string, env []string) (*document, []File, error) {
	if path == "" {
		d := evaluate("", nil, env)
		return d, d.config.Files, nil
	}
	data, files, err := readConfiguration(path)
	if err != nil {
		return nil, nil, err
	}
	d := evaluate(path, data, env)
	return d, append(files, d.config.Files...), nil
}

// LoadPolicies is Load for what the file says about trust: issuer, resources,
// clients, users, clusters, trusted issuers and policies. The other sections are
// read and not checked, and files that are not at hand are not needed: where a
// repository is tested there are no secrets. A configuration like this is for
// deciding and not for serving.
func LoadPolicies(path string, env []string) (*Config, error) {
	data, _, err := readConfiguration(path)
	if err != nil {
		return nil, err
	}
	d := newDocument(path, data, table)
	d.policiesOnly = true
	if d.evaluate(data, env); len(d.Errors) > 0 {
		return nil, d.Errors.Sorted()
	}
	return d.config, nil
}

func readConfiguration(path string) ([]byte, []File, error) {
	files := []File{look(path)}
	f, err := os.Open(path)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		if errors.Is(err, fs.ErrPermission) {
			m := forbidden(path, userName())
			return nil, nil, &refused{fmt.Errorf("configuration %s: %s", m.problem, m.fix), files}
		}
		return nil, nil, &refused{fmt.Errorf("configuration %s: %w", path, err), files}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, source.MaxSize+1))
	if err != nil {
		return nil, nil, &refused{fmt.Errorf("configuration %s: %w", path, err), files}
	}
	return data, files, nil
}

// Parse is Load for a document at hand. name is in errors, and its folder
// is where relative paths start.
func Parse(name string, data []byte, env []string) (*Config, error) {
	d := evaluate(name, data, env)
	if len(d.Errors) > 0 {
		return nil, d.Errors.Sorted()
	}
	return d.config, nil
}

// evaluate judges the text of a file; without a name there is none.
func evaluate(name string, data []byte, env []string) *document {
	d := newDocument(cmpOr(name, "environment"), data, table)
	d.Absent = name == ""
	d.evaluate(data, env)
	return d
}

func (d *document) evaluate(data []byte, env []string) {
	setDefaults(table, d.config)
	if root := d.Root(data); root != nil {
		d.mapping(root, "", table, d.config)
	}
	// A broken document says nothing reliable about what is missing.
	if !d.Broken {
		d.environment(env)
		d.validate()
	}
	d.config.origin = d
}

// advice is what to do about something that is missing, where the configuration is.
func (d *document) advice(file, environment string) string {
	if d.Absent {
		return environment
	}
	return file
}

// path resolves a path written in the file.
func (d *document) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(d.File), p)
}
