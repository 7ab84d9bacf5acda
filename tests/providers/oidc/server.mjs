// The suite's identity provider: the certified `oidc-provider`, in memory, with an administration for the tests beside it.
//
// Sign-in is real as far as the protocol goes: discovery, authorization code with PKCE, device code, refresh with rotation,
// revocation, JWT access tokens (RFC 9068) for one resource. Only people are absent: the account that the administration named
// signs in by itself, and device codes are approved or declined by the administration.
//
//   node server.mjs '{"modules":"…","key":"….pem","certificate":"….pem","issuers":["a","b"],"resource":"https://…","audience":"…"}'
//
// Prints one JSON line when it serves: {"issuers":{"a":"https://127.0.0.1:…"},"admin":"http://127.0.0.1:…"}; ends with standard
// input. Every issuer has its own keys; all have the same accounts, so that one `sub` exists at each.

import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const options = JSON.parse(process.argv[2]);
const module = path.join(options.modules, 'node_modules/oidc-provider/lib/index.js');
const { default: Provider } = await import(pathToFileURL(module));

const CLIENT = 'concordat-cli';
const issuers = new Map();

function newKey(kid) {
  const { privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' };
}

function provider(state) {
  const made = new Provider(state.url, {
    jwks: { keys: state.keys },
    clients: [{
      client_id: CLIENT,
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      redirect_uris: ['http://127.0.0.1/callback'],
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
      id_token_signed_response_alg: 'ES256',
    }],
    cookies: { keys: [crypto.randomBytes(16).toString('hex')] },
    scopes: ['openid', 'offline_access', 'query'],
    claims: { openid: ['sub'] },
    pkce: { required: () => true },
    findAccount: (ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
    extraTokenClaims: (ctx, token) => state.claims[token.accountId] ?? state.claims['*'],
    issueRefreshToken: async () => true,
    rotateRefreshToken: true,
    ttl: {
      AccessToken: () => state.seconds, DeviceCode: () => state.deviceSeconds, Grant: 3600, IdToken: 300,
      Interaction: 300, RefreshToken: 3600, Session: 3600, AuthorizationCode: 60,
    },
    interactions: { url: (ctx, interaction) => `/sign-in/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: async () => undefined,
        useGrantedResource: async () => true,
        getResourceServerInfo: async () => ({
          scope: 'query',
          audience: options.audience,
          accessTokenTTL: state.seconds,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  });
  made.use(async (ctx, next) => {
    if (!ctx.path.startsWith('/sign-in/')) return next();
    await signIn(made, state, ctx.req, ctx.res);
    ctx.respond = false;
    return undefined;
  });
  return made;
}

// What a person would do on the sign-in page.
async function signIn(made, state, request, response) {
  const { prompt, params, session, grantId } = await made.interactionDetails(request, response);
  if (state.declines) {
    return made.interactionFinished(request, response, { error: 'access_denied', error_description: 'declined' });
  }
  if (prompt.name === 'login') {
    return made.interactionFinished(request, response, { login: { accountId: state.account } });
  }
  const grant = (grantId && await made.Grant.find(grantId)) || new made.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope('openid offline_access query');
  grant.addResourceScope(options.resource, 'query');
  return made.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
}

// What a person would do on the page that takes device codes.
async function decideDevice(state, text, approve) {
  const made = state.provider;
  const code = await made.DeviceCode.findByUserCode(text.replaceAll(/[^A-Za-z0-9]/g, '').toUpperCase(), { ignoreExpiration: true });
  if (!code) return { found: false };
  if (!approve) {
    Object.assign(code, { error: 'access_denied', errorDescription: 'declined' });
  } else {
    const grant = new made.Grant({ accountId: state.account, clientId: CLIENT });
    grant.addOIDCScope('openid offline_access query');
    grant.addResourceScope(options.resource, 'query');
    const grantId = await grant.save();
    Object.assign(code, {
      accountId: state.account, grantId, scope: 'openid offline_access query', resource: code.params.resource,
      authTime: Math.floor(Date.now() / 1000), sessionUid: crypto.randomUUID(), expiresWithSession: false,
    });
  }
  await code.save();
  return { found: true };
}

// A token of any shape, good or hostile: `by` is key, hmac-with-public-key or none.
function sign(state, { header, claims, by }) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const key = state.keys.find((k) => k.kid === header.kid) ?? state.keys[0];
  const message = `${part(header)}.${part({ iss: state.url, ...claims })}`;
  const privateKey = crypto.createPrivateKey({ key, format: 'jwk' });
  const publicPem = crypto.createPublicKey(privateKey).export({ type: 'spki', format: 'pem' });
  const signature = {
    key: () => crypto.sign('sha256', Buffer.from(message), { key: privateKey, dsaEncoding: 'ieee-p1363' }),
    'hmac-with-public-key': () => crypto.createHmac('sha256', publicPem).update(message).digest(),
    none: () => Buffer.alloc(0),
  }[by]();
  return { token: `${message}.${signature.toString('base64url')}` };
}

const actions = {
  // The account that signs in, the claims of its tokens, their life.
  set(state, changes) {
    Object.assign(state, changes);
    return {};
  },
  // A new key that signs from now on; earlier ones stay published.
  rotate(state, { kid }) {
    state.keys.unshift(newKey(kid));
    state.provider = provider(state);
    return {};
  },
  // Only these keys stay.
  keep(state, { kids }) {
    state.keys = state.keys.filter((key) => kids.includes(key.kid));
    if (state.keys.length > 0) state.provider = provider(state);
    return {};
  },
  // Publishes this text instead of the key set, or the key set again.
  publish(state, { text }) {
    state.published = text ?? undefined;
    return {};
  },
  down(state, { down }) {
    state.down = down;
    return {};
  },
  fetches(state) {
    return { fetches: state.fetches };
  },
  approve: (state, { code }) => decideDevice(state, code, true),
  decline: (state, { code }) => decideDevice(state, code, false),
  sign,
};

async function serve(name) {
  const state = {
    account: 'analyst-1', seconds: 600, deviceSeconds: 600, declines: false, down: false, fetches: 0, keys: [newKey(`${name}-1`)], claims: {},
  };
  const tls = { key: fs.readFileSync(options.key), cert: fs.readFileSync(options.certificate) };
  const server = https.createServer(tls, (request, response) => {
    if (state.down) return request.socket.destroy();
    if (request.url === '/jwks') {
      state.fetches += 1;
      if (state.keys.length === 0 || state.published !== undefined) {
        response.setHeader('content-type', 'application/jwk-set+json');
        return response.end(state.published ?? '{"keys":[]}');
      }
    }
    return state.provider.callback()(request, response);
  });
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  state.url = `https://127.0.0.1:${server.address().port}`;
  state.provider = provider(state);
  issuers.set(name, state);
}

for (const name of options.issuers) await serve(name);

const admin = http.createServer(async (request, response) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  const [, name, action] = request.url.split('/');
  try {
    response.end(JSON.stringify(await actions[action](issuers.get(name), JSON.parse(text || '{}'))));
  } catch (error) {
    response.statusCode = 500;
    response.end(String(error?.stack ?? error));
  }
});
await new Promise((resolve) => { admin.listen(0, '127.0.0.1', resolve); });

process.stdin.on('end', () => process.exit(0)).resume();
const addresses = Object.fromEntries([...issuers].map(([name, state]) => [name, state.url]));
console.log(JSON.stringify({ issuers: addresses, admin: `http://127.0.0.1:${admin.address().port}` }));
