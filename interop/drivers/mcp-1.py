"""Drives mcp 1.x: stdio, Streamable HTTP and HTTP+SSE, up to 2025-11-25."""

from contextlib import asynccontextmanager

from mcp import ClientSession, types
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from errand import callbacks, errand, run
from login import provider


class Client:
    def __init__(self, session, revision):
        self.session, self.revision = session, revision

    async def tools(self):
        return [tool.name for tool in (await self.session.list_tools()).tools]

    async def call(self, name, arguments, on_progress=None):
        result = await self.session.call_tool(name, arguments, progress_callback=on_progress)
        return result.content[0].text, result.isError

    async def prompts(self):
        return [prompt.name for prompt in (await self.session.list_prompts()).prompts]

    async def prompt(self, name, arguments):
        return (await self.session.get_prompt(name, arguments)).messages[0].content.text

    async def resources(self):
        return [str(resource.uri) for resource in (await self.session.list_resources()).resources]

    async def resource(self, uri):
        return (await self.session.read_resource(uri)).contents[0].text

    async def complete(self, ref, argument):
        return (await self.session.complete(types.PromptReference(**ref), argument)).completion.values

    async def ping(self):
        return isinstance(await self.session.send_ping(), types.EmptyResult)

    async def level(self, level):
        return isinstance(await self.session.set_logging_level(level), types.EmptyResult)


@asynccontextmanager
async def connect():
    if errand["transport"] == "stdio":
        command, *args = errand["command"]
        transport = stdio_client(StdioServerParameters(command=command, args=args))
    else:
        more = {"headers": errand.get("headers"), "auth": await provider()}
        transport = {
            "http": lambda: streamable_http_client(errand["url"], http_client=create_mcp_http_client(**more)),
            "sse": lambda: sse_client(errand["url"], **more),
        }[errand["transport"]]()
    async with transport as streams, ClientSession(*streams[:2], **callbacks(types)) as session:
        yield Client(session, (await session.initialize()).protocolVersion)


run(connect)
