"""The client that the official suite tests: a client on a pipe, and `landbridge connect` to the suite's server.

    suite-client.py ERA LANDBRIDGE URL

ERA is that of the client, `handshake` or `stateless`; what the suite's server speaks is for Landbridge to find out.
It does what a scenario asks for and no more: headers, sessions, streams and retries are Landbridge's part.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ERA, LANDBRIDGE, URL = sys.argv[1:4]
SCENARIO = os.environ["MCP_CONFORMANCE_SCENARIO"]
CONTEXT = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
PATIENCE_S = 20
CAPABILITIES = {"elicitation": {"form": {"applyDefaults": True}}, "sampling": {}, "roots": {}}
INFO = {"name": "suite-client", "version": "1.0.0"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": CAPABILITIES,
    "io.modelcontextprotocol/clientInfo": INFO,
}


# Logs in without a word: the suite's page of login leads straight back.
BROWSER = shlex.join([sys.executable, str(Path(__file__).with_name("follow.py"))])
# The document that the suite knows; it is nowhere, so only the scenario that looks for it is given it.
DOCUMENT = "https://conformance-test.local/client-metadata.json"


def login(home):
    """What `connect` is told of authorization, as its user would."""
    flags = ["--token-store", "file"]  # and not in the keyring of whoever runs this
    if SCENARIO == "auth/basic-cimd":
        flags += ["--client-metadata-url", DOCUMENT]
    if "client_id" in CONTEXT:
        flags += ["--client-id", CONTEXT["client_id"]]
    if "private_key_pem" in CONTEXT:
        key = Path(home, "key.pem")
        key.write_text(CONTEXT["private_key_pem"])
        flags += ["--private-key", str(key), "--key-alg", CONTEXT["signing_algorithm"]]
    if SCENARIO.startswith("auth/client-credentials"):
        flags += ["--client-credentials"]
    env = {"BROWSER": BROWSER, "LANDBRIDGE_HOME": home}
    if "client_secret" in CONTEXT:
        env["LANDBRIDGE_CLIENT_SECRET"] = CONTEXT["client_secret"]
    return flags, {**os.environ, **env}


class Refused(Exception):
    """The server answered with an error."""


def answer_of(method, params):
    """What our user, model or editor says to a question."""
    if method == "elicitation/create":
        fields = params.get("requestedSchema", {}).get("properties", {})
        values = {"string": "a", "integer": 1, "number": 1.5, "boolean": True}
        return {"action": "accept", "content": {k: v.get("default", values.get(v.get("type"), "a")) for k, v in fields.items()}}
    if method == "sampling/createMessage":
        return {"role": "assistant", "content": {"type": "text", "text": "four"}, "model": "none", "stopReason": "endTurn"}
    return {"roots": [{"uri": "file:///srv"}]}


class Pipe:
    """A client of one era on the pipe."""

    def __init__(self):
        self.home = tempfile.TemporaryDirectory()
        flags, env = login(self.home.name)
        self.process = subprocess.Popen([LANDBRIDGE, "connect", URL, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        self.last = 0
        # A server that never answers fails the scenario, and the process ends.
        self.timer = threading.Timer(PATIENCE_S, self.process.kill)
        self.timer.daemon = True
        self.timer.start()
        if ERA == "handshake":
            self.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": CAPABILITIES, "clientInfo": INFO})
            self.say({"method": "notifications/initialized"})
        else:
            self.ask("server/discover", {})

    def say(self, message):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, method, params):
        """A request and its result; questions meanwhile are answered."""
        self.last += 1
        own = self.last
        if ERA == "stateless":
            params = {**params, "_meta": META}
        self.say({"id": own, "method": method, "params": params})
        for line in self.process.stdout:
            message = json.loads(line)
            if "method" in message and "id" in message:
                self.say({"id": message["id"], "result": answer_of(message["method"], message.get("params", {}))})
            elif message.get("id") == own and "method" not in message:
                if "error" in message:
                    raise Refused(f"{method}: {message['error']}")
                return message["result"]
        raise Refused(f"{method}: the pipe ended")

    def act(self, method, params):
        """The same; what a stateless server needs to know first is answered on a second try."""
        result = self.ask(method, params)
        while result.get("resultType") == "input_required":
            questions = result.get("inputRequests", {})
            again = {**params, "inputResponses": {k: answer_of(q["method"], q.get("params", {})) for k, q in questions.items()}}
            if "requestState" in result:
                again["requestState"] = result["requestState"]
            result = self.ask(method, again)
        return result

    def call(self, name, arguments):
        return self.act("tools/call", {"name": name, "arguments": arguments})

    def tools(self):
        return self.ask("tools/list", {})["tools"]

    def close(self):
        self.process.stdin.close()
        self.timer.cancel()
        return self.process.wait(10)


def sample(schema):
    """Arguments that a schema lets pass."""
    values = {"string": "a", "integer": 1, "number": 1.5, "boolean": True, "object": {}, "array": []}
    return {key: values.get(field.get("type"), "a") for key, field in schema.get("properties", {}).items()}


def attempt(work):
    """Some scenarios have tools that refuse; that they were called is what counts."""
    try:
        work()
    except Refused as why:
        print(why, file=sys.stderr)


def play(pipe):
    tools = pipe.tools()
    if SCENARIO == "tools_call":
        pipe.call("add_numbers", {"a": 5, "b": 3})
    elif SCENARIO == "http-custom-headers":
        for call in CONTEXT["toolCalls"]:
            attempt(lambda: pipe.call(call["name"], call["arguments"]))
    elif SCENARIO == "json-schema-2020-12-preservation":
        schema = next(tool["inputSchema"] for tool in tools if tool["name"] != "json_schema_echo")
        pipe.call("json_schema_echo", {"schema": schema})
    elif SCENARIO == "sep-2322-client-request-state":
        # The unrelated tool is called between two rounds, as the suite wants.
        for tool in tools:
            pipe.call(tool["name"], {})
    elif SCENARIO != "initialize":
        for tool in tools:
            attempt(lambda: pipe.call(tool["name"], sample(tool["inputSchema"])))
    if SCENARIO == "http-standard-headers":
        for resource in pipe.ask("resources/list", {})["resources"]:
            pipe.act("resources/read", {"uri": resource["uri"]})
        for prompt in pipe.ask("prompts/list", {})["prompts"]:
            pipe.act("prompts/get", {"name": prompt["name"], "arguments": {a["name"]: "a" for a in prompt.get("arguments", [])}})


pipe = Pipe()
play(pipe)
sys.exit(pipe.close())
