// Drives @modelcontextprotocol/sdk 1.x: stdio, Streamable HTTP and HTTP+SSE, up to 2025-11-25.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { CreateMessageRequestSchema, ElicitRequestSchema, ListRootsRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { answer, capabilities, errand, run } from './errand.mjs';

await run(async complain => {
  const client = new Client({ name: 'ts-sdk-1', version: '1.0.0' }, { capabilities });
  const http = errand.transport === 'http';
  const transport = {
    stdio: ({ command: [command, ...args] }) => new StdioClientTransport({ command, args }),
    http: ({ url }) => new StreamableHTTPClientTransport(new URL(url)),
    sse: ({ url }) => new SSEClientTransport(new URL(url)),
  }[errand.transport](errand);
  // Over stdio there is no reader for it at all: the client tells its transport, as one that would put it in a header.
  transport.setProtocolVersion ??= version => { transport.protocolVersion = version; };
  client.onerror = complain;
  const questions = { elicitation: ElicitRequestSchema, sampling: CreateMessageRequestSchema, roots: ListRootsRequestSchema };
  for (const able of Object.keys(capabilities)) client.setRequestHandler(questions[able], answer);
  await client.connect(transport);
  return {
    // The SSE transport has no public reader for it.
    revision: () => transport.protocolVersion ?? transport._protocolVersion,
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
