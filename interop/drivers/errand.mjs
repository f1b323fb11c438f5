// What every JavaScript driver does with its client once it is connected: run the steps of the errand that the
// runner passed as JSON, and print one JSON line of what was seen. Judging it is the runner's business.
//
// A client here is an object of functions: tools, call, prompts, prompt, resources, resource, complete, ping, level.
// Where the errand holds answers, the client is one that can be asked: it has the `capabilities` and answers by `answer`,
// and each step is a set of calls made at once, told with all that was asked meanwhile.

import { setTimeout as sleep } from 'node:timers/promises';

export const errand = JSON.parse(process.argv[2]);

// These clients forget a call at its result, and then do not know the progress that came in the same read before it.
const late = [];

export const capabilities = errand.answers ? { elicitation: {}, sampling: {}, roots: {} } : {};

const asked = [];

/** Says to a question of the server what the errand has to say to it, which it knows by the words of the question. */
export function answer({ method, params }) {
  asked.push({ method, params });
  const words = params?.message ?? [params?.messages?.[0].content].flat()[0]?.text ?? method;
  if (!(words in errand.answers)) throw new Error(`the errand has no answer to ${words}`);
  return errand.answers[words];
}

async function ask(client, { calls }) {
  const texts = await Promise.all(calls.map(async ({ tool, prompt, arguments: args }) => {
    try {
      return tool ? (await client.call(tool, args)).text : await client.prompt(prompt, args);
    } catch (error) {
      return `error ${error.code}: ${error.message}`;
    }
  }));
  return { texts, asked: asked.splice(0) };
}

const call = async (client, { name, arguments: args }) => (await client.call(name, args)).text;

const steps = {
  tools: client => client.tools(),
  echo: async (client, { name, messages }) =>
    Promise.all(messages.map(async message => (await client.call(name, { message })).text)),
  sum: call, mirrored: call, structured: call,
  // The same once more, when the access token has ended.
  later: async (client, { after_s: seconds, ...given }) => (await sleep(seconds * 1000), call(client, given)),
  slow: async (client, { name, arguments: args }) => {
    const progress = [];
    const { text } = await client.call(name, args, ({ progress: at }) => progress.push(at));
    await sleep(20);
    return { text, progress: [...progress, ...late.splice(0)] };
  },
  unknown: async (client, { name }) => {
    try {
      const { isError, text } = await client.call(name, {});
      return isError ? `tool error: ${text}` : null;
    } catch (error) {
      return `error ${error.code}: ${error.message}`;
    }
  },
  prompts: client => client.prompts(),
  prompt: (client, { name, arguments: args }) => client.prompt(name, args),
  resources: client => client.resources(),
  resource: (client, { uri }) => client.resource(uri),
  complete: (client, params) => client.complete(params),
  ping: client => client.ping().then(() => true),
  level: (client, { level }) => client.level(level).then(() => true),
};

/**
 * Connects, runs the steps, closes. `connect` is given a place for complaints that no call carries, such as a message
 * that the client could not read, and resolves to `{ revision(), client, close() }`.
 */
export async function run(connect) {
  const report = { revision: null, facts: {}, errors: {}, closed: false };
  let closing = false;
  const complain = error => {
    if (closing) return; // A client may call its own hanging up an error.
    const stray = /^Received a progress notification for an unknown token: (.*)$/.exec(error.message);
    if (stray) late.push(JSON.parse(stray[1]).params.progress);
    else report.errors['between calls'] ??= error.message;
  };
  const attempt = async (name, work) => {
    try {
      return await work();
    } catch (error) {
      report.errors[name] = `${error.code ?? ''} ${error.message ?? error}`.trim();
    }
  };
  const connection = await attempt('connect', () => connect(complain));
  if (connection) {
    report.revision = connection.revision();
    for (const [name, given] of Object.entries(errand.steps)) {
      const step = errand.answers ? ask : steps[name];
      report.facts[name] = await attempt(name, () => step(connection.client, given));
    }
    closing = true;
    report.closed = (await attempt('close', async () => (await connection.close(), true))) ?? false;
  }
  console.log(JSON.stringify(report));
}
