// Drives the Inspector's command line: every step is a process, and thus a connection, of its own.
// It shows no progress, and refuses an unknown tool by itself.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { errand, run } from './errand.mjs';

const cli = fileURLToPath(new URL('../node_modules/.bin/mcp-inspector', import.meta.url));

async function invoke(method, ...args) {
  const server = errand.transport === 'stdio' ? errand.command : [errand.url];
  const common = ['--cli', ...server, '--transport', errand.transport, '--protocol-era', errand.mode, '--format', 'json'];
  for (const [name, value] of Object.entries(errand.headers ?? {})) common.push('--header', `${name}: ${value}`);
  const { stdout } = await promisify(execFile)(process.execPath, [cli, ...common, '--method', method, ...args]);
  return JSON.parse(stdout).result;
}

await run(async () => {
  const { protocolVersion } = await invoke('initialize');
  return {
    revision: () => protocolVersion,
    client: {
      tools: async () => (await invoke('tools/list')).tools.map(tool => tool.name),
      call: async (name, args) => {
        const { content, isError } = await invoke('tools/call', '--tool-name', name, '--tool-args-json', JSON.stringify(args));
        return { text: content[0].text, isError };
      },
      prompts: async () => (await invoke('prompts/list')).prompts.map(prompt => prompt.name),
      prompt: async (name, args) => {
        const pairs = Object.entries(args).map(([key, value]) => `${key}=${value}`);
        return (await invoke('prompts/get', '--prompt-name', name, '--prompt-args', ...pairs)).messages[0].content.text;
      },
      resources: async () => (await invoke('resources/list')).resources.map(resource => resource.uri),
      resource: async uri => (await invoke('resources/read', '--uri', uri)).contents[0].text,
      level: level => invoke('logging/setLevel', '--log-level', level),
    },
    close: async () => {},
  };
});
