package admin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/oauth2/clientcredentials"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/signalboxtest"
)

// In production the API is that of the admin listener, and the client that asks is one that holds scopes of the
// resource urn:signalbox:admin.
func ExampleNew() {
	credentials := clientcredentials.Config{
		ClientID: "operator", ClientSecret: "sbx_cs_…", TokenURL: "https://sts.example.com/token",
		EndpointParams: map[string][]string{"resource": {"urn:signalbox:admin"}},
	}
	source := credentials.TokenSource(context.Background()) // asks again shortly before a token ends
	api, err := admin.New("https://sts-admin.example.com", admin.Options{Token: func(context.Context, string) (string, error) {
		token, err := source.Token()
		if err != nil {
			return "", err
		}
		return token.AccessToken, nil
	}})
	fmt.Println(api != nil, err)
	// Output: true <nil>
}

func ExampleAPI_CreateClient() {
	issuer := signalboxtest.Start(signalboxtest.Resource{ID: "https://api.example.com", Scopes: []string{"orders:read"}})
	defer issuer.Close()
	api := issuer.Admin()

	scope := "orders:read"
	made, err := api.CreateClient(context.Background(), admin.NewClient{ClientID: "night-job", ClientFields: admin.ClientFields{
		GrantTypes: &[]string{"client_credentials"}, Resources: &[]string{"https://api.example.com"}, Scope: &scope,
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(made.ClientID, made.ClientSecret != "") // the secret is in this answer and nowhere else
	// Output: night-job true
}

func ExampleError() {
	issuer := signalboxtest.Start()
	defer issuer.Close()

	_, err := issuer.Admin().CreateResource(context.Background(), admin.NewResource{ID: "api"})
	var refused *admin.Error
	if errors.As(err, &refused) && refused.Status == http.StatusBadRequest {
		for _, p := range refused.Problems {
			fmt.Printf("%s %s: %s\n", p.Field, p.Text, p.Fix)
		}
	}
	// Output: id is not an absolute URI: start with https://
}

func ExampleEach() {
	issuer := signalboxtest.Start(signalboxtest.User{Username: "ada"}, signalboxtest.User{Username: "bob"})
	defer issuer.Close()
	api := issuer.Admin()

	users := func(ctx context.Context, p admin.Paging) (admin.Page[admin.User], error) {
		return api.ListUsers(ctx, admin.UserFilter{}, p)
	}
	for user, err := range admin.Each(context.Background(), users) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(user.Username)
	}
	// Unordered output:
	// ada
	// bob
}

// First how much it would be, then the end of it: everything of a client that is older than now.
func ExampleAPI_Revoke() {
	issuer := signalboxtest.Start(
		signalboxtest.Resource{ID: "https://api.example.com", Scopes: []string{"orders:read"}},
		signalboxtest.Client{ID: "shop", Resources: []string{"https://api.example.com"}, Scopes: []string{"orders:read"}},
		signalboxtest.User{Username: "ada"},
	)
	defer issuer.Close()
	issuer.Token(signalboxtest.Request{Client: "shop", User: "ada"})
	api := issuer.Admin()

	for _, dryRun := range []bool{true, false} {
		ended, err := api.Revoke(context.Background(), admin.Revoke{ClientID: "shop", DryRun: dryRun})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(ended.DryRun, ended.ActiveGrants)
	}
	// Output:
	// true 1
	// false 1
}
