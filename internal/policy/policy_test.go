package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const (
	issuer  = "https://sts.example.com"
	api     = "https://api.example.com"
	billing = "https://billing.example.com"
)

var (
	argocd = authority.PolicyMetadata{
		Name: "argocd", From: authority.PolicyFrom{Cluster: "hub", Namespace: "argocd", ServiceAccount: "controller"},
		To: authority.PolicyTo{Cluster: "spoke-a"}, Groups: []string{"deployers"},
	}
	ci = authority.PolicyMetadata{
		Name: "ci", From: authority.PolicyFrom{TrustedIssuer: "github", Subject: "repo:acme/app:prod", Claims: map[string]string{"environment": "prod"}},
		To: authority.PolicyTo{Resource: api, Scopes: []string{"orders:read", "orders:write"}},
	}
	sre    = authority.PolicyMetadata{Name: "sre", From: authority.PolicyFrom{UserGroup: "sre"}, To: authority.PolicyTo{Cluster: "spoke-a"}, Groups: []string{"admins"}}
	orders = authority.PolicyMetadata{
		Name: "orders", From: authority.PolicyFrom{Client: "orders", OnBehalfOf: "user"}, To: authority.PolicyTo{Resource: billing, Scopes: []string{"invoices:read"}},
	}
)

// changed is a policy with one thing changed.
func changed(m authority.PolicyMetadata, change func(*authority.PolicyMetadata)) authority.PolicyMetadata {
	m.From.Claims = maps.Clone(m.From.Claims)
	change(&m)
	return m
}

func parsed(t testing.TB, all ...authority.PolicyMetadata) (list []authority.Policy) {
	t.Helper()
	for _, m := range all {
		p, err := authority.NewPolicy(m)
		if err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		list = append(list, p)
	}
	return list
}

func compiled(t testing.TB, all ...authority.PolicyMetadata) *Set {
	t.Helper()
	s, err := Compile(issuer, parsed(t, all...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pod is the controller's request for spoke-a.
func pod(change func(*Request)) Request {
	r := Request{
		Proof: &authority.Proof{
			Cluster: "hub", Issuer: "https://kubernetes.default.svc", Subject: "system:serviceaccount:argocd:controller", Claims: json.RawMessage(podClaims),
			Namespace: "argocd", ServiceAccount: "controller", Pod: authority.ObjectRef{Name: "controller-0", UID: "u-1"}, Node: authority.ObjectRef{Name: "node-3", UID: "n-3"},
		},
		Subject: authority.Subject{Issuer: issuer, ID: "cluster:hub:ns:argocd:sa:controller", Kind: authority.SubjectWorkload},
		Target:  authority.ClusterAudience(issuer, "spoke-a"), Now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC),
	}
	change(&r)
	return r
}

// job is a CI job's request for the API.
func job(change func(*Request)) Request {
	r := Request{
		Proof: &authority.Proof{
			TrustedIssuer: "github", Issuer: "https://token.actions.githubusercontent.com", Subject: "repo:acme/app:prod",
			Claims: json.RawMessage(`{"sub":"repo:acme/app:prod","environment":"prod","ref":"refs/heads/main","run_attempt":1,"protected":true,"teams":["prod","dev"],"big":12345678901234567890,"run":{"id":7}}`),
		},
		Subject: authority.Subject{Issuer: issuer, ID: "issuer:github:repo:acme/app:prod", Kind: authority.SubjectWorkload},
		Target:  api, Now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC),
	}
	change(&r)
	return r
}

// person is ada at the command line, asking for spoke-a.
func person(change func(*Request)) Request {
	r := Request{
		ClientID: "cli", IssuedTo: "cli", Subject: authority.Subject{Issuer: issuer, ID: "ada", Kind: authority.SubjectUser}, Groups: []string{"dev", "sre"},
		Target: authority.ClusterAudience(issuer, "spoke-a"), Now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC),
	}
	change(&r)
	return r
}

// service is orders, which ada has called, asking for billing.
func service(change func(*Request)) Request {
	return person(func(r *Request) {
		r.ClientID, r.Target, r.Groups = "orders", billing, nil
		change(r)
	})
}

func claims(text string) func(*Request) {
	return func(r *Request) { r.Proof.Claims = json.RawMessage(text) }
}

// Each refused row is an attack, or a mistake, that must get nothing.
func TestWhoGetsTokensByWhichPolicy(t *testing.T) {
	byClaims := changed(ci, func(m *authority.PolicyMetadata) {
		m.Name, m.From.Subject, m.To.Resource, m.From.Claims = "by-claims", "", "https://other.example.com", map[string]string{"environment": "prod", "team": "1"}
	})
	set := compiled(t, argocd, ci, sre, orders, byClaims)
	same := func(*Request) {}
	for _, row := range []struct {
		name string
		req  Request
		want string
	}{
		{"the controller", pod(same), "argocd"},
		{"the CI job", job(same), "ci"},
		{"a person of the group", person(same), "sre"},
		{"a service on behalf of a person", service(same), "orders"},

		{"a CI job by claims alone", job(func(r *Request) { r.Target = "https://other.example.com"; claims(`{"environment":"prod","team":1}`)(r) }), "by-claims"},
		{"one of two claims", job(func(r *Request) { r.Target = "https://other.example.com"; claims(`{"environment":"prod"}`)(r) }), ""},
		{"the other one of two claims", job(func(r *Request) { r.Target = "https://other.example.com"; claims(`{"team":1}`)(r) }), ""},

		// docs/security/threats.md G 91, and kubernetes.md scenario 18.
		{"a namespace with a suffix", pod(func(r *Request) { r.Proof.Namespace = "argocd-evil" }), ""},
		{"a namespace that is a prefix", pod(func(r *Request) { r.Proof.Namespace = "argo" }), ""},
		{"a service account with a suffix", pod(func(r *Request) { r.Proof.ServiceAccount = "controller-evil" }), ""},
		{"the default service account", pod(func(r *Request) { r.Proof.ServiceAccount = "default" }), ""},
		{"no service account", pod(func(r *Request) { r.Proof.ServiceAccount = "" }), ""},
		{"the same names in another cluster", pod(func(r *Request) { r.Proof.Cluster = "spoke-b" }), ""},
		{"the same names at a trusted issuer of the cluster's name", pod(func(r *Request) { r.Proof.Cluster, r.Proof.TrustedIssuer = "", "hub" }), ""},
		{"a subject with a suffix", job(func(r *Request) { r.Proof.Subject = "repo:acme/app:prod-evil" }), ""},
		{"a subject that is a prefix", job(func(r *Request) { r.Proof.Subject = "repo:acme/app:pro" }), ""},
		{"a subject in capitals", job(func(r *Request) { r.Proof.Subject = "repo:ACME/app:prod" }), ""},
		{"an empty subject", job(func(r *Request) { r.Proof.Subject = "" }), ""},
		{"the same subject at another issuer", job(func(r *Request) { r.Proof.TrustedIssuer = "gitlab" }), ""},
		{"another environment", job(claims(`{"environment":"prod-evil"}`)), ""},
		{"no environment", job(claims(`{}`)), ""},
		{"an environment in an array", job(claims(`{"environment":["prod"]}`)), ""},
		{"an environment in an object", job(claims(`{"environment":{"prod":true}}`)), ""},
		{"no claims at all", job(claims(``)), ""},
		{"claims that are no object", job(claims(`["environment","prod"]`)), ""},
		{"the environment twice", job(claims(`{"environment":"prod","environment":"prod"}`)), ""},
		{"claims beyond the limit", job(claims(`{"environment":"prod","x":"` + strings.Repeat("x", maxClaims) + `"}`)), ""},

		// G 84: a token leads only where a policy says so, for who asks.
		{"another target", pod(func(r *Request) { r.Target = authority.ClusterAudience(issuer, "spoke-b") }), ""},
		{"a target with a suffix", pod(func(r *Request) { r.Target += "/" }), ""},
		{"no target", pod(func(r *Request) { r.Target = "" }), ""},
		{"the admin API", pod(func(r *Request) { r.Target = authority.AdminResource }), ""},
		{"another client with a person's token", service(func(r *Request) { r.ClientID = "web" }), ""},
		{"an API that was called by a person of the group", person(func(r *Request) { r.ClientID = "orders" }), ""},
		{"a person's token without a client", person(func(r *Request) { r.ClientID, r.IssuedTo = "", "" }), ""},
		{"a client with a pod's proof", pod(func(r *Request) { r.ClientID = "cli" }), ""},
		{"the policy's own client id, as a client", pod(func(r *Request) { r.ClientID = "policy:argocd" }), ""},

		// G 86: acting for a kind of subject is said, not guessed.
		{"a service on behalf of a workload", service(func(r *Request) { r.Subject.Kind = authority.SubjectWorkload }), ""},
		{"a service on behalf of a client", service(func(r *Request) { r.Subject.Kind = authority.SubjectClient }), ""},
		{"a service on behalf of nobody knows what", service(func(r *Request) { r.Subject.Kind = "" }), ""},
		{"a person with a pod's proof", pod(func(r *Request) { r.Subject.Kind = authority.SubjectUser }), ""},
		{"a workload in a person's group", person(func(r *Request) { r.Subject.Kind = authority.SubjectWorkload }), ""},
		{"a client in a person's group", person(func(r *Request) { r.Subject.Kind = authority.SubjectClient }), ""},
		{"a person of another group", person(func(r *Request) { r.Groups = []string{"sre-evil", "SRE", ""} }), ""},
		{"a proof with a person's group", person(func(r *Request) { r.Proof = job(same).Proof }), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := set.Decide(row.req)
			if d.Policy.Name != row.want || d.Allowed() != (row.want != "") {
				t.Errorf("want %q, decided %+v", row.want, d)
			}
		})
	}
	if d := (&Set{}).Decide(pod(same)); d.Allowed() {
		t.Error("no policies let somebody in")
	}
}

// docs/security/threats.md G 85: scope never widens.
func TestWhichScopesAPolicyGives(t *testing.T) {
	onlyRead := changed(ci, func(m *authority.PolicyMetadata) {
		m.Name, m.From.Subject, m.When = "readers", "repo:acme/readers", `!("orders:write" in request.scope)`
	})
	set := compiled(t, argocd, ci, onlyRead)
	asks := func(names ...string) func(*Request) {
		return func(r *Request) { r.Scopes, r.Explicit = oauth.MustScopes(names...), true }
	}
	reader := func(change func(*Request)) Request {
		return job(func(r *Request) { r.Proof.Subject = "repo:acme/readers"; change(r) })
	}
	for _, row := range []struct {
		name              string
		req               Request
		policy            string
		granted, tooWide  string
		allowed, conflict bool
	}{
		{name: "not asked for: all of the policy's", req: job(func(*Request) {}), policy: "ci", granted: "orders:read orders:write", allowed: true},
		{name: "one of two", req: job(asks("orders:write")), policy: "ci", granted: "orders:write", allowed: true},
		{name: "one too many", req: job(asks("orders:read", "orders:admin")), policy: "ci", granted: "orders:read", tooWide: "orders:admin"},
		{name: "openid", req: job(asks("openid")), policy: "ci", tooWide: "openid"},
		{name: "none, explicitly", req: job(asks()), policy: "ci", allowed: true},
		{name: "a scope of a cluster", req: pod(asks("deployers")), policy: "argocd", tooWide: "deployers"},
		{name: "a condition on the scope sees what is asked for", req: reader(asks("orders:read")), policy: "readers", granted: "orders:read", allowed: true},
		{name: "and refuses by it", req: reader(asks("orders:write"))},
		{name: "and is not passed by omitting the scope", req: reader(func(*Request) {})},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := set.Decide(row.req)
			if d.Policy.Name != row.policy || d.Scopes.String() != row.granted || d.Outside != row.tooWide || d.Allowed() != row.allowed {
				t.Errorf("decided %+v", d)
			}
		})
	}
}

func TestOneDocumentedNormalFormOfClaims(t *testing.T) {
	for _, row := range []struct{ name, claim, pinned string }{
		{"a string", `"prod"`, "prod"},
		{"a string with an escape", `"pr\u006fd"`, "prod"},
		{"true", `true`, "true"},
		{"false", `false`, "false"},
		{"a whole number", `42`, "42"},
		{"a negative number", `-1`, "-1"},
		{"the largest number", `9223372036854775807`, "9223372036854775807"},
	} {
		set := compiled(t, changed(ci, func(m *authority.PolicyMetadata) { m.From.Claims["environment"] = row.pinned }))
		if d := set.Decide(job(claims(`{"environment":` + row.claim + `}`))); !d.Allowed() {
			t.Errorf("%s does not match %s", row.name, row.pinned)
		}
	}
	for _, claim := range []string{
		`null`, `[]`, `["42"]`, `[42]`, `{"42":42}`, `42.0`, `4.2e1`, `-0`, `1e400`, `9223372036854775808`, `"42 "`, `" 42"`, `"042"`, `""`, `true`,
	} {
		for _, pinned := range []string{"42", "0", "-0", "null", "[]", "9223372036854775808", "42.0", "4.2e1", "9223372036854775807"} {
			if claim == `"`+pinned+`"` {
				continue
			}
			set := compiled(t, changed(ci, func(m *authority.PolicyMetadata) { m.From.Claims["environment"] = pinned }))
			if d := set.Decide(job(claims(`{"environment":` + claim + `}`))); d.Allowed() {
				t.Errorf("%s matches %q", claim, pinned)
			}
		}
	}
}

func TestTrialsGrantNothing(t *testing.T) {
	trial := func(m authority.PolicyMetadata, name string) authority.PolicyMetadata {
		m.Name, m.Mode = name, "audit"
		return m
	}
	set := compiled(t, trial(argocd, "z"), trial(argocd, "b"), ci)
	d := set.Decide(pod(func(*Request) {}))
	if d.Allowed() || d.Conflict != [2]string{} || !slices.Equal(d.Trials, []string{"b", "z"}) {
		t.Errorf("decided %+v", d)
	}
	set = compiled(t, trial(argocd, "b"), argocd)
	if d = set.Decide(pod(func(*Request) {})); d.Policy.Name != "argocd" || !slices.Equal(d.Trials, []string{"b"}) {
		t.Errorf("beside an enforcing one: %+v", d)
	}
	never := changed(trial(argocd, "n"), func(m *authority.PolicyMetadata) { m.When = `pod.name == "x"` })
	if d = compiled(t, never).Decide(pod(func(*Request) {})); len(d.Trials) != 0 {
		t.Errorf("a trial that would refuse: %+v", d)
	}
}

func TestTwoPoliciesThatAlwaysApplyTogetherAreRefusedAtLoad(t *testing.T) {
	broad := changed(ci, func(m *authority.PolicyMetadata) { m.From.Subject = "" })
	anyone := changed(orders, func(m *authority.PolicyMetadata) { m.From.OnBehalfOf = "any" })
	for _, row := range []struct {
		name   string
		a, b   authority.PolicyMetadata
		change func(b *authority.PolicyMetadata)
		refuse bool
	}{
		{"the same from and target", argocd, argocd, func(*authority.PolicyMetadata) {}, true},
		{"the same group", sre, sre, func(*authority.PolicyMetadata) {}, true},
		{"the same client", orders, orders, func(*authority.PolicyMetadata) {}, true},
		{"one that pins less", ci, broad, func(*authority.PolicyMetadata) {}, true},
		{"a condition beside none", argocd, argocd, func(m *authority.PolicyMetadata) { m.When = "pod.name == 'x'" }, true},
		{"a client for any subject", orders, anyone, func(*authority.PolicyMetadata) {}, true},
		{"other scopes of the same resource", ci, ci, func(m *authority.PolicyMetadata) { m.To.Scopes = nil }, true},

		{"a trial", argocd, argocd, func(m *authority.PolicyMetadata) { m.Mode = "audit" }, false},
		{"another target", argocd, argocd, func(m *authority.PolicyMetadata) { m.To.Cluster = "spoke-b" }, false},
		{"another namespace", argocd, argocd, func(m *authority.PolicyMetadata) { m.From.Namespace = "x" }, false},
		{"another service account", argocd, argocd, func(m *authority.PolicyMetadata) { m.From.ServiceAccount = "x" }, false},
		{"another cluster", argocd, argocd, func(m *authority.PolicyMetadata) { m.From.Cluster = "x" }, false},
		{"another group", sre, sre, func(m *authority.PolicyMetadata) { m.From.UserGroup = "dev" }, false},
		{"another kind of subject", orders, orders, func(m *authority.PolicyMetadata) { m.From.OnBehalfOf = "workload" }, false},
		{"another environment", ci, ci, func(m *authority.PolicyMetadata) { m.From.Claims["environment"] = "dev" }, false},
		{"claims that may be together or not", broad, broad, func(m *authority.PolicyMetadata) { m.From.Claims = map[string]string{"ref": "main"} }, false},
		{"a group beside a client", sre, orders, func(m *authority.PolicyMetadata) { m.To = sre.To }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := changed(row.b, row.change)
			b.Name = "second"
			for _, pair := range [][]authority.PolicyMetadata{{row.a, b}, {b, row.a}} {
				_, err := Compile(issuer, parsed(t, pair...))
				var found authority.Problems
				if errors.As(err, &found) != row.refuse {
					t.Fatalf("refused: %v", err)
				}
				if row.refuse && (len(found) != 1 || found[0].Field != "policies[1].from" || !strings.Contains(found[0].Text, fmt.Sprintf("%q", pair[0].Name)) || found[0].Fix == "") {
					t.Errorf("told %q", found)
				}
			}
		})
	}
	twin := func(when string) authority.PolicyMetadata {
		return changed(argocd, func(m *authority.PolicyMetadata) { m.Name, m.When = when[:5], when })
	}
	if _, err := Compile(issuer, parsed(t, twin("pod.name == 'a'"), changed(twin("pod.name == 'a'"), func(m *authority.PolicyMetadata) { m.Name = "b" }))); err == nil {
		t.Error("two with the same condition were taken")
	}
	if _, err := Compile(issuer, parsed(t, argocd, changed(ci, func(m *authority.PolicyMetadata) { m.Name = "argocd" }))); err == nil || !strings.Contains(err.Error(), "policies[1].name") {
		t.Errorf("two of one name: %v", err)
	}
}

func TestTwoPoliciesThatApplyTogetherAreRefusedAtRunTime(t *testing.T) {
	dev := changed(sre, func(m *authority.PolicyMetadata) {
		m.Name, m.From.UserGroup, m.Groups = "dev", "dev", []string{"viewers"}
	})
	set := compiled(t, sre, dev,
		changed(argocd, func(m *authority.PolicyMetadata) { m.Name, m.When = "z", `pod.name.startsWith("controller-")` }),
		changed(argocd, func(m *authority.PolicyMetadata) { m.Name, m.When = "a", `pod.name.endsWith("-0")` }),
		changed(argocd, func(m *authority.PolicyMetadata) { m.Name, m.When = "broken", `claims.nothing == "x"` }))
	for _, row := range []struct {
		name     string
		req      Request
		conflict [2]string
		policy   string
		failed   []string
	}{
		{"a person in both groups", person(func(*Request) {}), [2]string{"dev", "sre"}, "", nil},
		{"a person in one", person(func(r *Request) { r.Groups = []string{"sre", "sre"} }), [2]string{}, "sre", nil},
		{"a pod that fits both conditions", pod(func(*Request) {}), [2]string{"a", "z"}, "", []string{"broken"}},
		{"a pod that fits one", pod(func(r *Request) { r.Proof.Pod.Name = "controller-1" }), [2]string{}, "z", []string{"broken"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := set.Decide(row.req)
			if d.Conflict != row.conflict || d.Policy.Name != row.policy || !slices.Equal(d.Failed, row.failed) {
				t.Errorf("decided %+v", d)
			}
		})
	}
}

// one draws policies and requests from a small world, so that they often meet.
type world struct{ *rapid.T }

func (w world) from(name string, of ...string) string {
	return rapid.SampledFrom(of).Draw(w.T, name)
}

func (w world) policy(name string) authority.PolicyMetadata {
	m := authority.PolicyMetadata{Name: name, Mode: w.from("mode", "", "", "audit"), To: authority.PolicyTo{Cluster: w.from("to", "a", "b")}}
	switch w.from("origin", "cluster", "issuer", "group", "client") {
	case "cluster":
		m.From = authority.PolicyFrom{Cluster: w.from("cluster", "hub", "x"), Namespace: w.from("ns", "p", "q"), ServiceAccount: w.from("sa", "p", "q")}
	case "issuer":
		m.From = authority.PolicyFrom{TrustedIssuer: w.from("issuer", "hub", "x"), Subject: w.from("sub", "", "p", "q"), Claims: w.claims("claims")}
		if m.From.Subject == "" && len(m.From.Claims) == 0 {
			m.From.Subject = "p"
		}
	case "group":
		m.From.UserGroup = w.from("group", "p", "q", "r")
	case "client":
		m.From.Client, m.From.OnBehalfOf = w.from("client", "p", "q"), w.from("behalf", authority.OnBehalfOf()...)
	}
	m.When = w.from("when", "", "", `subject != "q"`, `claims.x == "p"`)
	return m
}

func (w world) claims(name string) map[string]string {
	return rapid.MapOfN(rapid.SampledFrom([]string{"sub", "x", "y"}), rapid.SampledFrom([]string{"p", "q"}), 0, 3).Draw(w.T, name)
}

func (w world) request() Request {
	r := Request{
		ClientID: w.from("client_id", "", "p", "q"), IssuedTo: w.from("issued_to", "p", "q"), Target: authority.ClusterAudience(issuer, w.from("target", "a", "b")),
		Subject: authority.Subject{ID: w.from("id", "p", "q"), Kind: authority.SubjectKind(w.from("kind", "user", "workload", "client"))},
		Groups:  rapid.SliceOf(rapid.SampledFrom([]string{"p", "q", "r"})).Draw(w.T, "groups"), Now: time.Unix(1800000000, 0),
	}
	if kind := w.from("proof", "cluster", "issuer", "ours"); kind != "ours" {
		r.ClientID, r.Subject.Kind = w.from("client_id of the proof", "", "", "", "p"), authority.SubjectKind(w.from("kind of the proof", "workload", "workload", "workload", "user"))
		c := w.claims("claims of the proof")
		c["sub"] = w.from("sub of the proof", "p", "q")
		text, _ := json.Marshal(c)
		r.Proof = &authority.Proof{Subject: c["sub"], Claims: text}
		if kind == "cluster" {
			r.Proof.Cluster, r.Proof.Namespace, r.Proof.ServiceAccount = w.from("cluster of the proof", "hub", "x"), w.from("ns of the proof", "p", "q"), w.from("sa of the proof", "p", "q")
		} else {
			r.Proof.TrustedIssuer = w.from("issuer of the proof", "hub", "x")
		}
	}
	return r
}

// plain decides as the specification reads, one policy after the other, without
// an index.
func plain(s *Set, req Request) (d Decision) {
	var matched []string
	for _, r := range s.rules {
		f, p := r.From, req.Proof
		own := req.ClientID == "" && p != nil && req.Subject.Kind == authority.SubjectWorkload
		var ok bool
		switch {
		case r.target != req.Target:
		case f.Cluster != "":
			ok = own && p.Cluster == f.Cluster && p.Namespace == f.Namespace && p.ServiceAccount == f.ServiceAccount
		case f.TrustedIssuer != "":
			ok = own && p.Cluster == "" && p.TrustedIssuer == f.TrustedIssuer && (f.Subject == "" || f.Subject == p.Subject)
		case f.UserGroup != "":
			ok = p == nil && req.Subject.Kind == authority.SubjectUser && req.ClientID != "" && req.ClientID == req.IssuedTo && slices.Contains(req.Groups, f.UserGroup)
		default:
			ok = req.ClientID == f.Client && (f.OnBehalfOf == "any" || f.OnBehalfOf == string(req.Subject.Kind))
		}
		v := &view{Request: &req, rule: r}
		for name, want := range f.Claims {
			got, there := v.claim(name)
			ok = ok && there && got == want
		}
		if !ok {
			continue
		}
		if r.when != nil {
			holds, err := r.when.holds(v)
			if err != nil {
				d.Failed = append(d.Failed, r.Name)
				continue
			}
			if !holds {
				continue
			}
		}
		if r.Mode == authority.PolicyAudit {
			d.Trials = append(d.Trials, r.Name)
		} else {
			matched = append(matched, r.Name)
			d.Policy, d.Scopes = r.Policy, r.Scopes
		}
	}
	if len(matched) > 1 {
		d.Policy, d.Scopes, d.Conflict = authority.Policy{}, oauth.Scopes{}, [2]string{matched[0], matched[1]}
	}
	return d
}

// The index finds what a walk over all policies finds, and the order of the file
// has no meaning, at load and at run time.
func TestTheIndexAndTheOrderChangeNothing(t *testing.T) {
	var decided, refused int
	rapid.Check(t, func(rt *rapid.T) {
		w := world{rt}
		var all []authority.PolicyMetadata
		for i := range rapid.IntRange(1, 12).Draw(rt, "policies") {
			all = append(all, w.policy(fmt.Sprintf("p%d", i)))
		}
		set, err := Compile(issuer, parsed(t, all...))
		shuffled := slices.Clone(all)
		rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)).Shuffle(len(all), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		other, otherErr := Compile(issuer, parsed(t, shuffled...))
		if (err == nil) != (otherErr == nil) {
			rt.Fatalf("in one order %v, in another %v", err, otherErr)
		}
		if err != nil {
			refused++
			return
		}
		for range 20 {
			req := w.request()
			want := plain(set, req)
			if got := set.Decide(req); !reflect.DeepEqual(got, want) {
				rt.Fatalf("%+v\ngot  %+v\nwant %+v", req, got, want)
			}
			if got := other.Decide(req); !reflect.DeepEqual(got, want) {
				rt.Fatalf("in another order: %+v\ngot  %+v\nwant %+v", req, got, want)
			}
			if want.Policy.Name != "" || want.Conflict[0] != "" || len(want.Trials) > 0 {
				decided++
			}
		}
	})
	if decided == 0 || refused == 0 {
		t.Errorf("this world is too dull: %d decisions, %d sets refused", decided, refused)
	}
}
