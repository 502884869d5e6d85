package signalboxtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/signalbox-sts/signalbox/signalboxtest"
)

// ordersAPI is the service under test: it wants a token for itself with the
// scope orders:read.
func ordersAPI(issuer string, now func() time.Time) http.Handler {
	provider, err := oidc.NewProvider(context.Background(), issuer)
	if err != nil {
		panic(err)
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: "https://orders.example.com", SupportedSigningAlgs: []string{oidc.ES256}, Now: now})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := verifier.Verify(r.Context(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		var claims struct{ Scope string }
		switch {
		case err != nil || token.Claims(&claims) != nil:
			w.WriteHeader(http.StatusUnauthorized)
		case !slices.Contains(strings.Fields(claims.Scope), "orders:read"):
			w.WriteHeader(http.StatusForbidden)
		default:
			fmt.Fprintln(w, "hello", token.Subject)
		}
	})
}

func call(api http.Handler, token string) int {
	r := httptest.NewRequest(http.MethodGet, "/orders", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w.Code
}

// In a test, New(t, …) takes the place of Start and Close.
func Example() {
	issuer := signalboxtest.Start(
		signalboxtest.Resource{ID: "https://orders.example.com", Scopes: []string{"orders:read", "orders:write"}},
		signalboxtest.Resource{ID: "https://mail.example.com", Scopes: []string{"mail:send"}},
		signalboxtest.Client{ID: "shop", Resources: []string{"https://orders.example.com", "https://mail.example.com"}, Scopes: []string{"orders:read", "orders:write", "mail:send"}},
		signalboxtest.User{Username: "ada"},
	)
	defer issuer.Close()
	api := ordersAPI(issuer.URL, issuer.Now)

	good := issuer.Token(signalboxtest.Request{Client: "shop", Scopes: []string{"orders:read"}})
	person := issuer.Token(signalboxtest.Request{Client: "shop", User: "ada", Scopes: []string{"orders:read"}})
	tooLittle := issuer.Token(signalboxtest.Request{Client: "shop", Scopes: []string{"orders:write"}})
	elsewhere := issuer.Token(signalboxtest.Request{Client: "shop", Scopes: []string{"mail:send"}})
	expired := issuer.ExpiredToken(signalboxtest.Request{Client: "shop", Scopes: []string{"orders:read"}})

	fmt.Println("good:", call(api, good.AccessToken))
	fmt.Println("of a person:", call(api, person.AccessToken))
	fmt.Println("too little scope:", call(api, tooLittle.AccessToken))
	fmt.Println("for another API:", call(api, elsewhere.AccessToken))
	fmt.Println("expired:", call(api, expired.AccessToken))
	fmt.Println("none:", call(api, ""))
	// Output:
	// good: 200
	// of a person: 200
	// too little scope: 403
	// for another API: 401
	// expired: 401
	// none: 401
}

// A service with a clock that can be set sees a token grow old.
func ExampleIssuer_Advance() {
	issuer := signalboxtest.Start(
		signalboxtest.Resource{ID: "https://orders.example.com", Scopes: []string{"orders:read"}},
		signalboxtest.Client{ID: "shop", Resources: []string{"https://orders.example.com"}, Scopes: []string{"orders:read"}},
	)
	defer issuer.Close()
	api := ordersAPI(issuer.URL, issuer.Now)
	token := issuer.Token(signalboxtest.Request{Client: "shop"}).AccessToken

	fmt.Println("new:", call(api, token))
	issuer.Advance(6 * time.Minute)
	fmt.Println("6 minutes later:", call(api, token))
	// Output:
	// new: 200
	// 6 minutes later: 401
}

// A service that keeps the issuer's keys must find the new one.
func ExampleIssuer_RotateKeys() {
	issuer := signalboxtest.Start(
		signalboxtest.Resource{ID: "https://orders.example.com", Scopes: []string{"orders:read"}},
		signalboxtest.Client{ID: "shop", Resources: []string{"https://orders.example.com"}, Scopes: []string{"orders:read"}},
	)
	defer issuer.Close()
	api := ordersAPI(issuer.URL, issuer.Now)
	before := issuer.Token(signalboxtest.Request{Client: "shop"}).AccessToken
	issuer.RotateKeys()
	after := issuer.Token(signalboxtest.Request{Client: "shop"}).AccessToken

	fmt.Println("signed before:", call(api, before))
	fmt.Println("signed after:", call(api, after))
	// Output:
	// signed before: 200
	// signed after: 200
}

// A service that introspects refuses a revoked token at once.
func ExampleIssuer_RevokeToken() {
	issuer := signalboxtest.Start(
		signalboxtest.Resource{ID: "https://orders.example.com", Scopes: []string{"orders:read"}, IntrospectionClients: []string{"orders-api"}},
		signalboxtest.Client{ID: "shop", Resources: []string{"https://orders.example.com"}, Scopes: []string{"orders:read"}},
		signalboxtest.Client{ID: "orders-api"},
	)
	defer issuer.Close()
	active := func(token string) bool {
		request, err := http.NewRequest(http.MethodPost, issuer.URL+"/introspect", strings.NewReader(url.Values{"token": {token}}.Encode()))
		if err != nil {
			panic(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.SetBasicAuth("orders-api", issuer.Secret("orders-api"))
		response, err := issuer.HTTPClient().Do(request)
		if err != nil {
			panic(err)
		}
		defer response.Body.Close()
		var answer struct{ Active bool }
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			panic(err)
		}
		return answer.Active
	}
	token := issuer.Token(signalboxtest.Request{Client: "shop"}).AccessToken

	fmt.Println("active:", active(token))
	issuer.RevokeToken(token)
	fmt.Println("active:", active(token))
	// Output:
	// active: true
	// active: false
}
