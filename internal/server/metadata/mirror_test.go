package metadata_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/node/nodetest"
)

const hubKeys = `{"keys":[` +
	`{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"b","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},` +
	`{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

func TestMirrorsOfClusters(t *testing.T) {
	rig := nodetest.New(t, nodetest.Setup{Static: authority.StaticObjects{Clusters: map[string]authority.Cluster{
		"hub":     {Name: "hub", Issuer: "https://kubernetes.default.svc", Keys: []byte(hubKeys)},
		"bare":    {Name: "bare", Issuer: "https://kubernetes.default.svc"},
		"spoke-a": {Name: "spoke-a"},
	}}})
	get := func(path string) *httptest.ResponseRecorder {
		answer := httptest.NewRecorder()
		rig.Public.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, nodetest.Issuer+path, nil))
		return answer
	}
	var document map[string]any
	a := get("/clusters/hub/.well-known/openid-configuration")
	if err := json.Unmarshal(a.Body.Bytes(), &document); err != nil || a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	// The issuer is the cluster's own: whoever reads this trusts its tokens, not ours.
	for name, want := range map[string]string{"issuer": "https://kubernetes.default.svc", "jwks_uri": nodetest.Issuer + "/clusters/hub/jwks"} {
		if document[name] != want {
			t.Errorf("%s is %v", name, document[name])
		}
	}
	if list, _ := document["id_token_signing_alg_values_supported"].([]any); len(list) != 2 || list[0] != "ES256" || list[1] != "EdDSA" {
		t.Error(list)
	}
	keys := get("/clusters/hub/jwks")
	if set, err := jose.ParseKeySet(keys.Body.Bytes()); keys.Code != 200 || err != nil || len(set) != 2 {
		t.Errorf("%d %s %v", keys.Code, keys.Body, err)
	}
	for _, a := range []*httptest.ResponseRecorder{a, keys} {
		if a.Header().Get("Cache-Control") != "public, max-age=60" || a.Header().Get("Content-Type") != "application/json" {
			t.Error(a.Header())
		}
	}
	for _, name := range []string{"spoke-a", "nosuch", "HUB", "hub%2f..", "hub%00", strings.Repeat("a", 64), strings.Repeat("a", 4000), "h_b", "%20"} {
		for _, path := range []string{"/jwks", "/.well-known/openid-configuration"} {
			if a := get("/clusters/" + name + path); a.Code != 404 || strings.Contains(a.Body.String(), "kubernetes.default") {
				t.Errorf("%.80s%s: %d %s", name, path, a.Code, a.Body)
			}
		}
	}
	for path, want := range map[string]int{"/clusters/hub": 404, "/clusters/hub/jwks/": 404, "/clusters/": 404, "/clusters/bare/jwks": 503} {
		if a := get(path); a.Code != want {
			t.Errorf("%s: %d", path, a.Code)
		}
	}
	if log := rig.Log(); strings.Contains(log, strings.Repeat("a", 64)) {
		t.Error("what a caller invents is in the log")
	}
}
