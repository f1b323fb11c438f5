// What the servers over HTTP have in common: the results that both give, and the bytes of what arrived.
import { createServer } from 'node:http';

export const WATCHED = 'test://watched-resource';
export const LOG_LEVELS = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency'];

export const text = value => ({ content: [{ type: 'text', text: value }] });
export const failure = value => ({ ...text(value), isError: true });

// Numbers as they are spelt here, keys in no order, members that nobody knows.
export const odd = () => ({
  zeta: 'first',
  ...text('odd é/😀'),
  structuredContent: {
    b: JSON.rawJSON('123456789012345678901234567890'), a: JSON.rawJSON('1.0'), c: JSON.rawJSON('1e400'), e: JSON.rawJSON('-0.0'),
    'é': { z: null, a: [], E: JSON.rawJSON('1E+2') },
  },
  alpha: { z: null, a: [JSON.rawJSON('0.10')] },
  _meta: { 'com.example/zz': 1, 'com.example/aa': JSON.rawJSON('2.50') },
});

// The requests that are under way, as they came: the SDKs hand on only what they have parsed.
const bodies = new Map();
const key = (id, session) => JSON.stringify([id, session]);
export const body = (id, session) => bodies.get(key(id, session));

// Listens on loopback as the command line has it, `--KIND PORT`, and hands on each request with its message.
export function serve(exchange) {
  const [, , kind, port] = process.argv;
  createServer(async (req, res) => {
    try {
      const url = new URL(req.url, 'http://localhost');
      req.setEncoding('utf8');
      const raw = req.method === 'POST' ? (await req.toArray()).join('') : undefined;
      const message = raw && JSON.parse(raw);
      if (message?.params?.name === 'verbatim') {
        bodies.set(key(message.id, req.headers['mcp-session-id'] ?? url.searchParams.get('sessionId') ?? undefined), raw);
      }
      await exchange(kind.replace('--', ''), req, res, url, message, raw);
    } catch (error) {
      console.error(error);
      res.destroy();
    }
  }).listen(Number(port), '127.0.0.1', () => console.error('listening'));
}
