"""Inputs as they are stored for a reader, so that what they have in common is stored once.

An input is packed as msgpack. A long list in it is replaced by the digest of a chain, with one part for each item: the
digest of a part is that of all items up to it, so that a list which has grown shares all but its tail with what it was.
A very long text is a chain of its pages, a long dict or text a chain of one. A reader asks for the digests that he
meets, from the outside in.

    body                          {"state": {"messages": Ext(LIST, digest of the third)}}
    chain   hello  <-  hi there  <-  and now?          each part names the one before it

Nothing here is needed for a replay; all of it is made when the ledger is written, off the path of any call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias

from ormsgpack import Ext, packb, unpackb

from musubito.contents.contents import Contents, Sealed
from musubito.errors import ArtifactUnreadable
from musubito.identity.codecs import nesting
from musubito.identity.plain import TYPE, plain
from musubito.identity.secrets import scrubbed
from musubito.store.base import InputLine, Ledger, Part, Readable
from musubito.store.pieces import MOST, inflated, joined

__all__ = [
    "CONTENT",
    "MISSING",
    "PATH",
    "FileText",
    "Given",
    "Redact",
    "digests_in",
    "in_pieces",
    "opened",
    "opened_in",
    "stored",
    "stored_input",
]

Redact: TypeAlias = Callable[[str, Any], Any]
"""Takes an operation's name and the arguments of a call as plain data; gives back what is stored of them."""

LIST: Final = 1
WHOLE: Final = 2
MISSING: Final = "..."
"""The type of what stands in the place of something that cannot be shown, and says why."""
SEALED: Final = 3
"""An item that is encrypted: the digests in it, and how and as what it is stored."""
TEXT: Final = 4
LONG: Final = 512
"""From this many packed bytes on, a list, dict or text is shared."""
PAGE: Final = 2048
"""A text of more characters is shared in pages of so many: the transcript that a loop adds to."""
DIGEST: Final = 16
DEEPEST: Final = 3000
"""So many levels may be open at once: pieces hold msgpack of their own, which ormsgpack reads on the C stack."""
MOST_AT_ONCE: Final = 1_000_000
"""So many bytes of inputs are written in one transaction."""


PATH: Final = "file"
CONTENT: Final = "text"
"""Where the path and the text of a file stand in what is stored of it."""


class Given(NamedTuple):
    """What a call was given, as it was hashed."""

    execution: int
    operation: str
    input_hash: bytes
    packed: bytes
    texts: Mapping[bytes, str]

    def line(self, redact: Redact | None, contents: Contents) -> InputLine:
        """As it is stored; raises what `redact` raises."""
        line = stored(self.execution, self.operation, self.input_hash, self._shown(redact))
        return line if contents.keys is None else _encrypted(line, contents)

    def as_stored(self, redact: Redact | None) -> Any:
        """What a reader would be given of it; None where nothing would be stored."""
        try:
            return unpackb(packb(self._shown(redact)))
        except Exception:  # whatever a redaction raises, or gives back
            return None

    def _shown(self, redact: Redact | None) -> Any:
        value = plain(self.packed, self.texts)
        return value if redact is None else redact(self.operation, value)


class FileText(NamedTuple):
    """A text that an execution read from a file, kept beside its input under the digest of the read."""

    execution: int
    operation: str
    digest: bytes
    path: str
    text: str

    def line(self, redact: Redact | None, contents: Contents) -> InputLine:
        """As it is stored; raises what `redact` raises."""
        value: Any = {PATH: self.path, CONTENT: scrubbed(self.text)}
        if redact is not None:
            value = redact(self.operation, value)
        line = stored(self.execution, self.operation, self.digest, value)
        return line if contents.keys is None else _encrypted(line, contents)


def stored(execution: int, operation: str, input_hash: bytes, value: Any) -> InputLine:
    """The line for plain data. TypeError if it is none."""
    chains: list[Sequence[Part]] = []
    body = joined([packb(_shared(value, chains))])
    return InputLine(execution, operation, input_hash, body, chains)


def _encrypted(line: InputLine, contents: Contents) -> InputLine:
    """The same with each item sealed. Only the digests that stand in it, keyed like all others, are still seen, so that
    who removes what nothing refers to needs no key."""
    assert contents.keys is not None  # noqa: S101 - the caller has looked
    keyed = contents.keys.digest("part")

    def short(digest: bytes) -> bytes:
        return keyed(digest)[:DIGEST]

    def renamed(item: bytes) -> tuple[bytes, bytes]:
        found: list[bytes] = []

        def rename(code: int, digest: bytes) -> Ext:
            found.append(short(digest))
            return Ext(code, found[-1])

        return packb(unpackb(item, ext_hook=rename)), b"".join(found)

    def encrypted(item: bytes) -> bytes:
        packed, digests = renamed(item)
        return packb(Ext(SEALED, packb([digests, *contents.sealed_item(digests, packed)])))

    chains = [
        [
            Part(short(part.digest), None if part.before is None else short(part.before), encrypted(part.body))
            for part in chain
        ]
        for chain in line.chains
    ]
    items: list[bytes] = unpackb(inflated(line.body), ext_hook=Ext)
    body = joined([encrypted(packb(item)) for item in items])
    return line._replace(body=body, chains=chains)


def _shared(value: Any, chains: list[Sequence[Part]]) -> Any:
    """The value with digests in place of what is long; `chains` takes what they stand for."""
    if type(value) is dict:
        value = {key: _shared(part, chains) for key, part in value.items()}
    elif type(value) is list:
        return _listed(value, chains)
    elif type(value) is not str or len(value) < LONG:
        return value
    elif len(value) > PAGE:
        pages = [packb(value[start : start + PAGE]) for start in range(0, len(value), PAGE)]
        return Ext(TEXT, _chained(b"text", pages, chains))
    packed = packb(value)
    if len(packed) < LONG:
        return value
    part = Part(sha256(b"whole" + packed).digest()[:DIGEST], None, packed)
    chains.append([part])
    return Ext(WHOLE, part.digest)


def _listed(items: list[Any], chains: list[Sequence[Part]]) -> Any:
    if all(map(_is_number, items)):
        # A vector: nobody appends to it, and there may be thousands.
        packed = packb(items)
        if len(packed) < LONG:
            return items
        part = Part(sha256(b"whole" + packed).digest()[:DIGEST], None, packed)
        chains.append([part])
        return Ext(WHOLE, part.digest)
    shared = [_shared(item, chains) for item in items]
    bodies = [packb(item) for item in shared]
    if sum(map(len, bodies)) < LONG:
        return shared
    return Ext(LIST, _chained(b"list", bodies, chains))


def _chained(kind: bytes, bodies: list[bytes], chains: list[Sequence[Part]]) -> bytes:
    """The digest of all items, of which there is one at least."""
    chain: list[Part] = []
    before: bytes | None = None
    for body in bodies:
        digest = sha256(kind + (before or b"") + body).digest()[:DIGEST]
        chain.append(Part(digest, before, body))
        before = digest
    chains.append(chain)
    return chain[-1].digest


def _is_number(item: Any) -> bool:
    return type(item) is float or type(item) is int


def in_pieces(ledger: Ledger) -> Iterator[Ledger]:
    """The same lines, as several writes of which none takes long: a large input keeps nobody from writing."""
    yield ledger._replace(inputs=())
    lines: list[InputLine] = []
    size = 0
    for line in ledger.inputs:
        chains: list[Sequence[Part]] = []
        for chain in line.chains:
            chains.append(chain)
            size += sum(len(part.body) for part in chain)
            if size >= MOST_AT_ONCE:
                yield Ledger(ledger.namespace, (), (), [*lines, line._replace(body=b"", chains=chains)])
                lines, chains, size = [], [], 0
        lines.append(line._replace(chains=chains))
    if lines:
        yield Ledger(ledger.namespace, (), (), lines)


def stored_input(store: Readable, contents: Contents, operation: str, input_hash: bytes) -> Any:
    """The arguments of an operation's calls as plain data; None if they are not stored. Damaged ones say so, so that a
    reader gets the rest of what he asked for."""
    where = {"namespace": contents.namespace, "operation": operation, "input_hash": input_hash}
    (rows,) = store.read([("input", where)])
    if not rows:
        return None
    number, body = rows[0]
    try:
        return opened_in(store, number, body, contents)
    except ArtifactUnreadable as error:
        return {TYPE: MISSING, "value": str(error)}


def opened_in(store: Readable, namespace: int, body: bytes, contents: Contents | None = None) -> Any:
    """As `opened`, with the parts that a store has in this namespace."""

    def parts(digests: Collection[bytes]) -> Mapping[bytes, Sequence[bytes]]:
        wanted = list(digests)
        where = {"namespace": namespace, "most": MOST, "least": LONG}
        found = store.read([("chain", {**where, "digest": digest}) for digest in wanted])
        chains = zip(wanted, found, strict=True)
        # What lacks its beginning would be a shorter list.
        return {
            digest: [piece for piece, _ in reversed(chain)]
            for digest, chain in chains
            if chain and (chain[-1][1] is None or sum(len(piece) + LONG for piece, _ in chain) >= MOST)
        }

    return opened(body, parts, contents)


def digests_in(body: bytes) -> list[bytes]:
    """The digests that stand in a body, or in the items of a part."""
    found: list[bytes] = []

    def note(code: int, data: bytes) -> None:
        if code == SEALED:
            digests = unpackb(data)[0]
            found.extend(digests[start : start + DIGEST] for start in range(0, len(digests), DIGEST))
        else:
            found.append(data)

    _values(body, note)
    return found


def opened(
    body: bytes,
    parts: Callable[[Collection[bytes]], Mapping[bytes, Sequence[bytes]]],
    contents: Contents | None = None,
) -> Any:
    """The plain data that was stored. `parts` gives for digests the pieces that each stands for, in their order; for
    one that is gone, nothing. `ArtifactUnreadable` if the bytes are no such data."""
    known: dict[bytes, Sequence[bytes]] = {}
    ahead = set(digests_in(body))
    while ahead:
        found = parts(ahead)
        known |= found
        ahead = {digest for chain in found.values() for piece in chain for digest in digests_in(piece)} - known.keys()

    return _values(body, _Joiner(known, contents).join)[0]


class _Joiner:
    """Puts pieces in the places of their digests. Damaged ones may name each other, over and over: what comes of them
    has an end all the same."""

    def __init__(self, known: Mapping[bytes, Sequence[bytes]], contents: Contents | None) -> None:
        self._known = known
        self._contents = contents
        self._left = MOST
        self._room = DEEPEST
        self._depth = 0

    def join(self, code: int, digest: bytes) -> Any:
        if code == SEALED:
            return self._unsealed(digest)
        chain = self._known.get(digest)
        if chain is None:
            return {TYPE: MISSING, "value": "no longer stored"}
        items: list[Any] = []
        for piece in chain:
            array = _inflated(piece)
            # As it was stored, each is worth so much at least.
            self._left -= max(len(array), len(piece)) + LONG
            if self._left < 0:
                raise ArtifactUnreadable("a stored input is too large to be shown")
            self._depth += 1
            # To look through long ones takes its time, and hardly any lies deeper.
            levels = nesting(array) + 1 if self._depth > 2 else 1
            self._room -= levels
            try:
                if self._room < 0:
                    raise ArtifactUnreadable("a stored input is nested too deeply to be shown")
                items += _unpacked(array, self.join)
            finally:
                self._room += levels
                self._depth -= 1
        if code == TEXT:
            # What cannot be shown of one page stands in the place of all.
            return next((page for page in items if type(page) is not str), None) or "".join(items)
        return items[0] if code == WHOLE else items

    def _unsealed(self, data: bytes) -> Any:
        contents = self._contents
        if contents is None or contents.keys is None:
            return {TYPE: MISSING, "value": "encrypted"}
        digests, codec, sealed = unpackb(data)
        return unpackb(contents.opened_item(digests, Sealed(codec, sealed)), ext_hook=self.join)


def _values(piece: bytes, join: Callable[[int, bytes], Any]) -> list[Any]:
    return _unpacked(_inflated(piece), join)


def _inflated(piece: bytes) -> bytes:
    try:
        return inflated(piece)
    except (ValueError, TypeError) as error:
        raise ArtifactUnreadable(f"a stored input does not decode: {error}") from error


def _unpacked(array: bytes, join: Callable[[int, bytes], Any]) -> list[Any]:
    try:
        values = unpackb(array, ext_hook=join)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ArtifactUnreadable(f"a stored input does not decode: {error}") from error
    if type(values) is not list or not values:
        raise ArtifactUnreadable("a stored input does not decode: its bytes are no list")
    return values
