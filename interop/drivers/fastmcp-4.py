"""Drives fastmcp 4.x: stdio, Streamable HTTP and HTTP+SSE, every revision up to 2026-07-28."""

import warnings
from contextlib import asynccontextmanager

import fastmcp
import mcp
import mcp_types as types
from fastmcp.client.transports import SSETransport, StdioTransport, StreamableHttpTransport

from errand import callbacks, errand, run

warnings.simplefilter("ignore", mcp.MCPDeprecationWarning)
warnings.filterwarnings("ignore", "Using in-memory token storage")


class Client:
    def __init__(self, client):
        self.client, self.revision = client, client.protocol_version

    async def tools(self):
        return [tool.name for tool in await self.client.list_tools()]

    async def call(self, name, arguments, on_progress=None):
        result = await self.client.call_tool_mcp(name, arguments, progress_handler=on_progress)
        return result.content[0].text, result.is_error

    async def prompts(self):
        return [prompt.name for prompt in await self.client.list_prompts()]

    async def prompt(self, name, arguments):
        return (await self.client.get_prompt(name, arguments)).messages[0].content.text

    async def resources(self):
        return [str(resource.uri) for resource in await self.client.list_resources()]

    async def resource(self, uri):
        return (await self.client.read_resource(uri))[0].text

    async def complete(self, ref, argument):
        return (await self.client.complete(types.PromptReference(**ref), argument)).values

    async def ping(self):
        return await self.client.ping()

    async def level(self, level):
        return await self.client.set_logging_level(level) is None


def handlers(elicitation_callback, sampling_callback, list_roots_callback):
    """The callbacks as this client takes them."""
    async def roots(context):
        return (await list_roots_callback(context)).roots

    return {
        "elicitation_handler": lambda message, response_type, params, context: elicitation_callback(context, params),
        "sampling_handler": lambda messages, params, context: sampling_callback(context, params),
        "roots": roots,
    }


@asynccontextmanager
async def connect():
    if errand["transport"] == "stdio":
        command, *args = errand["command"]
        transport = StdioTransport(command, args, keep_alive=False)
    else:
        # Its login opens what BROWSER names.
        more = {"headers": errand.get("headers"), "auth": "oauth" if "login" in errand else None}
        transport = {"http": StreamableHttpTransport, "sse": SSETransport}[errand["transport"]](errand["url"], **more)
    mode = {"modern": "2026-07-28"}.get(errand["mode"], errand["mode"])
    able = handlers(**callbacks(types)) if "answers" in errand else {}
    async with fastmcp.Client(transport, mode=mode, **able) as client:
        yield Client(client)


run(connect)
