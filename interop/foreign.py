"""The foreign clients: which there are, the ways each can speak, and how a driver of one is run.
Spoken to by `clients` and `prompts`.
"""

import json
import os
import re
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager

from landbridge import HERE, free_port, left_behind, node

LEGACY, MODERN_REVISION = "2025-11-25", "2026-07-28"


NPM = json.loads((HERE / "package.json").read_text())["dependencies"]


def npm(label, package, driver, ways):
    version = NPM.get(package) or NPM["@modelcontextprotocol/" + package]
    return f"{label} {version.rpartition('@')[2]}", [node(), driver], ways


def pip(package, environment, driver, ways):
    version = re.search(rf"^{package}==(\S+)$", (HERE / f"python/{environment}.txt").read_text(), re.M)[1]
    return f"{package} {version}", [str(HERE / f".venv-{environment}/bin/python"), driver], ways


# Every client with its ways: (transport, mode, the revision it must agree on with a gateway).
# Over HTTP+SSE nothing but the handshake exists, so that `auto` has to fall back there. Over stdio the client starts a
# `landbridge connect` of its own.
CLIENTS = [
    npm("ts-sdk", "sdk", "ts-sdk-1.mjs", [
        ("http", "legacy", LEGACY), ("sse", "legacy", LEGACY), ("stdio", "legacy", LEGACY)]),
    npm("ts-sdk", "sdk-1.6", "ts-sdk-1.mjs", [("sse", "sdk-1.6", "2024-11-05"), ("stdio", "sdk-1.6", "2024-11-05")]),
    npm("ts-sdk", "sdk-1.11", "ts-sdk-1.mjs", [
        ("http", "sdk-1.11", "2025-03-26"), ("sse", "sdk-1.11", "2025-03-26"), ("stdio", "sdk-1.11", "2025-03-26")]),
    npm("ts-sdk", "sdk-1.17", "ts-sdk-1.mjs", [
        ("http", "sdk-1.17", "2025-06-18"), ("sse", "sdk-1.17", "2025-06-18"), ("stdio", "sdk-1.17", "2025-06-18")]),
    # For clients that speak only stdio, by others than us; its mode is how it is told to connect.
    npm("mcp-remote", "mcp-remote", "ts-sdk-1.mjs", [("remote", "http-only", LEGACY), ("remote", "sse-only", LEGACY)]),
    # The same, and the other way round: in front of a `landbridge connect`, for clients that speak only HTTP. There its
    # mode is which of the two it is, and how the client speaks to it.
    pip("mcp-proxy", "mcp-proxy", "mcp-1.py", [
        ("proxy", "streamablehttp", LEGACY), ("proxy", "sse", LEGACY),
        ("behind", "pip http legacy", LEGACY), ("behind", "pip sse legacy", LEGACY)]),
    npm("mcp-proxy", "mcp-proxy", "ts-client-2.mjs", [
        ("behind", "npm http legacy", LEGACY), ("behind", "npm sse legacy", LEGACY), ("behind", "npm http modern", MODERN_REVISION)]),
    npm("ts-client", "client", "ts-client-2.mjs", [
        ("http", "2025-03-26", "2025-03-26"), ("http", "2025-06-18", "2025-06-18"), ("http", "legacy", LEGACY),
        ("http", "auto", MODERN_REVISION), ("http", "modern", MODERN_REVISION),
        ("sse", "2024-11-05", "2024-11-05"), ("sse", "legacy", LEGACY), ("sse", "auto", LEGACY),
        ("stdio", "2024-11-05", "2024-11-05"), ("stdio", "2025-06-18", "2025-06-18"), ("stdio", "legacy", LEGACY),
        ("stdio", "auto", MODERN_REVISION), ("stdio", "modern", MODERN_REVISION)]),
    pip("mcp", "mcp1", "mcp-1.py", [
        ("http", "legacy", LEGACY), ("sse", "legacy", LEGACY), ("stdio", "legacy", LEGACY)]),
    pip("mcp", "mcp2", "mcp-2.py", [
        ("http", "legacy", LEGACY), ("http", "auto", MODERN_REVISION), ("http", "modern", MODERN_REVISION),
        ("sse", "legacy", LEGACY), ("sse", "auto", LEGACY),
        ("stdio", "legacy", LEGACY), ("stdio", "auto", MODERN_REVISION), ("stdio", "modern", MODERN_REVISION)]),
    pip("fastmcp", "fastmcp", "fastmcp-4.py", [
        ("http", "legacy", LEGACY), ("http", "auto", MODERN_REVISION), ("http", "modern", MODERN_REVISION),
        ("sse", "legacy", LEGACY), ("sse", "auto", LEGACY),
        ("stdio", "legacy", LEGACY), ("stdio", "auto", MODERN_REVISION), ("stdio", "modern", MODERN_REVISION)]),
    npm("inspector", "inspector", "inspector.mjs", [
        ("http", "legacy", LEGACY), ("http", "auto", MODERN_REVISION), ("http", "modern", MODERN_REVISION),
        ("sse", "legacy", LEGACY),
        ("stdio", "legacy", LEGACY), ("stdio", "auto", MODERN_REVISION), ("stdio", "modern", MODERN_REVISION)]),
]


# The proxies named mcp-proxy, by where they come from.
PROXIES = {
    "pip": [str(HERE / ".venv-mcp-proxy/bin/mcp-proxy"), "--log-level", "WARNING"],
    "npm": [node(), str(HERE / "node_modules/mcp-proxy/dist/bin/mcp-proxy.mjs")],
}


@contextmanager
def in_front_of(gateway, proxy, home):
    """A proxy that listens on a port of its own, with a `landbridge connect` to the gateway as its server."""
    port = free_port()
    command = [*proxy, "--host", "127.0.0.1", "--port", str(port), "--", *gateway.connect[:2], gateway.base + "/mcp"]
    with open(f"{home}/proxy.log", "w+") as log, subprocess.Popen(
            command, cwd=home, env={"PATH": os.environ["PATH"], "HOME": home}, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + 20
            while not listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise ConnectionError(f"{' '.join(command)} does not listen: {log.read()[-600:]}")
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def drive(gateway, driver, transport, mode, revision, errand, timeout_s=90, flags=(), environment=None):
    """Runs one driver and returns its report, or None where it broke off, with the faults that need no judgement.
    What stands between the driver and us, if anything does, gets the flags; all get the environment.
    """
    environment = environment or {}
    http, sse = (gateway.base + getattr(gateway, "paths", {}).get(way, usual) for way, usual in [("http", "/mcp"), ("sse", "/sse")])
    where = {"url": http if transport == "http" else sse}
    between = ["env", *(f"{name}={value}" for name, value in environment.items())] if environment else []
    if transport == "stdio":
        where = {"command": [*between, *gateway.connect, *flags]}
    if transport == "remote":
        url = sse if mode == "sse-only" else http
        remote = [node(), str(HERE / "node_modules/mcp-remote/dist/proxy.js"), url, *flags, "--transport", mode, "--silent"]
        where = {"command": [*between, *remote]}
        transport = "stdio"
    if transport == "proxy":
        url = sse if mode == "sse" else http
        where = {"command": [*PROXIES["pip"], "--transport", mode, url]}
        transport = "stdio"
    with tempfile.TemporaryDirectory() as home, ExitStack() as running:
        if transport == "behind":
            origin, transport, mode = mode.split()
            try:
                base = running.enter_context(in_front_of(gateway, PROXIES[origin], home))
            except ConnectionError as reason:
                return None, [str(reason)]
            where = {"url": base + ("/mcp" if transport == "http" else "/sse")}
        task = {**where, "transport": transport, "mode": mode, **errand}
        try:
            # There, for what they start may keep things where it is started.
            run = subprocess.run([driver[0], str(HERE / "drivers" / driver[1]), json.dumps(task)], timeout=timeout_s,
                                 cwd=home, capture_output=True, text=True, env={"PATH": os.environ["PATH"], "HOME": home, **environment})
        except subprocess.TimeoutExpired as late:
            return None, [f"no end after {timeout_s} s: {(late.stderr or b'').decode().strip()[-300:]}"]
        running.close()
        left = left_behind(home)
    if run.returncode != 0:
        return None, [f"driver ended with {run.returncode}: {run.stderr.strip()[-600:]}"]
    report = json.loads(run.stdout)
    if run.stderr.strip():  # What the clients cannot read they often only log.
        report["errors"]["said"] = run.stderr.strip()[-300:]
    faults = [f"{name}: {message}" for name, message in report["errors"].items()]
    faults += [f"left the process {pid} behind" for pid in left]
    if report["revision"] != revision and "connect" not in report["errors"]:
        faults.append(f"agreed on {report['revision']} and not {revision}")
    if not report["closed"] and not report["errors"]:
        faults.append("was not closed")
    return report, faults
