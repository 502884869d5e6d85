package authority

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const publicKey = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

func goodClient(change func(*ClientMetadata)) ClientMetadata {
	m := ClientMetadata{
		ClientID: "web", ClientName: "Wéb app", RedirectURIs: []string{"https://app.example.com/callback"},
		PostLogoutRedirectURIs: []string{"https://app.example.com/"}, GrantTypes: []string{"authorization_code", "refresh_token"},
		TokenEndpointAuthMethod: "client_secret_basic", ClientSecrets: make([]ClientSecret, 1),
		Scope: "openid orders:read", Resources: []string{"https://api.example.com"}, IDTokenSignedResponseAlg: "ES256",
	}
	change(&m)
	return m
}

// wants holds the findings to one problem, of one field.
func wants(t *testing.T, found []Problem, field, text string) {
	t.Helper()
	switch {
	case field == "" && len(found) > 0:
		t.Errorf("refused: %v", Problems(found))
	case field != "" && (len(found) != 1 || found[0].Field != field || !strings.Contains(found[0].Text, text) || found[0].Fix == ""):
		t.Errorf("want %s %q, found %q", field, text, Problems(found))
	}
}

func TestTheRulesOfAClient(t *testing.T) {
	many := func(n int) (list []string) {
		for i := range n {
			list = append(list, "https://app.example.com/"+strings.Repeat("x", i))
		}
		return list
	}
	for _, row := range []struct {
		name   string
		change func(*ClientMetadata)
		field  string
		text   string
	}{
		{"a good client", func(*ClientMetadata) {}, "", ""},
		{"an API that only introspects", func(m *ClientMetadata) { m.GrantTypes, m.RedirectURIs = nil, nil }, "", ""},
		{"two secrets, while one is rotated", func(m *ClientMetadata) { m.ClientSecrets = make([]ClientSecret, 2) }, "", ""},
		{"an administrator", func(m *ClientMetadata) {
			m.GrantTypes, m.Resources, m.Scope = []string{"client_credentials"}, []string{AdminResource}, "keys:read"
		}, "", ""},
		{"no id", func(m *ClientMetadata) { m.ClientID = "" }, "client_id", "missing"},
		{"an id with a space", func(m *ClientMetadata) { m.ClientID = "a b" }, "client_id", "not an id"},
		{"an id with a quote", func(m *ClientMetadata) { m.ClientID = `a"b` }, "client_id", "not an id"},
		{"an id beyond ASCII", func(m *ClientMetadata) { m.ClientID = "wéb" }, "client_id", "not an id"},
		{"a long id", func(m *ClientMetadata) { m.ClientID = strings.Repeat("a", 256) }, "client_id", "not an id"},
		{"an id that a path would swallow", func(m *ClientMetadata) { m.ClientID = ".." }, "client_id", "dots"},
		{"an id of a workload", func(m *ClientMetadata) { m.ClientID = "policy:deploy" }, "client_id", "policy:"},
		{"a long name", func(m *ClientMetadata) { m.ClientName = strings.Repeat("a", 201) }, "client_name", "longer"},
		{"a name that a terminal obeys", func(m *ClientMetadata) { m.ClientName = "a\x1b[2J" }, "client_name", "control"},
		{"a name that reads backwards", func(m *ClientMetadata) { m.ClientName = "a\u202eb" }, "client_name", "direction"},
		{"a name that is not UTF-8", func(m *ClientMetadata) { m.ClientName = "\xff" }, "client_name", "control"},
		{"a redirect that runs", func(m *ClientMetadata) { m.RedirectURIs = []string{"JaVaScRiPt:x"} }, "redirect_uris[0]", "dangerous"},
		{"a redirect twice", func(m *ClientMetadata) { m.RedirectURIs = append(m.RedirectURIs, m.RedirectURIs[0]) }, "redirect_uris[1]", "twice"},
		{"too many redirects", func(m *ClientMetadata) { m.RedirectURIs = many(101) }, "redirect_uris", "more than 100"},
		{"a client that is told of sign-outs", func(m *ClientMetadata) {
			m.BackchannelLogoutURI, m.BackchannelLogoutSession = "https://app.example.com/logged-out?a=b", true
		}, "", ""},
		{"one on this machine", func(m *ClientMetadata) { m.BackchannelLogoutURI = "http://127.0.0.1:9/out" }, "", ""},
		{"told in plain HTTP", func(m *ClientMetadata) { m.BackchannelLogoutURI = "http://app.example.com/out" }, "backchannel_logout_uri", "only for 127.0.0.1"},
		{"told by a script", func(m *ClientMetadata) { m.BackchannelLogoutURI = "JavaScript:alert(1)" }, "backchannel_logout_uri", "dangerous"},
		{"told in an app", func(m *ClientMetadata) { m.BackchannelLogoutURI = "com.example.app:/out" }, "backchannel_logout_uri", "not an https URL"},
		{"told at an opaque URI", func(m *ClientMetadata) { m.BackchannelLogoutURI = "https:app.example.com" }, "backchannel_logout_uri", "not an https URL"},
		{"told at a fragment", func(m *ClientMetadata) { m.BackchannelLogoutURI = "https://app.example.com/#out" }, "backchannel_logout_uri", "fragment"},
		{"told with a user name", func(m *ClientMetadata) { m.BackchannelLogoutURI = "https://a:b@app.example.com/" }, "backchannel_logout_uri", "user name"},
		{"told with another header", func(m *ClientMetadata) { m.BackchannelLogoutURI = "https://app.example.com/\r\nX: y" }, "backchannel_logout_uri", "character that no URI has"},
		{"told with another header, in escapes", func(m *ClientMetadata) { m.BackchannelLogoutURI = "https://app.example.com/%0d%0aX:y" }, "backchannel_logout_uri", "control character"},
		{"told of a session, and nowhere", func(m *ClientMetadata) { m.BackchannelLogoutSession = true }, "backchannel_logout_session_required", "no backchannel_logout_uri"},
		{"told, and nobody signs in", func(m *ClientMetadata) {
			m.GrantTypes, m.RedirectURIs, m.BackchannelLogoutURI = []string{"client_credentials"}, nil, "https://app.example.com/out"
		}, "backchannel_logout_uri", "nobody signs in"},
		{"told in the browser", func(m *ClientMetadata) {
			m.FrontchannelLogoutURI, m.FrontchannelLogoutSession = "https://app.example.com/out", true
		}, "", ""},
		{"told in the browser, of another site", func(m *ClientMetadata) { m.FrontchannelLogoutURI = "https://evil.example.com/out" }, "frontchannel_logout_uri", "another scheme, host or port"},
		{"told in the browser, at another port", func(m *ClientMetadata) { m.FrontchannelLogoutURI = "https://app.example.com:8443/out" }, "frontchannel_logout_uri", "another scheme, host or port"},
		{"told in the browser by a script", func(m *ClientMetadata) { m.FrontchannelLogoutURI = "javascript:alert(1)" }, "frontchannel_logout_uri", "dangerous"},
		{"told in the browser of a session, and nowhere", func(m *ClientMetadata) { m.FrontchannelLogoutSession = true }, "frontchannel_logout_session_required", "no frontchannel_logout_uri"},
		{"a logout redirect that runs", func(m *ClientMetadata) { m.PostLogoutRedirectURIs = []string{"data:,x"} }, "post_logout_redirect_uris[0]", "dangerous"},
		{"a grant type of old", func(m *ClientMetadata) { m.GrantTypes[1] = "implicit" }, "grant_types[1]", "implicit"},
		{"a grant type twice", func(m *ClientMetadata) { m.GrantTypes[1] = "authorization_code" }, "grant_types[1]", "twice"},
		{"a code with nowhere to go", func(m *ClientMetadata) { m.RedirectURIs = nil }, "redirect_uris", "missing"},
		{"refresh without code", func(m *ClientMetadata) { m.GrantTypes = []string{"refresh_token"} }, "grant_types", "needs authorization_code"},
		{"people as administrators", func(m *ClientMetadata) { m.Resources = []string{AdminResource} }, "grant_types", AdminResource},
		{"an unknown way to authenticate", func(m *ClientMetadata) { m.TokenEndpointAuthMethod = "password" }, "token_endpoint_auth_method", "password"},
		{"a secret that is not there", func(m *ClientMetadata) { m.ClientSecrets = nil }, "client_secret", "missing"},
		{"three secrets", func(m *ClientMetadata) { m.ClientSecrets = make([]ClientSecret, 3) }, "client_secret", "more than 2"},
		{"a public client with a secret", func(m *ClientMetadata) { m.TokenEndpointAuthMethod = "none" }, "client_secret", "no use"},
		{"a public client that acts for itself", func(m *ClientMetadata) {
			m.TokenEndpointAuthMethod, m.ClientSecrets, m.GrantTypes = "none", nil, []string{"client_credentials"}
		}, "grant_types", "proves who it is"},
		{"a public client that can do nothing", func(m *ClientMetadata) { m.TokenEndpointAuthMethod, m.ClientSecrets, m.GrantTypes = "none", nil, nil }, "grant_types", "is empty"},
		{"keys that are not there", func(m *ClientMetadata) { m.TokenEndpointAuthMethod, m.ClientSecrets = "private_key_jwt", nil }, "jwks", "missing"},
		{"keys beside a secret", func(m *ClientMetadata) { m.JWKS = json.RawMessage(publicKey) }, "jwks", "no use"},
		{"a private key", func(m *ClientMetadata) {
			m.TokenEndpointAuthMethod, m.ClientSecrets = "private_key_jwt", nil
			m.JWKS = json.RawMessage(strings.Replace(publicKey, `"x"`, `"d":"AA","x"`, 1))
		}, "jwks", "private"},
		{"keys that verify nothing", func(m *ClientMetadata) {
			m.TokenEndpointAuthMethod, m.ClientSecrets, m.JWKS = "private_key_jwt", nil, json.RawMessage(`{"keys":[]}`)
		}, "jwks", "no key"},
		{"a scope with two spaces", func(m *ClientMetadata) { m.Scope = "openid  orders:read" }, "scope", "cannot be used"},
		{"a scope twice", func(m *ClientMetadata) { m.Scope = "openid openid" }, "scope", "twice"},
		{"a long scope", func(m *ClientMetadata) { m.Scope = strings.Repeat("a", 256) }, "scope", "not a scope"},
		{"a resource that runs", func(m *ClientMetadata) { m.Resources = []string{"vbscript:x"} }, "resources[0]", "dangerous"},
		{"a resource twice", func(m *ClientMetadata) { m.Resources = append(m.Resources, m.Resources[0]) }, "resources[1]", "twice"},
		{"codes without PKCE", func(m *ClientMetadata) { m.RequirePKCE = new(bool) }, "", ""},
		{"codes without PKCE for a public client", func(m *ClientMetadata) {
			m.TokenEndpointAuthMethod, m.ClientSecrets, m.RequirePKCE = "none", nil, new(bool)
		}, "require_pkce", "is false"},
		{"an algorithm with a quote", func(m *ClientMetadata) { m.IDTokenSignedResponseAlg = `"` }, "id_token_signed_response_alg", "not an algorithm"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := goodClient(row.change)
			wants(t, m.Validate(), row.field, row.text)
			c, err := NewClient(m)
			var found Problems
			if (err == nil) != (row.field == "") || err != nil && !errors.As(err, &found) {
				t.Fatalf("NewClient: %v", err)
			}
			if err == nil && Problems(c.Metadata().Validate()) != nil {
				t.Errorf("there and back: %+v", c.Metadata())
			}
		})
	}
}

func references() References {
	return References{
		Issuer: "https://sts.example.com", Algorithms: []string{"ES256", "RS256"},
		Client: func(id string) (ClientMetadata, error) {
			switch id {
			case "api":
				return goodClient(func(m *ClientMetadata) { m.ClientID = id }), nil
			case "orders":
				return goodClient(func(m *ClientMetadata) { m.ClientID, m.GrantTypes = id, []string{string(oauth.TokenExchange)} }), nil
			case "exchanging-spa":
				return ClientMetadata{ClientID: id, GrantTypes: []string{string(oauth.TokenExchange)}, TokenEndpointAuthMethod: string(oauth.AuthNone)}, nil
			case "spa":
				return ClientMetadata{ClientID: id, TokenEndpointAuthMethod: string(oauth.AuthNone)}, nil
			case "lost":
				return ClientMetadata{}, errors.New("database away")
			}
			return ClientMetadata{}, ErrNotFound
		},
		Resource: func(id string) (ResourceMetadata, error) {
			switch id {
			case "https://api.example.com":
				return ResourceMetadata{ID: id, Scopes: []string{"orders:read"}}, nil
			case "https://lost.example.com":
				return ResourceMetadata{}, errors.New("database away")
			}
			return ResourceMetadata{}, ErrNotFound
		},
		Cluster: func(name string) (ClusterMetadata, error) {
			switch name {
			case "hub":
				return goodCluster(func(*ClusterMetadata) {}), nil
			case "reviewed", "offline":
				return goodCluster(func(m *ClusterMetadata) { m.Name, m.Pods, m.TerminatingPods = name, strings.TrimSuffix(name, "ed"), "" }), nil
			case "spoke":
				return ClusterMetadata{Name: name}, nil
			case "lost":
				return ClusterMetadata{}, errors.New("database away")
			}
			return ClusterMetadata{}, ErrNotFound
		},
		TrustedIssuer: func(name string) (TrustedIssuerMetadata, error) {
			switch name {
			case "github":
				return TrustedIssuerMetadata{Name: name}, nil
			case "mesh":
				return TrustedIssuerMetadata{Name: name, TrustDomain: "prod.example.com"}, nil
			}
			return TrustedIssuerMetadata{}, ErrNotFound
		},
		KeyOwner: func(thumbprint string) (string, error) {
			if thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
				return "hub", nil
			}
			return "", ErrNotFound
		},
	}
}

func TestWhatAClientMayReferTo(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*ClientMetadata)
		field  string
		text   string
	}{
		{"a good client", func(*ClientMetadata) {}, "", ""},
		{"a resource that is not there", func(m *ClientMetadata) { m.Resources = []string{"https://other.example.com"} }, "resources[0]", "no resource"},
		{"a cluster", func(m *ClientMetadata) { m.Resources, m.Scope = []string{"https://sts.example.com/clusters/spoke"}, "" }, "resources[0]", "trust policies alone"},
		{"a scope of nobody", func(m *ClientMetadata) { m.Scope = "orders:write" }, "scope", "orders:write"},
		{"a scope of a resource that is not the client's", func(m *ClientMetadata) { m.Resources = nil }, "scope", "orders:read"},
		{"an algorithm that nothing signs with", func(m *ClientMetadata) { m.IDTokenSignedResponseAlg = "HS256" }, "id_token_signed_response_alg", "HS256"},
		{"the id of a resource", func(m *ClientMetadata) { m.ClientID = "https://api.example.com" }, "client_id", "a resource"},
		{"the id of the issuer", func(m *ClientMetadata) { m.ClientID = "https://sts.example.com" }, "client_id", "a resource"},
	} {
		t.Run(row.name, func(t *testing.T) {
			found, err := goodClient(row.change).CheckReferences(references())
			if err != nil {
				t.Fatal(err)
			}
			wants(t, found, row.field, row.text)
		})
	}
	lost := goodClient(func(m *ClientMetadata) { m.Resources = []string{"https://lost.example.com"} })
	if _, err := lost.CheckReferences(references()); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("a store that fails is no answer: %v", err)
	}
}

func TestTheRulesOfAResource(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*ResourceMetadata)
		field  string
		text   string
	}{
		{"a good resource", func(*ResourceMetadata) {}, "", ""},
		{"the issuer's life", func(m *ResourceMetadata) { m.AccessTTL = 0 }, "", ""},
		{"an hour", func(m *ResourceMetadata) { m.AccessTTL = Seconds(time.Hour) }, "", ""},
		{"no id", func(m *ResourceMetadata) { m.ID = "" }, "id", "empty"},
		{"a script", func(m *ResourceMetadata) { m.ID = "javascript:alert(1)" }, "id", "dangerous"},
		{"a built-in name", func(m *ResourceMetadata) { m.ID = AdminResource }, "id", "built in"},
		{"a built-in name in capitals", func(m *ResourceMetadata) { m.ID = "URN:signalbox:admin" }, "id", "built in"},
		{"a scope of OpenID Connect", func(m *ResourceMetadata) { m.Scopes = []string{"openid"} }, "scopes[0]", "OpenID Connect"},
		{"a scope with a space", func(m *ResourceMetadata) { m.Scopes = []string{"a b"} }, "scopes[0]", "not a scope"},
		{"a scope twice", func(m *ResourceMetadata) { m.Scopes = []string{"a", "a"} }, "scopes[1]", "twice"},
		{"a form of token that nobody makes", func(m *ResourceMetadata) { m.TokenFormat = "paseto" }, "token_format", "paseto"},
		{"more than an hour", func(m *ResourceMetadata) { m.AccessTTL = Seconds(time.Hour + time.Second) }, "access_ttl", "out of range"},
		{"a negative life", func(m *ResourceMetadata) { m.AccessTTL = Seconds(-time.Second) }, "access_ttl", "out of range"},
		{"half a second", func(m *ResourceMetadata) { m.AccessTTL = Seconds(1500 * time.Millisecond) }, "access_ttl", "out of range"},
		{"a client that cannot be", func(m *ResourceMetadata) { m.IntrospectionClients = []string{"a b"} }, "introspection_clients[0]", "not an id"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := ResourceMetadata{ID: "https://api.example.com", Scopes: []string{"orders:read"}, TokenFormat: "jwt", AccessTTL: Seconds(time.Minute)}
			row.change(&m)
			wants(t, m.Validate(), row.field, row.text)
			if _, err := NewResource(m); (err == nil) != (row.field == "") {
				t.Errorf("NewResource: %v", err)
			}
		})
	}
	for id, want := range map[string][2]string{
		"api": {"", ""}, "spa": {"introspection_clients[0]", "public client"}, "nobody": {"introspection_clients[0]", "no client"},
	} {
		found, err := ResourceMetadata{ID: "urn:x:y", IntrospectionClients: []string{id}}.CheckReferences(references())
		if err != nil {
			t.Fatal(err)
		}
		wants(t, found, want[0], want[1])
	}
	for id, want := range map[string]string{
		"https://sts.example.com": "the issuer itself", "api": "id of a client", "https://sts.example.com/clusters/nobodys": "the place of a cluster",
	} {
		found, err := ResourceMetadata{ID: id}.CheckReferences(references())
		if err != nil {
			t.Fatal(err)
		}
		wants(t, found, "id", want)
	}
	if _, err := (ResourceMetadata{IntrospectionClients: []string{"lost"}}).CheckReferences(references()); err == nil {
		t.Error("a store that fails is no answer")
	}
}

func TestTheRulesOfAUser(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*UserProfile)
		field  string
		text   string
	}{
		{"a good user", func(*UserProfile) {}, "", ""},
		{"a name beyond ASCII", func(p *UserProfile) { p.Username, p.Name = "ädä", "Ädä 山" }, "", ""},
		{"an address as a name", func(p *UserProfile) { p.Username = "ada@example.com" }, "", ""},
		{"no sub", func(p *UserProfile) { p.Sub = "" }, "sub", "missing"},
		{"a sub with a space", func(p *UserProfile) { p.Sub = "u 1" }, "sub", "not an id"},
		{"a sub of a workload", func(p *UserProfile) { p.Sub = "policy:x" }, "sub", "policy:"},
		{"no username", func(p *UserProfile) { p.Username = "" }, "username", "missing"},
		{"a username with a space", func(p *UserProfile) { p.Username = "a da" }, "username", "not a username"},
		{"a username with a wide space", func(p *UserProfile) { p.Username = "a\u3000da" }, "username", "not a username"},
		{"a username with an invisible letter", func(p *UserProfile) { p.Username = "a\u200bda" }, "username", "not a username"},
		{"a username that a terminal obeys", func(p *UserProfile) { p.Username = "a\x1bda" }, "username", "not a username"},
		{"a username that is not UTF-8", func(p *UserProfile) { p.Username = "a\xff" }, "username", "not a username"},
		{"capital letters", func(p *UserProfile) { p.Username = "Ada" }, "username", "capital"},
		{"a long username", func(p *UserProfile) { p.Username = strings.Repeat("a", 256) }, "username", "not a username"},
		{"a name with a line break", func(p *UserProfile) { p.Name = "a\nb" }, "name", "control"},
		{"an address with a name", func(p *UserProfile) { p.Email = "Ada <ada@example.com>" }, "email", "e-mail"},
		{"groups", func(p *UserProfile) { p.Groups = []string{"sre", "on-call"} }, "", ""},
		{"a group of Kubernetes", func(p *UserProfile) { p.Groups = []string{"sre", "system:masters"} }, "groups[1]", "system:"},
		{"a group with a space", func(p *UserProfile) { p.Groups = []string{"s re"} }, "groups[0]", "not a group"},
		{"a group twice", func(p *UserProfile) { p.Groups = []string{"sre", "sre"} }, "groups[1]", "twice"},
		{"a verified address that is missing", func(p *UserProfile) { p.EmailVerified = true }, "email_verified", "no email"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := UserProfile{Sub: "u-1", Username: "ada", Name: "Ada L."}
			row.change(&p)
			wants(t, p.Validate(), row.field, row.text)
			if u, err := NewUser(p); (err == nil) != (row.field == "") || err == nil && !reflect.DeepEqual(u.Profile(), p) {
				t.Errorf("NewUser: %v", err)
			}
		})
	}
	found, err := UserProfile{Sub: "api"}.CheckReferences(references())
	if err != nil {
		t.Fatal(err)
	}
	wants(t, found, "sub", "id of a client")
	for password, ok := range map[string]bool{"": false, "short": false, "8 bytes!": true, strings.Repeat("x", 1024): true, strings.Repeat("x", 1025): false} {
		if (CheckPassword(password) == nil) != ok {
			t.Errorf("a password of %d bytes", len(password))
		}
	}
}

// Whatever is wrong, the answer stays short, and shows nothing that a terminal obeys.
func TestProblemsAreBounded(t *testing.T) {
	var uris []string
	for i := range 100 {
		uris = append(uris, strings.Repeat("\x1b", 10000)+strings.Repeat("a", i))
	}
	found := goodClient(func(m *ClientMetadata) {
		m.RedirectURIs, m.PostLogoutRedirectURIs, m.ClientID = uris, uris, strings.Repeat("\u202e", 10000)
	}).Validate()
	if text := Problems(found).Error(); len(found) > maxProblems || len(text) > 20000 || strings.ContainsAny(text, "\x1b\u202e") {
		t.Errorf("%d problems, %d bytes", len(found), len(text))
	}
	if !slices.ContainsFunc(found, func(p Problem) bool { return p.Field == "client_id" }) {
		t.Error("client_id is missing")
	}
}

func TestSecondsAreWholeInJSON(t *testing.T) {
	text, err := json.Marshal(ResourceMetadata{AccessTTL: Seconds(90 * time.Second)})
	if err != nil || !strings.Contains(string(text), `"access_ttl":90`) {
		t.Fatalf("%s %v", text, err)
	}
	var m ResourceMetadata
	for text, ok := range map[string]bool{`90`: true, `0`: true, `1.5`: false, `"90"`: false, `99999999999`: false} {
		if err := json.Unmarshal([]byte(`{"access_ttl":`+text+`}`), &m); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
