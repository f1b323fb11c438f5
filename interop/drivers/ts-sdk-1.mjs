// Drives @modelcontextprotocol/sdk 1.x: stdio, Streamable HTTP and HTTP+SSE, up to 2025-11-25. A mode that names another
// package is an old one of that name, which knows no later revision than those of its day.
import { answer, capabilities, errand, run } from './errand.mjs';
import { connect } from './login.mjs';

const name = errand.mode.startsWith('sdk-') ? errand.mode : '@modelcontextprotocol/sdk';
const load = path => import(`${name}/${path}.js`);
const [{ Client }, { SSEClientTransport }, { StdioClientTransport }, schemas] =
  await Promise.all(['client/index', 'client/sse', 'client/stdio', 'types'].map(load));
const StreamableHTTPClientTransport = errand.transport === 'http' && (await load('client/streamableHttp')).StreamableHTTPClientTransport;

await run(async complain => {
  const client = new Client({ name: 'ts-sdk-1', version: '1.0.0' }, { capabilities });
  const http = errand.transport === 'http';
  const make = {
    stdio: ({ command: [command, ...args] }) => new StdioClientTransport({ command, args }),
    http: ({ url }, options) => new StreamableHTTPClientTransport(new URL(url), options),
    sse: ({ url }, options) => new SSEClientTransport(new URL(url), options),
  }[errand.transport];
  // What was agreed on no version has a reader for: it is in the answer to the first request.
  let revision;
  const request = client.request.bind(client);
  client.request = async (...args) => {
    const result = await request(...args);
    revision ??= result.protocolVersion;
    return result;
  };
  client.onerror = complain;
  const { ElicitRequestSchema, CreateMessageRequestSchema, ListRootsRequestSchema } = schemas;
  const questions = { elicitation: ElicitRequestSchema, sampling: CreateMessageRequestSchema, roots: ListRootsRequestSchema };
  for (const able of Object.keys(capabilities)) client.setRequestHandler(questions[able], answer);
  const transport = await connect(client, options => make(errand, options));
  return {
    revision: () => revision,
    client: {
      tools: async () => (await client.listTools()).tools.map(tool => tool.name),
      call: async (name, args, onprogress) => {
        const { content, isError } = await client.callTool({ name, arguments: args }, undefined, { onprogress });
        return { text: content[0].text, isError };
      },
      prompts: async () => (await client.listPrompts()).prompts.map(prompt => prompt.name),
      prompt: async (name, args) => (await client.getPrompt({ name, arguments: args })).messages[0].content.text,
      resources: async () => (await client.listResources()).resources.map(resource => resource.uri),
      resource: async uri => (await client.readResource({ uri })).contents[0].text,
      complete: async params => (await client.complete(params)).completion.values,
      ping: () => client.ping(),
      level: level => client.setLoggingLevel(level),
    },
    close: async () => {
      if (http) await transport.terminateSession();
      await client.close();
    },
  };
});
