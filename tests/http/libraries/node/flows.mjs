// Runs one flow with libraries for Node.js and prints what they return, as JSON. The first argument names the
// flow; the first line of standard input has the issuer and the credentials. The test asserts; this program only calls.

import * as jose from 'jose'
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'
import * as undici from 'undici'
import { createInterface } from 'node:readline'

const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const given = JSON.parse((await input.next()).value)
const issuer = new URL(given.issuer)

async function privateKey() {
  return { key: await jose.importJWK(given.privateJwk, given.privateJwk.alg), kid: given.kid }
}

const authentications = {
  client_secret_basic: async () => [given.clientId, openid.ClientSecretBasic(given.clientSecret)],
  client_secret_post: async () => [given.clientId, openid.ClientSecretPost(given.clientSecret)],
  private_key_jwt: async () => [given.keyClientId, openid.PrivateKeyJwt(await privateKey())],
  tls_client_auth: async () => [given.certificateClientId, openid.TlsClientAuth()],
  none: async () => [given.publicClientId, openid.None()],
  assertion: async () => [given.federatedClientId, openid.None()],
}

async function discover(method, algorithm = 'oauth2') {
  const [clientId, authentication] = await authentications[method]()
  if (method !== 'tls_client_auth') return openid.discovery(issuer, clientId, {}, authentication, { algorithm })
  const dispatcher = new undici.Agent({ connect: { cert: given.certificate, key: given.certificateKey } })
  const metadata = { use_mtls_endpoint_aliases: true }
  return openid.discovery(issuer, clientId, metadata, authentication, {
    algorithm,
    [openid.customFetch]: (url, options) => undici.fetch(url, { ...options, dispatcher }),
  })
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

  async exchange() {
    const config = await discover('client_secret_basic')
    const credential = { username: given.username, password: given.password }
    const subject = await openid.genericGrantRequest(config, 'password', credential)
    const tokens = await openid.genericGrantRequest(config, 'urn:ietf:params:oauth:grant-type:token-exchange', {
      subject_token: subject.access_token,
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    })
    return openid.tokenIntrospection(config, tokens.access_token)
  },

  async federated() {
    const config = await discover('assertion')
    const grant = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
    const tokens = await openid.genericGrantRequest(config, grant, { assertion: given.assertion })
    return openid.tokenIntrospection(await discover('client_secret_basic'), tokens.access_token)
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

  async verify(library) {
    const as = await oauth
      .discoveryRequest(issuer, { algorithm: 'oauth2' })
      .then((response) => oauth.processDiscoveryResponse(issuer, response))
    const keys = jose.createRemoteJWKSet(new URL(as.jwks_uri))
    const options = { issuer: given.issuer, audience: given.audience, typ: 'at+jwt' }
    const libraries = {
      jose: async (token) => (await jose.jwtVerify(token, keys, options)).payload,
      oauth4webapi: async (token) => {
        const headers = { authorization: `Bearer ${token}` }
        const request = new Request('https://api.example', { headers })
        return oauth.validateJwtAccessToken(as, request, given.audience)
      },
    }
    // Both libraries read the keys again only if they are older than half a minute, or a minute.
    const now = Date.now
    let later = 0
    Date.now = () => now() + later
    for await (const token of input) {
      console.log(JSON.stringify(await libraries[library](token).catch((error) => ({ error: String(error) }))))
      later += 61_000
    }
  },

  async boundPerson(method, algorithm) {
    const config = await discover(method)
    const options = { DPoP: openid.getDPoPHandle(config, await openid.randomDPoPKeyPair(algorithm)) }
    const credential = { username: given.username, password: given.password }
    const first = await openid.genericGrantRequest(config, 'password', credential, options)
    const next = await openid.refreshTokenGrant(config, first.refresh_token, {}, options)
    const other = { DPoP: openid.getDPoPHandle(config, await openid.randomDPoPKeyPair(algorithm)) }
    return {
      first,
      next,
      stolen: await failure(openid.refreshTokenGrant(config, next.refresh_token, {}, other)),
      unproven: await failure(openid.refreshTokenGrant(config, next.refresh_token)),
    }
  },

  async boundCaller(algorithm) {
    const config = await discover('client_secret_basic')
    const gateway = await openid.discovery(issuer, given.gatewayId, {}, openid.ClientSecretBasic(given.gatewaySecret), {
      algorithm: 'oauth2',
    })
    const DPoP = openid.getDPoPHandle(gateway, await openid.randomDPoPKeyPair(algorithm))
    const own = await openid.clientCredentialsGrant(gateway, { scope: 'identity.verify' }, { DPoP })
    const asked = await openid.clientCredentialsGrant(config, { scope: 'read' }, { DPoP })
    const url = new URL(config.serverMetadata().introspection_endpoint)
    const headers = new Headers({ 'content-type': 'application/x-www-form-urlencoded' })
    const body = new URLSearchParams({ token: asked.access_token }).toString()
    const ask = () => openid.fetchProtectedResource(gateway, own.access_token, url, 'POST', body, headers, { DPoP })
    const answers = [await ask(), await ask()]
    return { own, answers: await Promise.all(answers.map((answer) => answer.json())) }
  },

  async boundResource(algorithm) {
    const as = await oauth
      .discoveryRequest(issuer, { algorithm: 'oauth2' })
      .then((response) => oauth.processDiscoveryResponse(issuer, response))
    const client = { client_id: given.clientId }
    const authentication = oauth.ClientSecretBasic(given.clientSecret)
    const DPoP = oauth.DPoP(client, await oauth.generateKeyPair(algorithm))
    const ask = () =>
      oauth
        .clientCredentialsGrantRequest(as, client, authentication, {}, { DPoP })
        .then((response) => oauth.processClientCredentialsResponse(as, client, response))
    const tokens = await ask().catch((error) => {
      if (!oauth.isDPoPNonceError(error)) throw error
      return ask()
    })
    let sent
    const customFetch = async (url, options) => {
      sent = new Request(url, options)
      return new Response('{}')
    }
    const url = new URL('https://api.example/orders')
    await oauth.protectedResourceRequest(tokens.access_token, 'GET', url, undefined, undefined, {
      DPoP,
      [oauth.customFetch]: customFetch,
    })
    const claims = await oauth.validateJwtAccessToken(as, sent, given.audience, { requireDPoP: true })
    return { tokens, claims }
  },
}

const [name, ...rest] = process.argv.slice(2)
const said = await flows[name](...rest)
if (said) console.log(JSON.stringify(said))
process.stdin.destroy()
