package authority

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Directory finds clients, users, resources and clusters: first those of the
// configuration file, then those of the database. The two never overlap.
type Directory struct {
	static func() *StaticObjects
	store  ObjectStore
}

// StaticObjects are the objects that the configuration file declares, as against those that
// the admin API keeps in the database.
type StaticObjects struct {
	Issuer         string // our own URL
	Clients        map[string]Client
	Users          map[string]User // by id
	Resources      map[string]Resource
	Clusters       map[string]Cluster
	TrustedIssuers map[string]TrustedIssuer
	Policies       map[string]Policy

	usersByName    map[string]string
	clientsByProof map[string]string // the ids of those with a federated credential, by its workload
}

// AdminScopes are the scopes of the admin API.
var AdminScopes = oauth.MustScopes(
	"clients:read", "clients:write", "users:read", "users:write", "keys:read", "keys:write",
	"grants:read", "grants:write", "resources:read", "resources:write", "clusters:read", "clusters:write", "journal:read", "journal:write",
)

// AdminResourceMetadata is the built-in resource, as a file would write it.
func AdminResourceMetadata() ResourceMetadata {
	return ResourceMetadata{ID: AdminResource, Scopes: AdminScopes.List(), TokenFormat: string(FormatJWT)}
}

// ErrOverlap is an id that the configuration file and the database both hold.
var ErrOverlap = errors.New("in the configuration file and in the database")

// DirectoryOf makes a directory. static gives what the file holds now, as
// Complete made it; no call of the directory asks twice.
func DirectoryOf(store ObjectStore, static func() *StaticObjects) *Directory {
	return &Directory{static: static, store: store}
}

// Complete adds what every file has.
func (d StaticObjects) Complete() (*StaticObjects, error) {
	if _, exists := d.Resources[AdminResource]; exists {
		return nil, fmt.Errorf("resource %q is built in and cannot be declared", AdminResource)
	}
	d.Resources = maps.Clone(d.Resources)
	if d.Resources == nil {
		d.Resources = map[string]Resource{}
	}
	d.Resources[AdminResource] = Resource{ID: AdminResource, Scopes: AdminScopes, Format: FormatJWT, Source: FromFile}
	review := TokenReviewAudience(d.Issuer)
	d.Resources[review] = Resource{ID: review, Format: FormatJWT, Source: FromFile}
	d.usersByName = map[string]string{}
	for id, u := range d.Users {
		d.usersByName[strings.ToLower(u.Username)] = id
	}
	d.clientsByProof = map[string]string{}
	for id, c := range d.Clients {
		workload := c.Federated.WorkloadID()
		if workload == "" {
			continue
		}
		if other, taken := d.clientsByProof[workload]; taken {
			return nil, fmt.Errorf("the clients %q and %q have one federated_credential: %s is one client", min(id, other), max(id, other), workload)
		}
		d.clientsByProof[workload] = id
	}
	return &d, nil
}

// Without is d without those whom the epochs end.
func (d *StaticObjects) Without(ended []Revocation) *StaticObjects {
	if len(ended) == 0 {
		return d
	}
	rest := *d
	rest.Clients, rest.Users, rest.usersByName = maps.Clone(d.Clients), maps.Clone(d.Users), maps.Clone(d.usersByName)
	rest.Clusters, rest.TrustedIssuers, rest.Policies = maps.Clone(d.Clusters), maps.Clone(d.TrustedIssuers), maps.Clone(d.Policies)
	for _, r := range ended {
		switch r.Kind {
		case EpochClient:
			delete(rest.Clients, r.Key)
			if name, is := strings.CutPrefix(r.Key, PolicyClientPrefix); is {
				delete(rest.Policies, name)
			}
		case EpochCluster:
			delete(rest.Clusters, r.Key)
		case EpochIssuer:
			delete(rest.TrustedIssuers, r.Key)
		case EpochUser:
			delete(rest.usersByName, strings.ToLower(rest.Users[r.Key].Username))
			delete(rest.Users, r.Key)
		}
	}
	return &rest
}

// Check refuses an id of a file that the database has too: ErrOverlap, unless
// the store fails. `sub` tells users and clients apart by their ids, so these
// must not overlap either (RFC 9068 §5).
func (d *Directory) Check(ctx context.Context, next *StaticObjects) error {
	for id := range next.Clients {
		if _, err := Clients(d.store).Get(ctx, id); !errors.Is(err, ErrNotFound) {
			return overlap(err, "client", id)
		}
		if _, err := Users(d.store).Get(ctx, id); !errors.Is(err, ErrNotFound) {
			return overlap(err, "id", id)
		}
	}
	for workload := range next.clientsByProof {
		if _, err := Clients(d.store).ByName(ctx, workload); !errors.Is(err, ErrNotFound) {
			return overlap(err, "federated_credential", workload)
		}
	}
	for id, u := range next.Users {
		if _, err := Users(d.store).Get(ctx, id); !errors.Is(err, ErrNotFound) {
			return overlap(err, "user", id)
		}
		if _, err := Clients(d.store).Get(ctx, id); !errors.Is(err, ErrNotFound) {
			return overlap(err, "id", id)
		}
		if _, err := Users(d.store).ByName(ctx, strings.ToLower(u.Username)); !errors.Is(err, ErrNotFound) {
			return overlap(err, "user", u.Username)
		}
	}
	for id := range next.Resources {
		if id == AdminResource {
			continue
		}
		if _, err := Resources(d.store).Get(ctx, id); !errors.Is(err, ErrNotFound) {
			return overlap(err, "resource", id)
		}
	}
	return d.checkClusters(ctx, next)
}

// checkClusters also refuses a key that the file and a cluster of the database
// have: whose pod would its tokens be?
func (d *Directory) checkClusters(ctx context.Context, next *StaticObjects) error {
	owners := map[string]string{}
	for name, t := range next.TrustedIssuers {
		for _, thumbprint := range t.Metadata().KeyThumbprints() {
			owners[thumbprint] = "trusted issuer " + strconv.Quote(name)
		}
	}
	for name, c := range next.Clusters {
		if _, err := Clusters(d.store).Get(ctx, name); !errors.Is(err, ErrNotFound) {
			return overlap(err, "cluster", name)
		}
		for _, thumbprint := range c.Metadata().KeyThumbprints() {
			owners[thumbprint] = "cluster " + strconv.Quote(name)
		}
	}
	if len(owners) == 0 {
		return nil
	}
	var shared error
	err := Clusters(d.store).All(ctx, func(c Cluster) bool {
		for _, thumbprint := range c.Metadata().KeyThumbprints() {
			if owner, is := owners[thumbprint]; is {
				shared = fmt.Errorf("a key of %s is %w, in cluster %q there: remove it from one of them", owner, ErrOverlap, c.Name)
			}
		}
		return shared == nil
	})
	return errors.Join(err, shared)
}

// Claim takes the ids of a file's clients and users for good: nobody whom the
// admin API makes ever gets one, also when the file no longer has it.
func (d *Directory) Claim(ctx context.Context, next *StaticObjects, at time.Time) error {
	kinds := map[string]Kind{}
	for id := range next.Clients {
		kinds[id] = KindClient
	}
	for id := range next.Users {
		kinds[id] = KindUser
	}
	err := d.store.ClaimIDs(ctx, kinds, at)
	switch {
	case errors.Is(err, ErrRetired):
		return fmt.Errorf("the id %w: another client or user had it: choose a new one", err)
	case errors.Is(err, ErrExists):
		return fmt.Errorf("the id %w: %w: remove one of them", err, ErrOverlap)
	}
	return err
}

func overlap(err error, kind, id string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%s %q is %w: remove one of them", kind, id, ErrOverlap)
}

// StaticClients returns the clients of the configuration file, sorted by id.
func (d *Directory) StaticClients() []Client { return sortedValues(d.static().Clients) }

// StaticUsers returns the users of the configuration file, sorted by id.
func (d *Directory) StaticUsers() []User { return sortedValues(d.static().Users) }

// StaticResources returns the resources of the configuration file, sorted by id.
func (d *Directory) StaticResources() []Resource { return sortedValues(d.static().Resources) }

// StaticClusters returns the clusters of the configuration file, sorted by name.
func (d *Directory) StaticClusters() []Cluster { return sortedValues(d.static().Clusters) }

// TrustedIssuers returns the trusted issuers, sorted by name.
func (d *Directory) TrustedIssuers() []TrustedIssuer { return sortedValues(d.static().TrustedIssuers) }

// Policies returns the trust policies, sorted by name.
func (d *Directory) Policies() []Policy { return sortedValues(d.static().Policies) }

// Trust is all that decides over proofs, as it is now: the clusters of the file
// and of the database without those that are off, the trusted issuers and the
// policies, each sorted by name.
func (d *Directory) Trust(ctx context.Context) ([]Cluster, []TrustedIssuer, []Policy, error) {
	declared := d.static()
	clusters := sortedValues(declared.Clusters)
	err := Clusters(d.store).All(ctx, func(c Cluster) bool {
		if len(c.Problems) == 0 {
			clusters = append(clusters, c)
		}
		return true
	})
	if err != nil {
		return nil, nil, nil, err
	}
	slices.SortFunc(clusters, func(a, b Cluster) int { return strings.Compare(a.Name, b.Name) })
	return clusters, sortedValues(declared.TrustedIssuers), sortedValues(declared.Policies), nil
}

// UpdatedAt is d with people who were changed then: of one person of a file
// nobody knows more than since when the file is in force.
func (d *StaticObjects) UpdatedAt(at time.Time) *StaticObjects {
	dated := *d
	dated.Users = maps.Clone(d.Users)
	for id, u := range dated.Users {
		u.UpdatedAt = at
		dated.Users[id] = u
	}
	return &dated
}

// ResourceScopes are the scopes of the configuration file's resources, for
// discovery. Those of the admin API are not announced.
func (d *StaticObjects) ResourceScopes() []string {
	var names []string
	for _, r := range sortedValues(d.Resources) {
		if r.ID != AdminResource {
			names = append(names, r.Scopes.List()...)
		}
	}
	return names
}

func sortedValues[V any](m map[string]V) []V {
	values := make([]V, 0, len(m))
	for _, id := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[id])
	}
	return values
}

// Client finds a client. ErrNotFound.
func (d *Directory) Client(ctx context.Context, id string) (Client, error) {
	if c, ok := d.static().Clients[id]; ok {
		return c, nil
	}
	return Clients(d.store).Get(ctx, id)
}

// ClientOf finds the client whose federated credential is a workload's. ErrNotFound.
func (d *Directory) ClientOf(ctx context.Context, workload string) (Client, error) {
	file := d.static()
	if c, ok := file.Clients[file.clientsByProof[workload]]; ok {
		return c, nil
	}
	return Clients(d.store).ByName(ctx, workload)
}

// EvenOut makes a refused client id cost the same whether it was declared, stored or
// unknown: the database has been asked for the latter two alone. An endpoint that
// refuses a client without saying why calls it, so that the time of the answer does
// not say either (docs/security/threats.md C 39).
func (d *Directory) EvenOut(ctx context.Context, refusedID string) {
	if _, declared := d.static().Clients[refusedID]; declared {
		_, _ = Clients(d.store).Get(ctx, refusedID)
	}
}

// EvenOutUser does the same for a username that is refused (J 103).
func (d *Directory) EvenOutUser(ctx context.Context, refused string) {
	refused = strings.ToLower(refused)
	if _, declared := d.static().usersByName[refused]; declared {
		_, _ = Users(d.store).ByName(ctx, refused)
	}
}

// User finds a user by id. ErrNotFound.
func (d *Directory) User(ctx context.Context, id string) (User, error) {
	if u, ok := d.static().Users[id]; ok {
		return u, nil
	}
	return Users(d.store).Get(ctx, id)
}

// UserByName finds a user by username, in any letter case: two people whose
// names differ only in that would be taken for each other. ErrNotFound.
func (d *Directory) UserByName(ctx context.Context, username string) (User, error) {
	username = strings.ToLower(username)
	file := d.static()
	if id, ok := file.usersByName[username]; ok {
		return file.Users[id], nil
	}
	return Users(d.store).ByName(ctx, username)
}

// Alive asks for the accounts that a token depends on, and returns the
// person's, zero for a client or a workload. ErrEnded if one of them is disabled
// or gone, or if the kind of subject is not known. Epochs end their tokens too;
// this also holds until an epoch is heard.
func (d *Directory) Alive(ctx context.Context, clientID string, subject Subject) (User, error) {
	if name, is := strings.CutPrefix(clientID, PolicyClientPrefix); is {
		if policy, there := d.static().Policies[name]; !there || policy.Mode != PolicyEnforce {
			return User{}, fmt.Errorf("%w: policy %q is gone or not enforced", ErrEnded, name)
		}
		return d.Account(ctx, subject)
	}
	if err := d.aliveClient(ctx, clientID); err != nil || subject.Kind == SubjectClient && subject.ID == clientID {
		return User{}, err
	}
	return d.Account(ctx, subject)
}

func (d *Directory) aliveClient(ctx context.Context, id string) error {
	if id == SelfClientID {
		return nil
	}
	client, err := d.Client(ctx, id)
	if errors.Is(err, ErrNotFound) || err == nil && client.Disabled {
		return fmt.Errorf("%w: client %q is disabled or gone", ErrEnded, id)
	}
	return err
}

// Account asks for the account of a subject alone: see Alive.
func (d *Directory) Account(ctx context.Context, subject Subject) (User, error) {
	switch subject.Kind {
	case SubjectUser:
		user, err := d.User(ctx, subject.ID)
		if errors.Is(err, ErrNotFound) || err == nil && user.Disabled {
			return User{}, fmt.Errorf("%w: user %q is disabled or gone", ErrEnded, subject.ID)
		}
		return user, err
	case SubjectClient:
		return User{}, d.aliveClient(ctx, subject.ID)
	case SubjectWorkload:
		return User{}, d.origin(ctx, subject.ID)
	default:
		return User{}, fmt.Errorf("%w: subject %q is of a kind that is not known", ErrEnded, subject.ID)
	}
}

// origin asks for where a workload has proved itself. It has no account here:
// beside that its grant, evidence and epochs decide.
func (d *Directory) origin(ctx context.Context, workload string) error {
	cluster, _, issuer := workloadOf(workload)
	if cluster == "" {
		if _, there := d.static().TrustedIssuers[issuer]; !there {
			return fmt.Errorf("%w: trusted issuer %q is gone", ErrEnded, issuer)
		}
		return nil
	}
	_, err := d.Cluster(ctx, cluster)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("%w: cluster %q is gone", ErrEnded, cluster)
	}
	return err
}

// Cluster finds a cluster. ErrNotFound.
func (d *Directory) Cluster(ctx context.Context, name string) (Cluster, error) {
	if c, ok := d.static().Clusters[name]; ok {
		return c, nil
	}
	c, err := Clusters(d.store).Get(ctx, name)
	if err == nil && len(c.Problems) > 0 {
		return Cluster{}, fmt.Errorf("%w: cluster %q is off: %w", ErrNotFound, name, c.Problems)
	}
	return c, err
}

// CallsWebhook says whether a client may ask /kubernetes/tokenreview for any cluster.
func (d *Directory) CallsWebhook(ctx context.Context, clientID string) (calls bool, err error) {
	for _, c := range d.static().Clusters {
		if c.WebhookCaller == clientID {
			return true, nil
		}
	}
	err = Clusters(d.store).All(ctx, func(c Cluster) bool {
		calls = len(c.Problems) == 0 && c.WebhookCaller == clientID
		return !calls
	})
	return calls, err
}

// Resource finds a resource; a cluster is one too, as a place that tokens can be
// for. ErrNotFound.
func (d *Directory) Resource(ctx context.Context, id string) (Resource, error) {
	declared := d.static()
	if r, ok := declared.Resources[id]; ok {
		return r, nil
	}
	if name, is := ClusterOf(id, declared.Issuer); is {
		c, err := d.Cluster(ctx, name)
		if err != nil {
			return Resource{}, err
		}
		return c.Resource(declared.Issuer), nil
	}
	r, err := Resources(d.store).Get(ctx, id)
	if err == nil && len(r.Problems) > 0 {
		return Resource{}, fmt.Errorf("%w: resource %q is off: %w", ErrNotFound, id, r.Problems)
	}
	return r, err
}
