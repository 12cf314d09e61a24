import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.jwk.AsymmetricJWK;
import com.nimbusds.jose.jwk.JWK;
import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.proc.DefaultJOSEObjectTypeVerifier;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jose.util.JSONObjectUtils;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import com.nimbusds.oauth2.sdk.AccessTokenResponse;
import com.nimbusds.oauth2.sdk.AuthorizationGrant;
import com.nimbusds.oauth2.sdk.ClientCredentialsGrant;
import com.nimbusds.oauth2.sdk.JWTBearerGrant;
import com.nimbusds.oauth2.sdk.RefreshTokenGrant;
import com.nimbusds.oauth2.sdk.ResourceOwnerPasswordCredentialsGrant;
import com.nimbusds.oauth2.sdk.Scope;
import com.nimbusds.oauth2.sdk.TokenIntrospectionRequest;
import com.nimbusds.oauth2.sdk.TokenIntrospectionResponse;
import com.nimbusds.oauth2.sdk.TokenRequest;
import com.nimbusds.oauth2.sdk.TokenResponse;
import com.nimbusds.oauth2.sdk.TokenRevocationRequest;
import com.nimbusds.oauth2.sdk.as.AuthorizationServerMetadata;
import com.nimbusds.oauth2.sdk.auth.ClientAuthentication;
import com.nimbusds.oauth2.sdk.auth.ClientSecretBasic;
import com.nimbusds.oauth2.sdk.auth.ClientSecretPost;
import com.nimbusds.oauth2.sdk.auth.PrivateKeyJWT;
import com.nimbusds.oauth2.sdk.auth.Secret;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.id.Issuer;
import com.nimbusds.oauth2.sdk.token.AccessToken;
import com.nimbusds.oauth2.sdk.token.RefreshToken;
import com.nimbusds.oauth2.sdk.token.Token;
import com.nimbusds.oauth2.sdk.token.TokenTypeURI;
import com.nimbusds.oauth2.sdk.tokenexchange.TokenExchangeGrant;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Map;
import java.util.Set;

/**
 * Runs one flow with the OAuth 2.0 SDK of Nimbus, and prints what the SDK returns, as JSON. The first argument names the
 * flow; the first line of standard input has the issuer and the credentials. The test asserts; this program only calls.
 */
public final class OAuthClient {
    private static final BufferedReader INPUT = new BufferedReader(new InputStreamReader(System.in));

    private final Map<String, Object> given;
    private final AuthorizationServerMetadata server;

    private OAuthClient(Map<String, Object> given) throws Exception {
        this.given = given;
        this.server = AuthorizationServerMetadata.resolve(new Issuer(text("issuer")));
    }

    public static void main(String[] arguments) throws Exception {
        var client = new OAuthClient(JSONObjectUtils.parse(INPUT.readLine()));
        switch (arguments[0]) {
            case "service" -> print(client.service(arguments[1]));
            case "person" -> print(client.person(arguments[1]));
            case "exchange" -> print(client.exchange());
            case "federated" -> print(client.federated());
            case "refusals" -> print(client.refusals());
            case "verify" -> client.verify();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    /** Gets a token for the client itself, asks about it, and revokes it. */
    private Map<String, Object> service(String method) throws Exception {
        var answer = granted(request(method, new ClientCredentialsGrant(), "read"));
        var token = answer.getTokens().getAccessToken();
        var before = introspect(method, token);
        var revoked = revoke(method, token).toHTTPRequest().send().getStatusCode();
        return Map.of(
            "tokens", answer.toJSONObject(),
            "before", before,
            "revoked", revoked,
            "after", introspect(method, token));
    }

    /** Signs a user in, refreshes twice with the same token, and revokes the session. */
    private Map<String, Object> person(String method) throws Exception {
        var password = new ResourceOwnerPasswordCredentialsGrant(text("username"), new Secret(text("password")));
        var first = granted(request(method, password)).getTokens().getRefreshToken();
        var lost = granted(request(method, new RefreshTokenGrant(first))).getTokens().getRefreshToken();
        var again = granted(request(method, new RefreshTokenGrant(first))).getTokens().getRefreshToken();
        revoke(method, again).toHTTPRequest().send().ensureStatusCode(200);
        return Map.of(
            "first", first.getValue(),
            "lost", lost.getValue(),
            "again", again.getValue(),
            "ended", error(request(method, new RefreshTokenGrant(again))));
    }

    /** Exchanges the token of a user for one that names the client as the actor. */
    private Map<String, Object> exchange() throws Exception {
        var method = "client_secret_basic";
        var password = new ResourceOwnerPasswordCredentialsGrant(text("username"), new Secret(text("password")));
        var subject = granted(request(method, password, "read")).getTokens().getAccessToken();
        var grant = new TokenExchangeGrant(subject, TokenTypeURI.ACCESS_TOKEN);
        return introspect(method, granted(request(method, grant, "read")).getTokens().getAccessToken());
    }

    /** Gets a token for an assertion of a trusted issuer. */
    private Map<String, Object> federated() throws Exception {
        var grant = new JWTBearerGrant(SignedJWT.parse(text("assertion")));
        var answer = granted(new TokenRequest.Builder(server.getTokenEndpointURI(), grant).build());
        return introspect("client_secret_basic", answer.getTokens().getAccessToken());
    }

    private Map<String, Object> refusals() throws Exception {
        var right = "client_secret_basic";
        var wrong = new ClientSecretBasic(new ClientID(text("clientId")), new Secret("wrong"));
        var password = new ResourceOwnerPasswordCredentialsGrant(text("username"), new Secret("wrong"));
        return Map.of(
            "client", error(new TokenRequest(server.getTokenEndpointURI(), wrong, new ClientCredentialsGrant())),
            "scope", error(request(right, new ClientCredentialsGrant(), "delete")),
            "password", error(request(right, password)),
            "refresh", error(request("none", new RefreshTokenGrant(new RefreshToken("wrong")))));
    }

    /** Verifies the token in each further line by the published keys, and prints its claims or the error. */
    private void verify() throws Exception {
        var keys = JWKSourceBuilder.create(server.getJWKSetURI().toURL()).build();
        var processor = new DefaultJWTProcessor<SecurityContext>();
        processor.setJWSTypeVerifier(new DefaultJOSEObjectTypeVerifier<>(new JOSEObjectType("at+jwt")));
        processor.setJWSKeySelector(new JWSVerificationKeySelector<>(JWSAlgorithm.ES256, keys));
        processor.setJWTClaimsSetVerifier(new DefaultJWTClaimsVerifier<>(
            text("audience"), new JWTClaimsSet.Builder().issuer(text("issuer")).build(), Set.of("sub", "exp")));
        for (var token = INPUT.readLine(); token != null; token = INPUT.readLine()) {
            try {
                print(processor.process(token, null).toJSONObject());
            } catch (Exception refused) {
                print(Map.of("error", refused.toString()));
            }
        }
    }

    /** Makes the authentication of one request: an assertion works once. */
    private ClientAuthentication authentication(String method) throws Exception {
        var id = new ClientID(text("clientId"));
        var secret = new Secret(text("clientSecret"));
        return switch (method) {
            case "client_secret_basic" -> new ClientSecretBasic(id, secret);
            case "client_secret_post" -> new ClientSecretPost(id, secret);
            case "private_key_jwt" -> {
                var key = JWK.parse(JSONObjectUtils.getJSONObject(given, "privateJwk"));
                yield new PrivateKeyJWT(
                    new ClientID(text("keyClientId")),
                    server.getTokenEndpointURI(),
                    JWSAlgorithm.parse(key.getAlgorithm().getName()),
                    ((AsymmetricJWK) key).toPrivateKey(),
                    null,
                    null);
            }
            default -> throw new IllegalArgumentException(method);
        };
    }

    private TokenRequest request(String method, AuthorizationGrant grant, String... scopes) throws Exception {
        var endpoint = server.getTokenEndpointURI();
        var builder = method.equals("none")
            ? new TokenRequest.Builder(endpoint, new ClientID(text("publicClientId")), grant)
            : new TokenRequest.Builder(endpoint, authentication(method), grant);
        return builder.scope(scopes.length == 0 ? null : new Scope(scopes)).build();
    }

    private TokenRevocationRequest revoke(String method, Token token) throws Exception {
        var endpoint = server.getRevocationEndpointURI();
        return method.equals("none")
            ? new TokenRevocationRequest(endpoint, new ClientID(text("publicClientId")), token)
            : new TokenRevocationRequest(endpoint, authentication(method), token);
    }

    private Map<String, Object> introspect(String method, AccessToken token) throws Exception {
        var endpoint = server.getIntrospectionEndpointURI();
        var request = new TokenIntrospectionRequest(endpoint, authentication(method), token);
        var answer = TokenIntrospectionResponse.parse(request.toHTTPRequest().send());
        return answer.toSuccessResponse().toJSONObject();
    }

    private static AccessTokenResponse granted(TokenRequest request) throws Exception {
        var answer = TokenResponse.parse(request.toHTTPRequest().send());
        if (!answer.indicatesSuccess()) {
            throw new IllegalStateException(answer.toErrorResponse().getErrorObject().toString());
        }
        return answer.toSuccessResponse();
    }

    private static String error(TokenRequest request) throws Exception {
        return TokenResponse.parse(request.toHTTPRequest().send()).toErrorResponse().getErrorObject().getCode();
    }

    private String text(String name) {
        return (String) given.get(name);
    }

    private static void print(Map<String, Object> said) {
        System.out.println(JSONObjectUtils.toJSONString(said));
    }
}
