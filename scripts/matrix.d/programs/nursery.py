import sys

import trio


async def main():
    stream = await trio.open_tcp_stream(sys.argv[1], int(sys.argv[2]))
    await stream.receive_some(1)


trio.run(main)
