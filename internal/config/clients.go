package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/suggest"
)

var (
	standardScopes = []string{"openid", "profile", "email", "offline_access"}
	adminScopes    = []string{
		"clients:read", "clients:write", "users:read", "users:write", "keys:read", "keys:write",
		"grants:read", "grants:write", "resources:read", "resources:write", "journal:read",
	}
	// RFC 6749 §3.3: scope-token. Client ids use the same characters.
	scopeToken = regexp.MustCompile(`\A[\x21\x23-\x5B\x5D-\x7E]{1,255}\z`)
	// RFC 9106; the PHC string has bare base64.
	argon2id = regexp.MustCompile(`\A\$argon2id\$v=19\$m=([0-9]{1,7}),t=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{22,86})\z`)
)

// The shortest client secret is 128 bits in base64: it is hashed fast, so
// length is all that protects it.
const (
	minClientSecret = 22
	minPassword     = 8
	maxPassword     = 1024
)

func at(list string, i int, key string) string { return list + "[" + strconv.Itoa(i) + "]." + key }

func (d *document) resources() {
	seen := map[string]int{}
	for i := range d.config.Resources {
		r := &d.config.Resources[i]
		id := at("resources", i, "id")
		switch m := checkResource(r.ID); {
		case d.failed[id] || !d.set(id):
		case m != nil:
			d.fail(id, m.problem, m.mend)
		case r.ID == AdminResource:
			d.fail(id, "is built in", "leave it out: clients may name it without")
		case r.ID == d.config.Issuer:
			d.fail(id, "is the issuer itself", "give the API an identifier of its own: a token for the issuer is something else")
		default:
			d.once(id, seen, r.ID, i, "resources")
		}
		for j, s := range r.Scopes {
			at := fmt.Sprintf("resources[%d].scopes[%d]", i, j)
			if !scopeToken.MatchString(s) {
				d.fail(at, quote(s)+" is not a scope", `use printable ASCII without spaces, " and \`)
			} else if slices.Contains(standardScopes, s) {
				d.fail(at, s+" is a scope of OpenID Connect", "choose another name")
			}
		}
		ttl := at("resources", i, "access_ttl")
		if !d.set(ttl) {
			r.AccessTTL = d.config.Tokens.AccessTTL
		} else {
			d.between(ttl, r.AccessTTL, time.Second, time.Hour)
		}
	}
}

// once refuses an identifier that an earlier member of the list has.
func (d *document) once(path string, seen map[string]int, id string, i int, list string) {
	if first, dup := seen[id]; dup {
		d.fail(path, fmt.Sprintf("%s is also %s[%d]", quote(id), list, first), "give each its own")
		return
	}
	seen[id] = i
}

// introspectors checks the references from resources to clients.
func (d *document) introspectors() {
	methods := map[string]string{}
	for _, c := range d.config.Clients {
		methods[c.ID] = c.TokenEndpointAuthMethod
	}
	for i, r := range d.config.Resources {
		for j, id := range r.IntrospectionClients {
			at := fmt.Sprintf("resources[%d].introspection_clients[%d]", i, j)
			method, ok := methods[id]
			if !ok {
				d.fail(at, "there is no client "+quote(id), cmpOr(suggest.DidYouMean(id, mapKeys(methods)), "add it to clients"))
			} else if method == "none" {
				d.fail(at, quote(id)+" is a public client: anybody could introspect in its name", "give it a secret or a key")
			}
		}
	}
}

// mapKeys bounds what a suggestion has to compare.
func mapKeys[V any](m map[string]V) []string {
	keys := sortedKeys(m)
	return keys[:min(len(keys), 1000)]
}

func (d *document) clients() {
	scopes := map[string][]string{AdminResource: adminScopes}
	for _, r := range d.config.Resources {
		scopes[r.ID] = r.Scopes
	}
	seen := map[string]int{}
	for i := range d.config.Clients {
		c := &d.config.Clients[i]
		if id := at("clients", i, "client_id"); d.set(id) && !d.failed[id] {
			if !scopeToken.MatchString(c.ID) {
				d.fail(id, quote(c.ID)+" is not a client id", `use 1 to 255 printable ASCII characters without spaces, " and \`)
			} else {
				d.once(id, seen, c.ID, i, "clients")
			}
		}
		if len(c.Name) > 200 {
			d.fail(at("clients", i, "client_name"), "is longer than 200 bytes", "shorten it: people read it on a page")
		}
		d.uris(at("clients", i, "redirect_uris"), c.RedirectURIs)
		d.uris(at("clients", i, "post_logout_redirect_uris"), c.PostLogoutRedirectURIs)
		d.grantTypes(i, c)
		d.credentials(i, c)
		d.clientScopes(i, c, scopes)
		d.idTokenAlg(i, c)
	}
}

func (d *document) uris(path string, uris []string) {
	if len(uris) > 100 {
		d.fail(path, "has more than 100 URIs", "a client that needs so many is several clients")
		return
	}
	for j, u := range uris {
		if m := checkRedirect(u); m != nil {
			d.fail(path+"["+strconv.Itoa(j)+"]", m.problem, m.mend)
		}
	}
}

func (d *document) grantTypes(i int, c *Client) {
	path := at("clients", i, "grant_types")
	if d.inside[path] {
		return
	}
	code := slices.Contains(c.GrantTypes, "authorization_code")
	switch {
	case len(c.GrantTypes) == 0 && c.TokenEndpointAuthMethod == "none":
		// A client that proves who it is may do without: an API that only introspects.
		d.fail(path, "is empty", "a public client without a grant can do nothing; write [authorization_code]")
	case code && slices.Contains(c.Resources, AdminResource):
		// Accounts have no roles: whoever can sign in could approve himself an administrator.
		d.fail(path, "authorization_code stands beside the resource "+AdminResource, "give administrators a client of their own with `grant_types: [client_credentials]`")
	case code && len(c.RedirectURIs) == 0 && !d.inside[at("clients", i, "redirect_uris")]:
		d.fail(at("clients", i, "redirect_uris"), "is missing: authorization_code sends the code there", "add it, or write `grant_types: [client_credentials]`")
	case !code && slices.Contains(c.GrantTypes, "refresh_token"):
		d.fail(path, "refresh_token needs authorization_code", "add authorization_code, or remove refresh_token")
	}
	if c.TokenEndpointAuthMethod == "none" && slices.Contains(c.GrantTypes, "client_credentials") {
		d.fail(path, "client_credentials needs a client that proves who it is, and token_endpoint_auth_method is none", "give it a secret or a key, or remove client_credentials")
	}
}

func (d *document) credentials(i int, c *Client) {
	method := at("clients", i, "token_endpoint_auth_method")
	file, hash := at("clients", i, "client_secret_file"), at("clients", i, "client_secret_hash")
	jwks, jwksFile := at("clients", i, "jwks"), at("clients", i, "jwks_file")
	if d.failed[method] || d.failed[file] || d.failed[hash] || d.failed[jwks] || d.failed[jwksFile] {
		return
	}
	for _, p := range []string{file, hash} {
		if d.set(p) && !strings.HasPrefix(c.TokenEndpointAuthMethod, "client_secret_") {
			d.fail(p, "has no use with token_endpoint_auth_method "+c.TokenEndpointAuthMethod, "remove it, or use client_secret_basic")
		}
	}
	for _, p := range []string{jwks, jwksFile} {
		if d.set(p) && c.TokenEndpointAuthMethod != "private_key_jwt" {
			d.fail(p, "has no use with token_endpoint_auth_method "+c.TokenEndpointAuthMethod, "remove it, or use private_key_jwt")
		}
	}
	switch c.TokenEndpointAuthMethod {
	case "client_secret_basic", "client_secret_post":
		switch count(d.set(file), d.set(hash)) {
		case 0:
			d.fail(file, "is missing: "+c.TokenEndpointAuthMethod+" needs a secret", "add client_secret_file or client_secret_hash; for an app that cannot keep one write `token_endpoint_auth_method: none`")
		case 2:
			d.fail(hash, "stands beside client_secret_file", "keep one of the two")
		default:
			d.clientSecret(file, c)
		}
	case "private_key_jwt":
		switch count(d.set(jwks), d.set(jwksFile)) {
		case 0:
			d.fail(jwks, "is missing: private_key_jwt needs the client's public keys", "add jwks or jwks_file")
		case 2:
			d.fail(jwksFile, "stands beside jwks", "keep one of the two")
		default:
			d.clientKeys(jwks, jwksFile, c)
		}
	}
}

func (d *document) clientSecret(path string, c *Client) {
	if !d.set(path) {
		return
	}
	c.SecretFile = d.path(c.SecretFile)
	secret, ok := d.secretFile(path, c.SecretFile)
	if !ok {
		return
	}
	if len(secret) < minClientSecret {
		d.fail(path, fmt.Sprintf("the secret has fewer than %d characters", minClientSecret), "make one with: openssl rand -hex 32")
		return
	}
	sum := sha256.Sum256([]byte(secret))
	c.Secret, c.SecretHash = Secret{secret}, sum[:]
}

func (d *document) clientKeys(jwks, jwksFile string, c *Client) {
	path := jwks
	if d.set(jwksFile) {
		path = jwksFile
		c.JWKSFile = d.path(c.JWKSFile)
		data, _, ok := d.read(path, c.JWKSFile)
		if !ok {
			return
		}
		c.JWKS = data
	}
	if err := checkJWKS(c.JWKS); err != nil {
		d.fail(path, err.Error(), `expected {"keys": [ … ]} with public keys, each with kty and what belongs to it`)
	}
}

// checkJWKS knows no cryptography: whoever uses the keys parses them. It only
// sees to it that no private or shared key lies about.
func checkJWKS(data []byte) error {
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&set); err != nil {
		return errors.New("is not a JSON Web Key Set")
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("has something after its end")
	}
	if len(set.Keys) == 0 {
		return errors.New("has no keys")
	}
	if len(set.Keys) > 20 {
		return errors.New("has more than 20 keys")
	}
	for i, k := range set.Keys {
		if k["kty"] == "oct" {
			return fmt.Errorf("key %d is a shared secret", i+1)
		}
		if _, private := k["d"]; private {
			return fmt.Errorf("key %d is a private key; it must never leave the client, so make a new one", i+1)
		}
		if s, _ := k["kty"].(string); s == "" {
			return fmt.Errorf("key %d has no kty", i+1)
		}
	}
	return nil
}

func (d *document) clientScopes(i int, c *Client, scopes map[string][]string) {
	mine := map[string]bool{}
	for _, s := range standardScopes {
		mine[s] = true
	}
	for j, id := range c.Resources {
		have, ok := scopes[id]
		if !ok {
			ids := []string{AdminResource}
			for _, r := range d.config.Resources[:min(len(d.config.Resources), 1000)] {
				ids = append(ids, r.ID)
			}
			d.fail(fmt.Sprintf("clients[%d].resources[%d]", i, j), "there is no resource "+quote(id), cmpOr(suggest.DidYouMean(id, ids), "add it to resources"))
			continue
		}
		for _, s := range have {
			mine[s] = true
		}
	}
	// One wrong reference would make every scope behind it look wrong.
	if path := at("clients", i, "resources"); d.inside[path] || d.inside["resources"] {
		return
	}
	for _, s := range c.Scopes {
		if mine[s] {
			continue
		}
		mend := suggest.DidYouMean(s, mapKeys(mine))
		for _, r := range d.config.Resources {
			if mend == "" && slices.Contains(r.Scopes, s) {
				mend = "add " + r.ID + " to the client's resources"
			}
		}
		if mend == "" && slices.Contains(adminScopes, s) {
			mend = "add " + AdminResource + " to the client's resources, if it may rule this service"
		}
		d.fail(at("clients", i, "scope"), "none of the client's resources has the scope "+quote(s), cmpOr(mend, "add it to a resource's scopes, and the resource to the client's"))
		return
	}
}

func (d *document) idTokenAlg(i int, c *Client) {
	path := at("clients", i, "id_token_signed_response_alg")
	algs := d.config.Keys.Algorithms
	switch {
	case d.failed[path] || len(algs) == 0:
	case !d.set(path):
		c.IDTokenSignedResponseAlg = algs[0]
	case !slices.Contains(algs, c.IDTokenSignedResponseAlg):
		d.fail(path, quote(c.IDTokenSignedResponseAlg)+" is not one of keys.algorithms", "write one of "+strings.Join(algs, ", ")+", or add it there")
	}
}

func (d *document) users() {
	names, subs := map[string]int{}, map[string]int{}
	for i := range d.config.Users {
		u := &d.config.Users[i]
		name := at("users", i, "username")
		known := d.set(name) && !d.failed[name]
		if known {
			if u.Username == "" || len(u.Username) > 255 || strings.ContainsAny(u.Username, " \t") {
				d.fail(name, quote(u.Username)+" is not a username", "use 1 to 255 characters without spaces")
				known = false
			} else {
				// Two accounts that differ only in case would share a lockout and
				// fool whoever reads a list.
				d.once(name, names, strings.ToLower(u.Username), i, "users")
			}
		}
		d.password(i, u)
		sub := at("users", i, "sub")
		switch {
		case d.failed[sub]:
		case d.set(sub) && (!scopeToken.MatchString(u.Sub)):
			d.fail(sub, quote(u.Sub)+" is not a subject id", "use 1 to 255 printable ASCII characters without spaces")
		case !d.set(sub) && known:
			u.Sub = defaultSub(u.Username)
		}
		if u.Sub != "" && !d.failed[name] {
			d.once(sub, subs, u.Sub, i, "users")
		}
		if u.Email != "" && !isEmail(u.Email) {
			d.fail(at("users", i, "email"), "expected an e-mail address, found "+quote(u.Email), "")
		}
		if u.EmailVerified && u.Email == "" {
			d.fail(at("users", i, "email_verified"), "is true, but there is no email", "add email, or remove this")
		}
	}
}

// defaultSub stays the same as long as the name does, whose case does not count.
// It does not hide the name: whoever guesses that can compute it.
// It follows the name and not the person: whoever has the name next has this
// sub too, unless the file gives them one. That is said where sub is explained.
func defaultSub(username string) string {
	sum := sha256.Sum256([]byte("signalbox user " + strings.ToLower(username)))
	return "u_" + hex.EncodeToString(sum[:16])
}

func (d *document) password(i int, u *User) {
	hash, file := at("users", i, "password_hash"), at("users", i, "password_file")
	if d.failed[hash] || d.failed[file] {
		return
	}
	switch count(d.set(hash), d.set(file)) {
	case 0:
		d.fail(hash, "is missing", "add password_hash or password_file")
	case 2:
		d.fail(file, "stands beside password_hash", "keep one of the two")
	}
	if d.set(hash) {
		if m := checkArgon2id(u.PasswordHash.Reveal()); m != nil {
			d.fail(hash, m.problem, m.mend)
		}
		return
	}
	if d.set(file) && !d.failed[file] {
		u.PasswordFile = d.path(u.PasswordFile)
		p, ok := d.secretFile(file, u.PasswordFile)
		if ok && (len(p) < minPassword || len(p) > maxPassword) {
			d.fail(file, fmt.Sprintf("the password has fewer than %d or more than %d characters", minPassword, maxPassword), "choose another")
			return
		}
		u.Password = Secret{p}
	}
}

// checkArgon2id also bounds the cost: it is paid at every sign-in, by us.
func checkArgon2id(s string) *mistake {
	m := argon2id.FindStringSubmatch(s)
	if m == nil {
		return &mistake{"expected an argon2id PHC string", "it starts with $argon2id$v=19$m=…,t=…,p=…$ and has a salt and a hash in base64"}
	}
	memory, _ := strconv.Atoi(m[1])
	passes, _ := strconv.Atoi(m[2])
	lanes, _ := strconv.Atoi(m[3])
	if memory < 7168 || memory > 64<<10 || passes < 1 || passes > 10 || lanes < 1 || lanes > 4 {
		return &mistake{"has a cost that is too low or too high", "use m from 7168 to 65536 (KiB), t from 1 to 10, p from 1 to 4; m=19456,t=2,p=1 is best, and signalbox user hash-password makes such a hash"}
	}
	for _, part := range m[4:] {
		if _, err := base64.RawStdEncoding.DecodeString(part); err != nil {
			return &mistake{"has a salt or hash that is not base64", "copy the whole line that the tool printed"}
		}
	}
	return nil
}
