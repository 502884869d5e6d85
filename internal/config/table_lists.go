package config

import (
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// The keys of the members of lists.

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
		{key: "federated_credential", example: "{cluster: hub, namespace: argocd, service_account: argocd-server}",
			doc:    "The workload whose tokens prove the client, for federated_jwt: a pod's service account by cluster, namespace and service_account, or a CI job and the like by trusted_issuer and subject. One workload is one client. The client then has no secret and no key.",
			danger: "Every pod of the service account, and every job with the subject, can be the client. Never for " + authority.AdminResource + ".", fields: []field{
				{key: "cluster", at: in(func(c *Client) any { return &c.FederatedCredential.Cluster }), example: "hub",
					doc: "The cluster in which the client runs, by its name in clusters."},
				{key: "namespace", at: in(func(c *Client) any { return &c.FederatedCredential.Namespace }), example: "argocd",
					doc: "The namespace of its pods. With cluster, where it is required."},
				{key: "service_account", at: in(func(c *Client) any { return &c.FederatedCredential.ServiceAccount }), example: "argocd-server",
					doc: "The service account of its pods. With cluster, where it is required."},
				{key: "trusted_issuer", at: in(func(c *Client) any { return &c.FederatedCredential.TrustedIssuer }), example: "github",
					doc: "The issuer of its tokens, by its name in trusted_issuers."},
				{key: "subject", at: in(func(c *Client) any { return &c.FederatedCredential.Subject }), example: `"repo:acme/app:ref:refs/heads/main"`,
					doc: "The `sub` of its tokens, character by character. With trusted_issuer, where it is required."},
			}},
		{key: "scope", at: in(func(c *Client) any { return &c.Scope }), sample: true, example: "openid profile email offline_access orders:read",
			doc: "What the client may ask for, separated by spaces: openid, profile, email, address, phone, offline_access, and the scopes of its resources."},
		{key: "resources", at: in(func(c *Client) any { return &c.Resources }), sample: true, example: `["https://api.example.com"]`,
			doc:    "The resources that the client may have tokens for: ids from resources, or one of the built-in: " + authority.AdminResource + ", and the issuer with /kubernetes/tokenreview for API servers that ask about tokens.",
			danger: authority.AdminResource + " gives power over this service."},
		{key: "allow_multiple_audiences", at: in(func(c *Client) any { return &c.AllowMultipleAudiences }), def: "false",
			doc:    "true lets one access token of this client be good at several of its resources. Without it the client asks for a token for each, and names it with `resource`.",
			danger: "Each of these APIs can use the token at the others. Never at the admin API: a token for it is good nowhere else."},
		{key: "require_pkce", at: in(func(c *Client) any { return &c.RequirePKCE }), def: "true",
			doc:    "false takes authorization requests of this client that have no `code_challenge`, for software that knows nothing of PKCE. A challenge that is sent is enforced all the same. Never for a client that has no secret.",
			danger: "false: a code that somebody steals can be redeemed through the client itself, in a session of the thief's own."},
		{key: "id_token_signed_response_alg", at: in(func(c *Client) any { return &c.IDTokenSignedResponseAlg }), example: "RS256",
			doc: "The algorithm of this client's ID tokens, one of keys.algorithms. Default: the first of them."},
		{key: "post_logout_redirect_uris", at: in(func(c *Client) any { return &c.PostLogoutRedirectURIs }), example: `["https://app.example.com/"]`,
			doc: "Where the browser may be sent after logout. Same rules as redirect_uris."},
		{key: "backchannel_logout_uri", at: in(func(c *Client) any { return &c.BackchannelLogoutURI }), example: "https://app.example.com/logged-out",
			doc: "Where this service tells the client that a session has ended: a logout token is posted there (OpenID Connect Back-Channel Logout). https; http only for a loopback address, with outbound.allow_loopback. Private addresses are not called."},
		{key: "backchannel_logout_session_required", at: in(func(c *Client) any { return &c.BackchannelLogoutSession }), def: "false",
			doc: "true: the client's logout tokens always name the session (`sid`), also where all sessions of a person have ended; it gets one for each."},
		{key: "frontchannel_logout_uri", at: in(func(c *Client) any { return &c.FrontchannelLogoutURI }), example: "https://app.example.com/sign-out",
			doc: "What the signed-out page loads in a hidden frame, so that the client ends its session in this browser (OpenID Connect Front-Channel Logout). It has scheme, host and port of one of redirect_uris. Browsers that keep third-party cookies away make it useless: prefer backchannel_logout_uri."},
		{key: "frontchannel_logout_session_required", at: in(func(c *Client) any { return &c.FrontchannelLogoutSession }), def: "false",
			doc: "true adds `iss` and `sid` to that URL."},
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
		{key: "groups", at: in(func(u *User) any { return &u.Groups }), example: "[sre]",
			doc: "The person's groups, for trust policies (user_group). None begins with system:."},
		{key: "claims", example: "{given_name: Ada, family_name: Lovelace, locale: en-GB}",
			doc: "What applications may know besides, by the names of OpenID Connect Core §5.1. The scope profile opens all but address and phone_number, which have scopes of their own names: address and phone.", fields: []field{
				{key: "given_name", at: in(func(u *User) any { return &u.Claims.GivenName }), example: "Ada", doc: "First names."},
				{key: "family_name", at: in(func(u *User) any { return &u.Claims.FamilyName }), example: "Lovelace", doc: "Last names."},
				{key: "middle_name", at: in(func(u *User) any { return &u.Claims.MiddleName }), example: "King", doc: "Middle names."},
				{key: "nickname", at: in(func(u *User) any { return &u.Claims.Nickname }), example: "Countess", doc: "How the person is called."},
				{key: "profile", at: in(func(u *User) any { return &u.Claims.Profile }), example: "https://example.com/ada", doc: "URL of a page about the person."},
				{key: "picture", at: in(func(u *User) any { return &u.Claims.Picture }), example: "https://example.com/ada.png", doc: "URL of a picture of the person."},
				{key: "website", at: in(func(u *User) any { return &u.Claims.Website }), example: "https://ada.example.com", doc: "URL of the person's own pages."},
				{key: "gender", at: in(func(u *User) any { return &u.Claims.Gender }), example: "female", doc: "In the person's words."},
				{key: "birthdate", at: in(func(u *User) any { return &u.Claims.Birthdate }), example: `"1815-12-10"`, doc: "YYYY-MM-DD; YYYY alone; or 0000-MM-DD without the year."},
				{key: "zoneinfo", at: in(func(u *User) any { return &u.Claims.Zoneinfo }), example: "Europe/London", doc: "Time zone."},
				{key: "locale", at: in(func(u *User) any { return &u.Claims.Locale }), example: "en-GB", doc: "Language, as a BCP 47 tag."},
				{key: "phone_number", at: in(func(u *User) any { return &u.Claims.PhoneNumber }), example: `"+442079460000"`, doc: "With + and the country."},
				{key: "phone_number_verified", at: in(func(u *User) any { return &u.Claims.PhoneNumberVerified }), def: "false", doc: "true when you know that the number is the person's own."},
				{key: "address", example: "{locality: London, country: United Kingdom}", doc: "Postal address.", fields: []field{
					{key: "formatted", at: in(func(u *User) any { return &u.Claims.Address.Formatted }), lines: true, example: `"12 St James's Square, London"`, doc: "The whole address, as on a letter."},
					{key: "street_address", at: in(func(u *User) any { return &u.Claims.Address.StreetAddress }), lines: true, example: "12 St James's Square", doc: "Street and number."},
					{key: "locality", at: in(func(u *User) any { return &u.Claims.Address.Locality }), example: "London", doc: "City."},
					{key: "region", at: in(func(u *User) any { return &u.Claims.Address.Region }), example: "England", doc: "State or province."},
					{key: "postal_code", at: in(func(u *User) any { return &u.Claims.Address.PostalCode }), example: "SW1Y 4JH", doc: "Postal code."},
					{key: "country", at: in(func(u *User) any { return &u.Claims.Address.Country }), example: "United Kingdom", doc: "Country."},
				}},
			}},
		{key: "disabled", at: in(func(u *User) any { return &u.Disabled }), def: "false",
			doc: "true stops the person from signing in and ends their grants."},
	}
}

func clusterFields() []field {
	return []field{
		{key: "name", at: in(func(c *Cluster) any { return &c.Name }), sample: true, need: true, example: "hub",
			doc:    "The cluster's name here: a to z, 0 to 9 and -, at most 63. It is in the subjects of its workloads' tokens, in the `aud` of tokens for it, and in the journal.",
			danger: "The workloads of a new cluster under an old name are taken for those of the old one."},
		{key: "issuer", at: in(func(c *Cluster) any { return &c.Issuer }), sample: true, example: "https://kubernetes.default.svc",
			doc: "The `iss` of its service-account tokens. Several clusters may have the same: a token belongs to the cluster whose key verifies it. Without it the cluster is only a place that tokens can be for."},
		{key: "jwks_file", at: in(func(c *Cluster) any { return &c.JWKSFile }), sample: true, example: "hub.jwks.json",
			doc: "File with the public keys of its service-account tokens: kubectl get --raw /openid/v1/jwks. Or use jwks_uri. Without both, api_server is asked."},
		{key: "jwks_uri", at: in(func(c *Cluster) any { return &c.JWKSURI }), example: "https://keys.example.com/hub/jwks",
			doc: "Where these keys are fetched."},
		{key: "api_server", at: in(func(c *Cluster) any { return &c.APIServer }), example: "https://10.0.0.1:6443",
			doc: "URL of its API server, to watch pods and review tokens. Without it and without kubeconfig_file tokens are verified by the key set alone."},
		{key: "ca_file", at: in(func(c *Cluster) any { return &c.CAFile }), example: "hub-ca.crt",
			doc: "PEM file with the certificates that api_server is verified with. Default: the system's."},
		{key: "kubeconfig_file", at: in(func(c *Cluster) any { return &c.KubeconfigFile }), example: "hub.kubeconfig",
			doc:    "Kubeconfig that says how the API server is reached. Or use credential. An inline token or password in it is refused. It needs: pods get, list, watch; tokenreviews create; GET /openid/v1/jwks.",
			danger: "A client certificate in it is accepted, and is good until it expires."},
		{key: "credential", at: in(func(c *Cluster) any { return &c.Credential }), example: "self", oneOf: authority.ClusterCredentials(),
			doc: "How this service proves itself to api_server. in-cluster: as the service account of its own pod. self: with a short-lived token that it issues to itself, so that the cluster sees the user signalbox:signalbox."},
		{key: "pods", at: in(func(c *Cluster) any { return &c.Pods }), example: "watch", oneOf: authority.PodModes(),
			doc: "How the end of a pod is learned. watch: tokens end with their pod. review: each exchange asks TokenReview, and tokens live at most 1m. offline: the key set alone, and tokens live at most 5m. Default: watch where the API server can be reached, otherwise offline."},
		{key: "terminating_pods", at: in(func(c *Cluster) any { return &c.TerminatingPods }), example: "refuse", oneOf: authority.TerminatingModes(),
			doc: "Until when a pod that is being deleted counts. grace: until its grace period is over. refuse: until its deletion is asked for. Default: grace."},
		{key: "audiences", at: in(func(c *Cluster) any { return &c.Audiences }), example: `["https://sts.example.com"]`,
			doc: "What the one `aud` of its tokens may be. Default: the issuer of this service."},
		{key: "webhook", doc: "The cluster's API server asks this service who the bearer of a token is (token webhook).", fields: []field{
			{key: "caller", at: in(func(c *Cluster) any {
				if c.Webhook == nil {
					c.Webhook = new(authority.Webhook)
				}
				return &c.Webhook.Caller
			}), example: "spoke-a-apiserver",
				doc: "The client as which it may ask /kubernetes/tokenreview. It may introspect tokens for the cluster too."},
		}},
		{key: "introspection_clients", at: in(func(c *Cluster) any { return &c.IntrospectionClients }), example: "[spoke-a-audit]",
			doc: "Client ids that may introspect tokens for the cluster. They must be in clients and have a secret or a key."},
	}
}

func trustedIssuerFields() []field {
	return []field{
		{key: "name", at: in(func(t *TrustedIssuer) any { return &t.Name }), sample: true, need: true, example: "github",
			doc:    "The issuer's name here: a to z, 0 to 9 and -, at most 63. It is in the subjects of its workloads' tokens and in the journal.",
			danger: "The workloads of a new issuer under an old name are taken for those of the old one."},
		{key: "issuer", at: in(func(t *TrustedIssuer) any { return &t.Issuer }), sample: true, example: "https://token.actions.githubusercontent.com",
			doc: "The `iss` of its tokens. Its discovery document says where its keys are, unless jwks_file or jwks_uri does."},
		{key: "trust_domain", at: in(func(t *TrustedIssuer) any { return &t.TrustDomain }), example: "prod.example.com",
			doc: "In place of issuer: the SPIFFE trust domain whose JWT-SVIDs are accepted."},
		{key: "jwks_file", at: in(func(t *TrustedIssuer) any { return &t.JWKSFile }), example: "ci.jwks.json",
			doc: "File with its public keys as a JSON Web Key Set, or with the bundle of the trust domain."},
		{key: "jwks_uri", at: in(func(t *TrustedIssuer) any { return &t.JWKSURI }), example: "https://ci.example.com/jwks",
			doc: "Where its public keys, or the bundle of the trust domain, are fetched."},
		{key: "audiences", at: in(func(t *TrustedIssuer) any { return &t.Audiences }), example: `["https://sts.example.com"]`,
			doc: "What the `aud` of its tokens may be. Default: the issuer of this service."},
	}
}

func policyFields() []field {
	return []field{
		{key: "name", at: in(func(p *Policy) any { return &p.Name }), sample: true, need: true, example: "ci-publishes",
			doc: "The policy's name. It is in the claim `policy` of its tokens, and policy:NAME is the `client_id` of a workload that has no client."},
		{key: "from", example: `{trusted_issuer: github, subject: "repo:acme/app:ref:refs/heads/main"}`, sample: true,
			doc: "Whose proof it is about: exactly one of cluster, trusted_issuer, user_group and client. What is written must match exactly.", fields: []field{
				{key: "cluster", at: in(func(p *Policy) any { return &p.From.Cluster }), example: "hub",
					doc: "The cluster in which the pod runs, by its name in clusters."},
				{key: "namespace", at: in(func(p *Policy) any { return &p.From.Namespace }), example: "argocd",
					doc: "The pod's namespace. With cluster, where it is required."},
				{key: "service_account", at: in(func(p *Policy) any { return &p.From.ServiceAccount }), example: "argocd-application-controller",
					doc: "The pod's service account. With cluster, where it is required."},
				{key: "trusted_issuer", at: in(func(p *Policy) any { return &p.From.TrustedIssuer }), example: "github",
					doc: "The issuer of the proof, by its name in trusted_issuers."},
				{key: "subject", at: in(func(p *Policy) any { return &p.From.Subject }), example: `"repo:acme/app:ref:refs/heads/main"`,
					doc: "The `sub` of the proof. With trusted_issuer."},
				{key: "claims", at: in(func(p *Policy) any { return &p.From.Claims }), example: "{environment: production}",
					doc: "Claims that the proof must have, with exactly these values."},
				{key: "user_group", at: in(func(p *Policy) any { return &p.From.UserGroup }), example: "sre",
					doc: "The group of a person who has signed in, and whose token is the proof."},
				{key: "client", at: in(func(p *Policy) any { return &p.From.Client }), example: "orders",
					doc: "The client that acts, with a token of somebody else as the proof. It must be registered with the grant type " + string(oauth.TokenExchange) + "."},
				{key: "on_behalf_of", at: in(func(p *Policy) any { return &p.From.OnBehalfOf }), example: "user", oneOf: authority.OnBehalfOf(),
					doc: "What kind of subject the client may act for. With client, where it is required."},
			}},
		{key: "when", at: in(func(p *Policy) any { return &p.When }), example: `pod.name.startsWith("argocd-")`, lines: true,
			doc: "A condition in CEL, beside the exact matches of from. It sees claims, subject, cluster, namespace, service_account, pod and node (name, uid), issuer, request (scope, audience) and now. If it fails, the policy does not apply."},
		{key: "to", example: `{resource: "https://api.example.com", scopes: [orders:read]}`, sample: true,
			doc: "What the tokens are for: a cluster, or a resource with scopes.", fields: []field{
				{key: "cluster", at: in(func(p *Policy) any { return &p.To.Cluster }), example: "spoke-a",
					doc: "The cluster that the tokens are for, by its name in clusters."},
				{key: "resource", at: in(func(p *Policy) any { return &p.To.Resource }), example: `"https://api.example.com"`,
					doc: "The resource that the tokens are for, by its id in resources."},
				{key: "scopes", at: in(func(p *Policy) any { return &p.To.Scopes }), example: "[orders:write]",
					doc: "The scopes that they may have at most. Scopes of the resource."},
			}},
		{key: "groups", at: in(func(p *Policy) any { return &p.Groups }), example: "[deployers]",
			doc: "What the tokens say in `groups`. Kubernetes sees signalbox:GROUP. None begins with system:."},
		{key: "ttl", at: in(func(p *Policy) any { return (*time.Duration)(&p.TTL) }), example: "5m",
			doc: "Lifetime of the tokens. From 10s to 1h; at most 1m from a cluster with pods: review, and 5m with pods: offline. They never outlive the proof. Default: 5m, or less where less is allowed."},
		{key: "mode", at: in(func(p *Policy) any { return &p.Mode }), def: "enforce", oneOf: authority.PolicyModes(),
			doc: "audit is a trial: the verdict is in the journal, and nothing is granted."},
	}
}

const exampleHash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
