// Command library-tests runs one flow with Go libraries for OAuth 2 and OpenID Connect, and prints what they
// return, as JSON. The arguments name the flow and the client authentication; the first line of standard input
// has the issuer and the credentials. The test asserts; this program only calls.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"
)

type given struct {
	Issuer           string `json:"issuer"`
	Audience         string `json:"audience"`
	ClientID         string `json:"clientId"`
	ClientSecret     string `json:"clientSecret"`
	PublicClientID   string `json:"publicClientId"`
	Username         string `json:"username"`
	Password         string `json:"password"`
	AssertionIssuer  string `json:"assertionIssuer"`
	AssertionSubject string `json:"assertionSubject"`
	AssertionKey     string `json:"assertionKey"`
	AssertionKeyID   string `json:"assertionKeyId"`
}

var input = bufio.NewReader(os.Stdin)

var styles = map[string]oauth2.AuthStyle{
	"client_secret_basic": oauth2.AuthStyleInHeader,
	"client_secret_post":  oauth2.AuthStyleInParams,
	"none":                oauth2.AuthStyleInParams,
}

func main() {
	log.SetFlags(0)
	var g given
	line, err := input.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &g)
	}
	if err != nil {
		log.Fatal(err)
	}
	flows := map[string]func(context.Context, given, *oidc.Provider) (any, error){
		"service":   service,
		"person":    person,
		"federated": federated,
		"refusals":  refusals,
		"verify":    verify,
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
	if said != nil {
		print(said)
	}
}

func print(said any) {
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
		AuthStyle:    styles[os.Args[2]],
		Scopes:       []string{"read"},
	}
	token, err := config.Token(ctx)
	if err != nil {
		return nil, err
	}
	return verified(ctx, g, provider, token)
}

// person signs in with a password, and refreshes twice with the same token.
func person(ctx context.Context, g given, provider *oidc.Provider) (any, error) {
	config := oauth2.Config{ClientID: g.ClientID, ClientSecret: g.ClientSecret, Endpoint: provider.Endpoint()}
	if os.Args[2] == "none" {
		config.ClientID, config.ClientSecret = g.PublicClientID, ""
	}
	config.Endpoint.AuthStyle = styles[os.Args[2]]
	first, err := config.PasswordCredentialsToken(ctx, g.Username, g.Password)
	if err != nil {
		return nil, err
	}
	expired := &oauth2.Token{RefreshToken: first.RefreshToken}
	lost, err := config.TokenSource(ctx, expired).Token()
	if err != nil {
		return nil, err
	}
	again, err := config.TokenSource(ctx, expired).Token()
	if err != nil {
		return nil, err
	}
	said, err := verified(ctx, g, provider, again)
	if err != nil {
		return nil, err
	}
	said["first"], said["lost"], said["again"] = first.RefreshToken, lost.RefreshToken, again.RefreshToken
	return said, nil
}

// federated gets a token for an assertion of a trusted issuer, which the library signs.
func federated(ctx context.Context, g given, provider *oidc.Provider) (any, error) {
	config := jwt.Config{
		Email:        g.AssertionIssuer,
		Subject:      g.AssertionSubject,
		PrivateKey:   []byte(g.AssertionKey),
		PrivateKeyID: g.AssertionKeyID,
		Audience:     g.Issuer,
		TokenURL:     provider.Endpoint().TokenURL,
	}
	token, err := config.TokenSource(ctx).Token()
	if err != nil {
		return nil, err
	}
	return verified(ctx, g, provider, token)
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

// verify verifies the token in each further line, and prints its claims or the error.
func verify(ctx context.Context, g given, provider *oidc.Provider) (any, error) {
	verifier := provider.Verifier(&oidc.Config{ClientID: g.Audience})
	for {
		line, err := input.ReadString('\n')
		if err != nil {
			return nil, nil
		}
		claims := map[string]any{}
		checked, err := verifier.Verify(ctx, strings.TrimSpace(line))
		if err == nil {
			err = checked.Claims(&claims)
		}
		if err != nil {
			claims = map[string]any{"error": err.Error()}
		}
		print(claims)
	}
}
