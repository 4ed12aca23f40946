import asyncio
import sys


async def main():
    reader, _ = await asyncio.open_connection(sys.argv[1], int(sys.argv[2]))
    await reader.read(1)


if sys.argv[3:] == ["uvloop"]:
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
