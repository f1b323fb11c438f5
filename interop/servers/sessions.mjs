// A server of the handshake era by the TypeScript SDK 1.x, on loopback: `--sse PORT` serves HTTP+SSE at /sse,
// `--streamable PORT` serves Streamable HTTP with sessions at /mcp. Each is alone there, so that it is known which wire was
// used. Its tools bear the names of `mcp-fixture`, and do and say the same.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { InMemoryTaskStore } from '@modelcontextprotocol/sdk/experimental/tasks/stores/in-memory.js';
import { McpServer, ResourceTemplate } from '@modelcontextprotocol/sdk/server/mcp.js';
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import {
  CreateMessageResultSchema, ElicitResultSchema, ListRootsResultSchema, SubscribeRequestSchema, UnsubscribeRequestSchema,
} from '@modelcontextprotocol/sdk/types.js';
import * as z from 'zod';
import { body, failure, LOG_LEVELS, odd, serve, text, WATCHED } from './shared.mjs';

function create() {
  const mcp = new McpServer({ name: 'sessions', version: '1.0.0' }, {
    capabilities: {
      logging: {}, resources: { subscribe: true, listChanged: true }, tools: { listChanged: true },
      tasks: { list: {}, cancel: {}, requests: { tools: { call: {} } } },
    },
    taskStore: new InMemoryTaskStore(),
  });
  const tool = (name, inputSchema, run) => mcp.registerTool(name, { description: `${name}, as mcp-fixture has it`, inputSchema }, run);

  tool('echo', { message: z.string() }, ({ message }) => text(message));
  tool('verbatim', z.looseObject({}), (_, extra) => text(body(extra.requestId, extra.sessionId)));
  tool('odd_result', {}, odd);
  tool('test_error_handling', {}, () => failure('This tool intentionally returns an error for testing'));

  const progress = (extra, progress, total) => extra._meta?.progressToken === undefined ? undefined
    : extra.sendNotification({ method: 'notifications/progress', params: { progressToken: extra._meta.progressToken, progress, total } });
  tool('test_tool_with_progress', {}, async (_, extra) => {
    for (const done of [0, 50, 100]) await progress(extra, done, 100);
    return text('Tool with progress executed successfully');
  });
  tool('slow', { steps: z.number().int(), delay_ms: z.number().int() }, async ({ steps, delay_ms }, extra) => {
    for (let step = 1; step <= steps; step++) {
      await sleep(delay_ms);
      if (extra.signal.aborted) return console.error(`cancelled ${extra.requestId}`), text('to nobody');
      await progress(extra, step, steps);
    }
    return text(`done after ${steps} steps`);
  });

  let loudness = 'debug';  // The SDK keeps a level too, but tells it nobody.
  mcp.server.setRequestHandler(z.object({ method: z.literal('logging/setLevel'), params: z.looseObject({ level: z.string() }) }),
    ({ params }) => (loudness = params.level, {}));
  const log = (extra, level, data) => LOG_LEVELS.indexOf(level) < LOG_LEVELS.indexOf(loudness) ? undefined
    : extra.sendNotification({ method: 'notifications/message', params: { level, logger: 'sessions', data } });
  tool('test_logging_tool', {}, async (_, extra) => {
    await log(extra, 'debug', 'a detail');
    await log(extra, 'info', 'test_logging_tool was called');
    return text('logged what was asked for');
  });

  const sample = (extra, words, maxTokens) => extra.sendRequest({
    method: 'sampling/createMessage', params: { messages: [{ role: 'user', content: { type: 'text', text: words } }], maxTokens },
  }, CreateMessageResultSchema);
  tool('test_input_required_result_elicitation', {}, async (_, extra) => {
    const requestedSchema = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] };
    const answer = await extra.sendRequest({
      method: 'elicitation/create', params: { message: 'What is your name?', requestedSchema },
    }, ElicitResultSchema);
    return text(answer.content ? `Hello, ${answer.content.name}!` : `Hello, whoever you are: action=${answer.action}`);
  });
  tool('test_input_required_result_sampling', {}, async (_, extra) =>
    text((await sample(extra, 'What is the capital of France?', 100)).content.text));
  tool('test_input_required_result_list_roots', {}, async (_, extra) => {
    const { roots } = await extra.sendRequest({ method: 'roots/list' }, ListRootsResultSchema);
    return text(`Roots: ${roots.map(root => root.uri).join(' ')}`);
  });
  tool('test_missing_capability', {}, async (_, extra) => {
    await sample(extra, 'Can you hear me?', 10);
    return text('the client can sample');
  });

  const sometimes = tool('sometimes', {}, () => text('there'));
  sometimes.disable();
  tool('test_trigger_tool_change', {}, () => (sometimes.enabled ? sometimes.disable() : sometimes.enable(), text('said so')));

  mcp.registerResource('static-text', 'test://static-text', { mimeType: 'text/plain' }, uri => (
    { contents: [{ uri: uri.href, mimeType: 'text/plain', text: 'This is the content of the static text resource.' }] }));
  mcp.registerResource('watched-resource', WATCHED, { mimeType: 'text/plain' }, uri => (
    { contents: [{ uri: uri.href, mimeType: 'text/plain', text: 'Watched resource content' }] }));
  mcp.registerResource('template', new ResourceTemplate('test://template/{id}/data', { list: undefined }), {}, (uri, { id }) => (
    { contents: [{ uri: uri.href, mimeType: 'application/json', text: JSON.stringify({ id }) }] }));
  const watched = new Set();
  mcp.server.setRequestHandler(SubscribeRequestSchema, ({ params }) => (watched.add(params.uri), {}));
  mcp.server.setRequestHandler(UnsubscribeRequestSchema, ({ params }) => (watched.delete(params.uri), {}));
  tool('touch_watched', {}, async () => {
    const n = [...watched].filter(uri => uri === WATCHED).length;
    if (n) await mcp.server.sendResourceUpdated({ uri: WATCHED });
    return text(`told ${n}`);
  });

  mcp.registerPrompt('test_simple_prompt', { description: 'A fixed message' }, () => (
    { messages: [{ role: 'user', content: { type: 'text', text: 'This is a simple prompt for testing.' } }] }));

  const task = (name, taskSupport, inputSchema, run) => mcp.experimental.tasks.registerToolTask(
    name, { description: `${name}, as mcp-fixture has it`, inputSchema, execution: { taskSupport } }, {
      async createTask(args, { taskStore, taskRequestedTtl }) {
        const task = await taskStore.createTask({ ttl: taskRequestedTtl ?? 60_000, pollInterval: 100 });
        run(args).then(result => taskStore.storeTaskResult(task.taskId, result.isError ? 'failed' : 'completed', result))
          .catch(() => {});  // It was cancelled meanwhile.
        return { task };
      },
      getTask: (_, { taskId, taskStore }) => taskStore.getTask(taskId),
      getTaskResult: (_, { taskId, taskStore }) => taskStore.getTaskResult(taskId),
    });
  task('slow_compute', 'optional', { seconds: z.number(), label: z.string().optional() }, async ({ seconds, label }) => {
    await sleep(seconds * 1000, undefined, { ref: false });
    return text(`computed ${label ?? 'something'} for ${seconds} s`);
  });
  task('failing_job', 'required', { ms: z.number().optional() }, async ({ ms }) => {
    await sleep(ms ?? 1000);
    return failure('the job failed');
  });
  return mcp;
}

const sessions = new Map();

const exchange = {
  async sse(req, res, url, message) {
    if (req.method === 'GET' && url.pathname === '/sse') {
      const transport = new SSEServerTransport('/messages', res);
      sessions.set(transport.sessionId, transport);
      res.on('close', () => sessions.delete(transport.sessionId));
      return create().connect(transport);
    }
    const transport = sessions.get(url.searchParams.get('sessionId'));
    if (req.method !== 'POST' || url.pathname !== '/messages') return res.writeHead(url.pathname === '/sse' ? 405 : 404).end();
    return transport ? transport.handlePostMessage(req, res, message) : res.writeHead(404).end('Session not found');
  },

  async streamable(req, res, url, message) {
    if (url.pathname !== '/mcp') return res.writeHead(404).end();
    const id = req.headers['mcp-session-id'];
    let transport = sessions.get(id);
    if (!transport && id) return res.writeHead(404).end('Session not found');
    if (!transport) {
      transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        onsessioninitialized: id => sessions.set(id, transport),
        onsessionclosed: id => sessions.delete(id),
      });
      await create().connect(transport);
    }
    return transport.handleRequest(req, res, message);
  },
};

serve((kind, req, res, url, message) => exchange[kind](req, res, url, message));
