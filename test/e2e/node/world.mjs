// What the Go test hands over, and a person at a browser without JavaScript.
import { createPrivateKey } from 'node:crypto'

/** {issuer, api, machine, machinePost, web, native, resourceServer, signer, ada}: see clients_node_test.go. */
export const world = JSON.parse(process.env.SIGNALBOX_E2E)

/** The signer's private key as a CryptoKey that cannot leave. */
export async function signerKey() {
  const pkcs8 = createPrivateKey({ key: world.signer.jwk, format: 'jwk' }).export({ type: 'pkcs8', format: 'der' })
  return crypto.subtle.importKey('pkcs8', pkcs8, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
}

/** Opens an authorization URL, signs in and answers the consent; returns the URL that the client's redirect URI got. */
export async function authorize(target, user, answer = 'allow') {
  const cookies = new Map()
  let url = new URL(target)
  let request = { method: 'GET', headers: {} }
  for (let step = 0; step < 20; step++) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const response = await fetch(url, { ...request, redirect: 'manual', headers: { ...request.headers, ...(cookie && { cookie }) } })
    for (const line of response.headers.getSetCookie()) {
      const [pair] = line.split(';')
      const at = pair.indexOf('=')
      if (/;\s*max-age=0/i.test(line)) cookies.delete(pair.slice(0, at))
      else cookies.set(pair.slice(0, at), pair.slice(at + 1))
    }
    if (response.status >= 300 && response.status < 400) {
      url = new URL(response.headers.get('location'), url)
      if (url.origin !== new URL(world.issuer).origin) return url
      request = { method: 'GET', headers: {} }
      continue
    }
    const page = await response.text()
    const form = firstForm(page)
    if (response.status !== 200 || !form) throw new Error(`no form at ${url}: ${response.status}\n${page}`)
    let button
    if (form.fields.has('password')) {
      form.fields.set('username', user.username)
      form.fields.set('password', user.password)
      button = form.buttons.find((b) => b.id === 'sign-in')
    } else {
      button = form.buttons.find((b) => b.id === answer)
    }
    if (!button) throw new Error(`no button to press at ${url}:\n${page}`)
    if (button.name) form.fields.set(button.name, button.value ?? '')
    const origin = url.origin
    url = new URL(button.formaction ?? form.action ?? '', url)
    request = { method: 'POST', body: form.fields.toString(), headers: { 'content-type': 'application/x-www-form-urlencoded', origin } }
  }
  throw new Error(`no end of redirects at ${url}`)
}

// Enough HTML for our own pages; somebody else's would need a parser.
function firstForm(page) {
  const found = /<form\b([^>]*)>([\s\S]*?)<\/form>/i.exec(page)
  if (!found) return null
  const form = { ...attributes(found[1]), fields: new URLSearchParams(), buttons: [] }
  for (const [, tag, rest] of found[2].matchAll(/<(input|button)\b([^>]*)>/gi)) {
    const a = attributes(rest)
    if (tag.toLowerCase() === 'button' || a.type === 'submit') form.buttons.push(a)
    else if (a.name && (!/^(checkbox|radio)$/.test(a.type ?? '') || 'checked' in a)) form.fields.append(a.name, a.value ?? '')
  }
  return form
}

function attributes(text) {
  const out = {}
  for (const [, name, quoted, bare] of text.matchAll(/([a-z-]+)(?:\s*=\s*(?:"([^"]*)"|([^\s"'>]+)))?/gi)) {
    out[name.toLowerCase()] = (quoted ?? bare ?? '').replace(/&(amp|lt|gt|quot|#34|#39|#43);/g,
      (_, e) => ({ amp: '&', lt: '<', gt: '>', quot: '"', '#34': '"', '#39': "'", '#43': '+' })[e])
  }
  return out
}
