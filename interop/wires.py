"""The client's end of each wire, by hand: every message is seen as it came, and on which stream.
Spoken to by `matrix`.

A call is begun and finished; between the two the wire answers what it is asked, from `answers`, as its era does: a
client of the handshake era answers requests on its streams, one of the stateless era calls again.
"""

import base64
import http.client
import itertools
import json
import queue
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from typing import NamedTuple

PATIENCE_S = 30
SESSION = "the session's stream"
EXACT = "\0exact"  # Stands in a message for text that goes out as it is.
VERSION, CAPABILITIES, CLIENT, LEVEL, SUBSCRIPTION = (f"io.modelcontextprotocol/{key}" for key in (
    "protocolVersion", "clientCapabilities", "clientInfo", "logLevel", "subscriptionId"))
ME = {"name": "matrix", "version": "1"}


class Arrival(NamedTuple):
    stream: object  # The id of the call whose stream it is, or SESSION.
    message: dict | None  # None when the stream has ended.
    raw: str
    status: int | None


@dataclass
class Reply:
    """What a call came to. In `streams` are those that belong to it, in `before` the notifications ahead of it."""
    message: dict
    raw: str
    status: int | None
    streams: set
    before: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    rounds: int = 1

    @property
    def result(self):
        assert "result" in self.message, f"an error: {short(self.raw)}"
        return self.message["result"]

    @property
    def error(self):
        assert "error" in self.message, f"no error: {short(self.raw)}"
        return self.message["error"]

    @property
    def text(self):
        assert not self.result.get("isError"), f"failed: {short(self.raw)}"
        return self.result["content"][0]["text"]

    @property
    def failure(self):
        assert self.result.get("isError") is True, f"no failure: {short(self.raw)}"
        return self.result["content"][0]["text"]


def short(raw):
    return raw if len(raw) < 400 else f"{raw[:300]}… ({len(raw)} characters)"


def encode(message, exact=None):
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    return (text if exact is None else text.replace(json.dumps(EXACT), exact)).encode()


class Wire:
    """What all have in common: arrivals in their order, and calls among them."""

    def __init__(self, gateway, capabilities=None):
        self.gateway, self.capabilities, self.answers = gateway, capabilities or {}, {}
        self.arrivals, self.arrived_one = [], threading.Condition()
        self.ids, self.began, self.answered, self.asked = itertools.count(1), {}, set(), []

    def __enter__(self):
        self.open()
        return self

    def __exit__(self, kind, *_):
        try:
            self.close()
        except Exception:
            if kind is None:  # What went wrong before is more to the point.
                raise

    def arrived(self, stream, raw, status=None):
        try:
            message = json.loads(raw) if raw else None
        except ValueError:
            message = None
        with self.arrived_one:
            for one in message if isinstance(message, list) else [message]:
                self.arrivals.append(Arrival(stream, one, raw or "", status))
            self.arrived_one.notify_all()

    def at(self, index, seconds, what):
        with self.arrived_one:
            if not self.arrived_one.wait_for(lambda: len(self.arrivals) > index, seconds):
                raise AssertionError(f"{what} did not come within {seconds:.1f} s")
            return self.arrivals[index]

    def wait(self, wanted, what, start=0, seconds=PATIENCE_S):
        """The first arrival after the first `start` ones that is wanted."""
        deadline = time.monotonic() + seconds
        for index in itertools.count(start):
            arrival = self.at(index, max(0.0, deadline - time.monotonic()), what)
            self.consider(index, arrival)
            if arrival.message is not None and wanted(arrival):
                return arrival

    def nothing(self, wanted, start, seconds=0.5):
        """Fails if something arrives that `wanted` describes."""
        time.sleep(seconds)
        found = [arrival for arrival in self.arrivals[start:] if arrival.message is not None and wanted(arrival)]
        assert not found, f"came unasked: {short(found[0].raw)}"

    def begin(self, method, params=None, *, id=None, token=None, exact=None):
        id = next(self.ids) if id is None else id
        params = dict(params or {})
        if token is not None:
            params["_meta"] = {**params.get("_meta", {}), "progressToken": token}
        self.began[id] = (len(self.arrivals), len(self.asked), method, params, exact)
        self.send({"jsonrpc": "2.0", "id": id, "method": method, "params": params}, exact)
        return id

    def finish(self, id, seconds=PATIENCE_S):
        start, n_asked, method, *_ = self.began[id]
        before, deadline = [], time.monotonic() + seconds
        for index in itertools.count(start):
            arrival = self.at(index, max(0.0, deadline - time.monotonic()), f"an answer to {method}")
            message = arrival.message
            if message is None:
                ended = arrival.stream in (id, SESSION)
                assert not ended, f"the stream ended without an answer to {method}: {arrival.status} {short(arrival.raw)}"
            elif "method" in message:
                self.consider(index, arrival)
                if "id" not in message:
                    before.append(arrival)
            elif message.get("id") == id:
                return Reply(message, arrival.raw, arrival.status, self.streams(id), before, self.asked[n_asked:])

    def request(self, method, params=None, **more):
        return self.finish(self.begin(method, params, **more))

    def tool(self, name, arguments=None, **more):
        return self.request("tools/call", {"name": name, "arguments": arguments or {}}, **more)


class Handshake(Wire):
    """A client of the revisions until 2025-11-25, whatever carries its messages."""
    era, streams_per_call, batches, crosses = "handshake", False, False, False

    def open(self):
        reply = self.request("initialize", {
            "protocolVersion": self.revision, "capabilities": self.capabilities, "clientInfo": ME})
        self.hello = reply.result
        assert self.hello["protocolVersion"] == self.revision, f"agreed on {self.hello['protocolVersion']}"
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def streams(self, id):
        return {id} if self.streams_per_call else {SESSION}

    def consider(self, index, arrival):
        """Answers a request of the server, once."""
        message = arrival.message
        if message is None or "method" not in message or "id" not in message or index in self.answered:
            return
        self.answered.add(index)
        answer = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] == "ping":
            return self.send({**answer, "result": {}})
        self.asked.append((message["method"], message.get("params", {}), arrival.stream))
        if message["method"] in self.answers:
            self.send({**answer, "result": self.answers[message["method"]]})
        else:
            self.send({**answer, "error": {"code": -32601, "message": "nobody said what to answer"}})

    def cancel(self, id):
        self.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id, "reason": "enough"}})

    def loud(self, level):
        self.request("logging/setLevel", {"level": level})

    def listen(self, uris=()):
        """Returns the stream that changes will come on, and the id of the subscription where there is one."""
        for uri in uris:
            self.request("resources/subscribe", {"uri": uri})
        return SESSION, None

    def deaf(self, uris=()):
        for uri in uris:
            self.request("resources/unsubscribe", {"uri": uri})


class Pipe:
    """The transport of a client that can do nothing but start a command: `landbridge connect URL`, in front of the gateway.
    The two speak the stateless revision with each other, so that what a handshake client says here crosses the eras on its
    way to any server."""
    crosses = True

    def open(self):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([self.gateway.binary, "connect", f"{self.gateway.base}/mcp"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        threading.Thread(target=self.read, daemon=True).start()
        super().open()

    def read(self):
        for line in self.process.stdout:
            self.arrived(SESSION, line.decode().rstrip("\n"))
        self.arrived(SESSION, None)

    def write(self, message, exact=None):
        self.process.stdin.write(encode(message, exact) + b"\n")
        self.process.stdin.flush()

    def close(self):
        self.process.stdin.close()
        try:
            code = self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("landbridge connect runs on although its input has ended") from None
        self.log.seek(0)
        assert code == 0, f"landbridge connect ended with {code}: {self.log.read()[-300:]}"


class Http:
    """HTTP exchanges, each on a connection of its own, read by a thread of its own."""

    def exchange(self, method, path, headers, body, stream):
        """Sends a request; what its response carries arrives on `stream`. Returns what the head of the response is put in."""
        host = self.gateway.base.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request(method, path, body, headers)
        head = queue.Queue(1)
        threading.Thread(target=self.read, args=(connection, stream, head), daemon=True).start()
        self.sockets[stream] = connection.sock
        return head

    def read(self, connection, stream, head):
        response = None
        try:
            response = connection.getresponse()
            head.put(response)
            if response.getheader("content-type", "").startswith("text/event-stream"):
                for name, data in events(response):
                    self.event(stream, name, data)
            elif body := response.read().decode():
                self.arrived(stream, body, response.status)
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            pass  # It was hung up, by the gateway or by us.
        if response is None:
            head.put(None)
        self.arrived(stream, None, response and response.status)

    def event(self, stream, name, data):
        if data:  # What primes a stream is empty.
            assert name == "message", name
            self.arrived(stream, data, 200)

    def hang_up(self, stream):
        try:
            self.sockets.pop(stream).shutdown(socket.SHUT_RDWR)
        except (OSError, KeyError):
            pass


def events(response):
    name, data = "message", []
    for line in response:
        key, _, value = line.decode().rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if key == "event":
            name = value
        elif key == "data":
            data.append(value)
        elif line.strip() == b"":
            if data:
                yield name, "\n".join(data)
            name, data = "message", []


JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def accepted(head, what):
    response = head.get(timeout=PATIENCE_S)
    assert response is not None and response.status == 202, f"{what} was answered {response and response.status}"


class Sse(Http, Handshake):
    def __init__(self, gateway, capabilities=None, revision="2024-11-05"):
        super().__init__(gateway, capabilities)
        self.revision = revision

    def open(self):
        self.sockets, self.endpoint = {}, queue.Queue()
        self.exchange("GET", "/sse", {"Accept": "text/event-stream"}, None, SESSION)
        self.path = self.endpoint.get(timeout=PATIENCE_S)
        super().open()

    def event(self, stream, name, data):
        if name == "endpoint":
            return self.endpoint.put(data)
        super().event(stream, name, data)

    def send(self, message, exact=None):
        accepted(self.exchange("POST", self.path, JSON, encode(message, exact), "a POST"), message.get("method", "an answer"))

    def close(self):
        self.hang_up(SESSION)


class Streamable(Http, Handshake):
    streams_per_call = True

    def __init__(self, gateway, capabilities=None, revision="2025-11-25"):
        super().__init__(gateway, capabilities)
        self.revision, self.batches = revision, revision == "2025-03-26"
        self.sockets, self.headers = {}, {}

    def open(self):
        super().open()
        head = self.exchange("GET", "/mcp", {**self.headers, "Accept": "text/event-stream"}, None, SESSION)
        assert head.get(timeout=PATIENCE_S).status == 200, "no stream for the session"

    def send(self, message, exact=None):
        if "method" not in message or "id" not in message:
            head = self.exchange("POST", "/mcp", {**JSON, **self.headers}, encode(message, exact), "a POST")
            return accepted(head, message.get("method", "an answer"))
        head = self.exchange("POST", "/mcp", {**JSON, **self.headers}, encode(message, exact), message["id"])
        if message["method"] == "initialize":
            response = head.get(timeout=PATIENCE_S)
            self.headers["Mcp-Session-Id"] = response.getheader("mcp-session-id")
            if self.revision >= "2025-06-18":
                self.headers["MCP-Protocol-Version"] = self.revision

    def batch(self, messages):
        """Sends several requests in one body; the answers arrive on the stream of the first."""
        for message in messages:
            self.began[message["id"]] = (len(self.arrivals), len(self.asked), message["method"], None, None)
        self.exchange("POST", "/mcp", {**JSON, **self.headers}, encode(messages), messages[0]["id"])

    def close(self):
        status = self.exchange("DELETE", "/mcp", self.headers, None, "the end").get(timeout=PATIENCE_S).status
        assert status // 100 == 2, f"the end of the session was answered {status}"
        self.hang_up(SESSION)


class Stateless(Wire):
    """A client of the revision 2026-07-28, whatever carries its messages."""
    era, revision, batches, crosses, level = "stateless", "2026-07-28", False, False, None

    def open(self):
        self.listens = {}
        self.hello = self.request("server/discover").result

    def consider(self, index, arrival):
        assert arrival.message is None or not {"method", "id"} <= arrival.message.keys(), f"a request: {arrival.raw}"

    def described(self, message):
        """The message with what every request of this revision says of its client."""
        params = message["params"]
        meta = {VERSION: self.revision, CAPABILITIES: self.capabilities, CLIENT: ME, **params.get("_meta", {})}
        if self.level and message["method"] in ("tools/call", "prompts/get", "resources/read"):
            meta[LEVEL] = self.level
        return {**message, "params": {**params, "_meta": meta}}

    def finish(self, id, seconds=PATIENCE_S):
        """Until the answer is one: what is asked on the way is answered by calling again."""
        *_, method, params, exact = self.began[id]
        reply = super().finish(id, seconds)
        before, streams, rounds, asked = reply.before, reply.streams, 1, []
        while (result := reply.message.get("result", {})).get("resultType") == "input_required":
            assert rounds < 10, "asks for ever"
            responses = {}
            for key, question in result.get("inputRequests", {}).items():
                assert not {"id", "jsonrpc"} & question.keys(), f"a question that is a message: {question}"
                asked.append((question["method"], question.get("params", {}), *reply.streams))
                assert question["method"] in self.answers, f"asked unexpectedly: {question}"
                responses[key] = self.answers[question["method"]]
            again = {**params, "inputResponses": responses}
            if "requestState" in result:
                again["requestState"] = result["requestState"]
            reply = super().finish(self.begin(method, again, exact=exact), seconds)
            before, streams, rounds = before + reply.before, streams | reply.streams, rounds + 1
        reply.before, reply.streams, reply.rounds, reply.asked = before, streams, rounds, asked
        return reply

    def loud(self, level):
        self.level = level

    def listen(self, uris=()):
        wishes = {"resourceSubscriptions": list(uris)} if uris else {"toolsListChanged": True}
        start, id = len(self.arrivals), self.begin("subscriptions/listen", {"notifications": wishes})
        stream, = self.streams(id)
        first = self.wait(lambda arrival: arrival.stream == stream, "an acknowledgement", start)
        assert first.message.get("method") == "notifications/subscriptions/acknowledged", short(first.raw)
        assert first.message["params"]["notifications"] == wishes, f"acknowledged: {short(first.raw)}"
        assert first.message["params"]["_meta"][SUBSCRIPTION] == id, short(first.raw)
        self.listens[tuple(uris)] = id
        return stream, id

    def deaf(self, uris=()):
        self.cancel(self.listens.pop(tuple(uris)))


class StdioHandshake(Pipe, Handshake):
    revision = "2025-11-25"

    def send(self, message, exact=None):
        self.write(message, exact)


class StdioStateless(Pipe, Stateless):
    crosses = False  # The command speaks its revision.

    def send(self, message, exact=None):
        self.write(self.described(message), exact)

    def streams(self, id):
        return {SESSION}

    def cancel(self, id):
        self.write({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id, "reason": "enough"}})


def mirrored(value):
    """A value as a header repeats it: what a header cannot hold goes in base64."""
    plain = value.isascii() and value.isprintable() and value == value.strip() and not value.startswith("=?base64?")
    return value if plain else f"=?base64?{base64.b64encode(value.encode()).decode()}?="


class HttpStateless(Http, Stateless):
    def open(self):
        self.sockets = {}
        super().open()

    def send(self, message, exact=None):
        headers = {**JSON, "MCP-Protocol-Version": self.revision, "Mcp-Method": message["method"]}
        for key in ("name", "uri", "taskId"):
            if key in message["params"]:
                headers["Mcp-Name"] = mirrored(message["params"][key])
        self.exchange("POST", "/mcp", headers, encode(self.described(message), exact), message["id"])

    def streams(self, id):
        return {id}

    def cancel(self, id):
        self.hang_up(id)

    def close(self):
        for id in self.listens.values():
            self.hang_up(id)
