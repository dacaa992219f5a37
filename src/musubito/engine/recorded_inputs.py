"""Store the inputs of calls for readers, and share the parts that they have in common.

An input is packed as msgpack. A long list in it is replaced by the digest of a chain, with one part for each item. The
digest of a part covers all items up to that part. So a list that has grown shares all but its tail with the shorter
list. A very long text is a chain of its pages. A long dict or text is a chain of one part. A reader asks for the
digests that it meets, from the outside in.

    body                          {"state": {"messages": Ext(LIST, digest of the third)}}
    chain   hello  <-  hi there  <-  and now?          each part names the one before it

No replay needs anything of this. It is made when the history is written, and slows down no call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias

from ormsgpack import Ext, packb, unpackb

from musubito.errors import ArtifactUnreadable, InputError
from musubito.payloads.codec import Contents, Sealed
from musubito.store.part_codec import MOST, inflated, joined
from musubito.store.protocol import NamedQuery, Readable, Row
from musubito.store.rows import InputLine, Ledger, Part
from musubito.values.artifact_codec import nesting
from musubito.values.digest import digest_input
from musubito.values.display import TYPE, KnownRecord, KnownRecords, plain, plain_with_records, with_secrets
from musubito.values.recent_cache import RecentCache
from musubito.values.redaction import scrubbed

Redact: TypeAlias = Callable[[str, Any], Any]
"""A function of an operation's name and a call's arguments as plain data. It returns the data to store of them."""

LIST: Final = 1
"""The msgpack type of a long list's digest."""
WHOLE: Final = 2
"""The msgpack type of the digest of a long dict, text or vector."""
MISSING: Final = "..."
"""The type of a value that stands in place of one that cannot be shown, and says why."""
SEALED: Final = 3
"""The msgpack type of an encrypted item: the digests in it, its codec and its sealed bytes."""
TEXT: Final = 4
"""The msgpack type of a very long text's digest."""
LONG: Final = 512
"""Packed bytes from which on a list, dict or text is shared."""
PAGE: Final = 2048
"""Characters of a page. A longer text, such as the transcript that a loop adds to, is shared in pages of this size."""
DIGEST: Final = 16
"""Bytes of a part's digest."""
DEEPEST: Final = 3000
"""Levels that may be open at once. Parts hold msgpack of their own, which ormsgpack reads on the C stack."""
MAX_AT_ONCE: Final = 1_000_000
"""Bytes of inputs that are written in one transaction."""


MAX_KEPT: Final = 4 * 1024 * 1024
"""Bytes of the records that are kept."""
_RECORDS: Final[KnownRecords] = RecentCache(MAX_KEPT)

PATH: Final = "file"
CONTENT: Final = "text"
"""The keys of a file's path and of its text in the stored value."""


class CallInputs(NamedTuple):
    """The input of a call, as it was hashed."""

    execution: int
    operation: str
    input_hash: bytes
    packed: bytes
    texts: Mapping[bytes, str]

    def line(self, redact: Redact | None, contents: Contents) -> InputLine:
        """Return the input as it is stored. Raises the errors of `redact`."""
        is_as_kept = redact is None  # a redaction may change what it is given
        value = plain_with_records(self.packed, self.texts, _RECORDS) if is_as_kept else self._redacted(redact)
        return line_of(self.execution, self.operation, self.input_hash, value, contents)

    def as_stored(self, redact: Redact | None) -> Any:
        """Return the input as a reader would see it; None if nothing would be stored."""
        try:
            return unpackb(packb(self._redacted(redact)))
        except Exception:  # a redaction may raise or return anything
            return None

    def _redacted(self, redact: Redact | None) -> Any:
        value = plain(self.packed, self.texts)
        return value if redact is None else redact(self.operation, value)


def arguments_as_stored(redact: Redact | None, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a function inside a step without what `redact` or the look of a secret hides.

    The arguments are returned as they are if nothing in them is hidden. Nothing is left of arguments that cannot be
    shown, or of which `redact` leaves no dict.
    """
    try:
        argument_digest = digest_input(operation, arguments)
    except InputError:
        return {}
    shown = CallInputs(0, operation, argument_digest.digest, argument_digest.packed, argument_digest.texts).as_stored(
        redact
    )
    if type(shown) is not dict:
        return {}
    return arguments if shown == with_secrets(argument_digest.packed, argument_digest.texts) else shown


class FileText(NamedTuple):
    """A text that an execution read from a file, kept beside its input under the digest of the read."""

    execution: int
    operation: str
    digest: bytes
    path: str
    text: str

    def line(self, redact: Redact | None, contents: Contents) -> InputLine:
        """Return the text as it is stored. Raises the errors of `redact`."""
        value: Any = {PATH: self.path, CONTENT: scrubbed(self.text)}
        if redact is not None:
            value = redact(self.operation, value)
        return line_of(self.execution, self.operation, self.digest, value, contents)


def stored(execution: int, operation: str, input_hash: bytes, value: Any) -> InputLine:
    """Return the line for plain data. Raises TypeError for other data."""
    chains: list[Sequence[Part]] = []
    body = joined([packb(_shared(value, chains))])
    return InputLine(execution, operation, input_hash, body, chains)


def line_of(execution: int, operation: str, digest: bytes, value: Any, contents: Contents) -> InputLine:
    """Return the line for plain data, encrypted if the namespace is."""
    line = stored(execution, operation, digest, value)
    return line if contents.keys is None else _encrypted(line, contents)


def _encrypted(line: InputLine, contents: Contents) -> InputLine:
    """Return the same line with each item encrypted.

    Only the digests in an item stay readable, keyed like all others. So parts that nothing refers to can be removed
    without the key.
    """
    assert contents.keys is not None  # noqa: S101 - the caller has looked
    keyed = contents.keys.digest("part")

    def short(digest: bytes) -> bytes:
        return keyed(digest)[:DIGEST]

    def encrypted(item: bytes) -> bytes:
        digests = b""

        def rename(code: int, digest: bytes) -> Ext:
            nonlocal digests
            digests += short(digest)
            return Ext(code, short(digest))

        packed = packb(unpackb(item, ext_hook=rename))
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


def resealed(body: bytes, contents: Contents) -> bytes | None:
    """Return an encrypted body, or pieces of a part, sealed with the newest key; None if all of it is so already.

    Raises `ArtifactUnreadable` if it cannot be opened.
    """
    is_changed = False

    def renew(code: int, data: bytes) -> Ext:
        nonlocal is_changed
        if code != SEALED:
            return Ext(code, data)
        digests, codec, item = unpackb(data)
        new = contents.resealed(codec, digests, item)
        is_changed = is_changed or new is not None
        return Ext(code, data if new is None else packb([digests, codec, new]))

    items = _values(body, renew)
    return joined([packb(item) for item in items]) if is_changed else None


def _shared(value: Any, chains: list[Sequence[Part]]) -> Any:
    """Return the value with digests in place of its long parts, and add the parts to `chains`."""
    if type(value) is KnownRecord:
        if value.made is None:
            its_chains: list[Sequence[Part]] = []
            value.made = _shared(value.shown, its_chains), its_chains
        shared, its_chains = value.made
        chains += its_chains
        return shared
    if type(value) is dict:
        value = {key: _shared(part, chains) for key, part in value.items()}
    elif type(value) is list:
        return _listed(value, chains)
    elif type(value) is not str or len(value) < LONG:
        return value
    elif len(value) > PAGE:
        pages = [packb(value[start : start + PAGE]) for start in range(0, len(value), PAGE)]
        return Ext(TEXT, _digest_of_chain(b"text", pages, chains))
    return _whole(value, chains)


def _whole(value: Any, chains: list[Sequence[Part]]) -> Any:
    packed = packb(value)
    if len(packed) < LONG:
        return value
    part = Part(sha256(b"whole" + packed).digest()[:DIGEST], None, packed)
    chains.append([part])
    return Ext(WHOLE, part.digest)


def _listed(items: list[Any], chains: list[Sequence[Part]]) -> Any:
    if all(map(_is_number, items)):
        # A vector: nobody appends to it, and it may hold thousands of numbers.
        return _whole(items, chains)
    shared = [_shared(item, chains) for item in items]
    bodies = [packb(item) for item in shared]
    if sum(map(len, bodies)) < LONG:
        return shared
    return Ext(LIST, _digest_of_chain(b"list", bodies, chains))


def _digest_of_chain(kind: bytes, bodies: list[bytes], chains: list[Sequence[Part]]) -> bytes:
    """Return the digest of all items, of which there is at least one."""
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
    """Yield the same lines as several short writes, so that a large input keeps nobody else from writing."""
    yield ledger._replace(inputs=())
    lines: list[InputLine] = []
    size = 0
    for line in ledger.inputs:
        chains: list[Sequence[Part]] = []
        for chain in line.chains:
            chains.append(chain)
            size += sum(len(part.body) for part in chain)
            if size >= MAX_AT_ONCE:
                yield Ledger(ledger.namespace, (), (), [*lines, line._replace(body=b"", chains=chains)])
                lines, chains, size = [], [], 0
        lines.append(line._replace(chains=chains))
    if lines:
        yield Ledger(ledger.namespace, (), (), lines)


class InputName(NamedTuple):
    """The name of a stored input.

    With `operation` None, it is the text of a file under this digest, which any operation has read.
    """

    contents: Contents
    operation: str | None
    input_hash: bytes


def input_query(name: InputName) -> NamedQuery:
    """Return the query for the body of a stored input, and the number of its namespace."""
    contents, operation, input_hash = name
    return "input", {"namespace": contents.namespace, "operation": operation, "input_hash": input_hash}


def stored_inputs(store: Readable, names: Sequence[InputName], answers: Sequence[list[Row]]) -> Iterator[Any]:
    """Yield the arguments of calls as plain data, from the answers to `input_query`; None for each that is not stored.

    Damaged arguments are replaced by a text that says so. So a reader gets the rest of the data that it asked for. The
    parts of all inputs are read together, and each is made into plain data when it is asked for.
    """
    found = [(name, rows[0]) for name, rows in zip(names, answers, strict=True) if rows]
    data = iter(opened_in(store, [StoredBody(name.contents, *row) for name, row in found]))
    for rows in answers:
        try:
            yield next(data)() if rows else None
        except ArtifactUnreadable as error:
            yield {TYPE: MISSING, "value": str(error)}


class StoredBody(NamedTuple):
    """The body of a stored input, and what its parts are found and read with."""

    contents: Contents | None
    namespace: int
    body: bytes


PartName: TypeAlias = tuple[int, bytes]
"""The number of a namespace, and the digest of a part in it."""


def opened_in(store: Readable, bodies: Sequence[StoredBody]) -> list[Callable[[], Any]]:
    """Return functions for the plain data that was stored, from the parts that a store has (see `opened`)."""
    known: dict[PartName, tuple[bytes | None, bytes]] = {}

    def parts(names: set[PartName]) -> Mapping[PartName, Sequence[bytes]]:
        wanted: defaultdict[int, list[bytes]] = defaultdict(list)
        for namespace, digest in names - known.keys():
            if len(digest) == DIGEST:  # others are damaged
                wanted[namespace].append(digest)
        answers = store.read(
            [("chains", {"namespace": number, "digests": b"".join(digests)}) for number, digests in wanted.items()]
        )
        for namespace, rows in zip(wanted, answers, strict=True):
            known.update(((namespace, digest), (before, body)) for digest, before, body in rows)
        chains = {name: _chain(known, name) for name in names}
        return {name: chain for name, chain in chains.items() if chain}

    return opened(bodies, parts)


def _chain(known: Mapping[PartName, tuple[bytes | None, bytes]], last: PartName) -> list[bytes]:
    """Return the pieces of a chain; nothing if its beginning is gone, since it would come out as a shorter list."""
    pieces: list[bytes] = []
    before: bytes | None
    namespace, before = last
    left = MOST
    while before is not None and left > 0:
        # A damaged chain may come back to itself.
        if (namespace, before) not in known or len(pieces) == len(known):
            return []
        before, body = known[namespace, before]
        pieces.append(body)
        left -= len(body) + LONG
    return pieces[::-1]


def digests_in(body: bytes) -> list[bytes]:
    """Return the digests that stand in a body, or in the items of a part."""
    result: list[bytes] = []

    def note(code: int, data: bytes) -> None:
        digests = unpackb(data)[0] if code == SEALED else data
        result.extend(digests[start : start + DIGEST] for start in range(0, len(digests), DIGEST))

    _values(body, note)
    return result


def opened(
    bodies: Sequence[StoredBody], parts: Callable[[set[PartName]], Mapping[PartName, Sequence[bytes]]]
) -> list[Callable[[], Any]]:
    """Return functions, one for each body, that return the plain data that was stored.

    Such a function raises `ArtifactUnreadable` if the bytes are no such data. `parts` returns the pieces of each
    digest, in their order, and nothing for a digest that is gone. It is asked for those of all bodies together, from
    the outside in.
    """
    chains: defaultdict[int, dict[bytes, Sequence[bytes]]] = defaultdict(dict)
    ahead = {(body.namespace, digest) for body in bodies for digest in digests_if_any(body.body)}
    seen: set[tuple[int, bytes]] = set()
    while ahead:
        more = parts(ahead)
        for (namespace, digest), chain in more.items():
            chains[namespace][digest] = chain
        pieces = {(namespace, piece) for (namespace, _), chain in more.items() for piece in chain} - seen
        seen |= pieces
        inner = {(namespace, digest) for namespace, piece in pieces for digest in digests_if_any(piece)}
        ahead = {name for name in inner if name[1] not in chains[name[0]]}
    return [partial(_opened, chains[body.namespace], body) for body in bodies]


def _opened(chains: Mapping[bytes, Sequence[bytes]], body: StoredBody) -> Any:
    return _values(body.body, _Joiner(chains, body.contents).join)[0]


def digests_if_any(body: bytes) -> list[bytes]:
    """Return the digests in a body; none if it is damaged, since that is told when the body is opened."""
    try:
        return digests_in(body)
    except ArtifactUnreadable:
        return []


class _Joiner:
    """Puts pieces in the places of their digests.

    Damaged pieces may name each other over and over. Their size and depth are limited, so that joining them ends.
    """

    def __init__(self, chains: Mapping[bytes, Sequence[bytes]], contents: Contents | None) -> None:
        self._chains = chains
        self._contents = contents
        self._left: int = MOST
        self._room: int = DEEPEST
        self._depth = 0

    def join(self, code: int, digest: bytes) -> Any:
        if code == SEALED:
            return self._unsealed(digest)
        chain = self._chains.get(digest)
        if chain is None:
            return {TYPE: MISSING, "value": "no longer stored"}
        items: list[Any] = []
        for piece in chain:
            array = _inflated(piece)
            # Each stored piece counts for at least `LONG` bytes, so that even empty pieces reach the limit.
            self._left -= max(len(array), len(piece)) + LONG
            if self._left < 0:
                raise ArtifactUnreadable("a stored input is too large to be shown")
            self._depth += 1
            # A look through long pieces takes time, and hardly any piece lies deeper.
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
            # If one page cannot be shown, its notice stands in place of the whole text.
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
