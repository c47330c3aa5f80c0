"""The harness: a Redis, a server and devices, each a real process or socket.

Nothing sleeps to let something happen: every wait is for a condition, and one that lasts too long fails the test.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
import unittest

import aiohttp
import engineio
import socketio
import websockets

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
TARGET = REPOSITORY / os.environ.get("CARGO_TARGET_DIR", "target")
BINARY = os.environ.get("CHAT_SERVER_BIN", str(TARGET / "debug" / "chat-server"))

# How long any wait lasts before it fails the test, in seconds.
PATIENCE_SECS = 30

# The JWT_SECRET of every server under test.
SECRET = "a-secret-for-tests-of-more-than-32-bytes"

# By default python-engineio ends a polling connection when one answer has more than 16 packets, whoever sends them.
engineio.payload.Payload.max_decode_packets = 1000

TRANSPORTS = {
    "WebSocket only": ["websocket"],
    "polling only": ["polling"],
    "polling upgraded to WebSocket": ["polling", "websocket"],
}


def token_with(claims):
    """A token with these claims."""

    def encode(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    body = b".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (body + b"." + encode(hmac.digest(SECRET.encode(), body, hashlib.sha256))).decode()


def token_of(user):
    """A good token of `user`."""
    return token_with({"id": user})


def expired(user):
    """A token of `user` that has ended."""
    return token_with({"id": user, "exp": int(time.time()) - 3600})


async def eventually(what, check):
    """Asks until `check` gives something true; for conditions that nothing announces."""
    deadline = time.monotonic() + PATIENCE_SECS
    while not (found := await check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        await asyncio.sleep(0.02)
    return found


class Process:
    """A program that ends with the test, in a folder of its own."""

    def __init__(self):
        # Short, because the path of a socket must be short.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="chat-"))
        self.process = None

    async def spawn(self, *command, env=None, stderr=asyncio.subprocess.DEVNULL):
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        self.process = await asyncio.create_subprocess_exec(
            *command,
            env={**kept, "HOME": str(self.folder), **(env or {})},
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr,
        )

    async def close(self):
        if self.process and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Redis(Process):
    """A `redis-server` that listens on a unix socket alone."""

    async def start(self):
        self.socket = self.folder / "redis.sock"
        quiet = ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        await self.spawn(
            "redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.folder, *quiet
        )
        await eventually("an answer of redis-server", self._answers)

    @property
    def url(self):
        return f"unix://{self.socket}"

    async def _answers(self):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(self.socket)
            writer.write(b"PING\r\n")
            answer = await reader.readline()
            writer.close()
            return answer == b"+PONG\r\n"
        return False


class Server(Process):
    """A running `chat-server`, ready for clients."""

    def __init__(self):
        super().__init__()
        self.lines = []
        self.reader = None

    async def start(self, redis, **env):
        if not os.access(BINARY, os.X_OK):
            raise AssertionError(f"there is no program {BINARY}: run cargo build, or set CHAT_SERVER_BIN")
        settings = {
            "APP_ENV": "dev",
            "PORT": "0",
            "JWT_SECRET": SECRET,
            # Tests send faster than people.
            "MAX_REQUESTS_PER_SEC": "0",
            "RUST_LOG": "info",
            "REDIS_URL": redis.url,
        }
        await self.spawn(BINARY, "serve", env={**settings, **env}, stderr=asyncio.subprocess.PIPE)
        listening = asyncio.get_running_loop().create_future()
        self.reader = asyncio.create_task(self._read(listening))
        try:
            self.port = await asyncio.wait_for(listening, PATIENCE_SECS)
        except TimeoutError:
            raise AssertionError(f"no port in the log\n{self.log()}") from None
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        await eventually("the server to be ready", self._ready)

    async def _read(self, listening):
        while line := await self.process.stderr.readline():
            line = re.sub(r"\x1b\[[0-9;]*m", "", line.decode(errors="replace").rstrip())
            self.lines.append(line)
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
            if found and not listening.done():
                listening.set_result(int(found[1]))
        if not listening.done():
            listening.set_exception(AssertionError(f"the server ended early\n{self.log()}"))

    async def _ready(self):
        limit = aiohttp.ClientTimeout(total=5)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with aiohttp.request("GET", f"{self.url}/readyz", timeout=limit) as answer:
                return answer.status == 200
        return False

    def log(self):
        """The last lines of its log, for messages."""
        return "\n".join(["--- the server's log, its end ---", *self.lines[-40:]])

    async def stop(self):
        """SIGTERM, as an operator stops it: the exit code."""
        self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), PATIENCE_SECS)

    async def close(self):
        await super().close()
        if self.reader:
            await self.reader


class Device:
    """What all devices can do: wait for events."""

    def __init__(self, server, user):
        self.server = server
        self.user = user
        # `(event, arguments)`, in order of arrival.
        self.inbox = []
        # Why the connection ended, each time it did.
        self.ends = []
        self.changed = asyncio.Event()

    async def received(self, event, *args):
        # Awaits nothing: the client starts a task for each event, and they must not overtake each other.
        self.inbox.append((event, args))
        self.changed.set()

    async def ended(self, reason):
        self.ends.append(reason)
        self.changed.set()

    async def until(self, what, check):
        """Waits until `check` is true."""

        async def wait():
            while not check():
                self.changed.clear()
                await self.changed.wait()

        try:
            await asyncio.wait_for(wait(), PATIENCE_SECS)
        except TimeoutError:
            got = "\n".join(f"  {event} {args}"[:500] for event, args in self.inbox)
            text = f"waited in vain for {what} at {self.user}, who has:\n{got}\nends: {self.ends}\n{self.server.log()}"
            raise AssertionError(text) from None

    async def next(self):
        """The next event: its name and its only argument."""
        await self.until("any event", lambda: self.inbox)
        return single(self.inbox.pop(0))

    async def take(self, event, wanted=lambda data: True):
        """The data of the next `event` that is wanted; the others stay."""

        def find():
            return [it for it in self.inbox if it[0] == event and wanted(it[1][0] if it[1] else None)]

        await self.until(event, find)
        found = find()[0]
        self.inbox.remove(found)
        return single(found)[1]

    def take_all(self):
        """All that came so far."""
        taken, self.inbox = self.inbox, []
        return [single(it) for it in taken]

    async def greeted(self):
        """Sees that the server greets as it should: the list."""
        first, hello = await self.next()
        assert (first, hello["userId"]) == ("hello", self.user)
        assert await self.next() == ("status", f"user:{self.user} connected")
        assert await self.next() == ("status", "chat list updated")
        event, chats = await self.next()
        assert event == "chatList" and isinstance(chats, list), (event, chats)
        return chats


def single(received):
    event, args = received
    assert len(args) == 1, f"{event} has one argument: {args}"
    return event, args[0]


class SocketIoDevice(Device):
    """A device with python-socketio."""

    def __init__(self, server, user):
        super().__init__(server, user)
        self.connects = 0
        # As by default, only sooner.
        self.client = socketio.AsyncClient(reconnection_delay=0.05, reconnection_delay_max=0.5)
        self.client.on("*", self.received)
        self.client.on("disconnect", self.ended)
        self.client.on("connect", self._connected)

    async def _connected(self):
        self.connects += 1
        self.changed.set()

    async def open(self, transports, headers=None, auth=None):
        """Connects, without a look at what comes."""
        await self.client.connect(self.server.url, headers=headers or {}, auth=auth, transports=transports)

    async def connect(self, transports, headers=None, auth=None):
        """Connects and sees that it is greeted: the list."""
        await self.open(transports, headers, auth)
        return await self.greeted()

    async def emit(self, event, *data):
        """Sends an event and wants no answer."""
        await self.client.emit(event, *data)

    async def ask(self, event, data=None):
        """Sends an event and gives what its callback got, which must be one argument."""
        answer = await self.client.call(event, data, timeout=PATIENCE_SECS)
        assert isinstance(answer, dict), f"the callback of {event} gets one argument: {answer}"
        return answer

    async def done(self, event, data=None):
        """A request that must succeed: its result."""
        answer = await self.ask(event, data)
        assert answer["ok"] is True and set(answer) == {"ok", "data"}, f"{event}: {answer}"
        return answer["data"]

    async def refused(self, code, event, data=None):
        """A request that must be refused: its error."""
        answer = await self.ask(event, data)
        assert answer["ok"] is False and set(answer) == {"ok", "error"}, f"{event}: {answer}"
        assert answer["error"]["code"] == code, f"{event}: {answer}"
        return answer["error"]

    async def close(self):
        await self.client.shutdown()


class NativeDevice(Device):
    """A device at the native door."""

    async def connect(self):
        """Connects and sees that it is greeted: the list."""
        headers = {"token": token_of(self.user)}
        self.socket = await websockets.connect(f"ws://{self.server.host}/ws", additional_headers=headers)
        self.reader = asyncio.create_task(self._read())
        return await self.greeted()

    async def _read(self):
        with contextlib.suppress(websockets.ConnectionClosed):
            async for text in self.socket:
                frame = json.loads(text)
                await self.received(frame["event"], frame["data"])
        await self.ended(self.socket.close_code)

    async def emit(self, event, data=None):
        """Sends an event and wants no answer."""
        await self.socket.send(json.dumps({"event": event, "data": data}))

    async def close(self):
        await self.socket.close()
        await self.reader


class ChatTestCase(unittest.IsolatedAsyncioTestCase):
    """A test with a Redis, servers and devices of its own; all of them end with it."""

    async def asyncSetUp(self):
        self.redis = self._keep(Redis())
        await self.redis.start()

    def _keep(self, thing):
        async def close():
            await asyncio.wait_for(thing.close(), PATIENCE_SECS)

        self.addAsyncCleanup(close)
        return thing

    async def server(self, **env):
        """A server on this test's Redis."""
        server = self._keep(Server())
        await server.start(self.redis, **env)
        return server

    def device(self, server, user):
        """A device with python-socketio that is not connected yet."""
        return self._keep(SocketIoDevice(server, user))

    async def connected(self, server, user, transports, auth=None):
        """A device that connects as a client of the replaced server does, and is greeted."""
        device = self.device(server, user)
        device.list = await device.connect(transports, headers={"token": token_of(user)}, auth=auth)
        return device

    async def native(self, server, user):
        """A device at the native door."""
        device = NativeDevice(server, user)
        device.list = await device.connect()
        return self._keep(device)
