// Package policy decides which proof may be exchanged for which tokens: it
// compiles trust policies, finds the one that applies, and explains why.
//
// Everything fails closed. What is written must match exactly; `when` can only
// narrow that. Of two policies that apply, none is picked.
package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Request is what is asked, with all that has been proved.
type Request struct {
	Proof    *authority.Proof  // nil where the subject token is one of ours
	ClientID string            // the client that has proved itself; empty: the workload acts for itself
	IssuedTo string            // the client that a subject token of ours was issued to
	Subject  authority.Subject // whom the tokens will be about
	Groups   []string          // of a user
	Target   string            // `aud`
	Scopes   oauth.Scopes
	Explicit bool // Scopes were asked for by name; else all of the policy's are meant
	Now      time.Time
}

// Decision is the answer. The zero value is a refusal.
type Decision struct {
	Policy  authority.Policy // the one enforcing policy that applies; zero: none
	Scopes  oauth.Scopes     // what it grants of those asked for: never more than the policy's
	Outside string           // the first scope asked for that the policy does not have: invalid_scope

	// Conflict names two enforcing policies that both apply. Then Policy is
	// zero: which one was meant is not ours to guess.
	Conflict [2]string
	Trials   []string // the policies in audit mode that would apply
	Failed   []string // the policies whose `when` had no answer: they do not apply
}

// Allowed says whether tokens may be issued.
func (d Decision) Allowed() bool { return d.Policy.Name != "" && d.Outside == "" }

// Set is the trust policies of one configuration, compiled. It never changes.
// Their order has no meaning.
type Set struct {
	issuer string  // our own
	rules  []*rule // by name
	named  map[string]*rule
	index  map[key][]*rule
	pinned map[string][]string // trusted issuer → the claims that its rules are found by
}

// rule is one compiled policy.
type rule struct {
	authority.Policy
	target string
	when   *condition // nil: always
	place  int        // in the file
	pin    string     // of From.Claims: see pin
}

// key finds the rules that a request could match: few, however many there are.
type key struct{ origin, name, pin, value, target string }

// The origins, and what pin and value are in each.
const (
	fromCluster = "cluster"        // namespace, service account
	fromIssuer  = "trusted_issuer" // a claim and its normal form
	fromGroup   = "user_group"
	fromClient  = "client"
)

const claimSubject = "sub"

func (r *rule) key() key {
	switch f := r.From; {
	case f.Cluster != "":
		return key{fromCluster, f.Cluster, f.Namespace, f.ServiceAccount, r.target}
	case f.TrustedIssuer != "" && f.Subject != "":
		return key{fromIssuer, f.TrustedIssuer, claimSubject, f.Subject, r.target}
	case f.TrustedIssuer != "":
		return key{fromIssuer, f.TrustedIssuer, r.pin, f.Claims[r.pin], r.target}
	case f.UserGroup != "":
		return key{fromGroup, f.UserGroup, "", "", r.target}
	default:
		return key{fromClient, f.Client, "", "", r.target}
	}
}

// pin chooses for each rule the claim that it is found by: the one whose value
// the fewest rules ask for. Everybody may ask for environment: production.
func pin(rules []*rule) {
	type asked struct{ issuer, name, value string }
	count := map[asked]int{}
	for _, r := range rules {
		for name, value := range r.From.Claims {
			count[asked{r.From.TrustedIssuer, name, value}]++
		}
	}
	for _, r := range rules {
		names := slices.Sorted(maps.Keys(r.From.Claims))
		if len(names) > 0 {
			r.pin = slices.MinFunc(names, func(a, b string) int {
				return cmp.Compare(count[asked{r.From.TrustedIssuer, a, r.From.Claims[a]}], count[asked{r.From.TrustedIssuer, b, r.From.Claims[b]}])
			})
		}
	}
}

// Compile makes a set of policies that NewPolicy has made. issuer is our own
// URL. The error is authority.Problems, whose fields begin with policies[i].
func Compile(issuer string, policies []authority.Policy) (*Set, error) {
	s := &Set{issuer: issuer, named: map[string]*rule{}, index: map[key][]*rule{}, pinned: map[string][]string{}}
	var found authority.Problems
	for i, p := range policies {
		r := &rule{Policy: p, target: p.Target(issuer), place: i}
		if first, twice := s.named[p.Name]; twice {
			found = append(found, authority.Problem{
				Field: at(i, "name"), Text: "policies[" + fmt.Sprint(first.place) + "] has this name already", Fix: "choose another: the journal and client ids name policies",
			})
			continue
		}
		s.named[p.Name] = r
		if p.From.TrustedIssuer != "" && p.From.Subject == "" && len(p.From.Claims) == 0 {
			found = append(found, authority.Problem{Field: at(i, "from.subject"), Text: "is missing", Fix: "pin the subject or claims"})
			continue
		}
		if p.When != "" {
			var problems []authority.Problem
			r.when, problems = compile(p)
			for _, one := range problems {
				one.Field = at(i, "when")
				found = append(found, one)
			}
		}
		s.rules = append(s.rules, r)
	}
	slices.SortFunc(s.rules, func(a, b *rule) int { return cmp.Compare(a.Name, b.Name) })
	pin(s.rules)
	for _, r := range s.rules {
		k := r.key()
		s.index[k] = append(s.index[k], r)
		if k.origin == fromIssuer && !slices.Contains(s.pinned[k.name], k.pin) {
			s.pinned[k.name] = append(s.pinned[k.name], k.pin)
		}
	}
	if found = append(found, conflicts(s.rules)...); len(found) > 0 {
		return nil, found
	}
	return s, nil
}

func at(i int, field string) string { return fmt.Sprintf("policies[%d].%s", i, field) }

// Decide finds the policy that applies.
func (s *Set) Decide(req Request) Decision {
	v := view{Request: &req}
	var d Decision
	var room [8]*rule
	matched := room[:0]
	for _, r := range s.candidates(&v) {
		switch ok, err := r.matches(&v); {
		case err != nil:
			d.Failed = append(d.Failed, r.Name)
		case ok && r.Mode == authority.PolicyAudit:
			d.Trials = append(d.Trials, r.Name)
		case ok:
			matched = append(matched, r)
		}
	}
	slices.Sort(d.Failed)
	slices.Sort(d.Trials)
	switch len(matched) {
	case 0:
	case 1:
		d.Policy = matched[0].Policy
		d.Scopes, d.Outside = matched[0].grants(&v)
	default:
		slices.SortFunc(matched, func(a, b *rule) int { return cmp.Compare(a.Name, b.Name) })
		d.Conflict = [2]string{matched[0].Name, matched[1].Name}
	}
	return d
}

// candidates are the rules that the index finds for a request.
//
// A client that has proved itself gets nothing by a policy about workloads: it
// would be another one's right. And a person's token leads somewhere by group
// only for the client that it was issued to; for every other one, that holds it
// because the person called it, a policy must name that client
// (docs/security/threats.md G 84).
func (s *Set) candidates(v *view) []*rule {
	switch p := v.Proof; {
	case v.ClientID != "":
		found := s.index[key{fromClient, v.ClientID, "", "", v.Target}]
		if p != nil || v.Subject.Kind != authority.SubjectUser || v.IssuedTo != v.ClientID {
			return found
		}
		found = slices.Clip(found)
		for i, group := range v.Groups {
			if !slices.Contains(v.Groups[:i], group) {
				found = append(found, s.index[key{fromGroup, group, "", "", v.Target}]...)
			}
		}
		return found
	case p == nil || v.Subject.Kind != authority.SubjectWorkload:
		return nil
	case p.Cluster != "":
		return s.index[key{fromCluster, p.Cluster, p.Namespace, p.ServiceAccount, v.Target}]
	default:
		var found []*rule
		for _, pin := range s.pinned[p.TrustedIssuer] {
			if value, ok := v.pin(pin); ok {
				found = append(found, s.index[key{fromIssuer, p.TrustedIssuer, pin, value, v.Target}]...)
			}
		}
		return found
	}
}

// matches says whether the rule applies to a request that the index found it
// for. An error is a `when` without an answer.
func (r *rule) matches(v *view) (bool, error) {
	if r.From.Client != "" && !r.behalf(v.Subject.Kind) {
		return false, nil
	}
	for name, want := range r.From.Claims {
		if got, ok := v.claim(name); !ok || got != want {
			return false, nil
		}
	}
	if r.when == nil {
		return true, nil
	}
	v.rule = r
	return r.when.holds(v)
}

// behalf compares the kind of subject that a client may act for.
func (r *rule) behalf(kind authority.SubjectKind) bool {
	switch kind {
	case authority.SubjectUser, authority.SubjectWorkload, authority.SubjectClient:
		return r.From.OnBehalfOf == authority.AnySubject || r.From.OnBehalfOf == string(kind)
	default:
		return false
	}
}

// grants is what the rule gives of the scopes that were asked for.
func (r *rule) grants(v *view) (granted oauth.Scopes, outside string) {
	if !v.Explicit {
		return r.Scopes, ""
	}
	outside, _ = v.Scopes.FirstOutside(r.Scopes)
	return v.Scopes.Intersect(r.Scopes), outside
}
