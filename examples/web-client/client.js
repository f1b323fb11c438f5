// A client of the library of contents, over HTTP+SSE or WebSocket. EventSource can send no API key, so the stream is read
// by fetch; a WebSocket can send no header, so there it is a second subprotocol.

const at = id => document.getElementById(id);
const PATIENCE_MS = 60_000;

/** A session, over whatever carries it: `begin` opens that, `post` sends a message. */
class Session {
  waiting = new Map();
  next = 1;

  /** Opens it and shakes hands. `over` is called once it has ended. */
  async open(over) {
    await this.begin(() => {
      for (const { reject } of this.waiting.values()) reject(new Error('the connection has ended'));
      this.waiting.clear();
      over();
    });
    const clientInfo = { name: 'web-client', version: '1.0.0' };
    await this.ask('initialize', { protocolVersion: '2024-11-05', capabilities: {}, clientInfo });
    await this.post({ jsonrpc: '2.0', method: 'notifications/initialized' });
  }

  hear(message) {
    const waiting = this.waiting.get(message.id);
    if (!waiting || !('result' in message || 'error' in message)) return;
    this.waiting.delete(message.id);
    if (message.error) waiting.reject(new Error(message.error.message));
    else waiting.resolve(message.result);
  }

  async ask(method, params) {
    const id = this.next++;
    const answered = new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      setTimeout(() => { if (this.waiting.delete(id)) reject(new Error(`no answer to ${method}`)); }, PATIENCE_MS);
    });
    // Whoever waits is told below; if the message is not even taken, nobody does.
    answered.catch(() => {});
    await this.post({ jsonrpc: '2.0', id, method, params });
    return answered;
  }

  /** What a tool says, which is JSON. */
  async call(name, args) {
    const result = await this.ask('tools/call', { name, arguments: args });
    const text = result.content[0].text;
    if (result.isError) throw new Error(text);
    return JSON.parse(text);
  }
}

/** A WebSocket: a message a frame. */
class Socket extends Session {
  constructor(server, key) {
    super();
    this.url = `${server.replace(/^http/, 'ws')}/ws`;
    const text = btoa(String.fromCharCode(...new TextEncoder().encode(key)));
    const shown = text.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
    this.protocols = key ? ['mcp', `key.${shown}`] : ['mcp'];
  }

  async begin(over) {
    this.socket = new WebSocket(this.url, this.protocols);
    await new Promise((resolve, reject) => {
      this.socket.onopen = resolve;
      // A browser does not tell pages why.
      this.socket.onclose = () => reject(new Error('no WebSocket: is the key right, and may this page call?'));
    });
    this.socket.onclose = over;
    this.socket.onmessage = event => this.hear(JSON.parse(event.data));
  }

  close() {
    this.socket?.close();
  }

  async post(message) {
    this.socket.send(JSON.stringify(message));
  }
}

/** HTTP+SSE: a stream of events, and a URL that messages are sent to. */
class Events extends Session {
  constructor(server, key) {
    super();
    this.server = server;
    this.headers = key ? { 'X-API-Key': key } : {};
    this.closing = new AbortController();
  }

  async begin(over) {
    const headers = { ...this.headers, Accept: 'text/event-stream', 'MCP-Protocol-Version': '2025-06-18' };
    const answer = await fetch(`${this.server}/sse`, { headers, signal: this.closing.signal });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    const endpoint = new Promise(resolve => { this.found = resolve; });
    this.read(answer.body).catch(() => {}).then(over);
    this.endpoint = new URL(await endpoint, answer.url);
  }

  close() {
    this.closing.abort();
  }

  async read(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text = (text + value).replaceAll('\r\n', '\n');
      const events = text.split('\n\n');
      text = events.pop();
      for (const event of events) this.handle(event);
    }
  }

  handle(event) {
    let name = 'message', data = [];
    for (const line of event.split('\n')) {
      if (line.startsWith('event:')) name = line.slice(6).trim();
      if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''));
    }
    if (!data.length) return;
    if (name === 'endpoint') return this.found(data.join('\n'));
    this.hear(JSON.parse(data.join('\n')));
  }

  async post(message) {
    const headers = { ...this.headers, 'Content-Type': 'application/json' };
    const answer = await fetch(this.endpoint, { method: 'POST', headers, body: JSON.stringify(message) });
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  }
}

let session = null;

function say(text, bad = false) {
  at('said').textContent = text;
  at('said').className = bad ? 'bad' : '';
}

function connected(is) {
  at('state').textContent = is ? 'connected' : 'not connected';
  for (const button of document.querySelectorAll('#upload button, #search button')) button.disabled = !is;
}

async function base64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = '';
  for (let n = 0; n < bytes.length; n += 0x8000) text += String.fromCharCode(...bytes.subarray(n, n + 0x8000));
  return btoa(text);
}

async function show() {
  const args = { limit: 50, owner_id: at('owner').value.trim() };
  const query = at('query').value.trim();
  const { items, total } = query
    ? await session.call('search_content', { ...args, query })
    : await session.call('list_content', args);
  at('contents').replaceChildren(...items.map(entry));
  say(`${total} found`);
}

/** A content in the list. What others have written is text and never markup. */
function entry(content) {
  const item = document.createElement('li'), name = document.createElement('a'), about = document.createElement('small');
  item.dataset.id = content.id;
  name.textContent = content.name;
  name.href = '#';
  name.onclick = event => { event.preventDefault(); attempt(() => download(content.id)); };
  about.textContent = [content.status, ...content.tags].join(' · ');
  item.append(name, about);
  if (content.status === 'uploaded') attempt(() => thumbnail(item, content.id, 8));
  return item;
}

async function thumbnail(item, id, tries) {
  const { thumbnails } = await session.call('get_thumbnails', { parent_id: id, sizes: [256] });
  const found = thumbnails['256'];
  if (found?.thumbnail_url) {
    const picture = document.createElement('img');
    picture.alt = '';
    picture.src = found.thumbnail_url;
    item.prepend(picture);
  } else if (tries > 0 && found?.status !== 'failed') {
    setTimeout(() => { if (item.isConnected) attempt(() => thumbnail(item, id, tries - 1)); }, 700);
  }
}

async function download(id) {
  const { download_url } = await session.call('download_content', { content_id: id });
  const link = document.createElement('a');
  link.href = download_url;
  link.rel = 'noopener';
  link.target = '_blank';
  link.click();
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    say(error.message, true);
  }
}

function on(form, work) {
  at(form).onsubmit = event => { event.preventDefault(); attempt(work); };
}

on('connect', async () => {
  session?.close();
  const Way = at('over').value === 'ws' ? Socket : Events;
  const mine = session = new Way(at('server').value.trim().replace(/\/$/, '') || location.origin, at('key').value.trim());
  await mine.open(() => { if (session === mine) connected(false); });
  connected(true);
  await show();
});

on('upload', async () => {
  const tags = at('tags').value.split(',').map(tag => tag.trim()).filter(Boolean);
  for (const file of at('file').files) {
    say(`uploading ${file.name}`);
    await session.call('upload_content', {
      owner_id: at('owner').value.trim(), name: file.name, data: await base64(file), tags,
      document_type: file.type || 'application/octet-stream',
    });
  }
  await show();
});

on('search', show);
