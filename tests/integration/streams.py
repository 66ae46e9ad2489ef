"""Many streams at once on bare sockets: a client that costs less than the server it loads."""

import asyncio
import json

_ENDINGS = (b'"finish_reason":"length"', b'"finish_reason":"stop"')


async def stream(port, fields, leave_after=None):
    """Posts a completion and reads it to its end, or leaves after so many bytes of the answer.

    Returns the whole answer, head included; None when left."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps({"model": "demo", "stream": True, **fields}).encode()
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()
        if leave_after is None:
            return await reader.read(-1)
        while leave_after > 0:
            piece = await reader.read(leave_after)
            if not piece:
                break
            leave_after -= len(piece)
        return None
    finally:
        writer.close()


def completed(answer):
    """Whether an answer is a stream that ran to its end."""
    return (
        answer.startswith(b"HTTP/1.1 200")
        and b"data: [DONE]\n\n" in answer
        and any(ending in answer for ending in _ENDINGS)
    )


async def all_of(coroutines, at_once):
    """Their results in order, with a bound on how many are under way."""
    gate = asyncio.Semaphore(at_once)

    async def one(coroutine):
        async with gate:
            return await coroutine

    return await asyncio.gather(*(one(coroutine) for coroutine in coroutines))
