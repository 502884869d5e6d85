// RFC 6749 §3.3: scope.
package oauth

import (
	"errors"
	"slices"
	"strings"
)

const (
	maxScopeLength = 4096
	maxScopeCount  = 100
)

// Scopes is a set of scope values in the order in which they were requested.
// The zero value is the empty set.
type Scopes struct{ names []string }

// ParseScopes reads the scope parameter: values of %x21 / %x23-5B / %x5D-7E
// separated by single spaces. A value given twice counts once.
func ParseScopes(s string) (Scopes, error) {
	if s == "" {
		return Scopes{}, nil
	}
	if len(s) > maxScopeLength {
		return Scopes{}, errors.New("scope is too long")
	}
	return newScopes(strings.Split(s, " "))
}

// ScopesOf makes a set of single values, as configuration and storage hold them.
func ScopesOf(names ...string) (Scopes, error) { return newScopes(names) }

// MustScopes is ScopesOf for constants. It panics on a bad value.
func MustScopes(names ...string) Scopes {
	s, err := newScopes(names)
	if err != nil {
		panic(err)
	}
	return s
}

func newScopes(names []string) (Scopes, error) {
	if len(names) > maxScopeCount {
		return Scopes{}, errors.New("scope has too many values")
	}
	set := make([]string, 0, len(names))
	for _, name := range names {
		if !validScope(name) {
			return Scopes{}, errors.New("scope has an empty value or a character that is not allowed")
		}
		if !slices.Contains(set, name) {
			set = append(set, name)
		}
	}
	return Scopes{set}, nil
}

func validScope(name string) bool {
	if name == "" {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// Has says whether one value is in the set.
func (s Scopes) Has(name string) bool { return slices.Contains(s.names, name) }

// IsEmpty says whether the set holds nothing.
func (s Scopes) IsEmpty() bool { return len(s.names) == 0 }

// Len is how many values are in the set.
func (s Scopes) Len() int { return len(s.names) }

// Covers says whether every value of other is in s.
func (s Scopes) Covers(other Scopes) bool {
	_, missing := other.firstOutside(s)
	return !missing
}

// FirstOutside names the first value of s that is not in allowed.
func (s Scopes) FirstOutside(allowed Scopes) (string, bool) { return s.firstOutside(allowed) }

func (s Scopes) firstOutside(allowed Scopes) (string, bool) {
	for _, name := range s.names {
		if !allowed.Has(name) {
			return name, true
		}
	}
	return "", false
}

// Intersect keeps the values of s that are also in other, in the order of s.
func (s Scopes) Intersect(other Scopes) Scopes { return s.Filter(other.Has) }

// Union adds the values of other that s lacks.
func (s Scopes) Union(other Scopes) Scopes {
	set := slices.Clone(s.names)
	for _, name := range other.names {
		if !slices.Contains(set, name) {
			set = append(set, name)
		}
	}
	return Scopes{set}
}

// Filter keeps the values that keep approves.
func (s Scopes) Filter(keep func(string) bool) Scopes {
	var set []string
	for _, name := range s.names {
		if keep(name) {
			set = append(set, name)
		}
	}
	return Scopes{set}
}

// List returns a copy of the values.
func (s Scopes) List() []string { return slices.Clone(s.names) }

// String is the form of the scope parameter.
func (s Scopes) String() string { return strings.Join(s.names, " ") }
