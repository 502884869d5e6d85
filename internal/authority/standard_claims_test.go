package authority

import (
	"slices"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

func TestTheRulesOfStandardClaims(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*StandardClaims)
		field  string
		text   string
	}{
		{"good ones", func(*StandardClaims) {}, "", ""},
		{"none", func(c *StandardClaims) { *c = StandardClaims{} }, "", ""},
		{"a year alone", func(c *StandardClaims) { c.Birthdate = "1815" }, "", ""},
		{"a birthday without the year, in a leap year", func(c *StandardClaims) { c.Birthdate = "0000-02-29" }, "", ""},
		{"a birthday that is no day", func(c *StandardClaims) { c.Birthdate = "1815-02-30" }, "claims.birthdate", "not a date"},
		{"a birthday in words", func(c *StandardClaims) { c.Birthdate = "10 December" }, "claims.birthdate", "not a date"},
		{"a name that a terminal obeys", func(c *StandardClaims) { c.GivenName = "a\x1b[2J" }, "claims.given_name", "control"},
		{"a name that reads backwards", func(c *StandardClaims) { c.Nickname = "a\u202eb" }, "claims.nickname", "direction"},
		{"a page that runs", func(c *StandardClaims) { c.Profile = "javascript:alert(1)" }, "claims.profile", "address of a page"},
		{"a picture of this computer", func(c *StandardClaims) { c.Picture = "file:///etc/passwd" }, "claims.picture", "address of a page"},
		{"a page with a password", func(c *StandardClaims) { c.Website = "https://ada:secret@example.com/" }, "claims.website", "address of a page"},
		{"an endless page", func(c *StandardClaims) { c.Website = "https://example.com/" + strings.Repeat("a", maxPage) }, "claims.website", "address of a page"},
		{"a time zone with a path", func(c *StandardClaims) { c.Zoneinfo = "../etc" }, "claims.zoneinfo", "form"},
		{"a language with a line", func(c *StandardClaims) { c.Locale = "fr\n" }, "claims.locale", "form"},
		{"a number without a country", func(c *StandardClaims) { c.PhoneNumber = "030 901820" }, "claims.phone_number", "form"},
		{"no number to verify", func(c *StandardClaims) { c.PhoneNumber, c.PhoneNumberVerified = "", true }, "claims.phone_number_verified", "no phone_number"},
		{"an address that a terminal obeys", func(c *StandardClaims) { c.Address.Formatted = "12\n\x1b[2J" }, "claims.address.formatted", "control"},
		{"a city of two lines", func(c *StandardClaims) { c.Address.Locality = "a\nb" }, "claims.address.locality", "control"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := UserProfile{Sub: "u", Username: "ada", Claims: StandardClaims{
				GivenName: "Ada", Profile: "https://example.com/ada", Birthdate: "1815-12-10", Zoneinfo: "Europe/London", Locale: "en-GB",
				PhoneNumber: "+44 20 7946 0000", PhoneNumberVerified: true, Address: Address{Formatted: "12 St James's Square\nLondon", Country: "United Kingdom"},
			}}
			row.change(&p.Claims)
			wants(t, p.Validate(), row.field, row.text)
			if u, err := NewUser(p); err == nil && u.Profile().Claims != p.Claims {
				t.Errorf("the user has %+v", u.Claims)
			}
		})
	}
}

func TestClaimsBeyondTheScopes(t *testing.T) {
	asked := RequestedClaims{UserInfo: []string{"phone_number", "email", "name"}, IDToken: []string{"phone_number", "address"}}
	if got := asked.Beyond(oauth.MustScopes("openid", "profile")); !slices.Equal(got, []string{"address", "email", "phone_number"}) {
		t.Errorf("beyond: %q", got)
	}
	only := asked.Only(func(c PersonClaim) bool { return c.Scope == oauth.ScopePhone })
	if !slices.Equal(only.UserInfo, []string{"phone_number"}) || !slices.Equal(only.IDToken, []string{"phone_number"}) {
		t.Errorf("only: %+v", only)
	}
}
