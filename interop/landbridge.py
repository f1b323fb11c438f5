"""One Landbridge under test: started on a free loopback port, stopped by SIGTERM, and looked at for what it leaves.
Spoken to by every script here.
"""

import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent


def node():
    """The Node of the lock file where there is one for this machine, otherwise the system's."""
    return next((str(path) for path in HERE.glob("node_modules/node-*/bin/node")), "node")


EVERYTHING = [node(), str(HERE / "node_modules/@modelcontextprotocol/server-everything/dist/index.js"), "stdio"]
MODERN = [node(), str(HERE / "servers/modern.mjs")]


def free_port():
    """Below the ports that the system gives to outgoing connections, one of which could take it meanwhile."""
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port := random.randrange(15_000, 30_000)))
                return port
            except OSError:
                continue


class Landbridge:
    """`with Landbridge(binary, command) as base_url`; afterwards `faults` lists what was wrong with its end."""

    def __init__(self, binary, command=(), config=""):
        self.arguments = [str(binary), "serve", "--listen", f"127.0.0.1:{(port := free_port())}"]
        self.config = config
        self.arguments += ["--", *command] if command else []
        # What a client that speaks only stdio is to start instead.
        self.connect = [str(Path(binary).resolve()), "connect", *([shlex.join(command)] if command else [])]
        self.base = f"http://127.0.0.1:{port}"
        self.faults = []

    def __enter__(self):
        # Children inherit this home, by which those that outlive their gateway are found.
        self.home = tempfile.TemporaryDirectory(prefix="landbridge-interop-")
        if self.config:
            written = Path(self.home.name) / "landbridge.toml"
            written.write_text(self.config)
            self.arguments[2:2] = ["--config", str(written)]
        self.log = open(Path(self.home.name) / "log", "w+")
        environment = {**os.environ, "HOME": self.home.name}
        self.process = subprocess.Popen(self.arguments, env=environment, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 20
        while not self.healthy():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                sys.exit(f"landbridge did not become healthy: {' '.join(self.arguments)}\n{self.said}")
            time.sleep(0.05)
        return self.base

    def healthy(self):
        try:
            with urllib.request.urlopen(f"{self.base}/healthz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def __exit__(self, *_):
        running = self.process.poll() is None
        if running:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(15)
            if not running:
                self.faults.append(f"ended by itself with {code}")
            elif code != 0:
                self.faults.append(f"exit code {code} after SIGTERM")
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.faults.append("still running 15 s after SIGTERM")
        for pid in left_behind(self.home.name):
            self.faults.append(f"left the process {pid} behind")
            os.kill(pid, signal.SIGKILL)
        self.log.seek(0)
        self.said = self.log.read()
        self.log.close()
        if "panicked at" in self.said:
            self.faults.append("panicked")
        self.home.cleanup()


def left_behind(home):
    """Processes that still carry this home in their environment, a second after what was started with it has ended."""
    marker = f"HOME={home}".encode()
    for _ in range(10):
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if marker in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
            except OSError:
                continue  # It ended meanwhile, or is somebody else's.
        if not found:
            return []
        time.sleep(0.1)
    return found
