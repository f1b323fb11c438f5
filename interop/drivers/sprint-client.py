"""A client of `landbridge-apps sprint` as its document's readers write it in Python: the id of its session comes by
`notifications/initialized` alone, nobody shakes hands, and a POST that fails raises.

    sprint-client.py URL        prints what it saw, as one line of JSON

There are two packages of the module `sseclient`. PyPI's `sseclient` opens a URL itself, `sseclient-py` reads a response.
"""
import inspect
import json
import sys
import time

import requests
import sseclient

PATIENCE_S = 5
BASE = sys.argv[1]


def events():
    if "url" in inspect.signature(sseclient.SSEClient.__init__).parameters:
        # Its own way to wait before it connects again is not ours to try.
        yield from sseclient.SSEClient(f"{BASE}/sse", timeout=PATIENCE_S)
    else:
        response = requests.get(f"{BASE}/sse", stream=True, timeout=PATIENCE_S, headers={"Accept": "text/event-stream"})
        response.raise_for_status()
        yield from sseclient.SSEClient(response).events()


class Client:
    def __init__(self):
        self.events, self.names, self.session = events(), [], None

    def message(self):
        """The next event of that name, read as JSON: one that is empty would raise."""
        for event in self.events:
            self.names.append(event.event)
            if event.event == "message":
                return json.loads(event.data)
        raise EOFError("the stream ended")

    def connect(self):
        while self.session is None:
            message = self.message()
            if message.get("method") == "notifications/initialized":
                self.session = message["params"]["sessionId"]

    def send(self, message, session=None):
        url, params = f"{BASE}/message", {"sessionId": session or self.session}
        requests.post(url, params=params, json={"jsonrpc": "2.0", **message}, timeout=PATIENCE_S).raise_for_status()

    def ask(self, number, method, params):
        self.send({"id": number, "method": method, "params": params})
        while True:
            message = self.message()
            if message.get("id") == number:
                return message["result"]


client, begun = Client(), time.monotonic()
client.connect()
seen = {"connected_ms": round((time.monotonic() - begun) * 1000), "session": client.session, "first": client.names[0]}
seen["listed"] = requests.get(f"{BASE}/sessions", timeout=PATIENCE_S).json()["sessions"]
seen["tools"] = [tool["name"] for tool in client.ask(1, "tools/list", {})["tools"]]
report = client.ask(2, "tools/call", {"name": "get_sprint_report", "arguments": {"boardId": 123, "sprintId": 456}})
seen["report"] = report["content"][0]["text"]
try:
    client.send({"id": 3, "method": "tools/list", "params": {}}, "00000000-0000-4000-8000-000000000000")
except requests.HTTPError as error:
    seen["raised"] = error.response.status_code
print(json.dumps(seen))
