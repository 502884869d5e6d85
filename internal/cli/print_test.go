package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
)

// TestTextHasNoJSON: whoever wants that says -o json.
func TestTextHasNoJSON(t *testing.T) {
	end, never := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), int64(0)
	for _, row := range []struct {
		value any
		want  string
	}{
		{admin.ClientCredentials{Client: admin.Client{Secrets: []admin.LiveSecret{{ExpiresAt: &end}, {Current: true}, {Current: true, CreatedAt: &end}}}}, "one until 2026-01-31T12:00:00Z, one until it is rotated, one made 2026-01-31T12:00:00Z until it is rotated"},
		{admin.ClientCredentials{SecretExpiresAt: &never}, "never"},
		{admin.Key{Public: []byte(`{"kty":"EC","crv":"P-256","x":"a","y":"b"}`)}, "EC P-256 (in full with -o json)"},
		{admin.Key{Public: []byte(`{"kty":"RSA","n":"a","e":"AQAB"}`)}, "RSA (in full with -o json)"},
		{admin.Client{JWKS: []byte(`{"keys":[{"kid":"one","alg":"ES256","key_ops":["verify"]},{"kid":"two"}]}`)}, "keys 2: alg ES256, key_ops verify, kid one; kid two"},
		{admin.GrantWithFamily{Grant: admin.Grant{Subject: admin.Subject{Issuer: "https://sts.example.com", ID: "u_1", Kind: "user"}}}, "user u_1 of https://sts.example.com"},
		{struct {
			Public string `json:"public"`
		}{"text"}, "text"},
	} {
		var out bytes.Buffer
		if err := printFields(&out, row.value, end.Add(72*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "  "+row.want+"\n") || strings.ContainsAny(out.String(), "{}[]\"") {
			t.Errorf("%+v: no %q in:\n%s", row.value, row.want, out.String())
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 grants", 1: "1 grant", 2: "2 grants"} {
		if got := count(n, "grant"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
