"""An MCP client of the official SDK, driven by lines: a JSON document on standard input for what to do, one on
standard output for what came of it."""

import asyncio
import contextlib
import json
import logging
import sys
from importlib.metadata import version

from mcp import StdioServerParameters

# Everything that this client could have shown or kept.
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)


async def read():
    """The next document, or None at the end."""
    line = await asyncio.to_thread(sys.stdin.readline)
    return json.loads(line) if line else None


def write(message):
    print(json.dumps(message), flush=True)


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


@contextlib.asynccontextmanager
async def connect1(server, elicit):
    from mcp import ClientSession
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamablehttp_client

    if "url" in server:
        transport = streamablehttp_client(server["url"], server["headers"])
    else:
        transport = stdio_client(StdioServerParameters(**server))
    async with transport as streams, ClientSession(*streams[:2], elicitation_callback=elicit) as session:
        await session.initialize()
        yield session


@contextlib.asynccontextmanager
async def connect2(server, elicit):
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    if "url" in server:
        http = create_mcp_http_client(headers=server["headers"])
        target = streamable_http_client(server["url"], http_client=http)
    else:
        target = StdioServerParameters(**server)
    async with Client(target, elicitation_callback=elicit) as client:
        yield client


async def elicit(_context, params):
    if version("mcp").startswith("1."):
        from mcp.types import ElicitResult
    else:
        from mcp_types import ElicitResult
    write({"elicit": plain(params)})
    return ElicitResult(**(await read() or {"action": "cancel"}))


def described(error):
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    data = getattr(error, "error", None)
    return {"error": plain(data) if data else {"message": f"{type(error).__name__}: {error}"}}


async def answer(call):
    try:
        message = await call
    except Exception as error:
        message = described(error)
    write(message)


async def main():
    start = await read()
    connect = connect1 if version("mcp").startswith("1.") else connect2
    async with contextlib.AsyncExitStack() as stack:
        client = None

        async def begin():
            nonlocal client
            client = await stack.enter_async_context(connect(start["server"], elicit if start["elicitation"] else None))
            return {"server": {}}

        async def list():
            return {"tools": plain(await client.list_tools())["tools"]}

        async def call(name, arguments):
            return {"result": plain(await client.call_tool(name, arguments))}

        await answer(begin())
        while step := await read():
            await answer({"list": list, "call": call}[step.pop("method")](**step))


try:
    asyncio.run(main())
except Exception as error:
    # In 1.x, an answer that is no JSON-RPC ends the connection, and with it the call that waits.
    write(described(error))
