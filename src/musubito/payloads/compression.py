"""Compressed payloads: zstd if it is installed, else zlib.

A compressed body begins with the length of its payload in bytes, which has a limit. Nothing is read beyond that length.
So bytes that are damaged, or that were made to swell, cost no more memory than they announce.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Final, Protocol

from musubito.errors import ArtifactCorrupt, ArtifactUnreadable, warn

METHODS: Final = ("zstd", "zlib")
"""The methods of compression, as a codec names them."""
CHUNK: Final = 1 << 20
"""Bytes that are worked on at a time."""
SIZE: Final = 8
"""Bytes at the beginning of a compressed body that hold the length of its payload."""
MOST: Final = 1 << 33
"""Bytes that a payload may have. A body that announces more is taken for damaged."""
WORTH_IT: Final = 1024
"""Bytes below which a payload is stored as it is: compressed, a replay would take longer and no page be saved."""
SAVES: Final = 0.9
"""The part of its size that a compressed payload may take at most, to be stored compressed."""
SAMPLE: Final = 65_536
"""Bytes at the beginning, the middle and the end of a large payload that tell whether compression pays."""


class Source(Protocol):
    """Bytes that are read from beginning to end."""

    def read(self, size: int, /) -> bytes:
        """Return the next `size` bytes: fewer only at the end, and none after it.

        Raise `ArtifactUnreadable` if they cannot be read.
        """


def _import_first(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


# The second module is Python's own, from 3.14 on.
_zstd: Any = _import_first("zstandard", "compression.zstd")


class _OfThread(threading.local):
    """A compressor for each thread: to make one takes longer than to compress a message."""

    def __init__(self) -> None:
        self.zstd = _zstd.ZstdCompressor(level=3)


_of_thread: Final = _OfThread() if hasattr(_zstd, "ZstdDecompressionReader") else None


def best_method() -> str:
    """Return the method with which this process compresses."""
    return "zlib" if _zstd is None else "zstd"


def _compressor(method: str, size: int) -> Any:
    if method == "zlib":
        return zlib.compressobj(1)
    compressor = _zstd.ZstdCompressor(level=3)
    return compressor.compressobj(size=size) if hasattr(compressor, "compressobj") else compressor


def smaller(payload: memoryview) -> Iterator[bytes] | None:
    """Return the body in pieces, compressed by `best_method`; None if that does not save a tenth.

    For a large payload, samples of its bytes decide.
    """
    size, method = len(payload), best_method()
    if size < WORTH_IT:
        return None
    if size <= 3 * SAMPLE:
        body = b"".join(compressed(method, payload))
        return iter((body,)) if len(body) <= SAVES * size else None
    middle = size // 2
    sample = b"".join((payload[:SAMPLE], payload[middle : middle + SAMPLE], payload[-SAMPLE:]))
    takes = sum(map(len, compressed(method, memoryview(sample))))
    return compressed(method, payload) if takes <= SAVES * len(sample) else None


def compressed(method: str, payload: memoryview) -> Iterator[bytes]:
    """Yield the compressed body in pieces."""
    yield len(payload).to_bytes(SIZE, "big")
    if method == "zstd" and _of_thread is not None and len(payload) <= CHUNK:
        yield _of_thread.zstd.compress(payload)
        return
    compressor = _compressor(method, len(payload))
    for start in range(0, len(payload), CHUNK):
        piece = compressor.compress(payload[start : start + CHUNK])
        if piece:
            yield piece
    yield compressor.flush()


def decompressed(method: str, source: Source) -> bytes | bytearray:
    """Return the payload of a compressed body.

    Raise `ArtifactCorrupt` if the body is damaged, `ArtifactUnreadable` if its method is not installed.
    """
    size = int.from_bytes(drained(source, SIZE), "big")
    if size > MOST:
        raise ArtifactCorrupt(f"a compressed payload promises {size} bytes")
    read, faults = (_inflating(source), zlib.error) if method == "zlib" else _reading_zstd(source)
    payload = bytearray()
    try:
        while piece := read(min(CHUNK, size - len(payload) + 1)):
            payload += piece
            if len(payload) > size:
                break
    except (faults, EOFError, OSError) as error:
        raise ArtifactCorrupt(f"a compressed payload is damaged: {error}") from error
    if len(payload) != size:
        raise ArtifactCorrupt("a compressed payload is not as long as it says")
    return payload


def drained(source: Source, most: int = MOST) -> bytes | bytearray:
    """Return all bytes that are left, but no more than `most`."""
    first = source.read(min(CHUNK, most))
    if len(first) < CHUNK:
        return first
    whole = bytearray(first)
    while piece := source.read(min(CHUNK, most - len(whole))):
        whole += piece
    return whole


def _inflating(source: Source) -> Callable[[int], bytes]:
    inflater = zlib.decompressobj()

    def read(most: int) -> bytes:
        while not inflater.eof:
            data = inflater.unconsumed_tail or source.read(CHUNK)
            piece = inflater.decompress(data, most)
            if piece:
                return piece
            if not data:
                raise EOFError("it ends too early")
        if inflater.unused_data or source.read(1):
            raise EOFError("something follows its end")
        return b""

    return read


def _reading_zstd(source: Source) -> tuple[Callable[[int], bytes], Any]:
    if _zstd is None:
        # Without a warning it would look as if nothing had been recorded.
        warn("results compressed with zstd cannot be read here, so their steps run again: pip install zstandard")
        raise ArtifactUnreadable("the payload is compressed with zstd, which is not installed: pip install zstandard")
    decompressor = _zstd.ZstdDecompressor()
    reader = decompressor.stream_reader(source) if hasattr(decompressor, "stream_reader") else _zstd.ZstdFile(source)
    return reader.read, _zstd.ZstdError
