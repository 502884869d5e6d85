// npm jose: a verifier that has only our JWKS.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as jose from 'jose'
import { world } from './world.mjs'

const metadata = await (await fetch(`${world.issuer}/.well-known/openid-configuration`)).json()
const keys = jose.createRemoteJWKSet(new URL(metadata.jwks_uri))

async function accessToken() {
  const response = await fetch(metadata.token_endpoint, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`${world.machine.client_id}:${world.machine.client_secret}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'orders:read', resource: world.api }),
  })
  assert.equal(response.status, 200)
  return (await response.json()).access_token
}

test('an access token verifies against the JWKS', async () => {
  const { payload, protectedHeader } = await jose.jwtVerify(await accessToken(), keys, {
    issuer: world.issuer, audience: world.api, typ: 'at+jwt', algorithms: ['ES256'], maxTokenAge: '5m',
    requiredClaims: ['iss', 'sub', 'aud', 'exp', 'iat', 'jti', 'client_id'],
  })
  assert.ok(protectedHeader.kid)
  assert.ok(payload.exp - payload.iat <= 300)
})

test('a changed token does not verify', async () => {
  const [header, payload, signature] = (await accessToken()).split('.')
  const claims = JSON.parse(Buffer.from(payload, 'base64url'))
  claims.scope = 'orders:read orders:write'
  const forged = [header, Buffer.from(JSON.stringify(claims)).toString('base64url'), signature].join('.')
  await assert.rejects(jose.jwtVerify(forged, keys), { code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED' })
})

test('the JWKS holds public keys only', async () => {
  const set = await (await fetch(metadata.jwks_uri)).json()
  assert.ok(set.keys.length > 0)
  for (const key of set.keys) {
    assert.ok(key.kid && key.alg && key.use === 'sig')
    for (const secret of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']) assert.equal(key[secret], undefined, secret)
  }
})
