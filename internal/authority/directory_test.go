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

func (s shelf) Objects(_ context.Context, kind Kind, p Page) (page []Object, err error) {
	for _, o := range s.objects {
		if o.Kind == kind && o.ID > p.After {
			page = append(page, o)
		}
	}
	return page, s.err
}

func (s *shelf) CreateObject(_ context.Context, o Object) error {
	o.Revision = 1
	s.objects = append(s.objects, o)
	return s.err
}

// fewRows is a database with one client, one user, one resource and one cluster.
func fewRows(t *testing.T, err error) *shelf {
	t.Helper()
	s := &shelf{}
	client, _ := NewClient(goodClient(func(m *ClientMetadata) { m.ClientID = "stored" }))
	user, _ := NewUser(UserProfile{Sub: "stored-id", Username: "stored"})
	resource, _ := NewResource(ResourceMetadata{ID: "https://stored.example", TokenFormat: "jwt"})
	cluster, _ := NewCluster(goodCluster(func(m *ClusterMetadata) { m.Name, m.Webhook = "stored-cluster", &Webhook{"stored"} }))
	for _, err := range []error{
		Clients(s).Create(t.Context(), client), Users(s).Create(t.Context(), user), Resources(s).Create(t.Context(), resource), Clusters(s).Create(t.Context(), cluster),
	} {
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
		"a cluster that is stored":         {Clusters: map[string]Cluster{"stored-cluster": {}}},
		"a key of a stored cluster":        {Clusters: map[string]Cluster{"new": {Name: "new", Keys: []byte(publicKey)}}},
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

		Clusters:       map[string]Cluster{"hub": {Name: "hub"}},
		TrustedIssuers: map[string]TrustedIssuer{"github": {Name: "github"}},
		Policies:       map[string]Policy{"deploys": {Name: "deploys", Mode: PolicyEnforce}, "trial": {Name: "trial", Mode: PolicyAudit}},
	}
	workload := func(id string) Subject { return Subject{ID: id, Kind: SubjectWorkload} }
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
		{"a workload of a cluster", "web", workload("cluster:hub:ns:a:sa:b"), nil, "", nil},
		{"a workload of a cluster in the database", "web", workload("cluster:stored-cluster:ns:a:sa:b"), nil, "", nil},
		{"a workload of a cluster that is gone", "web", workload("cluster:gone:ns:a:sa:b"), nil, "", ErrEnded},
		{"a workload of a cluster whose name begins alike", "web", workload("cluster:hub-b:ns:a:sa:b"), nil, "", ErrEnded},
		{"a CI job", "web", workload("issuer:github:repo:acme/app"), nil, "", nil},
		{"a CI job of an issuer that is gone", "web", workload("issuer:gitlab:repo:acme/app"), nil, "", ErrEnded},
		{"a workload of nowhere", "web", workload("a"), nil, "", ErrEnded},
		{"a workload by a policy", "policy:deploys", workload("cluster:hub:ns:a:sa:b"), nil, "", nil},
		{"a person by a policy", "policy:deploys", person("ada"), nil, "ada", nil},
		{"a person who is disabled by a policy", "policy:deploys", person("eve"), nil, "", ErrEnded},
		{"a workload by a policy that is gone", "policy:gone", workload("cluster:hub:ns:a:sa:b"), nil, "", ErrEnded},
		{"a workload by a policy that has become a trial", "policy:trial", workload("cluster:hub:ns:a:sa:b"), nil, "", ErrEnded},
		{"a workload of a cluster that is gone, by a policy", "policy:deploys", workload("cluster:gone:ns:a:sa:b"), nil, "", ErrEnded},
		{"the cluster cannot be asked for", "policy:deploys", workload("cluster:stored-cluster:ns:a:sa:b"), broken, "", broken},
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

func TestClustersOfTheFileAndOfTheDatabase(t *testing.T) {
	ctx := t.Context()
	d := newReloading(fewRows(t, nil))
	if err := d.Declare(ctx, StaticObjects{
		Issuer: "https://sts.example.com", Clusters: map[string]Cluster{"spoke": {Name: "spoke", WebhookCaller: "apiserver", Source: FromFile}},
		TrustedIssuers: map[string]TrustedIssuer{"b": {Name: "b"}, "a": {Name: "a"}}, Policies: map[string]Policy{"p": {Name: "p"}},
	}); err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]Source{"spoke": FromFile, "stored-cluster": FromDatabase} {
		if c, err := d.Cluster(ctx, name); err != nil || c.Source != source {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
	if _, err := d.Cluster(ctx, "gone"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a cluster of nobody: %v", err)
	}
	for id, caller := range map[string]string{"https://sts.example.com/clusters/spoke": "apiserver", "https://sts.example.com/clusters/stored-cluster": "stored"} {
		if r, err := d.Resource(ctx, id); err != nil || r.ID != id || !slices.Equal(r.IntrospectionClients, []string{caller}) {
			t.Errorf("%s: %+v %v", id, r, err)
		}
	}
	for _, id := range []string{"https://sts.example.com/clusters/gone", "https://sts.example.com/clusters/", "https://other.example.com/clusters/spoke", "/clusters/spoke"} {
		if _, err := d.Resource(ctx, id); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
	clusters, issuers, policies, err := d.Trust(ctx)
	if err != nil || len(clusters) != 2 || clusters[0].Name != "spoke" || clusters[1].Name != "stored-cluster" || len(issuers) != 2 || issuers[0].Name != "a" || len(policies) != 1 {
		t.Errorf("%v %v %v %v", clusters, issuers, policies, err)
	}
	rest := d.held.Without([]Revocation{{Kind: EpochCluster, Key: "spoke"}, {Kind: EpochIssuer, Key: "a"}, {Kind: EpochClient, Key: "policy:p"}})
	if len(rest.Clusters) != 0 || len(rest.TrustedIssuers) != 1 || len(rest.Policies) != 0 || len(d.held.Clusters) != 1 {
		t.Errorf("what a newer file ends: %+v", rest)
	}
}

// A cluster that breaks the rule book, since it has become stricter, trusts nobody.
func TestAStoredClusterThatBreaksARuleIsOff(t *testing.T) {
	s := fewRows(t, nil)
	s.objects = append(s.objects, Object{Kind: KindCluster, ID: "broken", Body: []byte(`{"issuer":"https://kubernetes.default.svc"}`)})
	d := newReloading(s)
	if _, err := d.Cluster(t.Context(), "broken"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	clusters, _, _, err := d.Trust(t.Context())
	if err != nil || len(clusters) != 1 {
		t.Errorf("%v %v", clusters, err)
	}
	if c, err := Clusters(s).Get(t.Context(), "broken"); err != nil || len(c.Problems) != 1 || c.Metadata().Issuer != "https://kubernetes.default.svc" {
		t.Errorf("it cannot be shown: %+v %v", c, err)
	}
}

func TestADigestThatOnlyGrowsEndsNothing(t *testing.T) {
	for _, row := range []struct {
		name, was, is string
		ended         bool
	}{
		{"the same", "a b", "a b", false},
		{"one more", "a b", "c b a", false},
		{"one less", "a b", "a", true},
		{"another", "a", "b", true},
		{"a part of a word", "a", "ab", true},
	} {
		before := Declaration{Digests: map[RevocationKind]map[string]string{EpochCluster: {"hub": row.was}}}
		next := Declaration{Digests: map[RevocationKind]map[string]string{EpochCluster: {"hub": row.is}}}
		if ended := next.Ends(before); (len(ended) == 1) != row.ended {
			t.Errorf("%s: %v", row.name, ended)
		}
	}
}
