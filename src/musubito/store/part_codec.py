"""Pieces of stored inputs as bytes: msgpack arrays, deflated if that saves a tenth.

A deflated piece begins with 0x78, and no array does.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

WORTH_IT: Final = 256
"""Bytes below which a piece is never deflated."""
LARGE: Final = 65_536
"""Bytes from which on speed counts for more than size."""
MOST: Final = 1 << 28
"""Bytes that a piece may not reach. A longer piece is not stored; bytes that inflate to more are damaged."""


def joined(bodies: Sequence[bytes]) -> bytes:
    """Return one array of values, each of which is packed already. Raise ValueError if the array is too long."""
    count = len(bodies)
    head = bytes((0x90 | count,)) if count < 16 else b"\xdd" + count.to_bytes(4, "big")
    if sum(map(len, bodies)) >= MOST:
        raise ValueError(f"more than {MOST:,} bytes in one piece")
    array = b"".join((head, *bodies))
    if len(array) < WORTH_IT:
        return array
    deflated = zlib.compress(array, 1 if len(array) >= LARGE else 6)
    return deflated if len(deflated) < 0.9 * len(array) else array


def inflated(piece: bytes) -> bytes:
    """Return the array of a piece. Raise ValueError if the piece is damaged."""
    if piece[:1] != b"\x78":
        return piece
    inflating = zlib.decompressobj()
    try:
        array = inflating.decompress(piece, MOST)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not inflating.eof or inflating.unused_data:
        raise ValueError("a deflated piece without an end")
    return array
