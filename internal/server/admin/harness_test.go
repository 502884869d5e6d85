package admin_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/node/nodetest"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const issuerURL = "https://sts.example.com"

// service is the admin API of a node.
type service struct {
	*testing.T
	*nodetest.Rig
}

// declared is what the configuration file of the test holds.
func declared() authority.StaticObjects {
	redirect, _ := authority.ParseRedirectURI("https://app.example.com/callback")
	return authority.StaticObjects{
		Clients: map[string]authority.Client{
			"root": {ID: "root", AuthMethod: oauth.AuthClientSecretBasic, GrantTypes: []oauth.GrantType{oauth.ClientCredentials},
				Scopes: authority.AdminScopes, Resources: []string{authority.AdminResource}, Source: authority.FromFile},
			"web": {ID: "web", AuthMethod: oauth.AuthClientSecretBasic, GrantTypes: []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken},
				RedirectURIs: []authority.RedirectURI{redirect}, Scopes: oauth.MustScopes("openid", "orders:read"), Resources: []string{"https://api.example.com"}, Source: authority.FromFile},
			"spa": {ID: "spa", AuthMethod: oauth.AuthNone, GrantTypes: []oauth.GrantType{oauth.AuthorizationCode},
				RedirectURIs: []authority.RedirectURI{redirect}, Source: authority.FromFile},
		},
		Users: map[string]authority.User{
			"u_ada": {ID: "u_ada", Username: "Ada", PasswordHash: "$argon2id$", Source: authority.FromFile},
		},
		Resources: map[string]authority.Resource{
			"https://api.example.com": {ID: "https://api.example.com", Scopes: oauth.MustScopes("orders:read", "orders:write"), Format: authority.FormatJWT, Source: authority.FromFile},
		},
	}
}

func newService(t *testing.T) *service {
	t.Helper()
	return newServiceOf(t, declared())
}

func newServiceOf(t *testing.T, static authority.StaticObjects) *service {
	t.Helper()
	s := &service{T: t, Rig: nodetest.New(t, nodetest.Setup{Static: static, Now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)})}
	return s
}

// token issues an access token of the client root for the admin resource.
func (s *service) token(scopes ...string) string {
	s.Helper()
	return s.tokenFor("root", authority.AdminResource, scopes...)
}

func (s *service) admin() string { return s.token(authority.AdminScopes.List()...) }

func (s *service) tokenFor(clientID, resource string, scopes ...string) string {
	s.Helper()
	ctx := s.Context()
	client, err := s.Directory.Client(ctx, clientID)
	if err != nil {
		s.Fatal(err)
	}
	now := s.Now()
	target := authority.Target{Scopes: oauth.MustScopes(scopes...)}
	for id := range strings.FieldsSeq(resource) {
		target.Resources = append(target.Resources, authority.Resource{ID: id, Scopes: target.Scopes, Format: authority.FormatJWT})
	}
	response, err := s.Parts.Issuer.Issue(ctx, authority.Authorization{
		GrantType: oauth.ClientCredentials, Client: client, At: now, Format: authority.FormatJWT, Life: 5 * time.Minute,
		Grant: authority.Grant{
			ID: authority.NewID(now), ClientID: clientID, Subject: authority.Subject{Issuer: issuerURL, ID: clientID, Kind: authority.SubjectClient},
			State: authority.GrantActive, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
		},
		Target: target,
	}, nil)
	if err != nil {
		s.Fatal(err)
	}
	return response.AccessToken
}

// grant stores an active grant of a user, below its ancestors.
func (s *service) grant(clientID, userID string, ancestors ...authority.Grant) authority.Grant {
	s.Helper()
	now := s.Now()
	g := authority.Grant{
		ID: authority.NewID(now), ClientID: clientID,
		Subject: authority.Subject{Issuer: issuerURL, ID: userID, Kind: authority.SubjectUser},
		Scopes:  oauth.MustScopes("orders:read"), Resources: []string{"https://api.example.com"},
		State: authority.GrantActive, CreatedAt: now, ExpiresAt: now.Add(720 * time.Hour),
	}
	for _, a := range ancestors {
		g.Lineage = append(g.Lineage, authority.Ancestor{GrantID: a.ID, ClientID: a.ClientID})
	}
	if err := s.DB.CreateGrant(s.Context(), g); err != nil {
		s.Fatal(err)
	}
	s.Wait(time.Millisecond)
	return g
}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

func (a answer) wants(status int, texts ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	for _, text := range texts {
		if !bytes.Contains(a.body, []byte(text)) {
			a.t.Fatalf("answer lacks %q: %s", text, a.body)
		}
	}
	return a
}

func (a answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
}

// call sends a request. body is a value, raw text, or nil.
func (s *service) call(token, method, path string, body any) answer {
	s.Helper()
	var sent []byte
	switch b := body.(type) {
	case nil:
	case string:
		sent = []byte(b)
	default:
		var err error
		if sent, err = json.Marshal(b); err != nil {
			s.Fatal(err)
		}
	}
	if err := s.Node.CatchUp(s.Context()); err != nil {
		s.Fatal(err)
	}
	request := httptest.NewRequest(method, "/admin/v1"+path, bytes.NewReader(sent))
	if sent != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.Admin.ServeHTTP(w, request)
	got := answer{s.T, w.Code, w.Header(), w.Body.Bytes()}
	d, err := described()
	if err == nil {
		err = d.exchange(method, path, sent, got)
	}
	if err != nil {
		s.Fatalf("%s %s answered %d %s, which is not as described: %v", method, path, got.status, got.body, err)
	}
	return got
}

// events are what the API has recorded: the rest is what the rig did for it.
func (s *service) events() (list []authority.Event) {
	for _, e := range s.Recorded() {
		if e.Type != authority.EventTokenIssued {
			list = append(list, e)
		}
	}
	return list
}

func (s *service) breakJournal(err error) { s.Rig.Fail(nodetest.Record, err) }

// alive says whether a grant is, as this node knows.
func (s *service) alive(g authority.Grant, now time.Time) bool {
	return g.Alive(now) && !s.Parts.Revoked(g.Links())
}

func (s *service) createClient(id string) admin.ClientCredentials {
	s.Helper()
	var c admin.ClientCredentials
	s.call(s.admin(), "POST", "/clients", object{"client_id": id, "grant_types": []string{"client_credentials"}, "scope": "orders:read", "resources": []string{"https://api.example.com"}}).
		wants(http.StatusCreated).into(&c)
	return c
}

func (s *service) createUser(name string) admin.User {
	s.Helper()
	var u admin.User
	s.call(s.admin(), "POST", "/users", object{"username": name, "password": "correct horse"}).wants(http.StatusCreated).into(&u)
	return u
}

func escape(id string) string { return url.PathEscape(id) }
