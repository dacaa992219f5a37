"""Whatever bytes are read: a value, or `ArtifactUnreadable`; never an import, never more memory than a bound."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path

import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musubito import ArtifactUnreadable
from musubito.engine import recorded_inputs
from musubito.engine.recorded_inputs import LIST, TEXT, WHOLE, StoredBody, digests_in, stored
from musubito.values.artifact_codec import FORMAT, decode_value, encode_value
from musubito.values.display import plain
from musubito.values.msgpack_writer import Code
from tests.faults.children import SOURCE


class Colour(Enum):
    RED = 1


@dataclass
class Point:
    x: int
    name: str


VALUES = [
    {"a": [1, 2.5, None, True, "text"], "b": (b"bytes", {"x", "y"}), 3: Decimal("1.50")},
    [Point(1, "p"), Colour.RED, datetime(2026, 1, 2, tzinfo=UTC), Path("a/b"), 2**90, 1j],
    OrderedDict(z=[[[[{"deep": (1, (2, (3,)))}]]]]),
    ["text " * 300, {"numbers": list(range(300))}, "\udcff"],
]
CLASSES = {(cls.__module__, cls.__qualname__): cls for cls in (Colour, Point)}
MANY = 4 * settings().max_examples
CODES = sorted(getattr(Code, name) for name in vars(Code) if name.isupper())


@st.composite
def damaged(draw, contents):
    """One of these contents with some bytes changed, gone, doubled or put in."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.integers(0, 3)):
            case 0 if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del content[at : at + draw(st.integers(1, 9))]
            case 2:
                content[at:at] = draw(
                    st.binary(min_size=1, max_size=6)
                    | st.sampled_from([b"\xdd\xff\xff\xff\xff", b"\xc9\x7f\xff\xff\xff", b"\xdf\xff\xff\xff\xff"])
                )
            case _:
                content[at:at] = content[at : at + 9]
    return bytes(content)


def exts(inner):
    """Values of msgpack, with exts of all codes around them."""
    return st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.builds(
            lambda code, parts: ormsgpack.Ext(code, ormsgpack.packb(parts)), st.sampled_from([*CODES, 99]), inner
        ),
    )


built = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
    | st.sampled_from(["os", "system", "antigravity", "builtins", "eval", __name__, "Point", "Colour", "RED"]),
    exts,
    max_leaves=12,
)  # fmt: skip


def reads(read, content: bytes):
    """What is read of it, None for nothing; whatever else is raised, or imported, fails."""
    before = set(sys.modules)
    try:
        return read(content)
    except ArtifactUnreadable:
        return None
    finally:
        assert set(sys.modules) == before


ENCODED = [encode_value(value) for value in VALUES]


@settings(max_examples=MANY)
@given(damaged(ENCODED) | st.builds(lambda parts: FORMAT + ormsgpack.packb(parts), built))
def test_a_damaged_payload_is_a_value_of_known_types_or_unreadable(payload):
    value = reads(lambda content: decode_value(content, CLASSES), payload)
    # What comes out can be stored again, so nothing has come in that is no data.
    if value is not None:
        encode_value(value)


@settings(max_examples=MANY)
@given(damaged([each[1:] for each in ENCODED]) | st.builds(ormsgpack.packb, built))
def test_damaged_bytes_are_shown_as_plain_data_or_unreadable(packed):
    ormsgpack.packb(reads(plain, packed), option=ormsgpack.OPT_NON_STR_KEYS)


def lines():
    line = stored(
        1,
        "f",
        b"h",
        {"a": ["text " * 200, "text " * 2000, *(f"item {n} " * 20 for n in range(30))], "n": list(range(400))},
    )
    parts = {part.digest: part for chain in line.chains for part in chain}
    return line.body, parts


BODY, PARTS = lines()


@given(st.data())
def test_damaged_pieces_of_inputs_end_somewhere(data):
    spoilt = data.draw(st.sets(st.sampled_from(sorted(PARTS))))
    others = sorted(PARTS)

    def body_of(digest: bytes) -> bytes:
        body = ormsgpack.packb([ormsgpack.unpackb(PARTS[digest].body, ext_hook=ormsgpack.Ext)])
        if digest not in spoilt:
            return body
        reference = ormsgpack.packb(
            [ormsgpack.Ext(data.draw(st.sampled_from([LIST, TEXT, WHOLE, 7])), data.draw(st.sampled_from(others)))]
        )
        return data.draw(damaged([body, zlib.compress(body * 50), reference]) | st.just(reference * 1))

    pieces = {digest: body_of(digest) for digest in others}
    body = data.draw(damaged([BODY]) | st.just(BODY))
    reads(digests_in, body)
    reads(lambda content: opened(content, pieces), body)


def opened(body, pieces):
    def chains(names):
        return {(1, digest): [pieces[digest]] for _, digest in names if digest in pieces}

    (value,) = recorded_inputs.opened([StoredBody(None, 1, body)], chains)
    return value()


EVIL = '''
import re, sys, zlib
from ormsgpack import Ext, packb
from musubito import ArtifactUnreadable
from musubito.engine.recorded_inputs import StoredBody, digests_in, opened
from musubito.values.artifact_codec import FORMAT, decode_value
from musubito.values.display import plain

def ref(*names): return [Ext(1, name.encode()) for name in names]
def deep(depth, inner): return b"\\x91" * depth + inner
def within(depth, levels):
    """Exts in exts, each with nested lists around it."""
    data = b"\\xc0"
    for _ in range(depth):
        data = packb(Ext(34, data))
        data = deep(levels, data)
    return data

def bomb(size, head):
    squeezer = zlib.compressobj(1)
    block = b"x" * 1_000_000
    return b"".join([squeezer.compress(head), *(squeezer.compress(block) for _ in range(size // len(block))), squeezer.flush()])

laughs = {f"{n}".encode(): packb([Ext(1, f"{n + 1}".encode())] * 30) for n in range(30)} | {b"30": packb(["ha"])}
itself = {b"a": packb(ref("a"))}
ring = {b"a": packb([[Ext(2, b"b")]]), b"b": packb([Ext(2, b"a"), Ext(1, b"b")])}
nested = {f"{n}".encode(): deep(900, packb(Ext(1, f"{n + 1}".encode()))) for n in range(100)} | {b"100": packb([1])}

def one(body, parts):
    (value,) = opened([StoredBody(None, 1, body)], parts)
    return value()

def said(read, *args):
    try:
        value = read(*args)
    except ArtifactUnreadable as error:
        return "unreadable"
    return "value"

def peak():
    """Megabytes, of this program alone: what getrusage says may be of the one that started it."""
    (most,) = re.findall(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
    return int(most) // 1000

what, = sys.argv[1:]
if what == "inputs":
    for name, parts, first in (
        ("laughs", laughs, "0"), ("itself", itself, "a"), ("ring", ring, "a"), ("nested", nested, "0"),
    ):
        print(name, said(one, packb(ref(first)), lambda names: {(1, d): [parts[d]] for _, d in names if d in parts}))
    print("peak", peak())
    large = bomb(60_000_000, b"\\x91\\xdb" + (60_000_000).to_bytes(4, "big"))
    print("chain", said(one, packb(ref("0")), lambda names: {name: [large] * 6 for name in names}))
    # More than a piece may amount to.
    print("bomb", said(digests_in, bomb(300_000_000, b"\\x91\\xdb" + (300_000_000).to_bytes(4, "big"))))
else:
    read = (lambda data: decode_value(FORMAT + data, {})) if what == "payload" else plain
    for name, data in (
        ("count", b"\\xdd\\xff\\xff\\xff\\xff"), ("map", b"\\xdf\\xff\\xff\\xff\\xff"), ("text", b"\\xdb\\xff\\xff\\xff\\xffx"),
        ("ext", b"\\xc9\\xff\\xff\\xff\\xff\\x07x"), ("lists", deep(1_000_000, b"\\xc0")), ("exts", within(5_000, 0)),
        ("both", within(40, 250)), ("count in ext", packb(Ext(34, b"\\xdd\\xff\\xff\\xff\\xff"))),
        ("range", packb(Ext(30, packb([0, 10**18, 1])))), ("int", packb(Ext(1, packb(b"\\xff" * 10)))),
    ):
        print(name, said(read, data))
print("peak", peak())
print("end")
'''


@pytest.mark.parametrize("what", ["payload", "plain", "inputs"])
def test_what_was_made_to_fill_the_memory_or_the_stack_does_not(tmp_path, what):
    program = tmp_path / "evil.py"
    program.write_text(EVIL)
    done = subprocess.run(
        [sys.executable, program, what],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    *said, end = done.stdout.splitlines()
    assert end == "end"
    peaks = [int(line.split()[1]) for line in said if line.startswith("peak")]
    # In megabytes; the interpreter itself takes some 30 of them.
    assert peaks[0] < 400 and peaks[-1] < 1_000, said
    if what == "inputs":
        assert {line for line in said if not line.startswith("peak")} == {
            f"{name} unreadable" for name in ("laughs", "itself", "ring", "nested", "chain", "bomb")
        }
