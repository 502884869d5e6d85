package policy

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// What an expression says, by a request: it lets in, keeps out, or has no
// answer, which keeps out too.
func TestWhatAConditionSees(t *testing.T) {
	const yes, no, failed = "yes", "no", "failed"
	for _, row := range []struct {
		when string
		base authority.PolicyMetadata
		want string
	}{
		{`pod.name.startsWith("controller-")`, argocd, yes},
		{`pod.name == "controller-0" && pod.uid == "u-1" && node.name == "node-3" && node.uid == "n-3"`, argocd, yes},
		{`cluster == "hub" && namespace == "argocd" && service_account == "controller"`, argocd, yes},
		{"'namespace' != namespace && // namespace\n \"é namespace\" != namespace && {'namespace': namespace}.namespace == 'argocd'", argocd, yes},
		{`subject == "system:serviceaccount:argocd:controller" && issuer == "https://kubernetes.default.svc"`, argocd, yes},
		{`claims["kubernetes.io"].pod.name == "app-7-5c9f"`, argocd, yes},
		{`claims["kubernetes.io"].node.name.matches("^node-[0-9]+$")`, argocd, yes},
		{`request.audience == "https://sts.example.com/clusters/spoke-a" && size(request.scope) == 0`, argocd, yes},
		{`now >= timestamp("2026-11-25T12:00:00Z") && now < timestamp("2026-11-25T12:00:01Z")`, argocd, yes},
		{`now.getDayOfWeek() == 3 && now.getHours() == 12 && now - timestamp("2026-11-25T00:00:00Z") == duration("12h")`, argocd, yes},
		{`request.scope == ["orders:read"]`, ci, yes},
		{`"orders:read" in request.scope`, ci, yes},
		{`claims.ref == "refs/heads/main"`, ci, yes},
		{`claims.ref in ["refs/heads/main", "refs/heads/next"]`, ci, yes},
		{`claims.ref.matches("^refs/heads/(?:main|next)$")`, ci, yes},
		{`claims.run_attempt == 1 && claims.run.id == 7`, ci, yes},
		{`claims.protected == true`, ci, yes},
		{`"prod" in claims.teams && claims.teams[1] == "dev" && size(claims.teams) == 2`, ci, yes},
		{`!has(claims.nothing) && has(claims.ref)`, ci, yes},
		{`"ref" in claims && !("nothing" in claims)`, ci, yes},
		{`string(claims.run_attempt) == "1" && int("1") == claims.run_attempt`, ci, yes},
		{`true`, ci, yes},
		{`false`, ci, no},
		{`claims.ref == "refs/heads/Main"`, ci, no},
		{`claims.run_attempt == "1"`, ci, no}, // a number is no text
		{`claims.protected == "true"`, ci, no},
		{`claims.teams == "prod"`, ci, no},
		{`claims.ref.matches("^main$")`, ci, no},
		{`subject != "repo:acme/app:prod"`, ci, no},
		{`claims.nothing == "x"`, ci, failed},
		{`claims.nothing != "x"`, ci, failed},
		{`!(claims.nothing == "x")`, ci, failed},
		{`claims.ref.nothing == "x"`, ci, failed},
		{`claims.run_attempt.startsWith("1")`, ci, failed},
		{`claims.big == 12345678901234567890u || claims.big > 1`, ci, failed},
		{`claims.run == {"id": 7}`, ci, failed},
		{`claims == claims`, ci, failed},
		{`claims.ref > 1`, ci, failed},
		{`claims.run_attempt ? true : true`, ci, failed},
		{`int(claims.ref) == 1`, ci, failed},
		{`timestamp(claims.ref) < now`, ci, failed},
		{`claims.teams[2] == "x"`, ci, failed},
		{`claims[claims.run_attempt] == "x"`, ci, failed},
		// An answer that does not depend on what is missing is an answer.
		{`claims.ref == "refs/heads/main" || claims.nothing == "x"`, ci, yes},
		{`claims.ref == "x" && claims.nothing == "x"`, ci, no},
	} {
		t.Run(row.when, func(t *testing.T) {
			base, req := row.base, job(func(r *Request) { r.Scopes, r.Explicit = oauth.MustScopes("orders:read"), true })
			if base.From.Cluster != "" {
				req = pod(func(*Request) {})
			}
			d := compiled(t, changed(base, func(m *authority.PolicyMetadata) { m.When = row.when })).Decide(req)
			if got := map[bool]string{true: yes, false: no}[d.Allowed()]; len(d.Failed) > 0 {
				if d.Allowed() || row.want != failed {
					t.Errorf("want %s, decided %+v", row.want, d)
				}
			} else if got != row.want {
				t.Errorf("want %s, decided %+v", row.want, d)
			}
		})
	}
}

func TestAConditionAboutATokenOfOurs(t *testing.T) {
	with := func(when string) Decision {
		return compiled(t, changed(orders, func(m *authority.PolicyMetadata) { m.When = when })).Decide(service(func(*Request) {}))
	}
	if d := with(`subject == "ada" && issuer == "https://sts.example.com" && request.audience == "https://billing.example.com"`); !d.Allowed() {
		t.Errorf("%+v", d)
	}
	for _, when := range []string{`claims.sub == "ada"`, `!has(claims.sub)`, `!("sub" in claims)`, `size(claims) == 0`} {
		if d := with(when); d.Allowed() || len(d.Failed) != 1 {
			t.Errorf("%s: there are no claims here, and nothing follows from that: %+v", when, d)
		}
	}
}

func TestAConditionIsRefusedAtLoadWithItsPlace(t *testing.T) {
	for _, row := range []struct {
		when         string
		base         authority.PolicyMetadata
		line, column int
		text         string
	}{
		{`pod.nam == "x"`, argocd, 1, 4, "did you mean 'pod.name'?"},
		{`namespace == "a" && namespace == 1 && "é namespace" == namespace`, argocd, 1, 31, "no matching overload"},
		{`namespace("x")`, argocd, 1, 10, "undeclared reference to 'namespace'"},
		{"pod.name == \"x\" &&\n  nobody", argocd, 2, 3, "undeclared reference to 'nobody'"},
		{"subject == \"é\" && é", argocd, 1, 19, "token recognition error"},
		{`pod.name == "x"`, ci, 1, 1, "undeclared reference to 'pod'"}, // a CI job has no pod: were it empty, != would let everybody in
		{`namespace != "kube-system"`, ci, 1, 1, "undeclared reference to 'namespace'"},
		{`node.name != ""`, sre, 1, 1, "undeclared reference to 'node'"},
		{`pod.name == 1`, argocd, 1, 10, "no matching overload"},
		{`subject`, argocd, 1, 1, "is string, not true or false"},
		{`claims.admin`, ci, 1, 1, "is dyn, not true or false"},
		{`now`, ci, 1, 1, "is google.protobuf.Timestamp, not true or false"},
		{`pod.name == "x`, argocd, 1, 13, "token recognition error"},
		{`(subject == "x"`, argocd, 1, 16, "Syntax error"},
		{`now < timestamp("tomorrow")`, ci, 1, 17, "invalid timestamp"},
		// What could take long, or read files.
		{`claims.teams.exists(t, t == "x")`, ci, 1, 20, "undeclared reference to 'exists'"},
		{`claims.teams.map(t, t) == []`, ci, 1, 17, "undeclared reference to 'map'"},
		{`subject + subject == "x"`, ci, 1, 9, "undeclared reference to '_+_'"},
		{`claims.a * claims.b == 1`, ci, 1, 10, "undeclared reference to '_*_'"},
		{`now.getHours("Europe/Amsterdam") > 8`, ci, 1, 13, "no matching overload"},
		{`bytes(subject) == b"x"`, ci, 1, 6, "undeclared reference to 'bytes'"},
		{`type(subject) == string`, ci, 1, 5, "undeclared reference to 'type'"},
		// What is found anywhere in a text is found in prod-evil too (G 91).
		{`subject.matches("repo:acme/.*")`, ci, 1, 17, "found anywhere"},
		{`subject.matches("^repo:acme/")`, ci, 1, 17, "found anywhere"},
		{`subject.matches("prod$")`, ci, 1, 17, "found anywhere"},
		{`subject.matches("^prod|dev$")`, ci, 1, 17, "found anywhere"},
		{`subject.matches("(?m)^prod$")`, ci, 1, 17, "found anywhere"},
		{`subject.matches("prod")`, ci, 1, 17, "found anywhere"},
		{`subject.matches("")`, ci, 1, 17, "written out"},
		{`subject.matches(claims.pattern)`, ci, 1, 23, "written out"},
		{`subject.matches("^(prod$")`, ci, 1, 17, "no regular expression"},
		{`subject.matches("^(?:(?:a{1,100}){1,9})$")`, ci, 1, 17, "too large"},
		{strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), ci, 0, 0, "recursion"},
		{`true` + strings.Repeat(` && true`, 400), ci, 0, 0, "node"},
	} {
		t.Run(row.when[:min(len(row.when), 60)], func(t *testing.T) {
			_, err := Compile(issuer, parsed(t, orders, changed(row.base, func(m *authority.PolicyMetadata) { m.Name, m.When = "b", row.when })))
			var found authority.Problems
			if !errors.As(err, &found) {
				t.Fatalf("taken: %v", err)
			}
			p := found[0]
			if p.Field != "policies[1].when" || p.Line != row.line || p.Column != row.column || !strings.Contains(p.Text, row.text) || p.Fix == "" {
				t.Errorf("told %d:%d %+v", p.Line, p.Column, p)
			}
		})
	}
}

// Nothing that somebody can put into a token makes a decision long.
func TestAConditionIsBounded(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	for _, row := range []struct{ name, when, claims string }{
		{"a regular expression and a long text", `claims.x.matches("^(?:a|a)*$")`, `{"x":"` + long(maxMatched+1) + `"}`},
		{"a long text, again and again", strings.Repeat(`claims.x.contains("b") || `, 60) + "true", `{"x":"` + long(60<<10) + `"}`},
		{"a long array of arrays, compared again and again", strings.Repeat(`claims.x == claims.y || `, 60) + "true", `{"x":[[` + strings.Repeat(`"a",`, 5000) + `"a"]],"y":[[` + strings.Repeat(`"a",`, 5000) + `"b"]]}`},
		{"an array that is searched again and again", strings.Repeat(`"b" in claims.x || `, 60) + "true", `{"x":[` + strings.Repeat(`"a",`, 10000) + `"a"]}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			set := compiled(t, changed(ci, func(m *authority.PolicyMetadata) { m.From.Claims, m.When = nil, row.when }))
			if d := set.Decide(job(claims(row.claims))); d.Allowed() || len(d.Failed) != 1 {
				t.Errorf("decided %+v", d)
			}
		})
	}
	set := compiled(t, changed(ci, func(m *authority.PolicyMetadata) { m.From.Claims, m.When = nil, `claims.x.matches("^a+$")` }))
	if d := set.Decide(job(claims(`{"x":"` + long(maxMatched) + `"}`))); !d.Allowed() {
		t.Errorf("the longest text that matches looks at: %+v", d)
	}
}

// No expression makes the compiler or a decision panic, and what compiles has
// the answers of a truth value.
func FuzzWhen(f *testing.F) {
	for _, when := range []string{
		`pod.name.startsWith("a") && claims.ref in ["x"]`, `claims["kubernetes.io"].node.name.matches("^n-[0-9]+$")`, `has(claims.a.b) ? now > timestamp("2026-01-01T00:00:00Z") : 1 < 2`,
		`size(claims.teams) > -1 || -9223372036854775808 == int("1")`, "\"\\u00e9\" == '''a\n'''", `[1, 2.0, 3u][claims.run_attempt] == {"a": b"x"}["a"]`, `google.protobuf.Int64Value{value: 1} == 1`,
		`now - duration("1h") < now`, `.claims.x == r"\d"`,
	} {
		f.Add(when)
	}
	f.Fuzz(func(t *testing.T, when string) {
		m := changed(ci, func(m *authority.PolicyMetadata) { m.When = when })
		p, err := authority.NewPolicy(m)
		if err != nil {
			return
		}
		set, err := Compile(issuer, []authority.Policy{p})
		var found authority.Problems
		if errors.As(err, &found) {
			for _, one := range found {
				if one.Text == "" || !utf8.ValidString(one.Text) || one.Line < 0 || one.Column < 0 {
					t.Errorf("told %+v", one)
				}
			}
			return
		}
		d := set.Decide(job(func(*Request) {}))
		if d.Allowed() && len(d.Failed) > 0 {
			t.Errorf("failed and allowed: %+v", d)
		}
		if again := set.Decide(job(func(*Request) {})); again.Policy.Name != d.Policy.Name || len(again.Failed) != len(d.Failed) {
			t.Errorf("decided twice: %+v, %+v", d, again)
		}
	})
}

// No claims make a decision panic, and a pinned claim lets in exactly the
// values that its normal form names.
func FuzzClaims(f *testing.F) {
	for _, text := range []string{
		podClaims, `{"environment":"prod","x":[1,{"a":null}]}`, `{"environment":["prod"]}`, `{"environment":1e400}`, `{"environment":"prod","environment":"dev"}`, `{"environment":"\ud800"}`, `[]`, ``,
	} {
		f.Add(text)
	}
	set := compiled(f, changed(ci, func(m *authority.PolicyMetadata) { m.From.Claims = map[string]string{"environment": "1"} }),
		changed(ci, func(m *authority.PolicyMetadata) {
			m.Name, m.Mode, m.From.Claims = "all", "audit", nil
			m.When = `has(claims.x) && (claims.x == 1 || claims.x.y == "z" || "a" in claims.x || claims.x[0] == true || size(claims.x) > 3) && claims.environment != "dev"`
		}))
	f.Fuzz(func(t *testing.T, text string) {
		d := set.Decide(job(claims(text)))
		var naive map[string]any
		dec := json.NewDecoder(strings.NewReader(text))
		dec.UseNumber()
		_ = dec.Decode(&naive)
		switch v := naive["environment"].(type) {
		case string:
			if d.Allowed() && v != "1" {
				t.Errorf("%q is let in", v)
			}
		case json.Number:
			if d.Allowed() && v.String() != "1" {
				t.Errorf("%s is let in", v)
			}
		default:
			if d.Allowed() {
				t.Errorf("%v is let in", v)
			}
		}
	})
}

// No list of policies makes Compile panic, and what it takes decides.
func FuzzPolicies(f *testing.F) {
	for _, list := range [][]authority.PolicyMetadata{{argocd, ci}, {sre, orders, orders}} {
		text, err := json.Marshal(list)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var list []authority.PolicyMetadata
		if len(text) > 1<<16 || json.Unmarshal(text, &list) != nil {
			return
		}
		var policies []authority.Policy
		for _, m := range list {
			if p, err := authority.NewPolicy(m); err == nil {
				policies = append(policies, p)
			}
		}
		set, err := Compile(issuer, policies)
		if err != nil {
			return
		}
		same := func(*Request) {}
		for _, req := range []Request{pod(same), job(same), person(same), service(same)} {
			if d := set.Decide(req); d.Policy.Target(issuer) != req.Target && d.Policy.Name != "" {
				t.Errorf("%s leads to %s", d.Policy.Name, req.Target)
			}
		}
	})
}
