// Drives @modelcontextprotocol/client 2.x: stdio, Streamable HTTP and HTTP+SSE, every revision up to 2026-07-28.
// A mode that is a dated revision makes it a client that knows only that one.
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { answer, capabilities, errand, run } from './errand.mjs';
import { connect } from './login.mjs';

const options = {
  legacy: {},
  auto: { versionNegotiation: { mode: 'auto' } },
  modern: { versionNegotiation: { mode: { pin: '2026-07-28' } } },
}[errand.mode] ?? { supportedProtocolVersions: [errand.mode] };

await run(async complain => {
  const client = new Client({ name: 'ts-client-2', version: '1.0.0' }, { ...options, capabilities });
  const http = errand.transport === 'http';
  const make = {
    stdio: ({ command: [command, ...args] }) => new StdioClientTransport({ command, args }),
    http: ({ url }, options) => new StreamableHTTPClientTransport(new URL(url), options),
    sse: ({ url }, options) => new SSEClientTransport(new URL(url), options),
  }[errand.transport];
  client.onerror = complain;
  const questions = { elicitation: 'elicitation/create', sampling: 'sampling/createMessage', roots: 'roots/list' };
  for (const able of Object.keys(capabilities)) client.setRequestHandler(questions[able], answer);
  const transport = await connect(client, options => make(errand, options));
  return {
    revision: () => client.getNegotiatedProtocolVersion(),
    client: {
      tools: async () => (await client.listTools()).tools.map(tool => tool.name),
      call: async (name, args, onprogress) => {
        const { content, isError } = await client.callTool({ name, arguments: args }, { onprogress });
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
      if (http && transport.sessionId) await transport.terminateSession();
      await client.close();
    },
  };
});
