package conformance

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestConfig: oidcc-config-certification-test-plan.
func TestConfig(t *testing.T) {
	t.Run("oidcc-discovery-endpoint-verification", func(t *testing.T) {
		found := send(t, http.MethodGet, "/.well-known/openid-configuration", nil)
		if found.status != http.StatusOK || !strings.HasPrefix(found.header.Get("Content-Type"), "application/json") || found.text("issuer") != issuer {
			t.Fatalf("%d %q %v", found.status, found.header.Get("Content-Type"), found.body)
		}
		for _, name := range []string{"authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "end_session_endpoint"} {
			if !strings.HasPrefix(found.text(name), issuer+"/") {
				t.Errorf("%s is %q", name, found.text(name))
			}
		}
		for name, want := range map[string]string{
			"response_types_supported": "code", "subject_types_supported": "public", "id_token_signing_alg_values_supported": "RS256", "scopes_supported": "openid",
			"response_modes_supported": "form_post", "grant_types_supported": "authorization_code", "claims_supported": "phone_number",
			"token_endpoint_auth_methods_supported": "client_secret_post", "acr_values_supported": "urn:signalbox:acr:password",
		} {
			if !slices.Contains(list(found, name), want) {
				t.Errorf("%s is %v, without %s", name, found.body[name], want)
			}
		}
		if algs := list(found, "request_object_signing_alg_values_supported"); len(algs) == 0 || slices.Contains(algs, "none") {
			t.Errorf("request_object_signing_alg_values_supported is %v", algs)
		}
		if found.body["claims_parameter_supported"] != true || found.body["request_uri_parameter_supported"] != false || found.body["request_parameter_supported"] != false {
			t.Errorf("%v", found.body)
		}
		seen := map[any]bool{}
		for _, key := range send(t, http.MethodGet, "/jwks", nil).body["keys"].([]any) {
			k := key.(map[string]any)
			if k["use"] != "sig" || k["alg"] == nil || k["kid"] == nil || k["d"] != nil || seen[k["kid"]] {
				t.Errorf("the key %v", k)
			}
			seen[k["kid"]] = true
		}
		if len(seen) < 2 {
			t.Errorf("%d keys", len(seen))
		}
	})
}

func list(a answer, name string) (values []string) {
	all, _ := a.body[name].([]any)
	for _, v := range all {
		s, _ := v.(string)
		values = append(values, s)
	}
	return values
}
