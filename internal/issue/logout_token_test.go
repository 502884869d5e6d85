package issue

import (
	"reflect"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

func TestALogoutToken(t *testing.T) {
	b := newBench(t)
	session := authority.NewID(testNow)
	for _, row := range []struct {
		name    string
		client  authority.Client
		session authority.ID
		alg     jose.Algorithm
	}{
		{"of one session", authority.Client{ID: "web"}, session, jose.ES256},
		{"of all of a person's", authority.Client{ID: "web"}, authority.ID{}, jose.ES256},
		{"with the algorithm of the client's ID tokens", authority.Client{ID: "web", IDTokenAlg: "EdDSA"}, session, jose.EdDSA},
	} {
		raw, id, err := b.LogoutToken(row.client, "ada-id", row.session, testNow)
		if err != nil {
			t.Fatal(err)
		}
		header, _, err := jose.InspectUnverified(raw)
		if err != nil || header.Type != "logout+jwt" || header.Algorithm != row.alg {
			t.Errorf("%s: header %+v, %v", row.name, header, err)
		}
		want := map[string]any{
			"iss": testIssuer, "sub": "ada-id", "aud": "web", "jti": id.String(), "iat": float64(testNow.Unix()), "exp": float64(testNow.Unix() + 120),
			"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
		}
		if !row.session.IsZero() {
			want["sid"] = session.String()
		}
		if got := payload(t, raw); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", row.name, got, want)
		}
	}
}

// docs/security/threats.md D 59, M 122.
func TestALogoutTokenIsNothingElse(t *testing.T) {
	b := newBench(t)
	raw, _, err := b.LogoutToken(authority.Client{ID: testAPI}, "ada-id", authority.NewID(testNow), testNow)
	if err != nil {
		t.Fatal(err)
	}
	if token, err := b.Reader.IDToken(raw); err == nil {
		t.Errorf("taken for an ID token: %+v", token)
	}
	if token, _, err := b.Reader.Accept(t.Context(), raw, testAPI); err == nil {
		t.Errorf("taken for an access token: %+v", token)
	}
}
