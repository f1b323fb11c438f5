// Runs inside the browser, for `browser`: what a web page does with Landbridge using nothing but fetch and EventSource.
// Each step takes the gateway's base URL and what earlier steps found, and returns plain facts.

const INITIALIZE = {
  jsonrpc: '2.0', id: 1, method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'page', version: '1.0.0' } },
};
const call = (id, message, _meta) =>
  ({ jsonrpc: '2.0', id, method: 'tools/call', params: { name: 'echo', arguments: { message }, ...(_meta && { _meta }) } });

const STATELESS = {
  headers: { 'MCP-Protocol-Version': '2026-07-28', 'Mcp-Method': 'tools/call', 'Mcp-Name': 'echo' },
  meta: {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientInfo': { name: 'page', version: '1.0.0' },
    'io.modelcontextprotocol/clientCapabilities': {},
  },
};

const headers = more =>
  ({ 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream', ...more });
const inSession = session => headers({ 'Mcp-Session-Id': session, 'MCP-Protocol-Version': '2025-11-25' });

async function post(url, message, more) {
  const answer = await fetch(url, { method: 'POST', headers: headers(more), body: JSON.stringify(message) });
  const text = await answer.text();
  // The answer is one object, or the last event of a stream.
  const stream = answer.headers.get('content-type')?.startsWith('text/event-stream');
  const json = stream ? text.split(/\r?\n/).filter(line => line.startsWith('data:') && line.length > 6).at(-1).slice(5) : text;
  let body = null;
  try { body = JSON.parse(json); } catch { /* Some answers, such as 202, have no body. */ }
  return { status: answer.status, session: answer.headers.get('Mcp-Session-Id'), body };
}

/** The data of the next event of a kind that passes the test. */
function nextEvent(source, kind, test = () => true) {
  return new Promise((resolve, reject) => {
    source.addEventListener(kind, event => { if (test(event.data)) resolve(event.data); });
    source.onerror = () => reject(new Error('EventSource failed'));
    setTimeout(() => reject(new Error(`no event ${kind} within 10 s`)), 10_000);
  });
}

globalThis.steps = {
  initialize: ({ base }) => post(`${base}/mcp`, INITIALIZE),

  initialized: ({ base, session }) =>
    post(`${base}/mcp`, { jsonrpc: '2.0', method: 'notifications/initialized' }, inSession(session)),

  call: ({ base, session }) => post(`${base}/mcp`, call(2, 'from a page'), inSession(session)),

  async listen({ base, session }) {
    const quit = new AbortController();
    const answer = await fetch(`${base}/mcp`, {
      headers: { ...inSession(session), Accept: 'text/event-stream' }, signal: quit.signal,
    });
    const seen = { status: answer.status, type: answer.headers.get('Content-Type') };
    quit.abort();
    return seen;
  },

  stateless: ({ base }) => post(`${base}/mcp`, call(3, 'from nowhere', STATELESS.meta), STATELESS.headers),

  credentials: ({ base }) => post(`${base}/mcp`, call(4, 'with a key', STATELESS.meta),
    { ...STATELESS.headers, Authorization: 'Bearer none', 'Last-Event-ID': '1', 'Mcp-Param-Region': 'eu' }),

  malformed: async ({ base }) => {
    const answer = await fetch(`${base}/mcp`, { method: 'POST', headers: headers(), body: '{"jsonrpc":' });
    return { status: answer.status, body: await answer.json() };
  },

  async events({ base }) {
    const source = new EventSource(`${base}/sse`);
    try {
      const endpoint = new URL(await nextEvent(source, 'endpoint'), `${base}/sse`);
      const replies = [];
      for (const message of [INITIALIZE, call(2, 'over events')]) {
        const reply = nextEvent(source, 'message', data => JSON.parse(data).id === message.id);
        const answer = await fetch(endpoint, { method: 'POST', headers: headers(), body: JSON.stringify(message) });
        replies.push({ status: answer.status, body: JSON.parse(await reply) });
      }
      return { origin: endpoint.origin, replies };
    } finally {
      source.close();
    }
  },

  end: async ({ base, session }) => {
    const answer = await fetch(`${base}/mcp`, { method: 'DELETE', headers: inSession(session) });
    return { status: answer.status };
  },

  dead: ({ base, session }) => post(`${base}/mcp`, call(5, 'too late'), inSession(session)),

  // A form could send this from any page, without the browser asking the server first.
  simple: async ({ base }) => {
    const answer = await fetch(`${base}/mcp`, {
      method: 'POST', mode: 'no-cors', headers: { 'Content-Type': 'text/plain' }, body: JSON.stringify(INITIALIZE),
    });
    return { type: answer.type };
  },
};
