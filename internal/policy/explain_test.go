package policy

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func TestAnExplanationNamesKeyFoundWantedAndTheSmallestChange(t *testing.T) {
	when := changed(argocd, func(m *authority.PolicyMetadata) {
		m.Name, m.From.Namespace, m.When = "when", "shop", "has(claims.jti) && pod.name.startsWith(\"web-\") && node.name == \"node-1\" && namespace != \"x\""
	})
	gap := changed(when, func(m *authority.PolicyMetadata) {
		m.Name, m.From.Namespace, m.When = "gap", "gap", `claims.nothing == "x" && true`
	})
	heavy := changed(when, func(m *authority.PolicyMetadata) {
		m.Name, m.From.Namespace, m.When = "heavy", "heavy", `[`+strings.Repeat(`subject.contains("b"), `, 100)+`true] != []`
	})
	trial := changed(argocd, func(m *authority.PolicyMetadata) { m.Name, m.From.Namespace, m.Mode = "trial", "trial", "audit" })
	set := compiled(t, argocd, ci, sre, orders, when, gap, heavy, trial)
	in := func(namespace string) func(*Request) { return func(r *Request) { r.Proof.Namespace = namespace } }
	for _, row := range []struct {
		name           string
		req            Request
		policy, key    string // of the nearest policy and of its first miss
		wanted, found  string
		change         string
		from           authority.PolicyFrom // of the policy to add
		allowed, proof bool
	}{
		{name: "allowed", req: pod(func(*Request) {}), policy: "argocd", allowed: true},
		{
			name: "another namespace", req: pod(in("argocd-evil")), policy: "argocd", key: "from.namespace", wanted: `"argocd"`, found: `"argocd-evil"`,
			change: "add a policy", from: authority.PolicyFrom{Cluster: "hub", Namespace: "argocd-evil", ServiceAccount: "controller"},
		},
		{
			name: "the default service account", req: pod(func(r *Request) { r.Proof.ServiceAccount = "default" }), policy: "argocd", key: "from.service_account",
			wanted: `"controller"`, found: `"default"`, change: "a service account of its own",
		},
		{
			name: "another target", req: pod(func(r *Request) { r.Target = authority.ClusterAudience(issuer, "spoke-b") }), policy: "argocd", key: "to.cluster",
			wanted: `"https://sts.example.com/clusters/spoke-a"`, found: `"https://sts.example.com/clusters/spoke-b"`,
			change: "add a policy", from: authority.PolicyFrom{Cluster: "hub", Namespace: "argocd", ServiceAccount: "controller"},
		},
		{
			name: "another subject keeps the claims", req: job(func(r *Request) { r.Proof.Subject = "repo:acme/app:dev" }), policy: "ci", key: "from.subject",
			wanted: `"repo:acme/app:prod"`, found: `"repo:acme/app:dev"`, change: "add a policy",
			from: authority.PolicyFrom{TrustedIssuer: "github", Subject: "repo:acme/app:dev", Claims: map[string]string{"environment": "prod"}},
		},
		{
			name: "another environment", req: job(claims(`{"environment":"dev"}`)), policy: "ci", key: "from.claims.environment", wanted: `"prod"`, found: `"dev"`,
			change: "add a policy", from: authority.PolicyFrom{TrustedIssuer: "github", Subject: "repo:acme/app:prod", Claims: map[string]string{"environment": "dev"}},
		},
		{name: "no environment", req: job(claims(`{}`)), policy: "ci", key: "from.claims.environment", wanted: `"prod"`, found: "no such claim", change: "have the token made with the claim environment"},
		{name: "an array", req: job(claims(`{"environment":["prod"]}`)), policy: "ci", key: "from.claims.environment", wanted: `"prod"`, found: "an array, which matches no text: use when", change: "have the token made"},
		{name: "a condition", req: pod(func(r *Request) { in("shop")(r); r.Proof.Pod.Name = "db-0" }), policy: "when", key: "when", wanted: `pod.name.startsWith("web-")`, found: `pod.name is "db-0"`},
		{
			name: "one part of a condition", req: pod(func(r *Request) { in("shop")(r); r.Proof.Pod.Name = "web-0" }), policy: "when", key: "when", wanted: `node.name == "node-1"`, found: `node.name is "node-3"`,
			change: `"when" asks for node.name == "node-1"`,
		},
		{name: "a claim of a condition that is missing", req: pod(in("gap")), policy: "gap", key: "when", wanted: `claims.nothing == "x"`, found: "no such key: nothing", change: "meet it"},
		{name: "a condition without end", req: pod(func(r *Request) { in("heavy")(r); r.Proof.Subject = strings.Repeat("a", 60<<10) }), policy: "heavy", key: "when", found: "operation cancelled: actual cost limit exceeded", change: "meet it"},
		{name: "a trial", req: pod(in("trial")), policy: "trial", change: `set mode: enforce in "trial"`},
		{name: "a scope too many", req: job(func(r *Request) { r.Scopes, r.Explicit = oauth.MustScopes("orders:admin"), true }), policy: "ci", key: "to.scopes", wanted: "orders:read orders:write", found: `"orders:admin"`, change: `ask without "orders:admin", or add it`},
		{name: "a person of no group", req: person(func(r *Request) { r.Groups = nil }), policy: "sre", key: "from.user_group", wanted: `"sre"`, found: "a person without groups", change: `a member of "sre"`},
		{name: "an API with a person's token", req: person(func(r *Request) { r.ClientID = "api" }), policy: "sre", key: "from.user_group", wanted: `"sre"`, found: "a person's token that was issued to another client"},
		{
			name: "a client for a workload", req: service(func(r *Request) { r.Subject.Kind = authority.SubjectWorkload }), policy: "orders", key: "from.on_behalf_of", wanted: "user", found: "workload",
			change: "add a policy", from: authority.PolicyFrom{Client: "orders", OnBehalfOf: "workload"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := set.Explain(row.req)
			if len(e.Verdicts) != 8 || e.Decision.Allowed() != row.allowed {
				t.Fatalf("%+v", e)
			}
			v := e.Verdicts[0]
			var first Check
			if all := missed(v); len(all) > 0 {
				first = all[0]
			}
			if v.Policy != row.policy || first.Key != row.key || row.wanted != "" && first.Wanted != row.wanted || first.Found != row.found {
				t.Errorf("nearest: %s %+v", v.Policy, first)
			}
			switch {
			case row.allowed != (e.Change == nil) && row.change != "":
				t.Errorf("change: %+v", e.Change)
			case e.Change != nil && !strings.Contains(e.Change.Text, row.change):
				t.Errorf("change: %s", e.Change.Text)
			case !reflect.DeepEqual(row.from, authority.PolicyFrom{}) && (e.Change == nil || e.Change.Add == nil || !reflect.DeepEqual(e.Change.Add.From, row.from)):
				t.Errorf("change: %+v", e.Change)
			}
		})
	}
	both := compiled(t, sre, changed(sre, func(m *authority.PolicyMetadata) { m.Name, m.From.UserGroup = "dev", "dev" })).Explain(person(func(*Request) {}))
	if both.Change == nil || !strings.Contains(both.Change.Text, `pin more in "dev" and "sre"`) || both.Change.Add != nil {
		t.Errorf("two that apply: %+v", both.Change)
	}
}

// Whatever is proposed would do, pins everything that the proof has, and lets in
// nobody else: not the same request with one part of it changed.
func TestAProposedPolicyIsAboutThisRequestAlone(t *testing.T) {
	var proposed int
	rapid.Check(t, func(rt *rapid.T) {
		w := world{rt}
		var all []authority.PolicyMetadata
		for range rapid.IntRange(0, 4).Draw(rt, "policies") {
			all = append(all, w.policy("p"+string(rune('a'+len(all)))))
		}
		set, err := Compile(issuer, parsed(t, all...))
		if err != nil {
			return
		}
		req := w.request()
		e := set.Explain(req)
		if e.Decision.Allowed() != set.Decide(req).Allowed() || e.Decision.Allowed() && e.Change != nil {
			rt.Fatalf("%+v", e)
		}
		if e.Change == nil || e.Change.Add == nil {
			return
		}
		proposed++
		m := *e.Change.Add
		if strings.Contains(m.Name+m.From.Cluster+m.From.Namespace+m.From.ServiceAccount+m.From.Subject+strings.Join(slicesOf(m.From.Claims), ""), "*") {
			rt.Fatalf("a wildcard: %+v", m)
		}
		alone := compiled(t, m)
		if d := alone.Decide(req); !d.Allowed() {
			rt.Fatalf("%+v does not allow it: %+v", m, d)
		}
		for _, other := range []func(r *Request, p *authority.Proof){
			func(r *Request, _ *authority.Proof) { r.Target += "x" },
			func(r *Request, p *authority.Proof) {
				p.Namespace += "-evil"
				p.Subject += "-evil"
				r.ClientID += "-evil"
			},
			func(r *Request, p *authority.Proof) {
				p.ServiceAccount += "-evil"
				p.Subject += "-evil"
				r.ClientID += "-evil"
			},
			func(r *Request, p *authority.Proof) {
				p.Cluster, p.TrustedIssuer = p.TrustedIssuer, p.Cluster
				r.Subject.Kind = ""
			},
		} {
			changed, proof := req, authority.Proof{}
			if req.Proof != nil {
				proof = *req.Proof
				changed.Proof = &proof
			}
			other(&changed, &proof)
			if d := alone.Decide(changed); d.Allowed() {
				rt.Fatalf("%+v lets in %+v", m, changed)
			}
		}
	})
	if proposed == 0 {
		t.Error("nothing was proposed")
	}
}

func slicesOf(m map[string]string) (all []string) {
	for v := range maps.Values(m) {
		all = append(all, v)
	}
	return all
}
