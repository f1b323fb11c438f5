"""What every Python driver does with its client once it is connected: run the steps of the errand that the
runner passed as JSON, and print one JSON line of what was seen. Judging it is the runner's business.

A client here is an object with the methods tools, call, prompts, prompt, resources, resource, complete, ping, level
and the attribute `revision`. Where the errand holds answers, the client is one that can be asked: it takes `callbacks`,
and each step is a set of calls made at once, told with all that was asked meanwhile.
"""

import asyncio
import json
import sys

errand = json.loads(sys.argv[1])


asked = []


def answer(method, params=None):
    """Says to a question of the server what the errand has to say to it, which it knows by the words of the question."""
    given = params.model_dump(mode="json", by_alias=True, exclude_none=True) if params else {}
    asked.append({"method": method, "params": given})
    words = method
    if method == "elicitation/create":
        words = given["message"]
    elif method == "sampling/createMessage":
        content = given["messages"][0]["content"]
        words = (content[0] if isinstance(content, list) else content)["text"]
    return errand["answers"][words]


def callbacks(types):
    """What a session of these types takes in order to be asked; for an errand without answers, nothing."""
    async def elicit(context, params):
        return types.ElicitResult.model_validate(answer("elicitation/create", params))

    async def sample(context, params):
        return types.CreateMessageResult.model_validate(answer("sampling/createMessage", params))

    async def list_roots(context):
        return types.ListRootsResult.model_validate(answer("roots/list"))

    able = {"elicitation_callback": elicit, "sampling_callback": sample, "list_roots_callback": list_roots}
    return able if "answers" in errand else {}


async def ask(client, calls):
    async def text(arguments, tool=None, prompt=None):
        try:
            return (await client.call(tool, arguments))[0] if tool else await client.prompt(prompt, arguments)
        except Exception as error:
            return f"error {getattr(getattr(error, 'error', None), 'code', None)}: {reason(error)}"

    texts = await asyncio.gather(*(text(**call) for call in calls))
    told = {"texts": texts, "asked": asked[:]}
    asked.clear()
    return told


async def echo(client, name, messages):
    replies = await asyncio.gather(*(client.call(name, {"message": message}) for message in messages))
    return [text for text, _ in replies]


async def slow(client, name, arguments):
    progress = []

    async def on_progress(at, total, message):
        progress.append(at)

    text, _ = await client.call(name, arguments, on_progress)
    await asyncio.sleep(0.05)  # These clients may run the last callback a moment after they return the result.
    return {"text": text, "progress": progress}


async def unknown(client, name):
    try:
        text, is_error = await client.call(name, {})
        return f"tool error: {text}" if is_error else None
    except Exception as error:
        return f"error {getattr(getattr(error, 'error', None), 'code', None)}: {error}"


async def call(client, name, arguments):
    return (await client.call(name, arguments))[0]


async def later(client, after_s, name, arguments):
    """The same once more, when the access token has ended."""
    await asyncio.sleep(after_s)
    return await call(client, name, arguments)


STEPS = {
    "tools": lambda client: client.tools(),
    "echo": echo,
    "sum": call, "mirrored": call, "structured": call, "later": later,
    "slow": slow,
    "unknown": unknown,
    "prompts": lambda client: client.prompts(),
    "prompt": lambda client, name, arguments: client.prompt(name, arguments),
    "resources": lambda client: client.resources(),
    "resource": lambda client, uri: client.resource(uri),
    "complete": lambda client, ref, argument: client.complete(ref, argument),
    "ping": lambda client: client.ping(),
    "level": lambda client, level: client.level(level),
}


def reason(error):
    """The innermost error: the clients wrap theirs in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def conduct(connect):
    report = {"revision": None, "facts": {}, "errors": {}, "closed": False}
    try:
        async with connect() as client:
            report["revision"] = client.revision
            for name, given in errand["steps"].items():
                step = ask if "answers" in errand else STEPS[name]
                try:
                    report["facts"][name] = await step(client, **given)
                except Exception as error:
                    report["errors"][name] = reason(error)
        report["closed"] = True
    except Exception as error:
        report["errors"]["connect" if report["revision"] is None else "close"] = reason(error)
    print(json.dumps(report))


def run(connect):
    """Connects, runs the steps, closes; `connect()` is an async context manager that yields the client."""
    asyncio.run(conduct(connect))
