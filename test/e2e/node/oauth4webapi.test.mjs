// npm oauth4webapi, which checks every answer against the letter of its RFC.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as oauth from 'oauth4webapi'
import { authorize, signerKey, world } from './world.mjs'

const insecure = { [oauth.allowInsecureRequests]: true } // loopback

async function server(algorithm = 'oidc') {
  const issuer = new URL(world.issuer)
  return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm, ...insecure }))
}

async function clientCredentials(as, c, authentication) {
  const parameters = new URLSearchParams({ scope: 'orders:read', resource: world.api })
  const response = await oauth.clientCredentialsGrantRequest(as, c, authentication, parameters, insecure)
  return oauth.processClientCredentialsResponse(as, c, response)
}

test('discovery of OpenID Connect and of RFC 8414 agree', async () => {
  const [a, b] = [await server('oidc'), await server('oauth2')]
  assert.equal(a.issuer, world.issuer)
  for (const name of ['issuer', 'token_endpoint', 'authorization_endpoint', 'jwks_uri', 'introspection_endpoint', 'revocation_endpoint']) {
    assert.ok(a[name], name)
    assert.deepEqual(a[name], b[name], name)
  }
  assert.equal(a.authorization_response_iss_parameter_supported, true)
  assert.deepEqual(a.code_challenge_methods_supported, ['S256'])
})

test('a JWT access token passes RFC 9068 validation', async () => {
  const as = await server()
  const { access_token } = await clientCredentials(as, world.machine, oauth.ClientSecretBasic(world.machine.client_secret))
  const request = new Request('https://api.example.com/orders', { headers: { authorization: `Bearer ${access_token}` } })
  const claims = await oauth.validateJwtAccessToken(as, request, world.api, insecure)
  assert.equal(claims.sub, world.machine.client_id)
  assert.equal(claims.client_id, world.machine.client_id)
  assert.equal(claims.scope, 'orders:read')
  assert.ok(claims.jti && claims.grant_id !== undefined)
  await assert.rejects(oauth.validateJwtAccessToken(as, request, 'https://other.example.com', insecure))
})

test('private_key_jwt, and a second use of the same assertion is refused', async () => {
  const as = await server()
  const key = { key: await signerKey(), kid: world.signer.kid }
  const tokens = await clientCredentials(as, world.signer, oauth.PrivateKeyJwt(key))
  assert.ok(tokens.access_token)

  const seen = []
  const capture = async (url, options) => {
    seen.push({ url, body: options.body.toString() })
    return fetch(url, options)
  }
  const parameters = new URLSearchParams({ resource: world.api })
  const first = await oauth.clientCredentialsGrantRequest(as, world.signer, oauth.PrivateKeyJwt(key), parameters, { ...insecure, [oauth.customFetch]: capture })
  assert.equal(first.status, 200)
  const again = await fetch(seen[0].url, { method: 'POST', body: seen[0].body, headers: { 'content-type': 'application/x-www-form-urlencoded' } })
  assert.equal(again.status, 401)
  assert.equal((await again.json()).error, 'invalid_client')
})

test('introspection and revocation', async () => {
  const as = await server()
  const rs = world.resourceServer
  const ask = async (token) =>
    oauth.processIntrospectionResponse(as, rs, await oauth.introspectionRequest(as, rs, oauth.ClientSecretBasic(rs.client_secret), token, insecure))
  const { access_token } = await clientCredentials(as, world.machine, oauth.ClientSecretBasic(world.machine.client_secret))
  const seen = await ask(access_token)
  assert.equal(seen.active, true)
  assert.equal(seen.iss, world.issuer)
  await oauth.processRevocationResponse(
    await oauth.revocationRequest(as, world.machine, oauth.ClientSecretBasic(world.machine.client_secret), access_token, insecure))
  assert.equal((await ask(access_token)).active, false)
})

test('authorization code with PKCE, UserInfo and refresh', async () => {
  const as = await server()
  const c = world.native
  const verifier = oauth.generateRandomCodeVerifier()
  const state = oauth.generateRandomState()
  const nonce = oauth.generateRandomNonce()
  const target = new URL(as.authorization_endpoint)
  target.search = new URLSearchParams({
    client_id: c.client_id, redirect_uri: c.redirect_uris[0], response_type: 'code', scope: 'openid email offline_access orders:read',
    resource: world.api, state, nonce, code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  })
  const callback = oauth.validateAuthResponse(as, c, await authorize(target, world.ada), state)
  const response = await oauth.authorizationCodeGrantRequest(as, c, oauth.None(), callback, c.redirect_uris[0], verifier, insecure)
  const tokens = await oauth.processAuthorizationCodeResponse(as, c, response, { expectedNonce: nonce, requireIdToken: true })
  await oauth.validateApplicationLevelSignature(as, response, insecure)
  const { sub } = oauth.getValidatedIdTokenClaims(tokens)
  const info = await oauth.processUserInfoResponse(as, c, sub, await oauth.userInfoRequest(as, c, tokens.access_token, insecure))
  assert.equal(info.email, 'ada@example.com')
  const next = await oauth.processRefreshTokenResponse(as, c, await oauth.refreshTokenGrantRequest(as, c, oauth.None(), tokens.refresh_token, insecure))
  assert.notEqual(next.refresh_token, tokens.refresh_token)
})
