package authority

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

const bundleKey = `{"keys":[{"use":"jwt-svid","kid":"a","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

func TestTheRulesOfATrustedIssuer(t *testing.T) {
	domain := func(m *TrustedIssuerMetadata) {
		m.Issuer, m.TrustDomain, m.JWKS = "", "prod.example.com", json.RawMessage(bundleKey)
	}
	also := func(first, then func(*TrustedIssuerMetadata)) func(*TrustedIssuerMetadata) {
		return func(m *TrustedIssuerMetadata) { first(m); then(m) }
	}
	for _, row := range []struct {
		name   string
		change func(*TrustedIssuerMetadata)
		field  string
		text   string
	}{
		{"one with a discovery", func(*TrustedIssuerMetadata) {}, "", ""},
		{"one whose keys are pasted", func(m *TrustedIssuerMetadata) { m.JWKS = json.RawMessage(publicKey) }, "", ""},
		{"one whose keys are fetched", func(m *TrustedIssuerMetadata) { m.JWKSURI = "https://example.com/keys" }, "", ""},
		{"an iss that is no URL, with its keys", func(m *TrustedIssuerMetadata) { m.Issuer, m.JWKS = "accounts.google.com", json.RawMessage(publicKey) }, "", ""},
		{"a trust domain", domain, "", ""},
		{"a trust domain with a bundle endpoint", also(domain, func(m *TrustedIssuerMetadata) { m.JWKS, m.JWKSURI = nil, "https://spire.example.com:8443" }), "", ""},
		{"a tenant of Azure", func(m *TrustedIssuerMetadata) {
			m.Issuer = "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0"
		}, "", ""},
		{"no name", func(m *TrustedIssuerMetadata) { m.Name = "" }, "name", "missing"},
		{"a name with a colon, which ends it in a subject", func(m *TrustedIssuerMetadata) { m.Name = "git:hub" }, "name", "not a name"},
		{"a name with a slash, which ends it in evidence", func(m *TrustedIssuerMetadata) { m.Name = "git/hub" }, "name", "not a name"},
		{"no issuer", func(m *TrustedIssuerMetadata) { m.Issuer = "" }, "issuer", "missing"},
		{"an issuer with a space", func(m *TrustedIssuerMetadata) { m.Issuer = "https://a b" }, "issuer", "not an issuer"},
		{"an iss that is no URL, without its keys", func(m *TrustedIssuerMetadata) { m.Issuer = "accounts.google.com" }, "issuer", "discovery"},
		{"plain HTTP", func(m *TrustedIssuerMetadata) { m.Issuer = "http://ci.example.com" }, "issuer", "https"},
		{"every tenant of Azure", func(m *TrustedIssuerMetadata) { m.Issuer = "https://login.microsoftonline.com/common/v2.0" }, "issuer", "tenant"},
		{"the template of Azure", func(m *TrustedIssuerMetadata) {
			m.Issuer, m.JWKS = "https://login.microsoftonline.com/{tenantid}/v2.0", json.RawMessage(publicKey)
		}, "issuer", "tenant"},
		{"keys in two places", func(m *TrustedIssuerMetadata) {
			m.JWKS, m.JWKSURI = json.RawMessage(publicKey), "https://example.com/keys"
		}, "jwks", "beside"},
		{"keys by plain HTTP", func(m *TrustedIssuerMetadata) { m.JWKSURI = "http://example.com/keys" }, "jwks_uri", "https"},
		{"a private key", func(m *TrustedIssuerMetadata) {
			m.JWKS = json.RawMessage(strings.Replace(publicKey, `"kty"`, `"d":"AA","kty"`, 1))
		}, "jwks", "private"},
		{"no key", func(m *TrustedIssuerMetadata) { m.JWKS = json.RawMessage(`{"keys":[]}`) }, "jwks", "no key"},
		{"an issuer with the bundle of a trust domain", func(m *TrustedIssuerMetadata) { m.JWKS = json.RawMessage(bundleKey) }, "jwks", "no key"},
		{"an issuer and a trust domain", func(m *TrustedIssuerMetadata) { m.TrustDomain, m.JWKS = "prod.example.com", json.RawMessage(publicKey) }, "issuer", "beside"},
		{"a trust domain with the keys of an issuer", also(domain, func(m *TrustedIssuerMetadata) { m.JWKS = json.RawMessage(publicKey) }), "jwks", "no key"},
		{"a trust domain without a bundle", also(domain, func(m *TrustedIssuerMetadata) { m.JWKS = nil }), "jwks", "missing"},
		{"a trust domain with its scheme", also(domain, func(m *TrustedIssuerMetadata) { m.TrustDomain = "spiffe://prod" }), "trust_domain", "spiffe://"},
		{"a trust domain with a path", also(domain, func(m *TrustedIssuerMetadata) { m.TrustDomain = "prod/a" }), "trust_domain", "not a trust domain"},
		{"an empty audience", func(m *TrustedIssuerMetadata) { m.Audiences = []string{""} }, "audiences[0]", "not an audience"},
		{"an audience with a space", func(m *TrustedIssuerMetadata) { m.Audiences = []string{"a b"} }, "audiences[0]", "not an audience"},
		{"an audience twice", func(m *TrustedIssuerMetadata) { m.Audiences = []string{"a", "a"} }, "audiences[1]", "twice"},
	} {
		m := TrustedIssuerMetadata{Name: "github", Issuer: "https://token.actions.githubusercontent.com"}
		row.change(&m)
		t.Run(row.name, func(t *testing.T) {
			wants(t, m.Validate(), row.field, row.text)
			issuer, err := NewTrustedIssuer(m)
			if (err == nil) != (row.field == "") || err == nil && !reflect.DeepEqual(issuer.Metadata(), m) {
				t.Errorf("there and back: %v %+v", err, issuer)
			}
		})
	}
}

func TestATrustedIssuerIsNotOurselves(t *testing.T) {
	found, err := TrustedIssuerMetadata{Name: "a", Issuer: "https://sts.example.com"}.CheckReferences(References{Issuer: "https://sts.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	wants(t, found, "issuer", "our own")
}

func TestPoliciesThatLetInTooMany(t *testing.T) {
	const gh, gl, google, azure, bk = "https://token.actions.githubusercontent.com", "https://gitlab.com", "https://accounts.google.com",
		"https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0", "https://agent.buildkite.com"
	from := func(subject, when string, claims ...string) PolicyMetadata {
		m := PolicyMetadata{Name: "p", When: when, From: PolicyFrom{TrustedIssuer: "ci", Subject: subject, Claims: map[string]string{}}}
		for i := 0; i < len(claims); i += 2 {
			m.From.Claims[claims[i]] = claims[i+1]
		}
		return m
	}
	for _, row := range []struct {
		name   string
		issuer string
		policy PolicyMetadata
		want   []string // what each warning says
	}{
		{"GitHub, by subject", gh, from("repo:acme/app:ref:refs/heads/main", ""), nil},
		{"GitHub, by repository and branch", gh, from("", "", "repository_id", "1", "ref", "refs/heads/main"), nil},
		{"GitHub, by repository alone", gh, from("", "", "repository", "acme/app"), []string{"every branch"}},
		{"GitHub, by branch alone", gh, from("", "", "ref", "refs/heads/main"), []string{"every repository"}},
		{"GitHub, by actor alone", gh, from("", "", "actor", "ada"), []string{"every repository", "every branch"}},
		{"GitHub, by an expression", gh, from("", `claims.repository_owner_id == "1" && claims["ref"].startsWith("refs/tags/v")`, "actor", "ada"), nil},
		{"GitHub, by an expression about the subject", gh, from("", `subject.startsWith("repo:acme/")`, "actor", "ada"), nil},
		{"GitHub, by an expression about another claim", gh, from("", `claims.xref == "a"`, "repository", "acme/app"), []string{"every branch"}},
		{"GitHub, pull requests", gh, from("repo:acme/app:pull_request", ""), []string{"reviewed"}},
		{"GitHub, an enterprise", gh + "/acme", from("", "", "repository", "acme/app"), []string{"every branch"}},
		{"GitHub's name with something behind it", gh + ".evil", from("", "", "actor", "ada"), nil},
		{"GitLab, by subject", gl, from("project_path:acme/app:ref_type:branch:ref:main", ""), nil},
		{"GitLab, by project and protected branch", gl, from("", "", "project_id", "1", "ref_protected", "true"), nil},
		{"GitLab, by project and branch", gl, from("", "", "project_id", "1", "ref", "main"), []string{"every branch"}},
		{"a GitLab of one's own", "https://gitlab.example.com", from("", "", "ref", "main"), nil},
		{"Google, by subject", google, from("104...", ""), nil},
		{"Google, by domain", google, from("", "", "hd", "example.com"), []string{"everybody"}},
		{"Azure, by object", azure, from("", "", "oid", "1"), nil},
		{"Azure, by application", azure, from("", "", "azp", "1"), []string{"everybody in the tenant"}},
		{"Buildkite, by pipeline and branch", bk, from("", "", "pipeline_id", "1", "build_branch", "main"), nil},
		{"Buildkite, by organization", bk, from("", "", "organization_id", "1"), []string{"every pipeline", "every branch"}},
		{"a policy for a cluster", gh, PolicyMetadata{Name: "p", From: PolicyFrom{Cluster: "hub"}}, nil},
	} {
		found := row.policy.Warnings(row.issuer)
		ok := len(found) == len(row.want)
		for i := range min(len(found), len(row.want)) {
			ok = ok && strings.Contains(found[i].Text, row.want[i]) && found[i].Fix != ""
		}
		if !ok {
			t.Errorf("%s: want %q, found %q", row.name, row.want, Problems(found))
		}
	}
}

func TestAudiencesThatBelongToOthers(t *testing.T) {
	for aud, text := range map[string]string{"https://github.com/acme": "another service", "sts.amazonaws.com": "another service", "https://sts.example.com": "", "https://github.community": ""} {
		field := ""
		if text != "" {
			field = "audiences[1]"
		}
		m := TrustedIssuerMetadata{Name: "github", Issuer: "https://token.actions.githubusercontent.com", Audiences: []string{"signalbox", aud}}
		wants(t, m.Warnings(), field, text)
		m.Issuer = "https://ci.example.com"
		wants(t, m.Warnings(), "", "")
	}
}

func goodProof() Proof {
	return Proof{
		Cluster: "hub", Issuer: "https://kubernetes.default.svc", Subject: "system:serviceaccount:shop:web", Namespace: "shop", ServiceAccount: "web",
		Pod: ObjectRef{"web-0", "7d3b1c5e-2222-4f6e-8a55-d3c4a1b2c3d4"}, Node: ObjectRef{"node-1", ""}, Expires: time.Unix(1, 0),
	}
}

func TestWhatAProofMayName(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*Proof)
		want   string
	}{
		{"a pod", func(*Proof) {}, ""},
		{"a pod whose node is not known", func(p *Proof) { p.Node = ObjectRef{} }, ""},
		{"an account with dots", func(p *Proof) { p.ServiceAccount = "a.b" }, ""},
		{"a job", func(p *Proof) { *p = Proof{TrustedIssuer: "github", Subject: "repo:acme/app:environment:Prüfung 1"} }, ""},
		{"nobody's", func(p *Proof) { p.Cluster = "" }, "one cluster or one"},
		{"of a cluster and an issuer", func(p *Proof) { p.TrustedIssuer = "github" }, "one cluster or one"},
		{"no subject", func(p *Proof) { p.Subject = "" }, "sub"},
		{"a subject without end", func(p *Proof) { p.Subject = strings.Repeat("a", 513) }, "sub"},
		{"a subject of two lines", func(p *Proof) { p.Subject = "a\nb" }, "sub"},
		{"a subject that reads backwards", func(p *Proof) { p.Subject = "a\u202eb" }, "sub"},
		{"a subject that is not UTF-8", func(p *Proof) { p.Subject = "\xff" }, "sub"},
		{"a jti without end", func(p *Proof) { p.ID = strings.Repeat("a", 256) }, "jti"},
		{"a jti that a terminal obeys", func(p *Proof) { p.ID = "\x1b[2J" }, "jti"},
		{"a namespace that is another subject", func(p *Proof) { p.Namespace = "shop:sa:web" }, "namespace"},
		{"a namespace without end", func(p *Proof) { p.Namespace = strings.Repeat("a", 64) }, "namespace"},
		{"an account with a slash", func(p *Proof) { p.ServiceAccount = "a/b" }, "namespace or service account"},
		{"a pod without a uid", func(p *Proof) { p.Pod.UID = "" }, "uid"},
		{"a pod whose uid is another cluster's evidence", func(p *Proof) { p.Pod.UID = "a/b" }, "uid"},
		{"a pod without a name", func(p *Proof) { p.Pod.Name = "" }, "name"},
		{"a node with a uid and no name", func(p *Proof) { p.Node = ObjectRef{"", "a"} }, "node"},
	} {
		p := goodProof()
		row.change(&p)
		if err := p.Check(); (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestNoTwoProofsAreOneWorkload(t *testing.T) {
	pod, job := goodProof(), Proof{TrustedIssuer: "hub", Subject: "ns:shop:sa:web", ID: "1"}
	other := goodProof()
	other.Cluster = "hub2"
	ids := map[string]bool{}
	for _, p := range []Proof{pod, job, other} {
		ids[p.WorkloadID()] = true
		if cluster, namespace, issuer := workloadOf(p.WorkloadID()); cluster != p.Cluster || issuer != p.TrustedIssuer || cluster != "" && namespace != "cluster:"+cluster+":ns:shop" {
			t.Errorf("%s is of %q, %q, %q", p.WorkloadID(), cluster, namespace, issuer)
		}
	}
	if len(ids) != 3 {
		t.Errorf("%v", ids)
	}
	if got := pod.Evidence(); got != PodEvidence("hub", pod.Pod.UID) {
		t.Errorf("%+v", got)
	}
	job.ID, job.Hash = "", "0011"
	if got := job.Evidence(); got != (Evidence{EvidenceJob, "hub/0011"}) {
		t.Errorf("%+v", got)
	}
}
