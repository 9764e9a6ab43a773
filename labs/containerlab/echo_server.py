"""Tells its name to each client, then sends back what it gets: a backend of a service, or a sign of who answers.

python3 echo_server.py NAME PORT
"""

import asyncio
import sys


async def serve(name: str, port: int) -> None:
    """Serve until ended; each connection gets "NAME\\n", then an echo of every chunk."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(f"{name}\n".encode())
            while chunk := await reader.read(4096):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass  # a health check, or a client that left
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
