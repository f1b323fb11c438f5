// A server of the stateless revision and nothing older, for the gateway to put in front of every client.
// It speaks stdio; with `--http PORT` it speaks HTTP on loopback instead, to try the drivers without a gateway.
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { completable, createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import * as z from 'zod';

const text = value => ({ content: [{ type: 'text', text: value }] });

function modern() {
  const server = new McpServer({ name: 'modern', version: '1.0.0' }, { capabilities: { logging: {} } });

  server.registerTool('echo', { description: 'The message, unchanged', inputSchema: z.object({ message: z.string() }) },
    ({ message }) => text(message));

  server.registerTool('add', { description: 'The sum of two numbers', inputSchema: z.object({ a: z.number(), b: z.number() }) },
    ({ a, b }) => text(String(a + b)));

  server.registerTool('slow', {
    description: 'Counts steps, reporting each',
    inputSchema: z.object({ steps: z.number().int(), delay_ms: z.number() }),
  }, async ({ steps, delay_ms }, ctx) => {
    const progressToken = ctx.mcpReq._meta?.progressToken;
    for (let progress = 1; progress <= steps; progress++) {
      await sleep(delay_ms);
      if (progressToken === undefined) continue;
      await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: steps } });
    }
    return text(`${steps} steps`);
  });

  server.registerResource('motto', 'modern://motto', { mimeType: 'text/plain' },
    uri => ({ contents: [{ uri: uri.href, mimeType: 'text/plain', text: 'Nothing is remembered.' }] }));

  server.registerPrompt('greet', {
    description: 'Greets somebody',
    argsSchema: z.object({ name: completable(z.string(), typed => ['Ada', 'Alan', 'Grace'].filter(n => n.startsWith(typed))) }),
  }, ({ name }) => ({ messages: [{ role: 'user', content: { type: 'text', text: `Greet ${name}.` } }] }));

  return server;
}

const http = process.argv.indexOf('--http');
if (http < 0) {
  serveStdio(modern, { legacy: 'reject' });
} else {
  const handler = createMcpHandler(modern, { legacy: 'reject' });
  createServer(async (req, res) => {
    const answer = await handler.fetch(new Request(`http://${req.headers.host}${req.url}`, {
      method: req.method, headers: req.headers, duplex: 'half', body: req.method === 'POST' ? req : undefined,
    }));
    res.writeHead(answer.status, Object.fromEntries(answer.headers));
    for await (const chunk of answer.body ?? []) res.write(chunk);
    res.end();
  }).listen(Number(process.argv[http + 1]), '127.0.0.1');
}
