package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
)

const (
	hubKey   = `{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	otherKey = `{"kty":"OKP","crv":"Ed25519","kid":"b","x":"fU0OfldpLpnzXu0s2zaqEiFjJnVY2RvXsu5tAxNYXaQ"}`
)

func keySet(keys ...string) json.RawMessage {
	return json.RawMessage(`{"keys":[` + strings.Join(keys, ",") + `]}`)
}

func hub(name string) object {
	return object{"name": name, "issuer": "https://kubernetes.default.svc", "jwks": keySet(hubKey), "audiences": []string{"https://sts.example.com"}}
}

// pod is what the life of a token of a pod depends on.
func pod(cluster string, born time.Time) []authority.Link {
	return authority.Subject{ID: "cluster:" + cluster + ":ns:shop:sa:web", Kind: authority.SubjectWorkload}.Epochs(born)
}

func TestAClusterIsRegisteredChangedAndDeleted(t *testing.T) {
	s := newService(t)
	var made admin.Cluster
	body := hub("hub")
	body["webhook_caller"] = "web"
	s.call(s.admin(), "POST", "/clusters", body).wants(http.StatusCreated).into(&made)
	if made.Name != "hub" || made.Audience != issuerURL+"/clusters/hub" || made.Pods != "offline" || made.WebhookCaller != "web" || made.Source != "database" {
		t.Errorf("%+v", made)
	}
	if r, err := s.Directory.Resource(t.Context(), issuerURL+"/clusters/hub"); err != nil || !r.MayIntrospect("web") || r.MayIntrospect("root") {
		t.Errorf("it is no place for tokens: %+v %v", r, err)
	}
	s.call(s.admin(), "GET", "/resources/"+escape(issuerURL+"/clusters/hub"), nil).wants(http.StatusNotFound)
	s.call(s.admin(), "POST", "/clusters", hub("hub")).wants(http.StatusConflict)

	for _, row := range []struct {
		name   string
		change object
		ends   bool
	}{
		{"who may introspect", object{"introspection_clients": []string{"root"}}, false},
		{"one more key", object{"jwks": keySet(hubKey, otherKey)}, false},
		{"one more audience", object{"audiences": []string{"https://sts.example.com", "sts"}}, false},
		{"no webhook", object{"webhook_caller": ""}, false},
		{"a key less", object{"jwks": keySet(otherKey)}, true},
		{"an audience less", object{"audiences": []string{"sts"}}, true},
		{"another issuer", object{"issuer": "https://hub.example.com"}, true},
		{"keys from elsewhere", object{"jwks": object{}, "jwks_uri": "https://keys.example.com/hub"}, true},
	} {
		s.Pass(time.Second)
		born := s.Now()
		s.Pass(time.Second)
		before := len(s.events())
		s.call(s.admin(), "PATCH", "/clusters/hub", row.change).wants(200)
		if got := s.Parts.Revoked(pod("hub", born)); got != row.ends {
			t.Errorf("%s: what came from it has ended: %t", row.name, got)
		}
		if s.Parts.Revoked(pod("hub-b", born)) {
			t.Errorf("%s: it ends another cluster's", row.name)
		}
		if !slices.ContainsFunc(s.events()[before:], func(e authority.Event) bool {
			return e.Type == authority.EventClusterChanged && e.Target == "hub" && e.Actor == "root" && len(e.Changes) > 0
		}) {
			t.Errorf("%s: it is not on record: %+v", row.name, s.events()[before:])
		}
	}
	s.Pass(time.Second)
	born := s.Now()
	s.Pass(time.Second)
	s.call(s.admin(), "DELETE", "/clusters/hub", nil).wants(http.StatusNoContent)
	if !s.Parts.Revoked(pod("hub", born)) {
		t.Error("the cluster is gone, and what came from it lives")
	}
	s.call(s.admin(), "GET", "/clusters/hub", nil).wants(http.StatusNotFound)
	s.call(s.admin(), "DELETE", "/clusters/hub", nil).wants(http.StatusNotFound)
}

// Whoever registers another cluster under an old name gives the old one's workloads nothing.
func TestANewClusterUnderAnOldNameEndsWhatTheOldOneLeft(t *testing.T) {
	s := newService(t)
	born := s.Now()
	s.Pass(time.Second)
	s.call(s.admin(), "POST", "/clusters", hub("hub")).wants(http.StatusCreated)
	if !s.Parts.Revoked(pod("hub", born)) {
		t.Error("it lives")
	}
}

// After a failure at any step it can be asked for again, and nothing that should have ended lives.
func TestADeletionOfAClusterThatFailsIsAskedForAgain(t *testing.T) {
	for _, step := range []string{"Revoke", "DeleteObject"} {
		s := newService(t)
		s.call(s.admin(), "POST", "/clusters", hub("hub")).wants(http.StatusCreated)
		s.Pass(time.Second)
		born := s.Now()
		s.Pass(time.Second)
		s.Fail(step, errors.New("database away"))
		s.call(s.admin(), "DELETE", "/clusters/hub", nil).wants(http.StatusServiceUnavailable)
		s.Fail(step, nil)
		s.call(s.admin(), "DELETE", "/clusters/hub", nil).wants(http.StatusNoContent)
		if !s.Parts.Revoked(pod("hub", born)) {
			t.Errorf("%s failed, and then what came from it lives", step)
		}
	}
}

func TestWhatAClusterOfTheAdminAPIMayNotBe(t *testing.T) {
	static := declared()
	declaredHub, err := authority.NewCluster(authority.ClusterMetadata{Name: "declared", Issuer: "https://kubernetes.default.svc", JWKS: keySet(hubKey)})
	if err != nil {
		t.Fatal(err)
	}
	declaredHub.Source = authority.FromFile
	static.Clusters = map[string]authority.Cluster{"declared": declaredHub}
	s := newServiceOf(t, static)
	with := func(member string, value any) object {
		body := hub("hub")
		body["jwks"] = keySet(otherKey)
		body[member] = value
		return body
	}
	for _, row := range []struct {
		name string
		body object
		want string
	}{
		{"a name in capitals", with("name", "Hub"), "not a name"},
		{"a key of a cluster in the file", with("jwks", keySet(hubKey)), `declared\" has too`},
		{"a private key", with("jwks", keySet(strings.Replace(otherKey, `"x"`, `"d":"AA","x"`, 1))), "private"},
		{"a path", with("kubeconfig_file", "/etc/passwd"), "no member"},
		{"another path", with("jwks_file", "/etc/passwd"), "no member"},
		{"a kubeconfig", with("kubeconfig", "x"), "no member"},
		{"a static credential", with("credential", "token"), "not accepted"},
		{"our own issuer", with("issuer", issuerURL), "our own"},
		{"a webhook of anybody", with("webhook_caller", "spa"), "public client"},
		{"a webhook of nobody", with("webhook_caller", "nobody"), "no client"},
	} {
		s.call(s.admin(), "POST", "/clusters", row.body).wants(http.StatusBadRequest, row.want)
	}
	s.call(s.admin(), "POST", "/clusters", with("name", "declared")).wants(http.StatusConflict)
	s.call(s.admin(), "PATCH", "/clusters/declared", object{"issuer": "x"}).wants(http.StatusConflict, "configuration file")
	s.call(s.admin(), "DELETE", "/clusters/declared", nil).wants(http.StatusConflict, "configuration file")
	s.call(s.admin(), "POST", "/resources", object{"id": issuerURL + "/clusters/x"}).wants(http.StatusBadRequest, "place of a cluster")
	s.call(s.admin(), "POST", "/clients", object{"grant_types": []string{"client_credentials"}, "resources": []string{issuerURL + "/clusters/declared"}}).
		wants(http.StatusBadRequest, "trust policies alone")
}

func TestTrustedIssuersAndPoliciesAreListed(t *testing.T) {
	static := declared()
	static.TrustedIssuers = map[string]authority.TrustedIssuer{"ci": {Name: "ci", Issuer: "https://ci.example.com"}, "cd": {Name: "cd"}}
	static.Policies = map[string]authority.Policy{"p": {
		Name: "p", From: authority.PolicyFrom{TrustedIssuer: "ci", Claims: map[string]string{"env": "prod", "branch": "main"}},
		To: authority.PolicyTo{Resource: "https://api.example.com", Scopes: []string{"orders:read"}}, TTL: time.Minute, Mode: authority.PolicyEnforce,
	}}
	s := newServiceOf(t, static)
	var issuers admin.Page[admin.TrustedIssuer]
	s.call(s.admin(), "GET", "/trusted-issuers?limit=1", nil).wants(200).into(&issuers)
	if len(issuers.Items) != 1 || issuers.Items[0].Name != "cd" || issuers.Next == "" {
		t.Errorf("%+v", issuers)
	}
	s.call(s.admin(), "GET", "/trusted-issuers?after="+issuers.Next, nil).wants(200, `"name":"ci"`)
	s.call(s.admin(), "GET", "/trusted-issuers/ci", nil).wants(200, `"issuer":"https://ci.example.com"`)
	s.call(s.admin(), "GET", "/trusted-issuers/cx", nil).wants(http.StatusNotFound, `no trusted issuer`)
	var policies admin.Page[admin.Policy]
	s.call(s.admin(), "GET", "/policies", nil).wants(200).into(&policies)
	if len(policies.Items) != 1 || policies.Items[0].TTL != 60 || !slices.Equal(policies.Items[0].From.Claims, []admin.Claim{{Name: "branch", Value: "main"}, {Name: "env", Value: "prod"}}) {
		t.Errorf("%+v", policies)
	}
}

// workloadGrant is a standing grant of a workload.
func (s *service) workloadGrant(id, pod string, lineage ...authority.Ancestor) authority.Grant {
	s.Helper()
	now := s.Now()
	g := authority.Grant{
		ID: authority.NewID(now), ClientID: "policy:p", Subject: authority.Subject{Issuer: issuerURL, ID: id, Kind: authority.SubjectWorkload},
		Evidence: authority.PodEvidence("hub", pod), Lineage: lineage, State: authority.GrantActive, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
	if err := s.DB.CreateGrant(context.Background(), g); err != nil {
		s.Fatal(err)
	}
	return g
}

// Issue 6: a service account, a namespace, a cluster, an issuer, with the blast radius before.
func TestWorkloadsAreListedAndEndedTogether(t *testing.T) {
	ids := []string{
		"cluster:hub:ns:shop:sa:web", "cluster:hub:ns:shop:sa:api", "cluster:hub:ns:shop-b:sa:web", "cluster:hub-b:ns:shop:sa:web", "issuer:github:repo:acme/app", "issuer:github-b:x",
	}
	for _, row := range []struct {
		query  string
		body   object
		kind   string
		grants []int
	}{
		{"cluster=hub", object{"cluster": "hub"}, "cluster", []int{0, 1, 2}},
		{"cluster=hub&namespace=shop", object{"workload": "cluster:hub:ns:shop"}, "workload", []int{0, 1}},
		{"cluster=hub&namespace=shop&service_account=web", object{"workload": "cluster:hub:ns:shop:sa:web"}, "workload", []int{0}},
		{"trusted_issuer=github", object{"trusted_issuer": "github"}, "issuer", []int{4}},
		{"subject=" + escape("issuer:github:repo:acme/app"), object{"workload": "issuer:github:repo:acme/app"}, "workload", []int{4}},
	} {
		s := newService(t)
		var all []authority.Grant
		for i, id := range ids {
			all = append(all, s.workloadGrant(id, "uid-"+string(rune('a'+i))))
		}
		var page admin.Page[admin.Grant]
		s.call(s.admin(), "GET", "/grants?"+row.query, nil).wants(200).into(&page)
		var listed []int
		for _, g := range page.Items {
			listed = append(listed, slices.Index(ids, g.Subject.ID))
		}
		slices.Sort(listed) // grants of one moment have no order
		if !slices.Equal(listed, row.grants) {
			t.Errorf("%s lists %v", row.query, listed)
		}
		s.Pass(time.Second)
		row.body["dry_run"] = true
		var radius admin.Revoked
		s.call(s.admin(), "POST", "/revocations", row.body).wants(200).into(&radius)
		if radius.Kind != row.kind || radius.ActiveGrants != int64(len(row.grants)) || !radius.DryRun {
			t.Errorf("%v would end %+v", row.body, radius)
		}
		delete(row.body, "dry_run")
		s.call(s.admin(), "POST", "/revocations", row.body).wants(200)
		for i, g := range all {
			if s.Parts.Revoked(g.Links()) != slices.Contains(row.grants, i) {
				t.Errorf("%v: %s is ended: %t", row.body, ids[i], s.Parts.Revoked(g.Links()))
			}
		}
	}
	s := newService(t)
	for _, bad := range []object{{"cluster": "a:b"}, {"workload": "hub"}, {"workload": "cluster:hub"}, {"trusted_issuer": "G"}, {"cluster": "hub", "workload": "cluster:hub:ns:shop"}} {
		s.call(s.admin(), "POST", "/revocations", bad).wants(http.StatusBadRequest)
	}
	for _, bad := range []string{"namespace=shop", "cluster=hub&service_account=web", "cluster=hub&trusted_issuer=github", "cluster=hub&subject=x", "cluster=hub%3A"} {
		s.call(s.admin(), "GET", "/grants?"+bad, nil).wants(http.StatusBadRequest)
	}
}

// A chain may start with what a machine got for itself, which has no row.
func TestAnAncestorWithoutARowIsShown(t *testing.T) {
	s := newService(t)
	root := authority.Ancestor{GrantID: authority.NewID(s.Now()), ClientID: "root"}
	s.Pass(time.Second)
	g := s.workloadGrant("cluster:hub:ns:shop:sa:web", "uid", root)
	var shown admin.GrantWithFamily
	s.call(s.admin(), "GET", "/grants/"+g.ID.String(), nil).wants(200).into(&shown)
	if len(shown.Ancestors) != 1 || !shown.Ancestors[0].Rowless || !shown.Ancestors[0].Alive || !shown.Alive {
		t.Errorf("%+v", shown)
	}
	s.Pass(time.Second)
	s.call(s.admin(), "POST", "/revocations", object{"grant_id": root.GrantID.String(), "force": true}).wants(200)
	s.call(s.admin(), "GET", "/grants/"+g.ID.String(), nil).wants(200).into(&shown)
	if shown.Ancestors[0].Alive || shown.Alive {
		t.Errorf("its ancestor has ended: %+v", shown)
	}
}

func TestAGroupThatIsTakenAwayEndsWhatCameFromIt(t *testing.T) {
	s := newService(t)
	user := s.createUser("bob")
	links := func() []authority.Link {
		return authority.Subject{ID: user.UserID, Kind: authority.SubjectUser}.Epochs(s.Now())
	}
	for _, row := range []struct {
		groups []string
		ends   bool
	}{{[]string{"sre"}, false}, {[]string{"sre", "dev"}, false}, {[]string{"dev"}, true}, {[]string{}, true}} {
		born := links()
		s.Pass(time.Second)
		s.call(s.admin(), "POST", "/users/"+user.UserID+"/groups", object{"groups": row.groups}).wants(200)
		if s.Parts.Revoked(born) != row.ends {
			t.Errorf("%v: ended %t", row.groups, !row.ends)
		}
		s.Pass(time.Second)
	}
	s.call(s.admin(), "POST", "/users/"+user.UserID+"/groups", object{"groups": []string{"system:masters"}}).wants(http.StatusBadRequest, "system:")
}
