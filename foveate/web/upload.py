"""A request's body, read with a limit of bytes and of time."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request

MOST_BYTES = 32_000_000
MOST_SECONDS = 30.0


async def read_body(request: Request, most: int = MOST_BYTES, seconds: float = MOST_SECONDS) -> bytes:
    """The whole body.

    Raises: HTTPException: 413: more bytes, 408: it took too long, 411: nothing was sent. ClientDisconnect: the other
        side stopped halfway.
    """
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > most:
        raise HTTPException(413, f"wanted an image of at most {most / 1e6:g} MB; got {int(told) / 1e6:.1f}")
    content = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                content += part
                if len(content) > most:
                    raise HTTPException(413, f"wanted an image of at most {most / 1e6:g} MB; got more")
    except TimeoutError:
        raise HTTPException(408, f"the image did not arrive within {seconds:g} s") from None
    if not content:
        raise HTTPException(411, "wanted an image as the body of the request; got nothing")
    return bytes(content)
