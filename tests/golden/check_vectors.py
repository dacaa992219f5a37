"""Compare this interpreter's encodings with the frozen ones; run as a script, `--append` adds what is missing.

`identity_vectors.tsv` holds a Python expression, its identity encoding and its artifact encoding in each line. Lines are
only ever added: a line that no longer holds means that stored results are lost, or wrongly found.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from hashlib import sha256
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath
from typing import Any, Final, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

try:  # another Python may be without them: their vectors are left out there
    import numpy as np
    import pandas as pd
    from PIL import Image
except ImportError:
    np = pd = Image = None

from musubito.model import MusubitoResult
from musubito.values.artifact_codec import decode_value, encode_value
from musubito.values.canonical import canonical
from musubito.values.msgpack_writer import Code
from musubito.values.std_types import LATE, TYPE_CODECS, kind_of
from musubito.values.third_party_types import EXTRA_JOINERS, split_extra

VECTORS = Path(__file__).with_name("identity_vectors.tsv")
del __file__  # The vectors name these classes as those of `__main__`: what has no file counts as that.


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    A = "a"


class Perm(Flag):
    R = 1
    W = 2


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclass
class Box:
    a: Any


@dataclass(slots=True)
class Slotted:
    a: Any


EXPRESSIONS = r"""
None
True
0
1
-1
127
128
196
65536
2**63
2**64 - 1
2**64
-2**63 - 1
10**40
0.0
-0.0
1.0
float("nan")
float("inf")
1j
complex(-0.0, 1.0)
""
"a"
"1"
"\u00e9"
"e\u0301"
"\ud800"
"x" * 40
"x" * 196
"x" * 70000
b""
b"a"
bytearray(b"a")
[]
[1, [2]]
[0] * 20
[0] * 70000
()
(1, (2,))
set()
{1, "a", b"b", (1, 2), None, 2.5}
{str(i) for i in range(20)}
frozenset({1, 2})
{}
{"b": 1, "a": 2}
{"\u00e9": 1, "z": 2, "\U0001f600": 3, "\uffff": 4}
{2: "a", 1: "b"}
{1: "a", "1": "b", (1,): "c", None: "d", 1.5: "e"}
{"\ud800": 1, "a": 2}
{str(i): i for i in reversed(range(20))}
OrderedDict(b=1, a=2)
defaultdict(list, {"a": [1]})
defaultdict(None, {})
Counter("abca")
deque([1, 2])
deque([1, 2], 3)
range(3)
range(0, 10, 3)
Decimal("1.0")
Decimal("1.00")
Decimal("-0")
Decimal("NaN")
Decimal("1E+5")
Fraction(1, 3)
date(2024, 2, 29)
time(1, 2, 3, 4)
time(1, fold=1)
datetime(2024, 1, 2, 3, 4, 5, 6)
timezone.utc
datetime(2024, 1, 2, tzinfo=timezone.utc)
datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=1)))
datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=1), "X"))
datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
timedelta(-1, 2, 3)
ZoneInfo("Europe/Berlin")
UUID("12345678-1234-5678-1234-567812345678")
PurePosixPath("a/b")
PosixPath("/a")
PureWindowsPath("c:/a")
Colour.RED
Level.LOW
Word.A
Perm.R
Perm.R | Perm.W
Pair(1, [2])
Box({1: 2})
Slotted("x")
MusubitoResult("v", "277e8bea3a75f27c2415e08f6faed05dcfbaf075f55c0db1dec691d8ea1a48eb", "b" * 64, "c" * 64)
[MusubitoResult((1, 2), "ccfae47639501a57c3509565d596be92ec4a768f8245e2ea6f77a94f70c3ab1b", "b" * 64, "c" * 64)]
{"messages": [{"role": "user", "content": "hello"}, Box((1, {2}))]}
""".strip().splitlines()
OF_PACKAGES = r"""
np.arange(6, dtype="<i4").reshape(2, 3)
np.asfortranarray(np.arange(6, dtype="<f8").reshape(2, 3))
np.zeros(2, [("a", "<i4"), ("b", "<f8")])
np.float32(2.5)
np.datetime64("2024-01-02", "D")
pd.DataFrame(np.array([[1, 2], [3, 4]], "<i8"), pd.Index(np.array([5, 6], "<i8")), pd.Index(["a", "b"], dtype=object))
pd.Series(np.array([1.5, 2.5], "<f8"), name="s")
pd.RangeIndex(2, 8, 3, name="i")
pd.Timestamp("2024-01-02 03:04:05", tz="UTC").as_unit("ns")
pd.Timedelta("36h").as_unit("ns")
pd.NaT
pd.NA
Image.frombytes("RGB", (2, 1), b"abcdef")
""".strip().splitlines()
"""Expressions of values of numpy, pandas and Pillow."""
CODES: Final = {name: code for name, code in vars(Code).items() if code in EXTRA_JOINERS}


def encodings(expression: str) -> tuple[str, str]:
    """Both encodings of what an expression gives (of long ones the beginning and a digest)."""
    value = eval(expression)
    payload = encode_value(value)
    assert encode_value(decode_value(payload, {})) == payload, expression
    return _short(canonical(value)), _short(payload)


def _short(data: bytes) -> str:
    return data.hex() if len(data) <= 300 else f"{data[:16].hex()}...{sha256(data).hexdigest()}"


def main() -> int:
    """How many of the frozen lines do not hold."""
    lines = VECTORS.read_text("utf-8").splitlines() if VECTORS.exists() else []
    frozen = {line.split("\t")[0]: tuple(line.split("\t")[1:]) for line in lines}
    if not np:
        frozen = {expression: kept for expression, kept in frozen.items() if expression not in OF_PACKAGES}
    wrong = [expression for expression, expected in frozen.items() if encodings(expression) != expected]
    wanted = [*EXPRESSIONS, *(OF_PACKAGES if np else ())]
    missing = [expression for expression in wanted if expression not in frozen]
    if "--append" in sys.argv:
        with VECTORS.open("a", encoding="utf-8") as file:
            file.writelines("\t".join((expression, *encodings(expression))) + "\n" for expression in missing)
        frozen |= {expression: encodings(expression) for expression in missing}
        missing = []
    kinds = {kind.code for expression in frozen if (kind := kind_of(type(eval(expression)))) is not None}
    codes = {kind.__name__: codec.code for kind, codec in TYPE_CODECS.items()} | {
        name: late[1].code for name, late in LATE.items()
    }
    if np:
        kinds |= {split_extra(eval(expression))[0] for expression in OF_PACKAGES}
        codes |= CODES
    unseen = [name for name, code in codes.items() if code not in kinds]
    for name in unseen:
        print("no expression has this type:", name)
    for expression in wrong:
        print("differs:", expression)
    for expression in missing:
        print("not frozen:", expression)
    return len(unseen) + len(wrong) + len(missing)


if __name__ == "__main__":
    sys.exit(main())
