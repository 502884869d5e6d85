package config

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config/source"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/password"
	"github.com/signalbox-sts/signalbox/internal/suggest"
)

// What resources, clients and users may be is in authority's rule book. This
// file gives its findings their places, and holds what only a file has: lists
// in which an id may be twice, and secrets in files beside it.

// minClientSecret is 128 bits in base64: a secret is hashed fast, so length is
// all that protects it.
const minClientSecret = 22

func at(list string, i int, key string) string { return list + "[" + strconv.Itoa(i) + "]." + key }

// rules gives what the rule book has found its places. What follows only from
// a mistake that has been told already is omitted.
func (d *document) rules(list string, i int, found []authority.Problem) {
	for _, p := range found {
		path := at(list, i, p.Field)
		if !d.Inside[path] && !d.Failed[source.Parent(path)] {
			d.Fail(path, p.Text, p.Fix)
		}
	}
}

// references finds what a rule asks about other members of the file.
func (d *document) references() authority.References {
	clients, resources := map[string]authority.ClientMetadata{}, map[string]authority.ResourceMetadata{}
	for _, c := range d.config.Clients {
		clients[c.ClientID] = c.ClientMetadata
	}
	for _, r := range d.config.Resources {
		resources[r.ID] = r.ResourceMetadata
	}
	resources[authority.AdminResource] = authority.AdminResourceMetadata()
	if review := authority.TokenReviewResource(d.config.Issuer); d.config.Issuer != "" {
		resources[review.ID] = review
	}
	clusters, issuers := map[string]int{}, map[string]authority.TrustedIssuerMetadata{}
	for i, c := range slices.Backward(d.config.Clusters) { // of two with one name the first is meant
		clusters[c.Name] = i
	}
	for _, t := range d.config.TrustedIssuers {
		issuers[t.Name] = t.TrustedIssuerMetadata
	}
	return authority.References{
		Issuer: d.config.Issuer, Algorithms: d.config.Keys.Algorithms, Client: among(clients), Resource: among(resources),
		Cluster: func(name string) (authority.ClusterMetadata, error) {
			i, err := among(clusters)(name)
			if err != nil {
				return authority.ClusterMetadata{}, err
			}
			return d.config.Clusters[i].ClusterMetadata, nil // with what its files hold, once they have been read
		},
		TrustedIssuer: among(issuers),
	}
}

func among[T any](m map[string]T) func(string) (T, error) {
	return func(id string) (T, error) {
		v, ok := m[id]
		if !ok {
			return v, authority.ErrNotFound
		}
		return v, nil
	}
}

func (d *document) resources(refs authority.References) {
	seen := map[string]int{}
	for i := range d.config.Resources {
		if len(d.Errors) >= source.MaxErrors {
			return
		}
		r := &d.config.Resources[i]
		d.rules("resources", i, r.Validate())
		found, _ := r.CheckReferences(refs) // a map does not fail
		for n, p := range found {
			id, is := indexed(p.Field, "introspection_clients", r.IntrospectionClients)
			if _, err := refs.Client(id); is && err != nil {
				found[n].Fix = cmpOr(d.nearClient(id), "add it to clients")
			}
		}
		d.rules("resources", i, found)
		if id := at("resources", i, "id"); d.IsSet(id) {
			d.once(id, seen, r.ID, i, "resources")
		}
		if ttl := at("resources", i, "access_ttl"); !d.IsSet(ttl) {
			r.AccessTTL = authority.Seconds(d.config.Tokens.AccessTTL)
		} else {
			d.between(ttl, time.Duration(r.AccessTTL), time.Second, authority.MaxAccessTTL)
		}
	}
}

// indexed gives the member of a list that a field such as list[3] names.
func indexed(field, list string, values []string) (string, bool) {
	rest, ok := strings.CutPrefix(field, list+"[")
	i, err := strconv.Atoi(strings.TrimSuffix(rest, "]"))
	if !ok || err != nil || i >= len(values) {
		return "", false
	}
	return values[i], true
}

// once refuses an identifier that an earlier member of the list has.
func (d *document) once(path string, seen map[string]int, id string, i int, list string) {
	if first, dup := seen[id]; dup {
		d.Fail(path, fmt.Sprintf("%s is also %s[%d]", source.Quote(id), list, first), "give each its own")
		return
	}
	seen[id] = i
}

// A suggestion compares with no more than this many.
const maxNear = 1000

func (d *document) nearClient(id string) string {
	var ids []string
	for _, c := range d.config.Clients[:min(len(d.config.Clients), maxNear)] {
		ids = append(ids, c.ClientID)
	}
	return suggest.DidYouMean(id, ids)
}

func (d *document) nearResource(id string) string {
	ids := []string{authority.AdminResource, authority.TokenReviewAudience(d.config.Issuer)}
	for _, r := range d.config.Resources[:min(len(d.config.Resources), maxNear)] {
		ids = append(ids, r.ID)
	}
	return suggest.DidYouMean(id, ids)
}

func (d *document) clients(refs authority.References) {
	seen, workloads := map[string]int{}, map[string]int{}
	for i := range d.config.Clients {
		if len(d.Errors) >= source.MaxErrors {
			return
		}
		c := &d.config.Clients[i]
		d.clientSecret(i, c)
		d.clientKeys(i, c)
		d.rules("clients", i, d.inWordsOfTheFile(i, c.Validate()))
		if id := at("clients", i, "client_id"); d.IsSet(id) {
			d.once(id, seen, c.ClientID, i, "clients")
		}
		if workload := c.FederatedCredential.WorkloadID(); workload != "" && !d.Inside[at("clients", i, "federated_credential")] {
			d.once(at("clients", i, "federated_credential"), workloads, workload, i, "clients")
		}
		if issuer, err := refs.TrustedIssuer(c.FederatedCredential.TrustedIssuer); err == nil {
			d.warnings("clients", i, c.FederatedCredential.Warnings(issuer.Issuer))
		}
		if alg := at("clients", i, "id_token_signed_response_alg"); !d.IsSet(alg) && len(refs.Algorithms) > 0 {
			c.IDTokenSignedResponseAlg = refs.Algorithms[0]
		}
		if c.AllowMultipleAudiences {
			d.warn(at("clients", i, "allow_multiple_audiences"), "each API of this client's tokens can use them at the others")
		}
		if c.PKCEIsOptional() {
			d.warn(at("clients", i, "require_pkce"), "a code of this client that is stolen can be redeemed through it: it may do without PKCE")
		}
		if d.Inside[at("clients", i, "resources")] || d.Inside["resources"] {
			continue // one wrong reference would make others look wrong
		}
		found, _ := c.CheckReferences(refs) // a map does not fail
		var told []authority.Problem
		for _, p := range found {
			if p.Field == "federated_credential.cluster" && d.keptElsewhere(at("clients", i, p.Field), c.FederatedCredential.Cluster, refs) {
				continue
			}
			p.Fix = cmpOr(d.near(c, p.Field), p.Fix)
			told = append(told, p)
		}
		d.rules("clients", i, told)
	}
}

// clientSecret reads the secret, unless the client has no use for one.
func (d *document) clientSecret(i int, c *Client) {
	file, hash := at("clients", i, "client_secret_file"), at("clients", i, "client_secret_hash")
	switch {
	case !d.IsSet(file) && !d.IsSet(hash) || d.Failed[file] || d.Failed[hash]:
		return
	case !c.UsesSecret():
	case d.IsSet(file) && d.IsSet(hash):
		d.Fail(hash, "is beside client_secret_file", "keep one of the two")
		return
	case d.IsSet(file):
		c.SecretFile = d.path(c.SecretFile)
		secret, ok := d.secretFile(file, c.SecretFile)
		if !ok {
			return
		}
		if len(secret) < minClientSecret {
			d.Fail(file, fmt.Sprintf("the secret has fewer than %d characters", minClientSecret), "make one with: openssl rand -hex 32")
			return
		}
		sum := sha256.Sum256([]byte(secret))
		c.Secret, c.SecretHash = Secret{secret}, sum[:]
	}
	var secret authority.ClientSecret
	copy(secret.Hash[:], c.SecretHash)
	c.ClientSecrets = []authority.ClientSecret{secret}
}

func (d *document) clientKeys(i int, c *Client) {
	inline, file := at("clients", i, "jwks"), at("clients", i, "jwks_file")
	switch {
	case !d.IsSet(file) || d.Failed[file]:
	case d.IsSet(inline):
		d.Fail(file, "is beside jwks", "keep one of the two")
	case c.TokenEndpointAuthMethod == string(oauth.AuthPrivateKeyJWT):
		c.JWKSFile = d.path(c.JWKSFile)
		if data, _, ok := d.read(file, c.JWKSFile); ok {
			c.JWKS = data
		}
	default:
		c.JWKS = json.RawMessage("{}") // for the rule that there must be none
	}
}

// inWordsOfTheFile: a file has no client_secret, but a key for where it is.
func (d *document) inWordsOfTheFile(i int, found []authority.Problem) []authority.Problem {
	unsure := d.Failed[at("clients", i, "token_endpoint_auth_method")]
	for n := range found {
		p := &found[n]
		switch {
		case p.Field == "client_secret" && d.IsSet(at("clients", i, "client_secret_hash")):
			p.Field = "client_secret_hash"
		case p.Field == "client_secret":
			p.Field = "client_secret_file"
			p.Fix = strings.Replace(p.Fix, "add one;", "add client_secret_file or client_secret_hash;", 1)
		case p.Field == "jwks" && d.IsSet(at("clients", i, "jwks_file")):
			p.Field = "jwks_file"
		case p.Field == "jwks":
			p.Fix = strings.Replace(p.Fix, "add them", "add jwks or jwks_file", 1)
		default:
			continue
		}
		// Whether they are right depends on the method.
		if unsure {
			d.Inside[at("clients", i, p.Field)] = true
		}
	}
	return found
}

// near is a better cure than the rule book's: it sees the whole file.
func (d *document) near(c *Client, field string) string {
	if id, is := indexed(field, "resources", c.Resources); is {
		return cmpOr(d.nearResource(id), "add it to resources")
	}
	switch field {
	case "federated_credential.trusted_issuer":
		return d.nearTrustedIssuer(c.FederatedCredential.TrustedIssuer)
	case "scope":
	default:
		return ""
	}
	mine := oauth.StandardScopes.List()
	owners := map[string]string{}
	for _, r := range d.config.Resources[:min(len(d.config.Resources), maxNear)] {
		if slices.Contains(c.Resources, r.ID) {
			mine = append(mine, r.Scopes...)
		}
		for _, s := range r.Scopes {
			owners[s] = r.ID
		}
	}
	if slices.Contains(c.Resources, authority.AdminResource) {
		mine = append(mine, authority.AdminScopes.List()...)
	}
	for s := range strings.FieldsSeq(c.Scope) {
		switch {
		case slices.Contains(mine, s):
			continue
		case owners[s] != "":
			return "add " + owners[s] + " to the client's resources"
		case authority.AdminScopes.Has(s):
			return "add " + authority.AdminResource + " to the client's resources, if it may rule this service"
		}
		return suggest.DidYouMean(s, mine[:min(len(mine), maxNear)])
	}
	return ""
}

func (d *document) users(refs authority.References) {
	names, subs := map[string]int{}, map[string]int{}
	for i := range d.config.Users {
		if len(d.Errors) >= source.MaxErrors {
			return
		}
		u := &d.config.Users[i]
		name, sub := at("users", i, "username"), at("users", i, "sub")
		if !d.IsSet(sub) {
			d.Inside[sub] = true // derived later, from the master key
		}
		d.rules("users", i, u.Validate())
		found, _ := u.CheckReferences(refs) // a map does not fail
		d.rules("users", i, found)
		if d.IsSet(name) && !d.Failed[name] {
			d.once(name, names, u.Username, i, "users")
		}
		if d.IsSet(sub) && !d.Failed[sub] {
			d.once(sub, subs, u.Sub, i, "users")
		}
		d.password(i, u)
	}
}

func (d *document) password(i int, u *User) {
	hash, file := at("users", i, "password_hash"), at("users", i, "password_file")
	switch {
	case d.Failed[hash] || d.Failed[file]:
	case !d.IsSet(hash) && !d.IsSet(file):
		d.Fail(hash, "is missing", "add password_hash or password_file")
	case d.IsSet(hash) && d.IsSet(file):
		d.Fail(file, "is beside password_hash", "keep one of the two")
	case d.IsSet(hash):
		if err := password.Check(u.PasswordHash.Reveal()); err != nil {
			d.Fail(hash, "is "+err.Error(), "make one with: signalbox user hash-password")
		}
	default:
		u.PasswordFile = d.path(u.PasswordFile)
		p, ok := d.secretFile(file, u.PasswordFile)
		if !ok {
			return
		}
		if bad := authority.CheckPassword(p); bad != nil {
			d.Fail(file, "the password "+bad.Text, bad.Fix)
			return
		}
		u.Password = Secret{p}
	}
}
