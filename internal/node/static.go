package node

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/password"
)

// issuerOf and staticOf turn plain configuration into the domain's types.
// The configuration has been validated, so what fails here is a rule that the
// two see differently; it still refuses to start.

// Check says why Open would refuse a configuration for what it says alone.
func Check(cfg *config.Config) error {
	master, err := masterKeyOf(cfg)
	if err != nil {
		return err
	}
	if _, err = staticOf(cfg, master); err != nil {
		return err
	}
	_, err = PoliciesOf(cfg)
	return err
}

func masterKeyOf(c *config.Config) (keys.MasterKey, error) {
	master, err := keys.ParseMasterKey(c.Secrets.MasterKey.Bytes())
	if err != nil {
		path := "secrets.master_key_file"
		if c.Secrets.MasterKeyFile == "" {
			path = "secrets.master_key" // of the environment
		}
		return master, c.Refuse(path, err.Error(), "make one with: openssl rand -base64 32 > master.key")
	}
	return master, nil
}

func issuerOf(c *config.Config) authority.Issuer {
	return authority.Issuer{
		URL: c.Issuer, AccessTTL: c.Tokens.AccessTTL, IDTTL: c.Tokens.IDTTL, RefreshTTL: c.Tokens.RefreshTTL,
		RefreshIdleTTL: c.Tokens.RefreshIdleTTL, RefreshGrace: c.Tokens.RefreshGrace, CodeTTL: c.Tokens.CodeTTL,
	}
}

func staticOf(c *config.Config, master keys.MasterKey) (*authority.StaticObjects, error) {
	d := authority.StaticObjects{
		Issuer: c.Issuer, Clients: map[string]authority.Client{}, Users: map[string]authority.User{}, Resources: map[string]authority.Resource{},
		Clusters: map[string]authority.Cluster{}, TrustedIssuers: map[string]authority.TrustedIssuer{}, Policies: map[string]authority.Policy{},
	}
	for _, r := range c.Resources {
		resource, err := resourceOf(r)
		if err != nil {
			return nil, fmt.Errorf("resource %q: %w", r.ID, err)
		}
		d.Resources[r.ID] = resource
	}
	for _, cl := range c.Clients {
		client, err := clientOf(cl)
		if err != nil {
			return nil, fmt.Errorf("client %q: %w", cl.ClientID, err)
		}
		d.Clients[cl.ClientID] = client
	}
	for _, u := range c.Users {
		user, err := userOf(u, master)
		if err != nil {
			return nil, fmt.Errorf("user %q: %w", u.Username, err)
		}
		if _, taken := d.Clients[user.ID]; taken {
			// RFC 9068 §5: a subject that looks like a client could be taken for it.
			return nil, fmt.Errorf("user %q: sub %q is also a client_id", u.Username, user.ID)
		}
		d.Users[user.ID] = user
	}
	for _, cl := range c.Clusters {
		cluster, err := authority.NewCluster(cl.ClusterMetadata)
		if err != nil {
			return nil, fmt.Errorf("cluster %q: %w", cl.Name, err)
		}
		cluster.Source = authority.FromFile
		d.Clusters[cl.Name] = cluster
	}
	for _, t := range c.TrustedIssuers {
		issuer, err := authority.NewTrustedIssuer(t.TrustedIssuerMetadata)
		if err != nil {
			return nil, fmt.Errorf("trusted issuer %q: %w", t.Name, err)
		}
		d.TrustedIssuers[t.Name] = issuer
	}
	for _, p := range c.Policies {
		policy, err := authority.NewPolicy(p.PolicyMetadata)
		if err != nil {
			return nil, fmt.Errorf("policy %q: %w", p.Name, err)
		}
		d.Policies[p.Name] = policy
	}
	return d.Complete()
}

func resourceOf(r config.Resource) (authority.Resource, error) {
	resource, err := authority.NewResource(r.ResourceMetadata)
	resource.Source = authority.FromFile
	return resource, err
}

func clientOf(c config.Client) (authority.Client, error) {
	client, err := authority.NewClient(c.ClientMetadata)
	client.Source = authority.FromFile
	return client, err
}

func userOf(u config.User, master keys.MasterKey) (authority.User, error) {
	profile := u.UserProfile
	if profile.Sub == "" {
		profile.Sub = subOf(profile.Username, master)
	}
	user, err := authority.NewUser(profile)
	if err != nil {
		return user, err
	}
	user.PasswordHash, user.Disabled, user.Source = string(u.PasswordHash.Bytes()), u.Disabled, authority.FromFile
	if user.PasswordHash == "" {
		// The same password has the same hash on every node and after every start, so
		// that a new one shows: see digestsOf.
		salt := master.Derive("salt of the declared password of " + user.ID)
		hash, err := password.HashWithSalt(string(u.Password.Bytes()), [16]byte(salt[:16]))
		if err != nil {
			return user, err
		}
		user.PasswordHash = hash
	}
	return user, password.Check(user.PasswordHash)
}

// subOf is the sub of a declared user who was given none. It stays the same as
// long as the username and the master key do, and nobody can tell it from the
// name: so nobody can take the id of a person who is yet to come. It follows
// the name and not the person, which is said where sub is explained.
func subOf(username string, master keys.MasterKey) string {
	sum := master.Derive("sub of the declared user " + username)
	return "u_" + hex.EncodeToString(sum[:16])
}

// digestsOf is what tokens depend on of what the file declares: a client, a user, a
// cluster, a trusted issuer or a policy that is later gone from the file, or has
// lost a word of its digest, loses the tokens that came from it. What is only added
// (a key, an audience) ends nothing.
func digestsOf(d *authority.StaticObjects) map[authority.RevocationKind]map[string]string {
	clients, users := map[string]string{}, map[string]string{}
	for id, c := range d.Clients {
		clients[id] = strconv.FormatBool(c.Disabled)
	}
	for id, u := range d.Users {
		sum := sha256.Sum256(fmt.Appendf(nil, "%t %s", u.Disabled, u.PasswordHash))
		users[id] = hex.EncodeToString(sum[:])
		for _, group := range u.Groups {
			users[id] += " " + hex.EncodeToString([]byte(group)) // none may go
		}
	}
	clusters, issuers := map[string]string{}, map[string]string{}
	for name, c := range d.Clusters {
		clusters[name] = c.TrustDigest()
	}
	for name, t := range d.TrustedIssuers {
		issuers[name] = t.TrustDigest()
	}
	for _, p := range d.Policies {
		clients[p.ClientID()] = p.TrustDigest()
	}
	return map[authority.RevocationKind]map[string]string{
		authority.EpochClient: clients, authority.EpochUser: users, authority.EpochCluster: clusters, authority.EpochIssuer: issuers,
	}
}
