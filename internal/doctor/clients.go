package doctor

import "time"

// Client is what the doctor looks at in a client of the service.
type Client struct {
	ID                string
	Since             time.Time // zero where nobody knows, as for one of the configuration file
	MultipleAudiences bool
	OptionalPKCE      bool
	Problems          []string // the rules that it breaks, in words
}

// Look lists the weaker settings of the client, and why it is off if it is.
func (c Client) Look() (found []Finding) {
	note := func(problem, replace string) {
		found = append(found, Finding{Kind: "Client", Name: c.ID, Since: c.Since, Problem: problem, Replace: replace})
	}
	if c.OptionalPKCE {
		note("may do without PKCE: a code that is stolen can be redeemed through the application",
			"let the application send a code_challenge, then remove require_pkce: false")
	}
	if c.MultipleAudiences {
		note("its tokens are good at several APIs, and each of these can use them at the others",
			"ask for a token for each API, then remove allow_multiple_audiences")
	}
	for _, problem := range c.Problems {
		note("is off, since it breaks a rule: "+problem, "fix it with signalbox client update, then signalbox client enable")
	}
	return found
}
