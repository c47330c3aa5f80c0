"""A device with python-socketio, driven by lines of JSON: `device.py URL TOKEN TRANSPORTS`.

It writes `{"event", "args"}` for each event, in the order of arrival. A line `{"id", "event", "data"}` is sent with an
ack, whose arguments come back as `{"id", "args"}`.
"""

import asyncio
import json
import sys

import engineio
import socketio

# By default python-engineio ends a polling connection when one answer has more than 16 packets, whoever sends them.
engineio.payload.Payload.max_decode_packets = 1000


def say(**line):
    print(json.dumps(line), flush=True)


async def main(url, token, transports):
    client = socketio.AsyncClient(reconnection=False)

    @client.on("*")
    async def received(event, *args):
        say(event=event, args=args)

    await client.connect(
        url,
        headers={"token": token},
        auth={"chatList": "delta"},
        transports=transports.split(","),
    )
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        request = json.loads(line)
        # Bound now: by the time of the answer, `request` is another one.
        def answered(*args, id=request["id"]):
            say(id=id, args=args)

        await client.emit(request["event"], request.get("data"), callback=answered)
    await client.disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
