package policy

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// podClaims is what a service-account token of Kubernetes 1.36 says.
const podClaims = `{"aud":["https://sts.example.com"],"exp":1800003600,"iat":1800000000,"iss":"https://kubernetes.default.svc",
"jti":"0b3c1f0e-8d2b-4c55-9f2d-2f6f7a1f5d10","kubernetes.io":{"namespace":"ns-7","node":{"name":"node-3","uid":"a4f3"},
"pod":{"name":"app-7-5c9f","uid":"b0e0"},"serviceaccount":{"name":"app","uid":"c1d1"}},"nbf":1800000000,"sub":"system:serviceaccount:ns-7:app"}`

// thousand is 1,000 policies, every fifth with a condition: half of pods, a
// quarter of CI jobs, a quarter of people and services.
func thousand(tb testing.TB) []authority.Policy {
	tb.Helper()
	var all []authority.Policy
	for i := range 1000 {
		m := authority.PolicyMetadata{Name: fmt.Sprintf("p-%d", i), To: authority.PolicyTo{Cluster: "spoke-a"}}
		when := ""
		switch i % 4 {
		case 0, 1:
			m.From = authority.PolicyFrom{Cluster: "hub", Namespace: fmt.Sprintf("ns-%d", i), ServiceAccount: "app"}
			when = fmt.Sprintf(`pod.name.startsWith("app-%d-") && claims["kubernetes.io"].node.name.matches("^node-[0-9]{1,3}$") && now > timestamp("2026-01-01T00:00:00Z")`, i)
		case 2:
			m.From = authority.PolicyFrom{TrustedIssuer: "github", Claims: map[string]string{"repository": fmt.Sprintf("acme/app-%d", i), "environment": "production"}}
			when = `claims.ref.startsWith("refs/heads/") && claims.run_attempt == "1"`
		default:
			m.From = authority.PolicyFrom{Client: fmt.Sprintf("service-%d", i), OnBehalfOf: "user"}
			when = `subject != "root"`
		}
		if i%5 == 0 {
			m.When = when
		}
		p, err := authority.NewPolicy(m)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func podRequest(i int) Request {
	proof := &authority.Proof{
		Cluster: "hub", Issuer: "https://kubernetes.default.svc", Subject: fmt.Sprintf("system:serviceaccount:ns-%d:app", i), Claims: json.RawMessage(podClaims),
		Namespace: fmt.Sprintf("ns-%d", i), ServiceAccount: "app", Pod: authority.ObjectRef{Name: fmt.Sprintf("app-%d-5c9f", i), UID: "b0e0"},
	}
	return Request{
		Proof: proof, Subject: authority.Subject{Issuer: issuer, ID: proof.WorkloadID(), Kind: authority.SubjectWorkload},
		Target: authority.ClusterAudience(issuer, "spoke-a"), Now: time.Unix(1800000000, 0),
	}
}

// jobRequest is a proof of GitHub Actions.
func jobRequest(i int) Request {
	claims := fmt.Sprintf(`{"aud":"https://sts.example.com","iss":"https://token.actions.githubusercontent.com","sub":"repo:acme/app-%d:environment:production",
"repository":"acme/app-%[1]d","environment":"production","ref":"refs/heads/main","run_attempt":"1","run_id":"9912345","actor":"ada","event_name":"push",
"repository_owner":"acme","repository_owner_id":"1","repository_id":"2","repository_visibility":"private","workflow":"ci","sha":"0123456789abcdef0123456789abcdef01234567",
"job_workflow_ref":"acme/app/.github/workflows/ci.yml@refs/heads/main","runner_environment":"github-hosted","ref_type":"branch","ref_protected":"true","iat":1800000000,"nbf":1800000000,"exp":1800000300,"jti":"x"}`, i)
	proof := &authority.Proof{TrustedIssuer: "github", Issuer: "https://token.actions.githubusercontent.com", Subject: fmt.Sprintf("repo:acme/app-%d:environment:production", i), Claims: json.RawMessage(claims)}
	return Request{
		Proof: proof, Subject: authority.Subject{Issuer: issuer, ID: proof.WorkloadID(), Kind: authority.SubjectWorkload},
		Target: authority.ClusterAudience(issuer, "spoke-a"), Now: time.Unix(1800000000, 0), Scopes: oauth.Scopes{},
	}
}

// The target is 20 µs a decision.
func BenchmarkDecide(b *testing.B) {
	set, err := Compile(issuer, thousand(b))
	if err != nil {
		b.Fatal(err)
	}
	for _, row := range []struct {
		name string
		req  Request
		want string
	}{
		{"a pod, exact", podRequest(4), "p-4"},
		{"a pod, with CEL", podRequest(20), "p-20"},
		{"a CI job, exact", jobRequest(6), "p-6"},
		{"a CI job, with CEL", jobRequest(10), "p-10"},
		{"nobody's pod", podRequest(4000), ""},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := set.Decide(row.req); d.Policy.Name != row.want {
					b.Fatalf("%+v", d)
				}
			}
		})
	}
}

// The target is 1 s.
func BenchmarkCompile(b *testing.B) {
	policies := thousand(b)
	for b.Loop() {
		if _, err := Compile(issuer, policies); err != nil {
			b.Fatal(err)
		}
	}
}
