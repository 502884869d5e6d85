package admin

import (
	"context"
	"errors"
	"slices"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// checkClient holds a client to the rules of the configuration file.
func (a *API) checkClient(ctx context.Context, c authority.Client) error {
	code := c.MayUse(oauth.AuthorizationCode)
	switch {
	case len(c.GrantTypes) == 0 && c.IsPublic():
		return invalid("grant_types is empty: write [\"authorization_code\"]; only a client that proves who it is may do without, to introspect")
	case code && c.MayReach(authority.AdminResource):
		// Accounts have no roles: whoever can sign in could approve himself an administrator.
		return invalid("resources: %s is for clients that act for themselves; remove authorization_code", authority.AdminResource)
	case code && len(c.RedirectURIs) == 0:
		return invalid("redirect_uris is missing: authorization_code sends the code there")
	case !code && c.MayUse(oauth.RefreshToken):
		return invalid("grant_types: refresh_token needs authorization_code")
	case c.IsPublic() && c.MayUse(oauth.ClientCredentials):
		return invalid("grant_types: client_credentials needs a client that proves who it is, and token_endpoint_auth_method is none")
	case c.AuthMethod == oauth.AuthPrivateKeyJWT && len(c.JWKS) == 0:
		return invalid("jwks is missing: private_key_jwt needs the client's public keys")
	case c.AuthMethod != oauth.AuthPrivateKeyJWT && len(c.JWKS) > 0:
		return invalid("jwks has no use with token_endpoint_auth_method %s", c.AuthMethod)
	}
	allowed := oauth.StandardScopes
	for _, id := range c.Resources {
		resource, err := a.Directory.Resource(ctx, id)
		if errors.Is(err, authority.ErrNotFound) {
			return invalid("resources: there is no resource %q", clip(id))
		}
		if err != nil {
			return err
		}
		allowed = allowed.Union(resource.Scopes)
	}
	if outside, is := c.Scopes.FirstOutside(allowed); is {
		return invalid("scope: none of the client's resources has the scope %q", outside)
	}
	return a.checkIDTokenAlg(c.IDTokenAlg)
}

// checkIDTokenAlg: a client cannot ask for ID tokens that nothing can sign.
func (a *API) checkIDTokenAlg(alg string) error {
	if alg == "" {
		return nil
	}
	if !slices.ContainsFunc(a.Keys(), func(k authority.Key) bool { return k.Algorithm == alg && k.State == authority.KeyCurrent }) {
		return invalid("id_token_signed_response_alg: this service has no key for %q", clip(alg))
	}
	return nil
}

// setClient parses what was sent into the client.
func setClient(client *authority.Client, f ClientFields) (err error) {
	if f.ClientName != nil {
		if client.Name = *f.ClientName; client.Name != "" && !printable(client.Name, maxName) {
			return invalid("client_name must be at most %d bytes without control characters", maxName)
		}
	}
	if f.RedirectURIs != nil {
		if client.RedirectURIs, err = redirects("redirect_uris", *f.RedirectURIs); err != nil {
			return err
		}
	}
	if f.PostLogout != nil {
		if client.PostLogoutRedirectURIs, err = redirects("post_logout_redirect_uris", *f.PostLogout); err != nil {
			return err
		}
	}
	if f.GrantTypes != nil {
		if client.GrantTypes, err = grantTypes(*f.GrantTypes); err != nil {
			return err
		}
	}
	if f.AuthMethod != nil {
		client.AuthMethod = oauth.AuthMethod(*f.AuthMethod)
		if !slices.Contains(authMethods, client.AuthMethod) {
			return invalid("token_endpoint_auth_method must be one of %v", authMethods)
		}
	}
	if f.JWKS != nil {
		client.JWKS = *f.JWKS
		if keys, err := jose.ParseKeySet(client.JWKS); err != nil {
			return invalid("jwks: %v", err)
		} else if len(keys) == 0 {
			return invalid("jwks has no key that can verify a signature")
		}
	} else if client.AuthMethod != oauth.AuthPrivateKeyJWT {
		client.JWKS = nil // the keys of a method that was given up
	}
	if f.Scope != nil {
		if client.Scopes, err = oauth.ParseScopes(*f.Scope); err != nil {
			return invalid("scope: %v", err)
		}
	}
	if f.Resources != nil {
		if client.Resources, err = unique("resources", *f.Resources, maxReferences); err != nil {
			return err
		}
	}
	if f.IDTokenAlg != nil {
		client.IDTokenAlg = *f.IDTokenAlg
	}
	return nil
}

var authMethods = []oauth.AuthMethod{oauth.AuthNone, oauth.AuthClientSecretBasic, oauth.AuthClientSecretPost, oauth.AuthPrivateKeyJWT}

func redirects(member string, raw []string) ([]authority.RedirectURI, error) {
	if len(raw) > maxURIs {
		return nil, invalid("%s has more than %d URIs", member, maxURIs)
	}
	var uris []authority.RedirectURI
	for i, s := range raw {
		uri, err := authority.ParseRedirectURI(s)
		if err != nil {
			return nil, invalid("%s[%d]: %v", member, i, err)
		}
		if !slices.Contains(uris, uri) {
			uris = append(uris, uri)
		}
	}
	return uris, nil
}

func grantTypes(raw []string) ([]oauth.GrantType, error) {
	var types []oauth.GrantType
	for _, s := range raw {
		switch g := oauth.GrantType(s); g {
		case oauth.AuthorizationCode, oauth.RefreshToken, oauth.ClientCredentials:
			if !slices.Contains(types, g) {
				types = append(types, g)
			}
		default:
			return nil, invalid("grant_types: %q is not one of authorization_code, refresh_token, client_credentials", clip(s))
		}
	}
	return types, nil
}

func unique(member string, raw []string, limit int) ([]string, error) {
	if len(raw) > limit {
		return nil, invalid("%s has more than %d entries", member, limit)
	}
	var list []string
	for _, s := range raw {
		if !printable(s, maxID) {
			return nil, invalid("%s has an entry that is empty, too long or not text", member)
		}
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list, nil
}
