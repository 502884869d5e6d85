// npm openid-client, the client that most Node.js applications use.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as client from 'openid-client'
import { authorize, signerKey, world } from './world.mjs'

// The library refuses plain HTTP; the test issuer is on loopback.
const discover = (c, authentication) =>
  client.discovery(new URL(world.issuer), c.client_id, c.client_secret, authentication, { execute: [client.allowInsecureRequests] })

for (const [name, c] of Object.entries({ confidential: world.web, public: world.native })) {
  test(`authorization code with PKCE, UserInfo, refresh and revocation, ${name} client`, async () => {
    const config = await discover(c, c.client_secret ? client.ClientSecretBasic(c.client_secret) : client.None())
    assert.ok(config.serverMetadata().supportsPKCE(), 'discovery must list S256')
    const pkceCodeVerifier = client.randomPKCECodeVerifier()
    const expectedState = client.randomState()
    const expectedNonce = client.randomNonce()
    const target = client.buildAuthorizationUrl(config, {
      redirect_uri: c.redirect_uris[0],
      scope: 'openid profile email offline_access orders:read',
      resource: world.api,
      code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
      code_challenge_method: 'S256',
      state: expectedState,
      nonce: expectedNonce,
    })
    const callback = await authorize(target, world.ada)
    const tokens = await client.authorizationCodeGrant(config, callback, { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true })
    assert.equal(tokens.token_type, 'bearer')
    assert.ok(tokens.expiresIn() > 0)

    const info = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub)
    assert.equal(info.email, 'ada@example.com')

    const next = await client.refreshTokenGrant(config, tokens.refresh_token)
    assert.notEqual(next.refresh_token, tokens.refresh_token)
    assert.notEqual(next.access_token, tokens.access_token)

    await client.tokenRevocation(config, next.refresh_token)
    await assert.rejects(client.refreshTokenGrant(config, next.refresh_token), { error: 'invalid_grant' })
    // Dead means dead: the access token of a revoked grant is dead at once.
    await assert.rejects(client.fetchUserInfo(config, next.access_token, tokens.claims().sub))
  })
}

test('client credentials and introspection', async () => {
  const machine = await discover(world.machine, client.ClientSecretBasic(world.machine.client_secret))
  const tokens = await client.clientCredentialsGrant(machine, { scope: 'orders:read', resource: world.api })
  const rs = await discover(world.resourceServer, client.ClientSecretBasic(world.resourceServer.client_secret))
  const seen = await client.tokenIntrospection(rs, tokens.access_token)
  assert.equal(seen.active, true)
  assert.equal(seen.client_id, world.machine.client_id)
  assert.equal(seen.scope, 'orders:read')
  await client.tokenRevocation(machine, tokens.access_token)
  assert.deepEqual(await client.tokenIntrospection(rs, tokens.access_token), { active: false })
})

test('client_secret_post', async () => {
  const c = world.machinePost
  const config = await discover(c, client.ClientSecretPost(c.client_secret))
  const tokens = await client.clientCredentialsGrant(config, { scope: 'orders:read', resource: world.api })
  assert.ok(tokens.access_token)
})

test('private_key_jwt', async () => {
  const key = { key: await signerKey(), kid: world.signer.kid }
  // Security advisories ask for the issuer alone as audience; the library's default for it is the issuer too.
  const config = await discover(world.signer, client.PrivateKeyJwt(key))
  const tokens = await client.clientCredentialsGrant(config, { scope: 'orders:read', resource: world.api })
  assert.ok(tokens.access_token)
})

test('a wrong secret is invalid_client', async () => {
  const config = await discover({ ...world.machine, client_secret: 'wrong' }, client.ClientSecretBasic('wrong'))
  // The library tells a 401 with a challenge apart from an error body.
  await assert.rejects(client.clientCredentialsGrant(config, { resource: world.api }), (err) => err.error === 'invalid_client' || err.status === 401)
})
