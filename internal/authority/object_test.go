package authority

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

var aMoment = time.Date(2026, 3, 4, 5, 6, 7, 891_234_000, time.UTC)

// What is stored is read as it was written, whatever the kind.
func TestObjectsThereAndBack(t *testing.T) {
	client, err := NewClient(goodClient(func(m *ClientMetadata) {
		m.ClientSecrets = []ClientSecret{{Hash: [32]byte{1}}, {Hash: [32]byte{2}, ExpiresAt: aMoment}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	keyed, err := NewClient(goodClient(func(m *ClientMetadata) {
		m.TokenEndpointAuthMethod, m.ClientSecrets, m.JWKS = "private_key_jwt", nil, json.RawMessage(publicKey)
	}))
	if err != nil {
		t.Fatal(err)
	}
	client.Disabled = true
	user := User{ID: "u-1", Username: "ada", PasswordHash: "$argon2id$v=19$…", Name: "Ada L.", Email: "ada@example.com", EmailVerified: true, Disabled: true}
	resource, err := NewResource(ResourceMetadata{ID: "urn:x:y", Scopes: []string{"a"}, TokenFormat: "opaque", AccessTTL: Seconds(time.Minute), IntrospectionClients: []string{"api"}})
	if err != nil {
		t.Fatal(err)
	}
	client.Source, keyed.Source, user.Source, resource.Source = FromDatabase, FromDatabase, FromDatabase, FromDatabase
	client.Revision, client.CreatedAt, client.UpdatedAt = 7, aMoment, aMoment.Add(time.Second)
	for _, row := range []struct {
		name string
		want any
		back func() (any, error)
	}{
		{"a client with secrets", client, func() (any, error) { o, _ := client.object(); return readClient(o) }},
		{"a client with keys", keyed, func() (any, error) { o, _ := keyed.object(); return readClient(o) }},
		{"a user", user, func() (any, error) { o, _ := user.object(); return readUser(o) }},
		{"a resource", resource, func() (any, error) { o, _ := resource.object(); return readResource(o) }},
	} {
		if got, err := row.back(); err != nil || !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", row.name, err, got, row.want)
		}
	}
	o, _ := client.object()
	if text := string(o.Body); strings.Contains(text, "sbx_") || !strings.Contains(text, `"sha256":"0100`) {
		t.Errorf("%s", text)
	}
}

// A stored object that breaks the rule book is off, and says why.
func TestAStoredObjectThatBreaksARule(t *testing.T) {
	s := &shelf{objects: []Object{
		{Kind: KindClient, ID: "web", Body: []byte(`{"redirect_uris":["https://*.example.com/"],"grant_types":["authorization_code"],"token_endpoint_auth_method":"none","scope":""}`)},
		{Kind: KindUser, ID: "u-1", Name: "Ada", Body: []byte(`{"password_hash":"x"}`)},
		{Kind: KindResource, ID: "javascript:alert(1)", Body: []byte(`{"token_format":"jwt"}`)},
		{Kind: KindClient, ID: "damaged", Body: []byte(`{`)},
		{Kind: KindClient, ID: "hashless", Body: []byte(`{"client_secrets":[{"sha256":"00"}]}`)},
	}}
	ctx := t.Context()
	c, err := Clients(s).Get(ctx, "web")
	if err != nil || !c.Disabled || c.AllowsRedirect("https://*.example.com/") || len(c.Problems) != 1 || c.Problems[0].Field != "redirect_uris[0]" {
		t.Errorf("client: %+v %v", c, err)
	}
	if m := c.Metadata(); len(m.RedirectURIs) != 1 || m.ClientID != "web" {
		t.Errorf("what is written cannot be seen: %+v", m)
	}
	if _, err := Clients(s).Update(ctx, c); !errors.As(err, new(Problems)) {
		t.Errorf("it was written again: %v", err)
	}
	u, err := Users(s).Get(ctx, "u-1")
	if err != nil || !u.Disabled || u.ID != "u-1" || len(u.Problems) != 1 || u.Profile().Username != "Ada" {
		t.Errorf("user: %+v %v", u, err)
	}
	r, err := Resources(s).Get(ctx, "javascript:alert(1)")
	if err != nil || len(r.Problems) != 1 || r.Metadata().TokenFormat != "jwt" {
		t.Errorf("resource: %+v %v", r, err)
	}
	if _, err := newReloading(s).Resource(ctx, "javascript:alert(1)"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a resource that is off gets tokens: %v", err)
	}
	for _, id := range []string{"damaged", "hashless"} {
		if _, err := Clients(s).Get(ctx, id); err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), id) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestWhatBreaksARuleIsNotStored(t *testing.T) {
	s := &shelf{}
	for _, err := range []error{
		Clients(s).Create(t.Context(), Client{ID: "a b"}),
		Users(s).Create(t.Context(), User{ID: "u", Username: "A"}),
		Resources(s).Create(t.Context(), Resource{ID: "api"}),
	} {
		if !errors.As(err, new(Problems)) || len(s.objects) != 0 {
			t.Errorf("%v", err)
		}
	}
}
