// OpenID Connect Core §5.1, §5.4: the standard claims about a person, and the
// scopes that open them.
package authority

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// StandardClaims are what may be known about a person besides name and e-mail address.
type StandardClaims struct {
	GivenName           string  `json:"given_name,omitempty"`
	FamilyName          string  `json:"family_name,omitempty"`
	MiddleName          string  `json:"middle_name,omitempty"`
	Nickname            string  `json:"nickname,omitempty"`
	Profile             string  `json:"profile,omitempty"` // URL of a page about the person
	Picture             string  `json:"picture,omitempty"` // URL
	Website             string  `json:"website,omitempty"` // URL
	Gender              string  `json:"gender,omitempty"`
	Birthdate           string  `json:"birthdate,omitempty"` // YYYY-MM-DD; YYYY; 0000-MM-DD
	Zoneinfo            string  `json:"zoneinfo,omitempty"`  // such as Europe/Paris
	Locale              string  `json:"locale,omitempty"`    // BCP 47
	PhoneNumber         string  `json:"phone_number,omitempty"`
	PhoneNumberVerified bool    `json:"phone_number_verified,omitempty"`
	Address             Address `json:"address,omitzero"`
}

// Address is a postal address (OpenID Connect Core §5.1.1).
type Address struct {
	Formatted     string `json:"formatted,omitempty"`
	StreetAddress string `json:"street_address,omitempty"`
	Locality      string `json:"locality,omitempty"`
	Region        string `json:"region,omitempty"`
	PostalCode    string `json:"postal_code,omitempty"`
	Country       string `json:"country,omitempty"`
}

// PersonClaim is one claim about a person.
type PersonClaim struct {
	Name  string
	Scope string         // opens it
	Of    func(User) any // what it says of somebody; nil where nothing is known
}

func text(of func(User) string) func(User) any {
	return func(u User) any {
		if s := of(u); s != "" {
			return s
		}
		return nil
	}
}

// PersonClaims are all claims about a person.
var PersonClaims = []PersonClaim{
	{"name", oauth.ScopeProfile, text(func(u User) string { return u.Name })},
	{"given_name", oauth.ScopeProfile, text(func(u User) string { return u.Claims.GivenName })},
	{"family_name", oauth.ScopeProfile, text(func(u User) string { return u.Claims.FamilyName })},
	{"middle_name", oauth.ScopeProfile, text(func(u User) string { return u.Claims.MiddleName })},
	{"nickname", oauth.ScopeProfile, text(func(u User) string { return u.Claims.Nickname })},
	{"preferred_username", oauth.ScopeProfile, text(func(u User) string { return u.Username })},
	{"profile", oauth.ScopeProfile, text(func(u User) string { return u.Claims.Profile })},
	{"picture", oauth.ScopeProfile, text(func(u User) string { return u.Claims.Picture })},
	{"website", oauth.ScopeProfile, text(func(u User) string { return u.Claims.Website })},
	{"gender", oauth.ScopeProfile, text(func(u User) string { return u.Claims.Gender })},
	{"birthdate", oauth.ScopeProfile, text(func(u User) string { return u.Claims.Birthdate })},
	{"zoneinfo", oauth.ScopeProfile, text(func(u User) string { return u.Claims.Zoneinfo })},
	{"locale", oauth.ScopeProfile, text(func(u User) string { return u.Claims.Locale })},
	{"updated_at", oauth.ScopeProfile, func(u User) any {
		if u.UpdatedAt.IsZero() {
			return nil
		}
		return u.UpdatedAt.Unix()
	}},
	{"email", oauth.ScopeEmail, text(func(u User) string { return u.Email })},
	{"email_verified", oauth.ScopeEmail, func(u User) any {
		if u.Email == "" {
			return nil
		}
		return u.EmailVerified
	}},
	{"address", oauth.ScopeAddress, func(u User) any {
		if u.Claims.Address == (Address{}) {
			return nil
		}
		return u.Claims.Address
	}},
	{"phone_number", oauth.ScopePhone, text(func(u User) string { return u.Claims.PhoneNumber })},
	{"phone_number_verified", oauth.ScopePhone, func(u User) any {
		if u.Claims.PhoneNumber == "" {
			return nil
		}
		return u.Claims.PhoneNumberVerified
	}},
}

// RequestedClaims are claims about the person that a client asked for by name,
// with the claims parameter (OpenID Connect Core §5.5): sorted, each once.
type RequestedClaims struct {
	UserInfo []string `json:"userinfo,omitempty"`
	IDToken  []string `json:"id_token,omitempty"`
}

// IsZero says that none was asked for.
func (c RequestedClaims) IsZero() bool { return len(c.UserInfo) == 0 && len(c.IDToken) == 0 }

// Only keeps the claims that keep approves.
func (c RequestedClaims) Only(keep func(PersonClaim) bool) RequestedClaims {
	among := func(names []string) (kept []string) {
		for _, claim := range PersonClaims {
			if slices.Contains(names, claim.Name) && keep(claim) {
				kept = append(kept, claim.Name)
			}
		}
		slices.Sort(kept)
		return kept
	}
	return RequestedClaims{among(c.UserInfo), among(c.IDToken)}
}

// Beyond are the claims that scopes do not open anyway: what the person has to
// be asked about.
func (c RequestedClaims) Beyond(scopes oauth.Scopes) (names []string) {
	more := c.Only(func(claim PersonClaim) bool { return !scopes.Has(claim.Scope) })
	names = append(slices.Clone(more.UserInfo), more.IDToken...)
	slices.Sort(names)
	return slices.Compact(names)
}

const maxPage = 2048 // bytes of a URL

// validate finds what breaks a rule. The fields are those of the member claims.
func (c StandardClaims) validate(found *Problems) {
	name := func(field, value string) { found.at("claims."+field, checkName(value)) }
	name("given_name", c.GivenName)
	name("family_name", c.FamilyName)
	name("middle_name", c.MiddleName)
	name("nickname", c.Nickname)
	name("gender", c.Gender)
	for field, value := range map[string]string{"profile": c.Profile, "picture": c.Picture, "website": c.Website} {
		found.at("claims."+field, checkPage(value))
	}
	for field, v := range map[string]struct {
		value string
		form  *regexp.Regexp
		fix   string
	}{
		"zoneinfo":     {c.Zoneinfo, zone, "write a name of the time zone database, such as Europe/Paris"},
		"locale":       {c.Locale, locale, "write a BCP 47 tag, such as fr or pt-BR"},
		"phone_number": {c.PhoneNumber, phone, "write it with + and the country, such as +4930901820"},
	} {
		if v.value != "" && (len(v.value) > maxName || !v.form.MatchString(v.value)) {
			found.add("claims."+field, quote(v.value)+" has another form", v.fix)
		}
	}
	if c.Birthdate != "" && !isBirthdate(c.Birthdate) {
		found.add("claims.birthdate", quote(c.Birthdate)+" is not a date", "write YYYY-MM-DD, YYYY, or 0000-MM-DD where the year is nobody's business")
	}
	if c.PhoneNumberVerified && c.PhoneNumber == "" {
		found.add("claims.phone_number_verified", "is true, but there is no phone_number", "add phone_number, or remove this")
	}
	a := c.Address
	name("address.locality", a.Locality)
	name("address.region", a.Region)
	name("address.postal_code", a.PostalCode)
	name("address.country", a.Country)
	for field, lines := range map[string]string{"formatted": a.Formatted, "street_address": a.StreetAddress} {
		if p := checkName(strings.ReplaceAll(lines, "\n", " ")); p != nil {
			found.at("claims.address."+field, p)
		}
	}
}

var (
	zone   = regexp.MustCompile(`\A[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*\z`)
	locale = regexp.MustCompile(`\A[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*\z`)
	phone  = regexp.MustCompile(`\A\+[0-9][0-9 ().-]{2,30}(?:;ext=[0-9]{1,8})?\z`)
)

func isBirthdate(s string) bool {
	if len(s) == 4 {
		s += "-01-01"
	}
	if rest, hidden := strings.CutPrefix(s, "0000-"); hidden {
		s = "2000-" + rest // a leap year
	}
	_, err := time.Parse(time.DateOnly, s)
	return err == nil
}

// checkPage is for what applications may show or open.
func checkPage(s string) *Problem {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || len(s) > maxPage || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
		return problem(quote(s)+" is not the address of a page", "write it like https://example.com/ada")
	}
	return nil
}
