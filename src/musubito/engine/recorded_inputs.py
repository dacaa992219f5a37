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

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias

from ormsgpack import Ext, packb, unpackb

from musubito.errors import ArtifactUnreadable, InputError
from musubito.payloads.codec import Contents, Sealed
from musubito.store.part_codec import MOST, inflated, joined
from musubito.store.protocol import Readable
from musubito.store.rows import InputLine, Ledger, Part
from musubito.values.artifact_codec import nesting
from musubito.values.digest import digest_input
from musubito.values.display import TYPE, plain, with_secrets
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
MOST_AT_ONCE: Final = 1_000_000
"""Bytes of inputs that are written in one transaction."""


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
        return _line(self.execution, self.operation, self.input_hash, self._redacted(redact), contents)

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
        return _line(self.execution, self.operation, self.digest, value, contents)


def stored(execution: int, operation: str, input_hash: bytes, value: Any) -> InputLine:
    """Return the line for plain data. Raises TypeError for other data."""
    chains: list[Sequence[Part]] = []
    body = joined([packb(_shared(value, chains))])
    return InputLine(execution, operation, input_hash, body, chains)


def _line(execution: int, operation: str, digest: bytes, value: Any, contents: Contents) -> InputLine:
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


def _shared(value: Any, chains: list[Sequence[Part]]) -> Any:
    """Return the value with digests in place of its long parts, and add the parts to `chains`."""
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
            if size >= MOST_AT_ONCE:
                yield Ledger(ledger.namespace, (), (), [*lines, line._replace(body=b"", chains=chains)])
                lines, chains, size = [], [], 0
        lines.append(line._replace(chains=chains))
    if lines:
        yield Ledger(ledger.namespace, (), (), lines)


def stored_inputs(store: Readable, contents: Contents, operation: str, input_hashes: Sequence[bytes]) -> list[Any]:
    """Return the arguments of an operation's calls as plain data; None for each that is not stored.

    Damaged arguments are replaced by a text that says so. So a reader gets the rest of the data that it asked for.
    """
    of = {"namespace": contents.namespace, "operation": operation}
    answers = store.read([("input", {**of, "input_hash": input_hash}) for input_hash in input_hashes])
    return [_opened_input(store, contents, *rows[0]) if rows else None for rows in answers]


def _opened_input(store: Readable, contents: Contents, namespace: int, body: bytes) -> Any:
    try:
        return opened_in(store, namespace, body, contents)
    except ArtifactUnreadable as error:
        return {TYPE: MISSING, "value": str(error)}


def opened_in(store: Readable, namespace: int, body: bytes, contents: Contents | None = None) -> Any:
    """Return the plain data that was stored, from the parts that a store has in this namespace (see `opened`)."""

    def parts(digests: Collection[bytes]) -> Mapping[bytes, Sequence[bytes]]:
        wanted = list(digests)
        params = {"namespace": namespace, "most": MOST, "least": LONG}
        rows = store.read([("chain", {**params, "digest": digest}) for digest in wanted])
        chains = zip(wanted, rows, strict=True)
        # A chain without its beginning would come out as a shorter list.
        return {
            digest: [piece for piece, _ in reversed(chain)]
            for digest, chain in chains
            if chain and (chain[-1][1] is None or sum(len(piece) + LONG for piece, _ in chain) >= MOST)
        }

    return opened(body, parts, contents)


def digests_in(body: bytes) -> list[bytes]:
    """Return the digests that stand in a body, or in the items of a part."""
    result: list[bytes] = []

    def note(code: int, data: bytes) -> None:
        digests = unpackb(data)[0] if code == SEALED else data
        result.extend(digests[start : start + DIGEST] for start in range(0, len(digests), DIGEST))

    _values(body, note)
    return result


def opened(
    body: bytes,
    parts: Callable[[Collection[bytes]], Mapping[bytes, Sequence[bytes]]],
    contents: Contents | None = None,
) -> Any:
    """Return the plain data that was stored.

    `parts` returns the pieces of each digest, in their order, and nothing for a digest that is gone. Raises
    `ArtifactUnreadable` if the bytes are no such data.
    """
    chains: dict[bytes, Sequence[bytes]] = {}
    ahead = set(digests_in(body))
    while ahead:
        more = parts(ahead)
        chains |= more
        ahead = {digest for chain in more.values() for piece in chain for digest in digests_in(piece)} - chains.keys()

    return _values(body, _Joiner(chains, contents).join)[0]


@dataclass(slots=True, eq=False, repr=False)
class _Joiner:
    """Puts pieces in the places of their digests.

    Damaged pieces may name each other over and over. Their size and depth are limited, so that joining them ends.
    """

    _chains: Mapping[bytes, Sequence[bytes]]
    _contents: Contents | None
    _left: int = MOST
    _room: int = DEEPEST
    _depth: int = 0

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
