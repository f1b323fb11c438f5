"""Drives mcp 2.x: stdio, Streamable HTTP and HTTP+SSE, every revision up to 2026-07-28."""

import warnings
from contextlib import asynccontextmanager

import mcp
import mcp_types as types
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from errand import callbacks, errand, run
from login import provider

warnings.simplefilter("ignore", mcp.MCPDeprecationWarning)


class Client:
    def __init__(self, client):
        self.client, self.revision = client, client.protocol_version

    async def tools(self):
        return [tool.name for tool in (await self.client.list_tools()).tools]

    async def call(self, name, arguments, on_progress=None):
        result = await self.client.call_tool(name, arguments, progress_callback=on_progress)
        return result.content[0].text, result.is_error

    async def prompts(self):
        return [prompt.name for prompt in (await self.client.list_prompts()).prompts]

    async def prompt(self, name, arguments):
        return (await self.client.get_prompt(name, arguments)).messages[0].content.text

    async def resources(self):
        return [str(resource.uri) for resource in (await self.client.list_resources()).resources]

    async def resource(self, uri):
        return (await self.client.read_resource(uri)).contents[0].text

    async def complete(self, ref, argument):
        return (await self.client.complete(types.PromptReference(**ref), argument)).completion.values

    async def ping(self):
        return isinstance(await self.client.send_ping(), types.EmptyResult)

    async def level(self, level):
        return isinstance(await self.client.set_logging_level(level), types.EmptyResult)


@asynccontextmanager
async def connect():
    if errand["transport"] == "stdio":
        command, *args = errand["command"]
        server = stdio_client(StdioServerParameters(command=command, args=args))
    else:
        more = {"headers": errand.get("headers"), "auth": await provider()}
        server = {
            "http": lambda: streamable_http_client(errand["url"], http_client=create_mcp_http_client(**more)),
            "sse": lambda: sse_client(errand["url"], **more),
        }[errand["transport"]]()
    mode = {"modern": "2026-07-28"}.get(errand["mode"], errand["mode"])
    async with mcp.Client(server, mode=mode, **callbacks(types)) as client:
        yield Client(client)


run(connect)
