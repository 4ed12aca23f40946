import asyncio
import sys

import aiohttp


async def main():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout()) as session:
        await session.get(sys.argv[1])


asyncio.run(main())
