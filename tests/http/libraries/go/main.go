// Command library-tests runs one flow with Go libraries for OAuth 2 and OpenID Connect, and prints what they
// return, as JSON. The argument names the flow; standard input has the issuer and the credentials. The test
// asserts; this program only calls.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

type given struct {
	Issuer         string `json:"issuer"`
	Audience       string `json:"audience"`
	ClientID       string `json:"clientId"`
	ClientSecret   string `json:"clientSecret"`
	PublicClientID string `json:"publicClientId"`
	Username       string `json:"username"`
	Password       string `json:"password"`
}

func main() {
	log.SetFlags(0)
	var g given
	if err := json.NewDecoder(os.Stdin).Decode(&g); err != nil {
		log.Fatal(err)
	}
	flows := map[string]func(context.Context, given, *oidc.Provider) (any, error){
		"service":  service,
		"person":   person,
		"refusals": refusals,
	}
	ctx := context.Background()
	provider, err := oidc.NewProvider(ctx, g.Issuer)
	if err != nil {
		log.Fatal(err)
	}
	said, err := flows[os.Args[1]](ctx, g, provider)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		log.Fatal(err)
	}
}

// service gets a token by client credentials and verifies it by the published keys.
func service(ctx context.Context, g given, provider *oidc.Provider) (any, error) {
	config := clientcredentials.Config{
		ClientID:     g.ClientID,
		ClientSecret: g.ClientSecret,
		TokenURL:     provider.Endpoint().TokenURL,
		Scopes:       []string{"read"},
	}
	token, err := config.Token(ctx)
	if err != nil {
		return nil, err
	}
	return verified(ctx, g, provider, token)
}

// person signs in with a password and refreshes, through a public client.
func person(ctx context.Context, g given, provider *oidc.Provider) (any, error) {
	config := oauth2.Config{ClientID: g.PublicClientID, Endpoint: provider.Endpoint()}
	first, err := config.PasswordCredentialsToken(ctx, g.Username, g.Password)
	if err != nil {
		return nil, err
	}
	expired := &oauth2.Token{RefreshToken: first.RefreshToken}
	second, err := config.TokenSource(ctx, expired).Token()
	if err != nil {
		return nil, err
	}
	said, err := verified(ctx, g, provider, second)
	if err != nil {
		return nil, err
	}
	said["rotated"] = second.RefreshToken != "" && second.RefreshToken != first.RefreshToken
	return said, nil
}

// refusals returns the error code of a wrong secret, a wrong scope and a wrong password.
func refusals(ctx context.Context, g given, provider *oidc.Provider) (any, error) {
	url := provider.Endpoint().TokenURL
	wrong := clientcredentials.Config{ClientID: g.ClientID, ClientSecret: "wrong", TokenURL: url}
	scope := clientcredentials.Config{
		ClientID: g.ClientID, ClientSecret: g.ClientSecret, TokenURL: url, Scopes: []string{"delete"},
	}
	public := oauth2.Config{ClientID: g.PublicClientID, Endpoint: provider.Endpoint()}
	_, ofSecret := wrong.Token(ctx)
	_, ofScope := scope.Token(ctx)
	_, ofPassword := public.PasswordCredentialsToken(ctx, g.Username, "wrong")
	said := map[string]string{}
	for name, err := range map[string]error{"client": ofSecret, "scope": ofScope, "password": ofPassword} {
		var refused *oauth2.RetrieveError
		if !errors.As(err, &refused) {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		said[name] = refused.ErrorCode
	}
	return said, nil
}

// verified returns the claims of a token that go-oidc has verified for the audience.
func verified(ctx context.Context, g given, provider *oidc.Provider, token *oauth2.Token) (map[string]any, error) {
	checked, err := provider.Verifier(&oidc.Config{ClientID: g.Audience}).Verify(ctx, token.AccessToken)
	if err != nil {
		return nil, err
	}
	claims := map[string]any{}
	if err := checked.Claims(&claims); err != nil {
		return nil, err
	}
	return map[string]any{"claims": claims, "tokenType": token.Type()}, nil
}
