"""Compute the digests of inputs and of payloads.

`digest_input` runs at every call of every step. Arguments of plain data, which are most, are written by ormsgpack
alone. Others are written by an `InputPacker`, which writes the same bytes for plain data. A long text counts by its
SHA-256: to hash it is several times cheaper than to pack it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from itertools import starmap
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ormsgpack import packb

from musubito.errors import EncodingError, InputError
from musubito.values.canonical import IDENTITY_FORMAT, InputPacker, TextDigest, warn_of_changes
from musubito.values.msgpack_writer import SORTED, holds_buffer
from musubito.values.redaction import is_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from musubito.model import MusubitoResult

REMEDY_OF_METHODS = (
    "The object of a method is an argument: make its class a dataclass or a pydantic model, give it a "
    "`__musubito_identity__()` that says which object it is, leave it out with StepConfiguration(inputs=(...)), "
    "which names the arguments that count, or make the method a function of what it needs"
)
"""The remedy for a method whose object has no identity."""

_LONG_TEXT = 4096
"""Characters from which on a text counts by its SHA-256."""
_SHORT_DIGEST = 16
"""Bytes of a short digest."""
_NO_TEXTS: Mapping[bytes, str] = MappingProxyType({})
"""Stands for no long texts."""
_MOSTLY_PLAIN = frozenset((str, int, float, bool, type(None), list, dict))
"""Types of arguments for which ormsgpack alone is tried."""

_SHOWN = frozenset((int, float, bool, type(None)))
"""Types whose values readers see, whatever their names are."""
_UNCHANGEABLE = frozenset((str, int, float, bool, type(None), bytes))
"""Types of arguments that nobody can change in place."""


class InputDigest(NamedTuple):
    """The digest of a call's arguments, with the results and classes that were found in them.

    - `digest` is the SHA-256 of the arguments.
    - `results` are the results in them, in the order in which they count.
    - `classes` are the classes of the records in them and in those results.
    - `packed` are the bytes that were hashed.
    - `texts` are the long texts that stand in these bytes, by their SHA-256.
    """

    digest: bytes
    results: Sequence[MusubitoResult[Any]]
    classes: Collection[type]
    packed: bytes
    texts: Mapping[bytes, str]


def digest_input(operation: str, arguments: Mapping[str, object]) -> InputDigest:
    """Return the digest of a call's arguments; raise `InputError` for an argument without an identity."""
    for value in arguments.values():
        kind = type(value)
        if kind not in _MOSTLY_PLAIN or (kind is str and len(value) >= _LONG_TEXT):  # type: ignore[arg-type]
            break
    else:
        try:
            packed = packb(arguments, None, SORTED)
        except TypeError:
            pass
        else:
            # These bytes may begin a buffer; mostly they are lengths or letters.
            if not (b"\xc4" in packed or b"\xc5" in packed or b"\xc6" in packed) or not holds_buffer(arguments):
                # The same as InputDigest(...), without its Python-level constructor.
                digest = sha256(IDENTITY_FORMAT + packed).digest()
                return tuple.__new__(InputDigest, (digest, (), (), packed, _NO_TEXTS))
    return _digest_with_care(operation, arguments)


def argument_digests(
    arguments: Mapping[str, object], keyed: Callable[[bytes], bytes] | None = None
) -> dict[str, bytes]:
    """Return a short digest of each argument, by which to tell the one that changed.

    `keyed` keys a digest. Without `keyed`, an argument that readers see hidden has an empty digest: its value may be
    found by trying likely ones.
    """
    digests: dict[str, bytes] = {}
    for name, value in arguments.items():
        packed, hides = _packed_alone(value)
        digest = sha256(IDENTITY_FORMAT + packed).digest()[:_SHORT_DIGEST]
        if keyed is not None:
            digest = keyed(digest)
        elif hides or _is_hidden(name, value) or (type(value) is dict and any(starmap(_is_hidden, value.items()))):
            digest = b""
        digests[name] = digest
    return digests


def _is_hidden(name: object, value: object) -> bool:
    """Return whether readers see this value hidden because of its name."""
    return type(name) is str and type(value) not in _SHOWN and is_secret(name)


def is_unchangeable(arguments: Mapping[str, object]) -> bool:
    """Return whether no argument can change in place."""
    return _UNCHANGEABLE.issuperset(map(type, arguments.values()))


def content_digest(payload: bytes | bytearray) -> bytes:
    """Return the SHA-256 of an encoded payload: its artifact id, and the proof that it is intact."""
    return sha256(payload).digest()


def _digest_with_care(operation: str, arguments: Mapping[str, object]) -> InputDigest:
    packer = InputPacker()
    shortened = {name: _shorten(value) for name, value in arguments.items()}
    try:
        packed = packer.pack(shortened)
    except EncodingError as error:
        raise _input_error(operation, arguments, error) from error.__cause__
    warn_of_changes(packer.changed)
    digest = sha256(IDENTITY_FORMAT + packed).digest()
    texts = {bytes(short): arguments[name] for name, short in shortened.items() if type(short) is TextDigest}
    return InputDigest(digest, packer.results, packer.classes, packed, cast("Mapping[bytes, str]", texts))


def _packed_alone(value: object) -> tuple[bytes, bool]:
    """Return the bytes of one argument, and whether a secret of pydantic's is in it."""
    kind = type(value)
    if kind in _MOSTLY_PLAIN and not (kind is str and len(value) >= _LONG_TEXT):  # type: ignore[arg-type]
        try:
            packed = packb(value, None, SORTED)
        except TypeError:
            pass  # it holds something else, or a number that is too large for ormsgpack
        else:
            if not (b"\xc4" in packed or b"\xc5" in packed or b"\xc6" in packed) or not holds_buffer(value):
                return packed, False
    packer = InputPacker()
    return packer.pack(_shorten(value)), packer.hides


def _shorten(value: object) -> object:
    if type(value) is str and len(value) >= _LONG_TEXT:
        return TextDigest(sha256(value.encode("utf-8", "surrogatepass")).digest())
    return value


def _input_error(operation: str, arguments: Mapping[str, object], error: EncodingError) -> InputError:
    for name, value in arguments.items():
        try:
            InputPacker().pack_slowly(value)
        except EncodingError as cause:
            problem = cause.problem if name != "self" else f"{cause.problem}. {REMEDY_OF_METHODS}"
            return InputError(operation, name, cause.path, problem)
    return InputError(operation, "*", error.path, error.problem)
