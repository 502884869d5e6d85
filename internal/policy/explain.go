package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Explanation says why a decision is what it is, for whoever writes policies.
// It never goes to the one who asked for a token.
type Explanation struct {
	Decision Decision
	Verdicts []Verdict // those of every policy, the nearest first
	Change   *Change   // the smallest one that would allow it; nil where it is allowed, or where none is known
}

// Verdict is what one policy says.
type Verdict struct {
	Policy  string
	Trial   bool
	Applies bool
	Checks  []Check
}

// Check is one thing that a policy asks for.
type Check struct {
	Key    string // as in the file: from.namespace
	Wanted string
	Found  string
	OK     bool
}

// Change is what somebody could do. It never asks for less: no pin is removed,
// and nothing is made to match more than this one request.
type Change struct {
	Text string
	Add  *authority.PolicyMetadata // a policy that could be added, with which it has been tried
}

// Explain decides, and says why.
func (s *Set) Explain(req Request) Explanation {
	e := Explanation{Decision: s.Decide(req)}
	var nearest *rule
	misses := map[string]int{}
	for _, r := range s.rules {
		v := r.verdict(&view{Request: &req})
		for _, c := range missed(v) {
			misses[v.Policy]++
			if c.Key != "when" && c.Key != "to.scopes" {
				misses[v.Policy] += maxNodes // whose it is and where it leads is nearer than any condition
			}
		}
		e.Verdicts = append(e.Verdicts, v)
	}
	slices.SortStableFunc(e.Verdicts, func(a, b Verdict) int {
		return cmp.Or(cmp.Compare(misses[a.Policy], misses[b.Policy]), cmp.Compare(a.Policy, b.Policy))
	})
	if len(e.Verdicts) > 0 {
		nearest = s.named[e.Verdicts[0].Policy]
	}
	if !e.Decision.Allowed() {
		e.Change = s.change(req, e, nearest)
	}
	return e
}

// verdict looks at everything that the rule asks for, also after the first miss.
func (r *rule) verdict(v *view) Verdict {
	out := Verdict{Policy: r.Name, Trial: r.Mode == authority.PolicyAudit}
	check := func(key, wanted, found string, ok bool) {
		out.Checks = append(out.Checks, Check{key, wanted, found, ok})
	}
	same := func(key, wanted, found string) { check(key, shown(wanted), shown(found), wanted == found) }
	r.origin(v, check, same)
	for _, name := range slices.Sorted(maps.Keys(r.From.Claims)) {
		got, ok := v.claim(name)
		check("from.claims."+name, shown(r.From.Claims[name]), v.describe(name), ok && got == r.From.Claims[name])
	}
	to := "to.resource"
	if r.To.Cluster != "" {
		to = "to.cluster"
	}
	same(to, r.target, v.Target)
	if r.when != nil {
		v.rule = r
		out.Checks = append(out.Checks, r.when.explain(v)...)
	}
	out.Applies = !slices.ContainsFunc(out.Checks, func(c Check) bool { return !c.OK })
	if _, outside := r.grants(v); outside != "" {
		check("to.scopes", cmp.Or(r.Scopes.String(), "none"), shown(outside), false)
	}
	return out
}

// origin checks whose proof it is.
func (r *rule) origin(v *view, check func(key, wanted, found string, ok bool), same func(key, wanted, found string)) {
	f, p := r.From, v.Proof
	workload := func(own string) {
		if v.ClientID != "" {
			check("from."+own, "a workload that acts for itself", "the client "+shown(v.ClientID), false)
		}
	}
	switch {
	case f.Cluster != "":
		workload("cluster")
		if p == nil || p.Cluster == "" {
			check("from.cluster", shown(f.Cluster), "no proof of a cluster", false)
			return
		}
		same("from.cluster", f.Cluster, p.Cluster)
		same("from.namespace", f.Namespace, p.Namespace)
		same("from.service_account", f.ServiceAccount, p.ServiceAccount)
	case f.TrustedIssuer != "":
		workload("trusted_issuer")
		if p == nil || p.TrustedIssuer == "" {
			check("from.trusted_issuer", shown(f.TrustedIssuer), "no proof of a trusted issuer", false)
			return
		}
		same("from.trusted_issuer", f.TrustedIssuer, p.TrustedIssuer)
		if f.Subject != "" {
			same("from.subject", f.Subject, p.Subject)
		}
	case f.UserGroup != "":
		found := strings.Join(v.Groups, " ")
		switch {
		case p != nil || v.Subject.Kind != authority.SubjectUser:
			found = "no person"
		case v.ClientID == "" || v.IssuedTo != v.ClientID:
			found = "a person's token that was issued to another client"
		case slices.Contains(v.Groups, f.UserGroup):
			check("from.user_group", shown(f.UserGroup), shown(f.UserGroup), true)
			return
		case found == "":
			found = "a person without groups"
		}
		check("from.user_group", shown(f.UserGroup), found, false)
	default:
		same("from.client", f.Client, v.ClientID)
		check("from.on_behalf_of", f.OnBehalfOf, string(v.Subject.Kind), r.behalf(v.Subject.Kind))
	}
}

// describe says what a claim is, where it cannot be compared too.
func (v *view) describe(name string) string {
	claims, err := v.allClaims()
	if err != nil {
		return err.Error()
	}
	if got, ok := normal(claims, name); ok {
		return shown(got)
	}
	raw, ok := claims.Raw(name)
	if !ok {
		return "no such claim"
	}
	switch raw[0] {
	case '[':
		return "an array, which matches no text: use when"
	case '{':
		return "an object, which matches no text: use when"
	case 'n':
		return "null"
	}
	return "a number that is not whole or out of range"
}

// shown is a value in a message: short, on one line, and nothing that a terminal obeys.
func shown(s string) string {
	const limit = 120
	if r := []rune(s); len(r) > limit {
		s = string(r[:limit]) + "…"
	}
	return strconv.Quote(s)
}

// explain looks at the parts of a condition that && joins.
func (c *condition) explain(v *view) (checks []Check) {
	e, err := c.env.Program(c.ast, cel.EvalOptions(cel.OptExhaustiveEval), cel.CostLimit(maxCost), cel.CostTracking(effort{}), cel.OptimizeRegex(boundedMatches))
	if err != nil {
		return []Check{{"when", c.source, err.Error(), false}}
	}
	out, detail, err := e.Eval(v)
	if err == nil && out == types.True {
		return []Check{{"when", oneLine(c.source), "true", true}}
	}
	for _, part := range conjuncts(c.ast.NativeRep().Expr()) {
		text, unwritten := cel.ExprToString(part, c.ast.NativeRep().SourceInfo())
		value, ok := detail.State().Value(part.ID())
		if unwritten != nil || !ok || value == types.True {
			continue
		}
		why := found(part, c.ast.NativeRep(), detail.State().Value)
		if failed, is := value.(*types.Err); is {
			why = failed.Error()
		}
		checks = append(checks, Check{"when", named(text), why, false})
	}
	if len(checks) == 0 {
		why := "false"
		if err != nil {
			why = err.Error()
		}
		checks = append(checks, Check{"when", oneLine(c.source), why, false})
	}
	return checks
}

func conjuncts(e ast.Expr) []ast.Expr {
	if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == "_&&_" {
		var all []ast.Expr
		for _, arg := range e.AsCall().Args() {
			all = append(all, conjuncts(arg)...)
		}
		return all
	}
	return []ast.Expr{e}
}

// found is what the names in an expression stand for.
func found(part ast.Expr, whole *ast.AST, value func(int64) (ref.Val, bool)) string {
	const most = 4
	var all []string
	ast.PostOrderVisit(part, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.SelectKind && e.Kind() != ast.IdentKind || len(all) == most {
			return
		}
		got, ok := value(e.ID())
		name, err := cel.ExprToString(e, whole.SourceInfo())
		if !ok || err != nil {
			return
		}
		var text string
		switch got := got.(type) {
		case types.String:
			text = shown(string(got))
		case types.Int, types.Double, types.Bool, types.Null:
			text = fmt.Sprint(got.Value())
		case types.Timestamp:
			text = got.UTC().Format("2006-01-02T15:04:05Z")
		case *types.Err:
			text = got.Error()
		default:
			return
		}
		if one := named(name) + " is " + text; !slices.Contains(all, one) {
			all = append(all, one)
		}
	}))
	return cmp.Or(strings.Join(all, ", "), "false")
}

// named gives the namespace its name back.
func named(text string) string { return oneLine(strings.ReplaceAll(text, namespace, "namespace")) }

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// change finds the smallest change that would allow the request.
func (s *Set) change(req Request, e Explanation, nearest *rule) *Change {
	d := e.Decision
	switch {
	case d.Conflict != [2]string{}:
		return &Change{Text: fmt.Sprintf("pin more in %q and %q, so that no request fits both, or remove one of the two", d.Conflict[0], d.Conflict[1])}
	case d.Outside != "":
		if d.Policy.To.Cluster != "" {
			return &Change{Text: "ask for no scope: a cluster has none"}
		}
		return &Change{Text: fmt.Sprintf("ask without %q, or add it to to.scopes of %q", d.Outside, d.Policy.Name)}
	case len(d.Trials) == 1:
		return &Change{Text: fmt.Sprintf("set mode: enforce in %q, which is on trial", d.Trials[0])}
	case len(d.Trials) > 1:
		return &Change{Text: fmt.Sprintf("set mode: enforce in one of %s, which are on trial", strings.Join(d.Trials, ", "))}
	}
	if nearest != nil {
		if text := remedy(nearest, missed(e.Verdicts[0])); text != "" {
			return &Change{Text: text}
		}
	}
	return s.proposal(req, nearest)
}

func missed(v Verdict) (checks []Check) {
	for _, c := range v.Checks {
		if !c.OK {
			checks = append(checks, c)
		}
	}
	return checks
}

// remedy is for what a new policy is not the answer to.
func remedy(r *rule, missed []Check) string {
	if len(missed) != 1 {
		return ""
	}
	switch c := missed[0]; {
	case c.Key == "when":
		return fmt.Sprintf("%q asks for %s: meet it, or change when of that policy", r.Name, c.Wanted)
	case c.Key == "from.user_group":
		return fmt.Sprintf("make the person a member of %s", c.Wanted)
	case strings.HasPrefix(c.Key, "from.claims.") && !strings.HasPrefix(c.Found, `"`):
		return fmt.Sprintf("have the token made with the claim %s: %s", strings.TrimPrefix(c.Key, "from.claims."), c.Wanted)
	}
	return ""
}

// proposal is a policy about exactly this request, with every pin that the
// nearest one has. It is proposed only if it would do, beside all others.
func (s *Set) proposal(req Request, nearest *rule) *Change {
	v := &view{Request: &req}
	m := authority.PolicyMetadata{Name: "new"}
	switch p := req.Proof; {
	case req.ClientID != "":
		if req.Subject.Kind == "" {
			return nil
		}
		m.From = authority.PolicyFrom{Client: req.ClientID, OnBehalfOf: string(req.Subject.Kind)}
	case p == nil:
		return nil
	case p.Cluster != "" && p.ServiceAccount == "default":
		return &Change{Text: "give the workload a service account of its own: every pod of the namespace that names none is default"}
	case p.Cluster != "":
		m.From = authority.PolicyFrom{Cluster: p.Cluster, Namespace: p.Namespace, ServiceAccount: p.ServiceAccount}
	default:
		m.From = authority.PolicyFrom{TrustedIssuer: p.TrustedIssuer, Subject: p.Subject}
	}
	if nearest != nil && req.Proof != nil && nearest.From.Cluster == m.From.Cluster && nearest.From.TrustedIssuer == m.From.TrustedIssuer && nearest.From.Client == m.From.Client {
		for name := range nearest.From.Claims {
			value, ok := v.claim(name)
			if !ok {
				return nil
			}
			if m.From.Claims == nil {
				m.From.Claims = map[string]string{}
			}
			m.From.Claims[name] = value
		}
		m.When = nearest.When
	}
	if name, is := strings.CutPrefix(req.Target, authority.ClusterAudience(s.issuer, "")); is {
		m.To.Cluster = name
	} else {
		m.To = authority.PolicyTo{Resource: req.Target, Scopes: req.Scopes.List()}
		if nearest != nil && !req.Explicit && nearest.To.Resource == req.Target {
			m.To.Scopes = nearest.To.Scopes
		}
	}
	if _, exists := s.named[m.Name]; exists {
		m.Name = "new-" + strconv.Itoa(len(s.named))
	}
	p, err := authority.NewPolicy(m)
	if err != nil {
		return nil
	}
	all := []authority.Policy{p}
	for _, r := range s.rules {
		all = append(all, r.Policy)
	}
	tried, err := Compile(s.issuer, all)
	if err != nil || !tried.Decide(req).Allowed() {
		return nil
	}
	return &Change{Text: "add a policy about exactly this", Add: &m}
}
