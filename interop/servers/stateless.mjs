// A server of the stateless revision by the TypeScript SDK 2.x, on loopback: `--stateless PORT` serves it at /mcp, and
// nothing older. Its tools bear the names of `mcp-fixture`, and do and say the same. The SDK has no tasks, but lets a
// server answer their methods; what they say here is the extension's text.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  acceptedContent, CLIENT_CAPABILITIES_META_KEY, createMcpHandler, inputRequired, inputResponse, McpServer,
  MissingRequiredClientCapabilityError, ProtocolError, ProtocolErrorCode, ResourceTemplate,
} from '@modelcontextprotocol/server';
import * as z from 'zod';
import { body, failure, odd, serve, text, WATCHED } from './shared.mjs';

const TASKS = 'io.modelcontextprotocol/tasks';
const tasks = new Map();
let isThere = false;

const knowsTasks = ctx => ctx.mcpReq.envelope?.[CLIENT_CAPABILITIES_META_KEY]?.extensions?.[TASKS] !== undefined;

function begin(ms, result) {
  const now = new Date().toISOString();
  const task = { taskId: randomUUID(), status: 'working', createdAt: now, lastUpdatedAt: now, ttlMs: 60_000, pollIntervalMs: 100 };
  const settle = more => Object.assign(task, more, { lastUpdatedAt: new Date().toISOString() });
  const timer = setTimeout(settle, ms, { status: 'completed', result: { ...result, resultType: 'complete' } });
  tasks.set(task.taskId, { task, cancel: () => (clearTimeout(timer), task.status === 'working' && settle({ status: 'cancelled' })) });
  return { resultType: 'task', ...task };
}

function create() {
  const mcp = new McpServer({ name: 'stateless', version: '1.0.0' }, {
    capabilities: {
      logging: {}, resources: { subscribe: true, listChanged: true }, tools: { listChanged: true }, extensions: { [TASKS]: {} },
    },
  });
  const tool = (name, shape, run) =>
    mcp.registerTool(name, { description: `${name}, as mcp-fixture has it`, inputSchema: z.looseObject(shape) }, run);

  tool('echo', { message: z.string() }, ({ message }) => text(message));
  tool('verbatim', {}, (_, ctx) => text(body(ctx.mcpReq.id)));
  tool('odd_result', {}, odd);
  tool('test_error_handling', {}, () => failure('This tool intentionally returns an error for testing'));

  const progress = ({ mcpReq }, progress, total) => mcpReq._meta?.progressToken === undefined ? undefined
    : mcpReq.notify({ method: 'notifications/progress', params: { progressToken: mcpReq._meta.progressToken, progress, total } });
  tool('test_tool_with_progress', {}, async (_, ctx) => {
    for (const done of [0, 50, 100]) await progress(ctx, done, 100);
    return text('Tool with progress executed successfully');
  });
  tool('slow', { steps: z.number().int(), delay_ms: z.number().int() }, async ({ steps, delay_ms }, ctx) => {
    for (let step = 1; step <= steps; step++) {
      await sleep(delay_ms);
      if (ctx.mcpReq.signal.aborted) return console.error(`cancelled ${ctx.mcpReq.id}`), text('to nobody');
      await progress(ctx, step, steps);
    }
    return text(`done after ${steps} steps`);
  });
  tool('test_logging_tool', {}, async (_, { mcpReq }) => {
    await mcpReq.log('debug', 'a detail', 'stateless');
    await mcpReq.log('info', 'test_logging_tool was called', 'stateless');
    return text('logged what was asked for');
  });

  const sample = (words, maxTokens) => inputRequired.createMessage(
    { messages: [{ role: 'user', content: { type: 'text', text: words } }], maxTokens });
  // Each asks until it has its answer; the SDK refuses a client that did not declare what is asked.
  const asks = (name, key, request, answered) => tool(name, {}, (_, { mcpReq }) => {
    const view = inputResponse(mcpReq.inputResponses, key);
    return view.kind === 'missing' ? inputRequired({ inputRequests: { [key]: request } })
      : answered(mcpReq.inputResponses[key], mcpReq.inputResponses);
  });
  asks('test_input_required_result_elicitation', 'user_name', inputRequired.elicit({
    message: 'What is your name?', requestedSchema: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] },
  }), ({ action }, responses) => {
    const content = acceptedContent(responses, 'user_name');
    return text(content ? `Hello, ${content.name}!` : `Hello, whoever you are: action=${action}`);
  });
  asks('test_input_required_result_sampling', 'capital_question', sample('What is the capital of France?', 100),
    ({ content }) => text(content.text));
  asks('test_input_required_result_list_roots', 'client_roots', inputRequired.listRoots(),
    ({ roots }) => text(`Roots: ${roots.map(root => root.uri).join(' ')}`));
  asks('test_missing_capability', 'sample', sample('Can you hear me?', 10), () => text('the client can sample'));

  const sometimes = tool('sometimes', {}, () => text('there'));
  if (!isThere) sometimes.disable();
  tool('test_trigger_tool_change', {}, () => {
    isThere = !isThere;
    handler.notify.toolsChanged();
    return text('said so');
  });

  mcp.registerResource('static-text', 'test://static-text', { mimeType: 'text/plain' }, uri => (
    { contents: [{ uri: uri.href, mimeType: 'text/plain', text: 'This is the content of the static text resource.' }] }));
  mcp.registerResource('watched-resource', WATCHED, { mimeType: 'text/plain' }, uri => (
    { contents: [{ uri: uri.href, mimeType: 'text/plain', text: 'Watched resource content' }] }));
  mcp.registerResource('template', new ResourceTemplate('test://template/{id}/data', { list: undefined }), {}, (uri, { id }) => (
    { contents: [{ uri: uri.href, mimeType: 'application/json', text: JSON.stringify({ id }) }] }));
  tool('touch_watched', {}, () => {
    handler.notify.resourceUpdated(WATCHED);
    return text('told whoever watches');
  });

  mcp.registerPrompt('test_simple_prompt', { description: 'A fixed message' }, () => (
    { messages: [{ role: 'user', content: { type: 'text', text: 'This is a simple prompt for testing.' } }] }));

  tool('slow_compute', { seconds: z.number(), label: z.string().optional() }, async ({ seconds, label }, ctx) => {
    const result = text(`computed ${label ?? 'something'} for ${seconds} s`);
    return knowsTasks(ctx) ? begin(seconds * 1000, result) : sleep(seconds * 1000, result);
  });
  tool('failing_job', { ms: z.number().optional() }, ({ ms }, ctx) => {
    const result = failure('the job failed');
    return knowsTasks(ctx) ? begin(ms ?? 1000, result) : sleep(ms ?? 1000, result);
  });
  const about = (method, answer) => mcp.server.setRequestHandler(method, { params: z.looseObject({ taskId: z.string() }) },
    ({ taskId }, ctx) => {
      if (!knowsTasks(ctx)) throw new MissingRequiredClientCapabilityError({ requiredCapabilities: { extensions: { [TASKS]: {} } } });
      if (!tasks.has(taskId)) throw new ProtocolError(ProtocolErrorCode.InvalidParams, 'Task not found');
      return answer(tasks.get(taskId));
    });
  about('tasks/get', ({ task }) => ({ ...task }));
  about('tasks/update', () => ({}));
  about('tasks/cancel', ({ cancel }) => (cancel(), {}));
  return mcp;
}

const handler = createMcpHandler(create, { legacy: 'reject', onerror: error => console.error(error.message) });

serve(async (_, req, res, url, message, raw) => {
  if (url.pathname !== '/mcp') return res.writeHead(404).end();
  const left = new AbortController();
  res.on('close', () => left.abort());  // A client that leaves has cancelled.
  const answer = await handler.fetch(new Request(url, { method: req.method, headers: req.headers, body: raw, signal: left.signal }));
  res.writeHead(answer.status, Object.fromEntries(answer.headers));
  const reader = answer.body?.getReader();
  left.signal.addEventListener('abort', () => reader?.cancel().catch(() => {}));
  for (let chunk; reader && !(chunk = await reader.read()).done;) res.write(chunk.value);
  res.end();
});
