package authority

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// shelf is a database of a few objects.
type shelf struct {
	ObjectStore
	objects []Object
	err     error
}

func (s shelf) find(is func(Object) bool) (Object, error) {
	i := slices.IndexFunc(s.objects, is)
	if s.err != nil || i < 0 {
		return Object{}, cmp.Or(s.err, ErrNotFound)
	}
	return s.objects[i], nil
}

func (s shelf) Object(_ context.Context, kind Kind, id string) (Object, error) {
	return s.find(func(o Object) bool { return o.Kind == kind && o.ID == id })
}

func (s shelf) ObjectByName(_ context.Context, kind Kind, name string) (Object, error) {
	return s.find(func(o Object) bool { return o.Kind == kind && o.Name == name })
}

func (s *shelf) CreateObject(_ context.Context, o Object) error {
	o.Revision = 1
	s.objects = append(s.objects, o)
	return s.err
}

// fewRows is a database with one client, one user and one resource.
func fewRows(t *testing.T, err error) *shelf {
	t.Helper()
	s := &shelf{}
	client, _ := NewClient(goodClient(func(m *ClientMetadata) { m.ClientID = "stored" }))
	user, _ := NewUser(UserProfile{Sub: "stored-id", Username: "stored"})
	resource, _ := NewResource(ResourceMetadata{ID: "https://stored.example", TokenFormat: "jwt"})
	for _, err := range []error{Clients(s).Create(t.Context(), client), Users(s).Create(t.Context(), user), Resources(s).Create(t.Context(), resource)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.err = err
	return s
}

// reloading is a directory over a file that changes.
type reloading struct {
	*Directory
	held *StaticObjects
}

func newReloading(store ObjectStore) *reloading {
	d := &reloading{held: &StaticObjects{}}
	d.Directory = DirectoryOf(store, func() *StaticObjects { return d.held })
	return d
}

// Declare puts a file in place, as a node does, or changes nothing.
func (d *reloading) Declare(ctx context.Context, next StaticObjects) error {
	complete, err := next.Complete()
	if err == nil {
		err = d.Check(ctx, complete)
	}
	if err == nil {
		d.held = complete
	}
	return err
}

func TestDirectory(t *testing.T) {
	ctx := t.Context()
	d := newReloading(fewRows(t, nil))
	good := StaticObjects{
		Clients: map[string]Client{"web": {ID: "web", Source: FromFile}}, Users: map[string]User{"ada-id": {ID: "ada-id", Username: "Ada", Source: FromFile}},
		Resources: map[string]Resource{"https://a.example": {ID: "https://a.example", Source: FromFile}},
	}
	if err := d.Declare(ctx, good); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Ada", "ada", "ADA"} {
		if u, err := d.UserByName(ctx, name); err != nil || u.ID != "ada-id" {
			t.Errorf("104: %s is %q %v", name, u.ID, err)
		}
	}
	if u, err := d.UserByName(ctx, "STORED"); err != nil || u.ID != "stored-id" {
		t.Errorf("104: a stored name in another letter case: %v", err)
	}
	if c, err := d.Client(ctx, "web"); err != nil || c.Source != FromFile {
		t.Errorf("%+v %v", c, err)
	}
	if c, err := d.Client(ctx, "stored"); err != nil || c.Source != FromDatabase {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := d.Client(ctx, "Web"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a client in another letter case: %v", err)
	}
	if r, err := d.Resource(ctx, AdminResource); err != nil || !r.Scopes.Has("journal:read") {
		t.Errorf("%+v %v", r, err)
	}
	for name, bad := range map[string]StaticObjects{
		"a client that is stored":          {Clients: map[string]Client{"stored": {}}},
		"a user that is stored":            {Users: map[string]User{"stored-id": {Username: "x"}}},
		"a user with a stored client's id": {Users: map[string]User{"stored": {Username: "x"}}},
		"a client with a stored user's id": {Clients: map[string]Client{"stored-id": {}}},
		"a username that is stored":        {Users: map[string]User{"x": {Username: "Stored"}}},
		"a resource that is stored":        {Resources: map[string]Resource{"https://stored.example": {}}},
		"the resource of the admin API":    {Resources: map[string]Resource{AdminResource: {}}},
		"a good client beside a bad other": {Clients: map[string]Client{"new": {}, "stored": {}}},
	} {
		if err := d.Declare(ctx, bad); err == nil || !strings.Contains(err.Error(), "cannot be declared") && !strings.Contains(err.Error(), "in the database") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := d.Client(ctx, "new"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: it changed something: %v", name, err)
		}
		if c, err := d.Client(ctx, "web"); err != nil || c.ID != "web" {
			t.Errorf("%s: what was there is gone: %v", name, err)
		}
	}
	if len(good.Resources) != 1 {
		t.Error("the caller's map was changed")
	}
	if err := d.Declare(ctx, StaticObjects{}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Client(ctx, "web"); !errors.Is(err, ErrNotFound) {
		t.Error("42: a client that was taken out of the file is still there")
	}
	if _, err := d.UserByName(ctx, "ada"); !errors.Is(err, ErrNotFound) {
		t.Error("70: a user who was taken out of the file is still there")
	}
	down := errors.New("the database is away")
	if err := newReloading(fewRows(t, down)).Declare(ctx, good); !errors.Is(err, down) {
		t.Errorf("69: what cannot be checked is declared: %v", err)
	}
	if _, err := newReloading(fewRows(t, down)).Client(ctx, "x"); !errors.Is(err, down) {
		t.Errorf("69: %v", err)
	}
}

func TestATokenIsAliveWithItsAccounts(t *testing.T) {
	broken := errors.New("disk")
	declared := StaticObjects{
		Clients: map[string]Client{"web": {ID: "web"}, "off": {ID: "off", Disabled: true}},
		Users:   map[string]User{"ada": {ID: "ada", Username: "ada"}, "eve": {ID: "eve", Username: "eve", Disabled: true}},
	}
	person := func(id string) Subject { return Subject{ID: id, Kind: SubjectUser} }
	for _, row := range []struct {
		name   string
		client string
		who    Subject
		store  error
		user   string
		want   error
	}{
		{"both are there", "web", person("ada"), nil, "ada", nil},
		{"both are in the database", "stored", person("stored-id"), nil, "stored-id", nil},
		{"a client acts for itself", "web", Subject{ID: "web", Kind: SubjectClient}, nil, "", nil},
		{"the client is disabled", "off", person("ada"), nil, "", ErrEnded},
		{"the client is gone", "gone", person("ada"), nil, "", ErrEnded},
		{"a client that acted for itself is gone", "gone", Subject{ID: "gone", Kind: SubjectClient}, nil, "", ErrEnded},
		{"the user is disabled", "web", person("eve"), nil, "", ErrEnded},
		{"the user is gone", "web", person("gone"), nil, "", ErrEnded},
		{"a client acts for another client", "web", Subject{ID: "stored", Kind: SubjectClient}, nil, "", nil},
		{"a client acts for another that is disabled", "web", Subject{ID: "off", Kind: SubjectClient}, nil, "", ErrEnded},
		{"a client acts for another that is gone", "web", Subject{ID: "gone", Kind: SubjectClient}, nil, "", ErrEnded},
		{"a workload has no account here", "web", Subject{ID: "cluster:hub:ns:a:sa:b", Kind: SubjectWorkload}, nil, "", nil},
		{"a kind of subject that nobody knows", "web", Subject{ID: "ada", Kind: "robot"}, nil, "", ErrEnded},
		{"a subject without a kind", "web", Subject{ID: "ada"}, nil, "", ErrEnded},
		{"the client cannot be asked for", "stored", person("ada"), broken, "", broken},
		{"the user cannot be asked for", "web", person("stored-id"), broken, "", broken},
	} {
		d := newReloading(fewRows(t, nil))
		if err := d.Declare(t.Context(), declared); err != nil {
			t.Fatal(err)
		}
		d.store = fewRows(t, row.store)
		user, err := d.Alive(t.Context(), row.client, row.who)
		if !errors.Is(err, row.want) || err == nil && user.ID != row.user || errors.Is(err, ErrEnded) != (row.want == ErrEnded) {
			t.Errorf("%s: %q, %v", row.name, user.ID, err)
		}
	}
}
