// A peer of the benchmark: oidc-provider with all data in memory. It introspects opaque tokens (RFC 7662), and
// issues JWTs signed with ES256 for a resource. Prints its port, an opaque token, the resource and the credential
// of a client as JSON once it serves.
import { generateKeyPairSync, randomBytes } from "node:crypto";

import Provider from "oidc-provider";

const CLIENT_ID = "benchmark-client";
const RESOURCE = "https://orders.example.org";
const secret = randomBytes(24).toString("base64url");
const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });

const provider = new Provider("http://127.0.0.1", {
  clients: [
    {
      client_id: CLIENT_ID,
      client_secret: secret,
      grant_types: ["client_credentials"],
      id_token_signed_response_alg: "ES256",
      redirect_uris: [],
      response_types: [],
      scope: "orders.read",
    },
  ],
  clientAuthMethods: ["client_secret_basic"],
  cookies: { keys: [randomBytes(24).toString("base64url")] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: () => ({
        scope: "orders.read",
        accessTokenFormat: "jwt",
        accessTokenTTL: 900,
        jwt: { sign: { alg: "ES256" } },
      }),
    },
  },
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), alg: "ES256", use: "sig" }] },
  scopes: ["orders.read"],
  ttl: { ClientCredentials: 3600 },
});

const server = provider.listen(0, "127.0.0.1", async () => {
  const { port } = server.address();
  const authorization = `Basic ${Buffer.from(`${CLIENT_ID}:${secret}`).toString("base64")}`;
  const answer = await fetch(`http://127.0.0.1:${port}/token`, {
    method: "POST",
    headers: { authorization, "content-type": "application/x-www-form-urlencoded" },
    body: "grant_type=client_credentials",
  });
  if (!answer.ok) throw new Error(await answer.text());
  const { access_token: token } = await answer.json();
  console.log(JSON.stringify({ port, token, authorization, resource: RESOURCE }));
});
process.once("SIGTERM", () => process.exit(0));
