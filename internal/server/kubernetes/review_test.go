package kubernetes

import (
	"encoding/json"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// FuzzTokenReview: what is taken for a TokenReview is one for encoding/json too, with
// the same token; everything else is a request that was wrong.
func FuzzTokenReview(f *testing.F) {
	f.Add([]byte(`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":{"token":"a.b.c","audiences":["x"]}}`))
	f.Add([]byte(`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":{"token":"\u0061","Token":"b"}}`))
	f.Add([]byte(`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":{"token":"a"},"spec":{"token":"b"}}`))
	f.Add([]byte(`{"spec":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		token, err := parse(body)
		if err != nil {
			if oauth.AsError(err).Code != oauth.InvalidRequest || token != "" {
				t.Fatalf("%q %v", token, err)
			}
			return
		}
		var review map[string]json.RawMessage
		var spec map[string]json.RawMessage
		var version, kindOf, want string
		for _, err := range []error{
			json.Unmarshal(body, &review), json.Unmarshal(review["apiVersion"], &version), json.Unmarshal(review["kind"], &kindOf),
			json.Unmarshal(review["spec"], &spec), json.Unmarshal(spec["token"], &want),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if version != apiVersion || kindOf != kind || token != want || token == "" {
			t.Fatalf("%s is read as %q", body, token)
		}
	})
}
