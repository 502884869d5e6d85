package config

import (
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// The keys of the members of resources, clients and users.

func resourceFields() []field {
	return []field{
		{key: "id", at: in(func(r *Resource) any { return &r.ID }), sample: true, need: true, example: "https://api.example.com",
			doc: "The identifier of the API: what `aud` holds and what clients send as `resource`. An absolute URI without fragment."},
		{key: "scopes", at: in(func(r *Resource) any { return &r.Scopes }), sample: true, example: "[orders:read, orders:write]",
			doc: "The scopes that this API knows."},
		{key: "token_format", at: in(func(r *Resource) any { return &r.TokenFormat }), sample: true, def: "jwt", oneOf: authority.TokenFormats(),
			doc: "jwt is verified offline; opaque must be introspected, and dies at once when revoked."},
		{key: "access_ttl", at: in(func(r *Resource) any { return (*time.Duration)(&r.AccessTTL) }), example: "5m",
			doc: "Lifetime of this API's access tokens. Default: tokens.access_ttl. At most 1h."},
		{key: "introspection_clients", at: in(func(r *Resource) any { return &r.IntrospectionClients }), example: "[orders-api]",
			doc: "Client ids that may introspect tokens for this API. They must be in clients and have a secret or a key."},
	}
}

func clientFields() []field {
	return []field{
		{key: "client_id", at: in(func(c *Client) any { return &c.ClientID }), sample: true, need: true, example: "web",
			doc: "The client's identifier: 1 to 255 printable ASCII characters without spaces. It does not begin with policy: and is no resource's id."},
		{key: "client_name", at: in(func(c *Client) any { return &c.ClientName }), sample: true, example: "Example web app",
			doc: "The name that people see when they are asked to consent."},
		{key: "redirect_uris", at: in(func(c *Client) any { return &c.RedirectURIs }), sample: true, example: `["https://app.example.com/callback"]`,
			doc:    "Where codes may be sent, compared character by character. https; http only for 127.0.0.1, [::1] and localhost; or a private-use scheme with a dot, such as com.example.app:/callback.",
			danger: "Whoever controls one of these addresses receives the codes."},
		{key: "grant_types", at: in(func(c *Client) any { return &c.GrantTypes }), sample: true, def: "[authorization_code]", example: "[authorization_code, refresh_token]",
			oneOf: authority.GrantTypes(),
			doc:   "The grants that the client may use."},
		{key: "token_endpoint_auth_method", at: in(func(c *Client) any { return &c.TokenEndpointAuthMethod }), sample: true, def: "client_secret_basic",
			oneOf:  authority.AuthMethods(),
			doc:    "How the client proves who it is. none is for apps that cannot keep a secret (browser, phone, command line).",
			danger: "none: anybody can speak in this client's name; PKCE and the redirect URI are all that protects it."},
		{key: "client_secret_file", at: in(func(c *Client) any { return &c.SecretFile }), sample: true, example: "/run/secrets/web",
			doc: "File with the client's secret, at least 22 characters. Make it with: openssl rand -hex 32. Or use client_secret_hash."},
		{key: "client_secret_hash", at: in(func(c *Client) any { return &c.SecretHash }), example: `"sha256:` + exampleHash + `"`,
			doc:    "SHA-256 of the client's secret: sha256: and 64 hexadecimal digits. Make it with: " + hashCommand,
			danger: "A fast hash: only for secrets made by a machine, never for a word that a person chose."},
		{key: "jwks", at: in(func(c *Client) any { return &c.JWKS }), example: "{keys: [{kty: EC, crv: P-256, x: …, y: …}]}",
			doc:    "The client's public keys, for private_key_jwt. Or use jwks_file.",
			danger: "Public keys only: a private key here is refused."},
		{key: "jwks_file", at: in(func(c *Client) any { return &c.JWKSFile }), example: "/etc/signalbox/worker.jwks.json",
			doc: "File with the client's public keys as a JSON Web Key Set."},
		{key: "scope", at: in(func(c *Client) any { return &c.Scope }), sample: true, example: "openid profile email offline_access orders:read",
			doc: "What the client may ask for, separated by spaces: openid, profile, email, offline_access, and the scopes of its resources."},
		{key: "resources", at: in(func(c *Client) any { return &c.Resources }), sample: true, example: `["https://api.example.com"]`,
			doc:    "The resources that the client may have tokens for: ids from resources, or the built-in " + authority.AdminResource + ".",
			danger: authority.AdminResource + " gives power over this service."},
		{key: "allow_multiple_audiences", at: in(func(c *Client) any { return &c.AllowMultipleAudiences }), def: "false",
			doc:    "true lets one access token of this client be good at several of its resources. Without it the client asks for a token for each, and names it with `resource`.",
			danger: "Each of these APIs can use the token at the others. Never at the admin API: a token for it is good nowhere else."},
		{key: "id_token_signed_response_alg", at: in(func(c *Client) any { return &c.IDTokenSignedResponseAlg }), example: "RS256",
			doc: "The algorithm of this client's ID tokens, one of keys.algorithms. Default: the first of them."},
		{key: "post_logout_redirect_uris", at: in(func(c *Client) any { return &c.PostLogoutRedirectURIs }), example: `["https://app.example.com/"]`,
			doc: "Where the browser may be sent after logout. Same rules as redirect_uris."},
	}
}

func userFields() []field {
	return []field{
		{key: "username", at: in(func(u *User) any { return &u.Username }), sample: true, need: true, example: "ada",
			doc: "What the person types to sign in, in small letters; typing capitals is the same."},
		{key: "password_hash", at: in(func(u *User) any { return &u.PasswordHash }), secret: true, example: `"$argon2id$v=19$m=19456,t=2,p=1$…$…"`,
			doc: "The password's argon2id hash as a PHC string: signalbox user hash-password makes one. Or use password_file."},
		{key: "password_file", at: in(func(u *User) any { return &u.PasswordFile }), sample: true, example: "/run/secrets/ada",
			doc: "File with the password, at least 8 characters."},
		{key: "sub", at: in(func(u *User) any { return &u.Sub }), example: "u-1842",
			doc:    "The person's stable id in tokens. Default: derived from the username and the master key, and so the same for whoever has that name. When a username goes to another person, give the new one a sub that nobody had.",
			danger: "Applications know the person by it: never give one person's to another."},
		{key: "name", at: in(func(u *User) any { return &u.Name }), sample: true, example: "Ada Lovelace",
			doc: "The person's full name."},
		{key: "email", at: in(func(u *User) any { return &u.Email }), sample: true, example: "ada@example.com",
			doc: "The person's e-mail address."},
		{key: "email_verified", at: in(func(u *User) any { return &u.EmailVerified }), def: "false",
			doc:    "true when you know that the address is the person's own.",
			danger: "Applications link accounts by a verified address."},
		{key: "disabled", at: in(func(u *User) any { return &u.Disabled }), def: "false",
			doc: "true stops the person from signing in and ends their grants."},
	}
}

const exampleHash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
