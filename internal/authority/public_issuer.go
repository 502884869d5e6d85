package authority

import (
	"slices"
	"strings"
)

// publicIssuer is an issuer of which anybody can have tokens. Only its claims
// tell ours from a stranger's: docs/how-to/ci-jobs.md.
type publicIssuer struct {
	name    string
	is      func(issuer string) bool
	pins    []pin
	foreign []string // audiences that belong to others: what was meant for them would be accepted here
}

// pin is what a policy has to say. One of the claims is enough.
type pin struct {
	claims []string
	text   string // what follows when none of them is pinned
	fix    string
}

var publicIssuers = []publicIssuer{
	{
		name: "GitHub Actions",
		is: func(iss string) bool {
			return iss == "https://token.actions.githubusercontent.com" || strings.HasPrefix(iss, "https://token.actions.githubusercontent.com/")
		},
		pins: []pin{
			{[]string{"sub", "repository", "repository_id", "repository_owner", "repository_owner_id"}, "every repository on GitHub matches", "pin subject, or repository_id or repository_owner_id"},
			{[]string{"sub", "ref", "environment", "job_workflow_ref", "workflow_ref"}, "every branch and pull request of the repository matches", "pin subject, ref, environment or job_workflow_ref"},
		},
		foreign: []string{"https://github.com/", "sts.amazonaws.com", "sigstore", "api://AzureADTokenExchange"},
	},
	{
		name: "GitLab CI",
		is:   func(iss string) bool { return iss == "https://gitlab.com" },
		pins: []pin{
			{[]string{"sub", "project_path", "project_id", "namespace_path", "namespace_id"}, "every project on GitLab matches", "pin subject, or project_id or namespace_id"},
			{[]string{"sub", "ref_protected", "environment", "environment_protected"}, "every branch matches, also one that whoever may push has made", "pin subject, ref_protected or environment_protected"},
		},
		foreign: []string{"https://gitlab.com", "sigstore"},
	},
	{
		name: "Google",
		is:   func(iss string) bool { return iss == "https://accounts.google.com" || iss == "accounts.google.com" },
		pins: []pin{
			{[]string{"sub", "email"}, "everybody with an account at Google may match, since they choose aud themselves", "pin subject: the unique id of the service account"},
		},
	},
	{
		name: "Azure",
		is: func(iss string) bool {
			return strings.HasPrefix(iss, "https://login.microsoftonline.com/") || strings.HasPrefix(iss, "https://sts.windows.net/")
		},
		pins: []pin{
			{[]string{"sub", "oid"}, "everybody in the tenant may match", "pin subject or oid: the object id of the managed identity"},
		},
		foreign: []string{"https://management.azure.com", "https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000", "api://AzureADTokenExchange"},
	},
	{
		name: "Buildkite",
		is:   func(iss string) bool { return iss == "https://agent.buildkite.com" },
		pins: []pin{
			{[]string{"sub", "organization_id", "organization_slug", "pipeline_id"}, "every organization on Buildkite matches", "pin organization_id"},
			{[]string{"sub", "pipeline_id", "pipeline_slug"}, "every pipeline of the organization matches", "pin pipeline_id"},
			{[]string{"sub", "build_branch", "build_tag"}, "every branch of the pipeline matches", "pin build_branch"},
		},
	},
}

func publicIssuerOf(issuer string) (publicIssuer, bool) {
	i := slices.IndexFunc(publicIssuers, func(p publicIssuer) bool { return p.is(issuer) })
	if i < 0 {
		return publicIssuer{}, false
	}
	return publicIssuers[i], true
}

// Warnings finds what breaks no rule and lets in more than was meant: what a
// policy about a public issuer does not pin. issuer is the `iss` of
// from.trusted_issuer. A claim that `when` mentions counts as pinned.
func (m PolicyMetadata) Warnings(issuer string) []Problem {
	public, ok := publicIssuerOf(issuer)
	if m.From.TrustedIssuer == "" || !ok {
		return nil
	}
	var found Problems
	for _, pin := range public.pins {
		pinned := slices.ContainsFunc(pin.claims, func(claim string) bool {
			_, exact := m.From.Claims[claim]
			return exact || claim == "sub" && (m.From.Subject != "" || mentions(m.When, "subject")) || mentions(m.When, claim)
		})
		if !pinned {
			found = append(found, Problem{Field: "from", Text: "lets in too many of " + public.name + ": " + pin.text, Fix: pin.fix})
		}
	}
	found.pullRequests("from.subject", m.From.Subject)
	return found
}

// Warnings does the same for a client. issuer is the `iss` of its trusted issuer.
func (f FederatedCredential) Warnings(issuer string) []Problem {
	var found Problems
	if _, public := publicIssuerOf(issuer); public {
		found.pullRequests("federated_credential.subject", f.Subject)
	}
	return found
}

func (p *Problems) pullRequests(field, subject string) {
	if strings.HasSuffix(subject, ":pull_request") {
		p.add(field, "is that of every pull request, which nobody has reviewed yet", "pin a branch or an environment")
	}
}

// Warnings finds what breaks no rule and lets in more than was meant.
func (m TrustedIssuerMetadata) Warnings() []Problem {
	public, _ := publicIssuerOf(m.Issuer)
	var found Problems
	for i, aud := range m.Audiences {
		for _, foreign := range public.foreign {
			if aud == foreign || strings.HasSuffix(foreign, "/") && strings.HasPrefix(aud, foreign) {
				found.add(member("audiences", i), quote(aud)+" is the audience of another service, which could show here what it was given", "write an audience that is ours alone, such as our issuer URL")
			}
		}
	}
	return found
}

// mentions looks for a word of CEL. It does not understand the expression: who
// writes one about a claim has thought of it.
func mentions(expression, word string) bool {
	isWord := func(r rune) bool {
		return r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	return slices.Contains(strings.FieldsFunc(expression, func(r rune) bool { return !isWord(r) }), word)
}

// everyTenant finds what the discovery of Azure has in place of a tenant.
func everyTenant(issuer string) string {
	for _, host := range []string{"https://login.microsoftonline.com/", "https://sts.windows.net/"} {
		if path, ok := strings.CutPrefix(issuer, host); ok {
			tenant, _, _ := strings.Cut(path, "/")
			if slices.Contains([]string{"common", "organizations", "consumers", "{tenantid}", ""}, tenant) {
				return quote(tenant)
			}
		}
	}
	return ""
}
