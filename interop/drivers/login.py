"""A client's login, for the drivers of the official SDKs in Python: what an application gives them for it, with a callback
on loopback and the browser that the errand names. All is kept in memory.
"""

import asyncio
import subprocess
from urllib.parse import parse_qs, urlsplit

from mcp.client.auth import OAuthClientProvider
from mcp.shared import auth
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata

from errand import errand


class Memory:
    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


class Login:
    async def start(self):
        self.came = asyncio.get_running_loop().create_future()
        self.server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/callback"
        return self

    async def answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()
        self.came.set_result(parse_qs(urlsplit(head.split()[1].decode()).query))

    async def open(self, url):
        subprocess.Popen([errand["login"]["browser"], url])

    async def back(self):
        given = {name: values[0] for name, values in (await self.came).items()}
        if "code" not in given:
            raise PermissionError(f"the login ended with {given}")
        result = getattr(auth, "AuthorizationCodeResult", None)  # 2.x checks who issued the code.
        return result(**given) if result else (given["code"], given.get("state"))


async def provider():
    """What an httpx client takes as `auth`; nothing for an errand without a login."""
    if "login" not in errand:
        return None
    login, memory = await Login().start(), Memory()
    about = {"client_name": f"interop {errand['mode']}", "redirect_uris": [login.url], "grant_types": ["authorization_code", "refresh_token"]}
    if client := errand["login"].get("client"):
        memory.client = OAuthClientInformationFull(**about, **client, token_endpoint_auth_method="client_secret_post")
    return OAuthClientProvider(errand["url"], OAuthClientMetadata(**about, token_endpoint_auth_method="none"), memory, login.open, login.back)
