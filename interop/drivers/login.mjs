// A client's login, for the drivers of the official SDKs in JavaScript: what an application gives them for it, with a
// callback on loopback and the browser that the errand names. Old SDKs take less of it.
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { errand } from './errand.mjs';

/** An `OAuthClientProvider` that keeps all in memory; `came` is how the browser came back. */
async function provider({ browser, client, issuer }) {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const redirectUrl = `http://127.0.0.1:${server.address().port}/callback`;
  const came = once(server, 'request').then(([req, res]) => {
    res.setHeader('Connection', 'close').end('You can go back to the application.');
    server.close();
    return new URL(req.url, redirectUrl).searchParams;
  });
  let tokens, verifier, discovery, information = client && { ...client, issuer };
  return {
    came,
    provider: {
      redirectUrl,
      clientMetadata: {
        client_name: `interop ${errand.mode}`, redirect_uris: [redirectUrl], token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
      },
      state: () => 'of this login',
      clientInformation: () => information,
      saveClientInformation: given => { information = given; },
      tokens: () => tokens,
      saveTokens: given => { tokens = given; },
      redirectToAuthorization: url => { spawn(browser, [url.href], { stdio: 'ignore' }); },
      saveCodeVerifier: given => { verifier = given; },
      codeVerifier: () => verifier,
      saveDiscoveryState: given => { discovery = given; },
      discoveryState: () => discovery,
    },
  };
}

/** Connects; if somebody has to log in for that, they do. `make` makes a transport with options. */
export async function connect(client, make) {
  const requestInit = errand.headers && { headers: errand.headers };
  if (!errand.login) {
    const transport = make({ requestInit });
    await client.connect(transport);
    return transport;
  }
  const login = await provider(errand.login);
  const options = { requestInit, authProvider: login.provider };
  let transport = make(options);
  const { onerror } = client;
  client.onerror = () => {}; // Not to be let in is no error yet.
  try {
    await client.connect(transport);
    throw new Error('nobody had to log in');
  } catch (error) {
    if (error.constructor.name !== 'UnauthorizedError') throw error;
  }
  const came = await login.came;
  if (came.get('state') && came.get('state') !== 'of this login') throw new Error(`the state is ${came.get('state')}`);
  if (!came.get('code')) throw new Error(`the login ended with ${came}`);
  // 2.x checks who issued the code.
  await transport.finishAuth(came.get('code'), came.get('iss') ?? undefined);
  await client.close();
  client.onerror = onerror;
  transport = make(options);
  await client.connect(transport);
  return transport;
}
