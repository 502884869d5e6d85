package policy

import (
	"fmt"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// conflicts finds pairs of enforcing policies of which it is certain that both
// apply to some proof: every proof that one lets in, the other lets in too. Where
// that depends on the proof, Decide finds it.
func conflicts(rules []*rule) (found []authority.Problem) {
	type place struct{ origin, name, target string }
	beside := map[place][]*rule{}
	for _, r := range rules {
		if r.Mode == authority.PolicyAudit {
			continue
		}
		k := r.key()
		p := place{k.origin, k.name, k.target}
		for _, other := range beside[p] {
			a, b := other, r
			if a.place > b.place {
				a, b = b, a
			}
			if within(a, b) || within(b, a) {
				found = append(found, authority.Problem{
					Field: at(b.place, "from"), Text: fmt.Sprintf("both this policy and %q apply to the same proofs, for the same target", a.Name),
					Fix: "remove one of the two, or pin more in both so that no proof fits both: a request that two policies apply to is refused",
				})
			}
		}
		beside[p] = append(beside[p], r)
	}
	return found
}

// within says whether every proof that the first rule lets in is certain to be
// let in by the second.
func within(a, b *rule) bool {
	f, g := a.From, b.From
	if b.When != "" && a.When != b.When {
		return false
	}
	if f.Namespace != g.Namespace || f.ServiceAccount != g.ServiceAccount {
		return false
	}
	if g.Subject != "" && f.Subject != g.Subject {
		return false
	}
	if g.OnBehalfOf != authority.AnySubject && f.OnBehalfOf != g.OnBehalfOf {
		return false
	}
	for name, value := range g.Claims {
		if got, pinned := f.Claims[name]; !pinned || got != value {
			return false
		}
	}
	return true
}
