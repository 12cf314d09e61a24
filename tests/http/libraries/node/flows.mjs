// Runs one flow with libraries for Node.js and prints what they return, as JSON. The first argument names the
// flow; standard input has the issuer and the credentials. The test asserts; this program only calls.

import * as jose from 'jose'
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'
import { readFileSync } from 'node:fs'

const given = JSON.parse(readFileSync(0, 'utf8'))
const issuer = new URL(given.issuer)

async function privateKey() {
  return { key: await jose.importJWK(given.privateJwk, given.privateJwk.alg), kid: given.kid }
}

const authentications = {
  client_secret_basic: async () => [given.clientId, openid.ClientSecretBasic(given.clientSecret)],
  client_secret_post: async () => [given.clientId, openid.ClientSecretPost(given.clientSecret)],
  private_key_jwt: async () => [given.keyClientId, openid.PrivateKeyJwt(await privateKey())],
  none: async () => [given.publicClientId, openid.None()],
}

async function discover(method, algorithm = 'oauth2') {
  const [clientId, authentication] = await authentications[method]()
  return openid.discovery(issuer, clientId, {}, authentication, { algorithm })
}

async function failure(promise) {
  try {
    await promise
  } catch (error) {
    return { error: error.error, status: error.status, code: error.code }
  }
  return { error: null }
}

const flows = {
  async service(method) {
    const config = await discover(method)
    const tokens = await openid.clientCredentialsGrant(config, { scope: 'read' })
    const before = await openid.tokenIntrospection(config, tokens.access_token)
    await openid.tokenRevocation(config, tokens.access_token)
    const after = await openid.tokenIntrospection(config, tokens.access_token)
    return { tokens, before, after }
  },

  async person(method) {
    const config = await discover(method, 'oidc')
    const credential = { username: given.username, password: given.password }
    const first = await openid.genericGrantRequest(config, 'password', credential)
    const lost = await openid.refreshTokenGrant(config, first.refresh_token)
    const again = await openid.refreshTokenGrant(config, first.refresh_token)
    await openid.tokenRevocation(config, again.refresh_token)
    const ended = await failure(openid.refreshTokenGrant(config, again.refresh_token))
    return { first, lost, again, ended }
  },

  async refusals() {
    const config = await discover('client_secret_basic')
    const wrong = await openid.discovery(issuer, given.clientId, {}, openid.ClientSecretBasic('wrong'), {
      algorithm: 'oauth2',
    })
    const password = { username: given.username, password: 'wrong' }
    return {
      client: await failure(openid.clientCredentialsGrant(wrong)),
      scope: await failure(openid.clientCredentialsGrant(config, { scope: 'delete' })),
      resource: await failure(openid.clientCredentialsGrant(config, { resource: 'https://other.example' })),
      password: await failure(openid.genericGrantRequest(config, 'password', password)),
      refresh: await failure(openid.refreshTokenGrant(config, 'wrong')),
    }
  },

  async verified() {
    const as = await oauth
      .discoveryRequest(issuer, { algorithm: 'oauth2' })
      .then((response) => oauth.processDiscoveryResponse(issuer, response))
    const client = { client_id: given.clientId }
    const authentication = oauth.ClientSecretBasic(given.clientSecret)
    const tokens = await oauth
      .clientCredentialsGrantRequest(as, client, authentication, {})
      .then((response) => oauth.processClientCredentialsResponse(as, client, response))
    const request = new Request('https://api.example', {
      headers: { authorization: `Bearer ${tokens.access_token}` },
    })
    const byOauth4webapi = await oauth.validateJwtAccessToken(as, request, given.audience)
    const keys = jose.createRemoteJWKSet(new URL(as.jwks_uri))
    const options = { issuer: given.issuer, audience: given.audience, typ: 'at+jwt' }
    const { payload } = await jose.jwtVerify(tokens.access_token, keys, options)
    return { byOauth4webapi, byJose: payload }
  },
}

const [name, ...rest] = process.argv.slice(2)
console.log(JSON.stringify(await flows[name](...rest)))
