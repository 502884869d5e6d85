package clientauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// vouch makes a token one that another issuer has made, and says what it proves.
func (w *world) vouch(raw string, p authority.Proof) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.vouched == nil {
		w.vouched = map[string]authority.Proof{}
	}
	p.Hash = "hash of " + raw[max(0, len(raw)-8):]
	p.Claims = []byte(`{}`)
	if p.Subject != "" && p.Expires.IsZero() {
		p.Expires = w.now.Add(time.Hour)
	}
	w.vouched[raw] = p
}

// foreign is a token of a pod of argocd/server, with what it proves changed.
func (w *world) foreign(change func(*authority.Proof)) string {
	raw := newAssertionKey(w.t, "hub-1").sign(w.t, w.claims("iss", "https://kubernetes.default.svc", "sub", "system:serviceaccount:argocd:server"))
	p := authority.Proof{
		Cluster: "hub", Namespace: "argocd", ServiceAccount: "server", Subject: "system:serviceaccount:argocd:server",
		ID: "jti-1", Pod: authority.ObjectRef{Name: "server-0", UID: "uid-1"},
	}
	change(&p)
	claims := p.Claims
	w.vouch(raw, p)
	if claims != nil {
		p = w.vouched[raw]
		p.Claims = claims
		w.vouched[raw] = p
	}
	return raw
}

func TestFederatedAssertions(t *testing.T) {
	w := newWorld(t)
	pod := w.foreign(func(*authority.Proof) {})
	own := w.signedClient("signed")
	disabled := federatedClient("off", authority.FederatedCredential{TrustedIssuer: "ci", Subject: "off"})
	disabled.Disabled = true
	w.declared.Clients["off"] = disabled
	w.declared.Clients["none"] = federatedClient("none", authority.FederatedCredential{}) // no rule lets it in; nothing proves it either
	w.declare()
	with := func(change func(*authority.Proof)) string { return w.foreign(change) }
	claims := func(text string) string { return with(func(p *authority.Proof) { p.Claims = []byte(text) }) }
	job := with(func(p *authority.Proof) { *p = authority.Proof{TrustedIssuer: "ci", Subject: "repo:acme"} })
	for _, row := range []struct {
		name, client, token string
		change              func(*http.Request)
		want                int
	}{
		{"the pod of the service account", "argocd", pod, nil, 200},
		{"the job of the CI system", "builder", job, nil, 200},
		{"36: the pod as another client of another workload", "builder", pod, nil, 401},
		{"36: the pod as a client with a secret", "service", pod, nil, 401},
		{"36: the pod as a client with keys of its own", "signed", pod, nil, 401},
		{"36: the pod as a public client", "spa", pod, nil, 401},
		{"36: the pod as a client that is disabled", "off", with(func(p *authority.Proof) { *p = authority.Proof{TrustedIssuer: "ci", Subject: "off"} }), nil, 401},
		{"36: the pod as a client without a credential", "none", pod, nil, 401},
		{"36: the pod as nobody", "nosuch", pod, nil, 401},
		{"36: the pod and no client_id", "", pod, nil, 401},
		{"91: another service account", "argocd", with(func(p *authority.Proof) { p.ServiceAccount = "server-evil" }), nil, 401},
		{"91: another namespace", "argocd", with(func(p *authority.Proof) { p.Namespace = "argocd-evil" }), nil, 401},
		{"91: another cluster", "argocd", with(func(p *authority.Proof) { p.Cluster = "spoke" }), nil, 401},
		{"91: an issuer that calls its subject like the pod", "argocd", with(func(p *authority.Proof) {
			*p = authority.Proof{TrustedIssuer: "ci", Subject: "cluster:hub:ns:argocd:sa:server"}
		}), nil, 401},
		{"84: a subject that begins like the job's", "builder", with(func(p *authority.Proof) { *p = authority.Proof{TrustedIssuer: "ci", Subject: "repo:acme-evil"} }), nil, 401},
		{"84: the job's subject of another issuer", "builder", with(func(p *authority.Proof) { *p = authority.Proof{TrustedIssuer: "cd", Subject: "repo:acme"} }), nil, 401},
		{"an assertion that is bound to a key", "argocd", claims(`{"cnf":{"jkt":"x"}}`), nil, 401},
		{"an assertion of somebody who acts", "argocd", claims(`{"act":{"sub":"x"}}`), nil, 401},
		{"an assertion for which somebody may act", "argocd", claims(`{"may_act":{"sub":"argocd"}}`), nil, 401},
		{"an assertion whose time is over, by its issuer's clock", "argocd", with(func(p *authority.Proof) { p.Expires = w.clock() }), nil, 401},
		{"a token that nobody vouches for", "argocd", newAssertionKey(t, "hub-1").sign(t, w.claims("iss", "https://kubernetes.default.svc")), nil, 401},
		{"37: an assertion that a client with keys has signed for itself", "argocd", own.sign(t, w.claims()), nil, 400},
		{"34: and a secret in the header", "argocd", pod, authorization(basic("service:" + secretOf("service"))), 400},
		{"34: and an empty secret in the header", "argocd", pod, authorization(basic("argocd:")), 400},
		{"34: and a secret in the body", "argocd", pod, addForm("client_secret", secretOf("service")), 400},
		{"of another type", "argocd", pod, func(r *http.Request) {
			_ = r.ParseForm()
			v := r.PostForm
			v.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")
			setBody(r, v.Encode())
		}, 400},
		{"54: many dots", "argocd", strings.Repeat(".", 10000), nil, 401},
	} {
		t.Run(row.name, func(t *testing.T) {
			w.Limit = NewLimiter(w.clock)
			change := []func(*http.Request){signedWith(row.token)}
			if row.client != "" {
				change = append(change, addForm("client_id", row.client))
			}
			if row.change != nil {
				change = append(change, row.change)
			}
			r := w.ask(goodForm, change...)
			if r.status != row.want {
				t.Fatalf("%d %v", r.status, r.body)
			}
			if row.want == 401 && r.text("error_description") != "client authentication failed" {
				t.Fatalf("39: the answer is not the one that everybody gets: %v", r.body)
			}
			if row.want == 200 && (r.client != row.client || w.shown.Hash == "" || w.shown.WorkloadID() != w.declared.Clients[row.client].Federated.WorkloadID()) {
				t.Fatalf("%q, by %+v", r.client, w.shown)
			}
		})
	}
}

// A pod's token is one file, read again for every request: it may be shown until it expires.
// What a client signs by itself may not.
func TestAFederatedAssertionMayBeShownAgain(t *testing.T) {
	w := newWorld(t)
	pod := w.foreign(func(*authority.Proof) {})
	own := w.signedClient("signed").sign(t, w.claims())
	for range 3 {
		if r := w.ask(goodForm, signedWith(pod), addForm("client_id", "argocd")); r.status != 200 {
			t.Fatalf("%d %v", r.status, r.body)
		}
	}
	if first, again := w.ask(goodForm, signedWith(own)), w.ask(goodForm, signedWith(own)); first.status != 200 || again.status != 401 {
		t.Errorf("37: %d, then %d", first.status, again.status)
	}
}

// Whatever nobody can say is no refusal, and no authentication either: the client tries again.
func TestWhatNobodyCanSayOfAnAssertion(t *testing.T) {
	w := newWorld(t)
	pod := w.foreign(func(*authority.Proof) {})
	for _, client := range []string{"argocd", "service", "nosuch"} {
		w.breakTickets(errors.New("the API server does not answer"))
		if r := w.ask(goodForm, signedWith(pod), addForm("client_id", client)); r.status != 503 || r.client != "" {
			t.Errorf("%s: %d %v", client, r.status, r.body)
		}
		w.breakTickets(nil)
	}
}

// Whoever has one authentic assertion cannot try it as every client: it is counted by itself,
// and comes with its refusal, for the record.
func TestAnAuthenticAssertionIsLimitedByItself(t *testing.T) {
	w := newWorld(t)
	pod := w.foreign(func(p *authority.Proof) { p.Namespace = "other" })
	for i := range failureBurst {
		if r := w.ask(goodForm, signedWith(pod), addForm("client_id", fmt.Sprint("client-", i))); r.status != 401 || w.shown.Hash == "" {
			t.Fatalf("%d: %d %v, by %+v", i, r.status, r.body, w.shown)
		}
	}
	if r := w.ask(goodForm, signedWith(pod), addForm("client_id", "argocd")); r.status != 429 {
		t.Fatalf("%d %v", r.status, r.body)
	}
	if r := w.ask(goodForm, signedWith(w.foreign(func(*authority.Proof) {})), addForm("client_id", "argocd")); r.status != 200 {
		t.Fatalf("the client itself is locked out: %d %v", r.status, r.body)
	}
}

// The journal and whoever runs the client learn what was wrong; the answer does not say it.
func TestWhyAnAssertionIsNotTheClients(t *testing.T) {
	w := newWorld(t)
	p := proof{method: "federated_jwt", clientID: "argocd", assertion: assertion{raw: w.foreign(func(p *authority.Proof) { p.Namespace = "other" })}}
	_, shown, err := w.check(context.Background(), p)
	if err == nil || shown.Hash == "" || !strings.Contains(err.Error(), "cluster:hub:ns:other:sa:server, which is not the client's federated_credential") {
		t.Errorf("%v", err)
	}
}
