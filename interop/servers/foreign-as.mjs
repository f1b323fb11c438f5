// Somebody else's authorization server, npm's `oidc-provider`, on loopback: its access tokens are JWTs (RFC 9068) or
// opaque, as the resource wants; clients get them by their secret. What it never would issue is crafted here with its
// own keys, by `jose`.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createHmac, randomUUID } from 'node:crypto';
import { exportJWK, generateKeyPair, importJWK, SignJWT } from 'jose';
import Provider from 'oidc-provider';

export const SCOPES = 'mcp:read mcp:write';
const CLIENT = { client_id: 'interop', client_secret: 'a secret of the client' };
const LANDBRIDGE = { client_id: 'landbridge', client_secret: 'a secret of the/resource' };
const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'ES384', 'Ed25519'];

const b64 = value => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const seconds = () => Math.floor(Date.now() / 1000);

async function newKey(alg) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...await exportJWK(privateKey), alg, use: 'sig', kid: `${alg}-${randomUUID().slice(0, 8)}` };
}

export class ForeignAs {
  /** `opaque`: whether tokens are asked about instead of read. */
  constructor({ opaque = false } = {}) {
    this.opaque = opaque;
    this.asked = {}; // how often each path was asked for
    this.down = false;
    this.resourceServer = LANDBRIDGE; // who may ask about tokens
  }

  async start() {
    this.http = createServer((req, res) => {
      const path = new URL(req.url, 'http://localhost').pathname;
      this.asked[path] = (this.asked[path] ?? 0) + 1;
      // The tokens of this script are given out all the same.
      if (this.down && path !== '/token') return res.writeHead(503).end();
      this.handler(req, res);
    }).listen(0, '127.0.0.1');
    await once(this.http, 'listening');
    this.issuer = `http://127.0.0.1:${this.http.address().port}`;
    await this.rotate();
    return this;
  }

  stop() {
    this.http.close();
    this.http.closeAllConnections();
  }

  /** New keys in place of all others, as after a leak. */
  async rotate() {
    this.previous = this.keys;
    this.keys = await Promise.all(ALGORITHMS.map(newKey));
    // A provider's keys are those it was made with, so there is a new one; it has forgotten the tokens of the last.
    const provider = new Provider(this.issuer, {
      jwks: { keys: this.keys },
      clients: [CLIENT, LANDBRIDGE].map(client => ({
        ...client, grant_types: ['client_credentials'], response_types: [], redirect_uris: [],
        token_endpoint_auth_method: 'client_secret_basic',
      })),
      scopes: SCOPES.split(' '),
      enabledJWA: { idTokenSigningAlgValues: ALGORITHMS },
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        revocation: { enabled: true, allowedPolicy: () => true },
        introspection: { enabled: true, allowedPolicy: (_, client) => client.clientId === LANDBRIDGE.client_id },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (_, resource) => ({
            scope: SCOPES, audience: resource, accessTokenTTL: 600,
            ...(this.opaque ? { accessTokenFormat: 'opaque' } : { accessTokenFormat: 'jwt', jwt: { sign: { alg: this.alg ?? 'RS256' } } }),
          }),
        },
      },
    });
    this.handler = provider.callback();
  }

  async #post(path, client, form) {
    const half = text => encodeURIComponent(text).replaceAll('%20', '+');
    const answer = await fetch(this.issuer + path, {
      method: 'POST',
      headers: { Authorization: `Basic ${Buffer.from(`${half(client.client_id)}:${half(client.client_secret)}`).toString('base64')}` },
      body: new URLSearchParams(form),
    });
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`);
    return answer.headers.get('content-type')?.includes('json') ? answer.json() : undefined;
  }

  /** A token as the server gives them, for a resource. */
  async token(resource, alg) {
    this.alg = alg;
    const { access_token } = await this.#post('/token', CLIENT, { grant_type: 'client_credentials', resource, scope: SCOPES });
    return access_token;
  }

  revoke(token) {
    return this.#post('/token/revocation', CLIENT, { token });
  }

  /** Signs what the server never would. */
  async craft(claims, header = {}, jwk = this.keys[0]) {
    const token = new SignJWT(claims).setProtectedHeader({ alg: jwk.alg, kid: jwk.kid, typ: 'at+jwt', ...header });
    return token.sign(await importJWK(jwk, jwk.alg), { crit: { x: true } });
  }

  /** The good ones: by every algorithm, and with what servers of other makes put into theirs. */
  async good(resource) {
    const tokens = {};
    for (const alg of ALGORITHMS) tokens[alg] = await this.token(resource, alg);
    const claims = this.claims(resource);
    return {
      ...tokens,
      'several audiences': await this.craft({ ...claims, aud: ['account', resource] }),
      'for the origin': await this.craft({ ...claims, aud: new URL(resource).origin }),
      'with a slash': await this.craft({ ...claims, aud: `${resource}/` }),
      'scp as a list': await this.craft({ ...claims, scope: undefined, scp: SCOPES.split(' ') }),
      'typ JWT': await this.craft(claims, { typ: 'JWT' }),
      'no typ': await this.craft(claims, { typ: undefined }),
      'a clock that is ahead': await this.craft({ ...claims, iat: seconds() + 5, nbf: seconds() + 5 }),
    };
  }

  claims(aud) {
    return { iss: this.issuer, sub: 'interop', aud, exp: seconds() + 600, iat: seconds(), jti: randomUUID(), client_id: 'interop', scope: SCOPES };
  }

  /** The bad ones, a class each. */
  async bad(resource) {
    const claims = this.claims(resource), { origin } = new URL(resource);
    const [rsa, , ec] = this.keys;
    const good = await this.craft(claims);
    const [header, payload, signature] = good.split('.');
    const stranger = { ...await newKey('RS256'), kid: rsa.kid };
    const { kty, n, e } = rsa;
    const hs256 = secret => {
      const signed = `${b64({ alg: 'HS256', kid: rsa.kid, typ: 'at+jwt' })}.${payload}`;
      return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
    };
    const raw = async text => {
      // A payload that `JSON.stringify` would not write.
      const key = await crypto.subtle.importKey('jwk', rsa, { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, false, ['sign']);
      const signed = `${header}.${b64(text)}`;
      return `${signed}.${Buffer.from(await crypto.subtle.sign(key.algorithm, key, Buffer.from(signed))).toString('base64url')}`;
    };
    const without = name => ({ ...claims, [name]: undefined });
    return {
      'wrong issuer': await this.craft({ ...claims, iss: 'https://evil.example' }),
      'issuer with a slash': await this.craft({ ...claims, iss: `${this.issuer}/` }),
      'wrong audience': await this.craft({ ...claims, aud: 'https://evil.example/mcp' }),
      'audience beside': await this.craft({ ...claims, aud: `${resource}-v2` }),
      'audience below': await this.craft({ ...claims, aud: `${resource}/deeper` }),
      'audience of an evil host': await this.craft({ ...claims, aud: `${origin}.evil.example` }),
      'no audience': await this.craft(without('aud')),
      'expired': await this.craft({ ...claims, exp: seconds() - 61 }),
      'not yet valid': await this.craft({ ...claims, nbf: seconds() + 120 }),
      'issued in the future': await this.craft({ ...claims, iat: seconds() + 120 }),
      'no exp': await this.craft(without('exp')),
      'no sub': await this.craft(without('sub')),
      'no iss': await this.craft(without('iss')),
      'exp as text': await raw(JSON.stringify({ ...claims, exp: String(claims.exp) })),
      'a key twice': await raw(`{"sub":"eve",${JSON.stringify(claims).slice(1)}`),
      'alg none': `${b64({ alg: 'none', kid: rsa.kid })}.${payload}.`,
      'alg none, signed': `${b64({ alg: 'none', kid: rsa.kid })}.${payload}.${signature}`,
      'HS256 by the modulus': hs256(n),
      'HS256 by the JWK': hs256(JSON.stringify({ kty, n, e })),
      'unknown kid': await this.craft(claims, { kid: 'nobody' }, stranger),
      'another key of that name': await this.craft(claims, {}, stranger),
      'a key that it brings': await this.craft(claims, { jwk: { kty, n: stranger.n, e: stranger.e } }, stranger),
      'key confusion': await this.craft(claims, { kid: rsa.kid }, ec),
      'tampered payload': `${header}.${b64({ ...claims, sub: 'eve' })}.${signature}`,
      'tampered signature': `${header}.${payload}.${signature.slice(0, -8)}AAAAAAAA`,
      'no signature': `${header}.${payload}.`,
      'crit': await this.craft(claims, { crit: ['x'], x: 1 }),
      'another typ': await this.craft(claims, { typ: 'dpop+jwt' }),
      'garbage': 'garbage',
      'oversized': await this.craft({ ...claims, x: 'x'.repeat(20_000) }),
    };
  }
}
