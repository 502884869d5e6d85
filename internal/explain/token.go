// Package explain says in words what a token holds. It works offline and
// trusts nothing: what it shows has not been verified.
package explain

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// Token is an unverified token in words.
type Token struct {
	Kind   string          `json:"kind"`
	Header json.RawMessage `json:"header,omitempty"`
	Claims []Claim         `json:"claims,omitempty"`
	Notes  []string        `json:"notes"`
}

// Claim is one member with its meaning.
type Claim struct {
	Name    string          `json:"name"`
	Value   json.RawMessage `json:"value"`
	Meaning string          `json:"meaning"`
}

// meanings says what each member means, and where it is defined.
var meanings = map[string]string{
	"iss":                "issuer: who made the token (RFC 7519 §4.1.1)",
	"sub":                "subject: who it is about (RFC 7519 §4.1.2)",
	"aud":                "audience: the only places that may accept it (RFC 7519 §4.1.3)",
	"exp":                "expires (RFC 7519 §4.1.4)",
	"nbf":                "not valid before (RFC 7519 §4.1.5)",
	"iat":                "issued (RFC 7519 §4.1.6)",
	"jti":                "the token's own id: revocation and journal name it (RFC 7519 §4.1.7)",
	"client_id":          "the client that asked for it (RFC 8693 §4.3)",
	"scope":              "what it allows (RFC 8693 §4.2)",
	"sub_profile":        "what sub is: user, client or workload",
	"lineage":            "the grants that this one came from, oldest first; it dies with each of them",
	"lineage_clients":    "the clients of those grants; it dies with each of them",
	"client_workloads":   "the workloads as which its clients have proved themselves, by tokens of other issuers; it dies with each of them",
	"grant_id":           "the grant that it comes from and dies with",
	"sid":                "the browser session that it depends on",
	"auth_time":          "when the person signed in (OpenID Connect Core §2)",
	"acr":                "how strong the sign-in was (OpenID Connect Core §2)",
	"amr":                "how the person signed in (RFC 8176)",
	"act":                "who acts for the subject (RFC 8693 §4.1)",
	"groups":             "the groups that the trust policy gives",
	"policy":             "the trust policy that allowed the exchange",
	"may_act":            "who may act for the subject (RFC 8693 §4.4)",
	"cnf":                "the key that its holder must prove (RFC 7800)",
	"nonce":              "ties it to the authorization request (OpenID Connect Core §2)",
	"azp":                "the party that it was issued to (OpenID Connect Core §2)",
	"at_hash":            "ties it to its access token (OpenID Connect Core §3.1.3.6)",
	"name":               "the person's name (OpenID Connect Core §5.1)",
	"preferred_username": "the name that the person signs in with (OpenID Connect Core §5.1)",
	"email":              "e-mail address (OpenID Connect Core §5.1)",
	"email_verified":     "whether the address was checked (OpenID Connect Core §5.1)",
	"updated_at":         "when the profile last changed (OpenID Connect Core §5.1)",
}

var kinds = map[string]string{
	"at+jwt":   "access token (RFC 9068)",
	"jwt":      "JSON Web Token, such as an ID token; not an access token of Signalbox",
	"":         "JSON Web Token without a type",
	"jwt+dpop": "DPoP proof (RFC 9449)",
}

// Parse takes a token apart. An error means that it is not a token.
func Parse(raw string, now time.Time) (Token, error) {
	raw = strings.TrimSpace(raw)
	if strings.HasPrefix(raw, "sbx_") {
		return opaque(raw)
	}
	header, claims, err := jose.InspectUnverified(raw)
	if err != nil {
		return Token{}, fmt.Errorf("this is not a token that can be read: %w", err)
	}
	typ := strings.TrimPrefix(strings.ToLower(header.Type), "application/")
	kind, known := kinds[typ]
	if !known {
		kind = "JSON Web Token of type " + Printable(header.Type)
	}
	t := Token{Kind: kind, Header: header.Fields.JSON()}
	for _, name := range claims.Names() {
		value, _ := claims.Raw(name)
		meaning := meanings[name]
		if when, ok, err := claims.Time(name); isTime[name] && ok && err == nil {
			meaning += ": " + when.UTC().Format(time.RFC3339) + ", " + relative(when, now)
		}
		t.Claims = append(t.Claims, Claim{name, value, meaning})
	}
	if expires, ok, err := claims.Time("exp"); err == nil && ok && !now.Before(expires) {
		t.Notes = append(t.Notes, "it has expired")
	}
	if _, hasExp := claims.Raw("exp"); !hasExp {
		t.Notes = append(t.Notes, "it has no exp: it never expires, and nothing of Signalbox accepts it")
	}
	unchecked := "the signature was not checked"
	switch typ { // the types that the command takes
	case oauth.TypAccessToken:
		unchecked += ": signalbox token verify does that"
	case strings.ToLower(oauth.TypIDToken):
		unchecked += ": signalbox token verify --client-id CLIENT does that, if it is an ID token"
	}
	t.Notes = append(t.Notes, unchecked)
	return t, nil
}

var isTime = map[string]bool{"exp": true, "nbf": true, "iat": true, "auth_time": true, "updated_at": true}

func opaque(raw string) (Token, error) {
	for prefix, kind := range map[oauth.Prefix]string{
		oauth.PrefixAccessToken:       "opaque access token: only the issuer can read it, by introspection (RFC 7662)",
		oauth.PrefixRefreshToken:      "refresh token: good only at the issuer's token endpoint, for the client that it was made for",
		oauth.PrefixClientSecret:      "client secret: not a token; keep it off screens and out of logs",
		oauth.PrefixAuthorizationCode: "authorization code: good once, for a minute at most",
	} {
		if !strings.HasPrefix(raw, string(prefix)) {
			continue
		}
		if _, err := oauth.DecodeOpaque(prefix, raw, 16<<10); err != nil {
			return Token{Kind: kind, Notes: []string{err.Error()}}, nil
		}
		return Token{Kind: kind, Notes: []string{"the checksum is right: nothing is missing"}}, nil
	}
	return Token{}, fmt.Errorf("this starts like a value of Signalbox, but is of no kind that this version knows")
}

// relative says how far off a moment is.
func relative(when, now time.Time) string {
	d := when.Sub(now).Round(time.Second)
	switch {
	case d > 0:
		return "in " + d.String()
	case d < 0:
		return (-d).String() + " ago"
	default:
		return "now"
	}
}

// String is the form for people. Control characters of the token are shown as
// escapes, so that no token can write on a terminal.
func (t Token) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", t.Kind)
	if t.Header != nil {
		fmt.Fprintf(&b, "  header %s\n", Printable(string(t.Header)))
	}
	width := 0
	for _, c := range t.Claims {
		width = max(width, len(c.Name))
	}
	for _, c := range t.Claims {
		fmt.Fprintf(&b, "  %-*s  %s\n", width, Printable(c.Name), Printable(string(c.Value)))
		if c.Meaning != "" {
			fmt.Fprintf(&b, "  %-*s  # %s\n", width, "", c.Meaning)
		}
	}
	for _, note := range t.Notes {
		fmt.Fprintf(&b, "  note: %s\n", note)
	}
	return b.String()
}

// Printable escapes what a terminal would act on.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
