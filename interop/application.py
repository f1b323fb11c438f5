"""An application by hand, as one on the web behaves (claude.ai): from a URL of a server to a call of a tool, through
everything in between. For what no client of others shows. Spoken to by `auth` and `stopwatch`.
"""

import base64
import hashlib
import json
import secrets
import urllib.error
import urllib.request
from urllib.parse import parse_qs, urlencode, urlsplit

HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url, body=None, headers=None):
    """Status, headers and body; JSON is read, and what is not text is sent as it."""
    if body is not None and not isinstance(body, bytes):
        body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
    try:
        answer = HTTP.open(urllib.request.Request(url, body, headers or {}), timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        kind, text = answer.headers.get_content_type(), answer.read().decode()
    if kind == "text/event-stream":
        text = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:") and line != "data:"][-1]
    read = json.loads(text) if kind in ("application/json", "text/event-stream") else text
    return answer.status, answer.headers, read


def posted(url, **form):
    return fetch(url, urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"})


class Application:
    def __init__(self, url, redirect_uri="https://claude.ai/api/mcp/auth_callback", name="Claude"):
        self.url, self.redirect_uri, self.name = url, redirect_uri, name
        self.headers = {"Accept": "application/json, text/event-stream"}
        self.last = 0

    def discover(self):
        """401, the metadata of the resource, that of who issues tokens for it (RFC 9728, RFC 8414)."""
        status, headers, _ = self.initialize()
        assert status == 401, f"HTTP {status} without a token"
        named = dict(part.split("=", 1) for part in headers["WWW-Authenticate"].removeprefix("Bearer ").replace('"', "").split(", "))
        _, _, self.resource = fetch(named["resource_metadata"])
        assert self.url.startswith(self.resource["resource"]), self.resource
        issuer = self.resource["authorization_servers"][0]
        _, _, self.issuer = fetch(f"{issuer}/.well-known/oauth-authorization-server")
        assert self.issuer["issuer"] == issuer and "S256" in self.issuer["code_challenge_methods_supported"], self.issuer

    def register(self):
        status, _, self.client = fetch(self.issuer["registration_endpoint"], {
            "client_name": self.name, "redirect_uris": [self.redirect_uri], "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"]})
        assert status == 201, self.client

    def authorize(self):
        """Where to send a user."""
        self.verifier, self.state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        return self.issuer["authorization_endpoint"] + "?" + urlencode({
            "response_type": "code", "client_id": self.client["client_id"], "redirect_uri": self.redirect_uri, "state": self.state,
            "code_challenge": challenge, "code_challenge_method": "S256", "resource": self.resource["resource"],
            "scope": " ".join(self.resource["scopes_supported"])})

    def came_back(self, url):
        """What the user brings back; a code becomes tokens."""
        assert url.startswith(self.redirect_uri + "?"), url
        given = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert given["state"] == self.state and given["iss"] == self.issuer["issuer"], given
        if "code" in given:
            self.code = given["code"]
            self.token(grant_type="authorization_code", code=self.code, code_verifier=self.verifier, redirect_uri=self.redirect_uri)
        return given.get("error")

    def token(self, **form):
        status, headers, answer = posted(
            self.issuer["token_endpoint"], client_id=self.client["client_id"], resource=self.resource["resource"], **form)
        assert status == 200 and headers["Cache-Control"] == "no-store", (status, answer)
        self.tokens = answer
        self.headers["Authorization"] = f"Bearer {answer['access_token']}"

    def refresh(self):
        self.token(grant_type="refresh_token", refresh_token=self.tokens["refresh_token"])

    def ask(self, method, params, notification=False):
        self.last += 1
        message = {"jsonrpc": "2.0", "method": method, "params": params, **({} if notification else {"id": self.last})}
        return fetch(self.url, message, self.headers)

    def initialize(self):
        status, headers, answer = self.ask("initialize", {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": self.name, "version": "1"}})
        if status == 200:
            self.headers.update({"Mcp-Session-Id": headers["Mcp-Session-Id"], "MCP-Protocol-Version": "2025-11-25"})
            self.ask("notifications/initialized", {}, notification=True)
        return status, headers, answer

    def call(self, name, arguments):
        status, headers, answer = self.ask("tools/call", {"name": name, "arguments": arguments})
        return status, answer["result"]["content"][0]["text"] if status == 200 else headers.get("WWW-Authenticate", answer)
