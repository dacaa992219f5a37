"""Find the earlier call of a step that is most like a call, and say how the two differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import nlargest
from typing import Any, Final, NamedTuple

from musubito.deferred import deferred_pattern
from musubito.engine.code_diff import PartsOfCode
from musubito.engine.likeness import FLOOR, likeness, words_of
from musubito.reasons import ReplayReason
from musubito.store.queries import SimilarNode
from musubito.values.redaction import HIDDEN
from musubito.values.value_diff import Difference, differences, how_many, places_of

COMPARED: Final = 500
"""Earlier calls of a step that are compared at most."""
READ: Final = 50
"""Earlier calls whose inputs are read at most, to find the one that is most alike."""
VERSIONS: Final = 10
"""Versions of the code that are compared at most, to find the one that differs in the fewest parts."""
ENOUGH: Final = 2
"""Earlier calls that have to differ at the same place before that place counts as one that varies."""
MACHINE_MADE: Final = deferred_pattern(r"(?=.*\d)(?:\S|(?<=[\d\W])\s(?=[\d\W]))+")
"""Matches the text of a number, a time or an id: it has digits, and no words that stand apart."""
CODE, INPUT, PARENTS = "code", "input_hash", "parents"
ORDER: Final = (
    (CODE, INPUT, PARENTS),
    (CODE, INPUT),
    (INPUT, PARENTS),
    (CODE, PARENTS),
    (INPUT,),
    (CODE,),
    (PARENTS,),
    (),
)
"""Facts that an earlier call may share with a call, from the calls that are most alike to those that share nothing."""


class Nearest(NamedTuple):
    """The earlier call that is most like a call, and how the two differ.

    - `fields`: the places in the inputs that differ, if both inputs are stored.
    - `varies`: one place of the input differs in each of several earlier calls, and all the rest is equal.
    - `hidden`: the places in the input whose values are hidden, if no other place differs.
    """

    call: SimilarNode
    reason: ReplayReason
    fields: tuple[Difference, ...]
    varies: bool
    hidden: tuple[str, ...] = ()


def difference(this: SimilarNode, other: SimilarNode) -> ReplayReason:
    """Return the reason why a call was not replayed with the result of another one."""
    if this.code != other.code:
        return ReplayReason.CODE_CHANGED
    if this.input_hash != other.input_hash:
        return ReplayReason.INPUT_CHANGED
    # A later sample is asked for whatever the parents are, if the step may reuse results across parents.
    if this.parents != other.parents and this.sample <= other.sample:
        return ReplayReason.UPSTREAM_CHANGED
    return ReplayReason.VERSION_CHANGED if this.sample == other.sample else ReplayReason.ANOTHER_SAMPLE


def changed_names(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names whose values differ, in order."""
    return tuple(sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)))


def changed_arguments(before: SimilarNode, after: SimilarNode) -> tuple[str, ...]:
    """Return the names of the arguments that differ, in order.

    A hidden argument has no digest to compare. Hidden arguments are named if the inputs differ and no other argument
    does.
    """
    hidden = {name for call in (before, after) for name, digest in call.arguments.items() if not digest}
    seen = [{name: digest for name, digest in call.arguments.items() if name not in hidden} for call in (before, after)]
    names = changed_names(*seen)
    return names if names or before.input_hash == after.input_hash else tuple(sorted(hidden))


class Earlier:
    """The earlier calls of one step, given from the newest to the oldest."""

    def __init__(self, calls: Iterable[SimilarNode]) -> None:
        self._alike: defaultdict[tuple[Any, ...], list[SimilarNode]] = defaultdict(list)
        for call in calls:
            for facts in ORDER:
                self._alike[_shared(call, facts)].append(call)

    def reason(self, this: SimilarNode) -> ReplayReason:
        """Return the reason why a call ran: the difference from the nearest call, or that there is no earlier one."""
        near = self._candidates(this)
        return difference(this, near[0]) if near else ReplayReason.NODE_NOT_FOUND

    def alike(self, this: SimilarNode) -> list[SimilarNode]:
        """Return the calls that are most like a call, newest first, to be compared by their codes and their inputs.

        They share the most of code, input and parents. If they share the input, the newest of each code is enough.
        Otherwise the ones that share the most come first, and of those, whose arguments are the same.
        """
        near = self._candidates(this)
        if not near or near[0].input_hash == this.input_hash:
            return newest_of_codes(near)
        others = (call for call in self._alike[()] if call.node != this.node)
        return nlargest(
            READ,
            others,
            key=lambda call: (call.code == this.code, call.parents == this.parents, _count_same(this, call)),
        )

    def _candidates(self, this: SimilarNode) -> list[SimilarNode]:
        for facts in ORDER:
            # The clock of a short run may begin after its call did, so the call itself may be among these.
            near = [call for call in self._alike.get(_shared(this, facts), ()) if call.node != this.node]
            if near:
                # Of calls that share everything, one of the same sample differs in its version alone.
                return (facts == ORDER[0] and [call for call in near if call.sample == this.sample]) or near
        return []


class Reasons:
    """The reasons of the calls at some nodes, each compared with the nearest call that ran before a time.

    `calls` are calls of one step, from the newest to the oldest. `by_digests` are the reasons without a look at the
    inputs.
    """

    def __init__(self, calls: Sequence[SimilarNode], nodes: Collection[bytes], before: float) -> None:
        earlier = Earlier(call for call in calls if call.started_at is not None and call.started_at < before)
        self.by_digests: dict[bytes, ReplayReason] = {}
        self._compared: list[tuple[SimilarNode, list[SimilarNode]]] = []
        met: set[tuple[Any, ...]] = set()
        for call in reversed(calls):
            if call.node in nodes:
                reason = earlier.reason(call)
                # A run that is the first of all may ask for several samples: equal calls in it are no news.
                is_sample = reason is ReplayReason.NODE_NOT_FOUND and call.sample > 0 and _shared(call, ORDER[0]) in met
                self.by_digests[call.node] = ReplayReason.ANOTHER_SAMPLE if is_sample else reason
                if reason in (ReplayReason.CODE_CHANGED, ReplayReason.INPUT_CHANGED):
                    self._compared.append((call, earlier.alike(call)))
            met.add(_shared(call, ORDER[0]))
        self._compared = [(call, alike) for call, alike in self._compared if alike[0].input_hash != call.input_hash]

    def hashes(self) -> list[bytes]:
        """Return the hashes of the inputs that are compared."""
        return list({other.input_hash: None for call, alike in self._compared for other in (call, *alike)})

    def by_inputs(self, inputs: Iterable[Any]) -> dict[bytes, ReplayReason]:
        """Return the reasons, from the inputs with these hashes as a reader sees them, None for each not stored."""
        stored = zip(self.hashes(), inputs, strict=True)
        words = {digest: words_of(value) for digest, value in stored if value is not None}
        reasons = dict(self.by_digests)
        for call, alike in self._compared:
            like = _like(call, alike, words, floor_of(call))
            reasons[call.node] = difference(call, like[0][1]) if like else ReplayReason.NOTHING_LIKE_IT
        return reasons


def floor_of(call: SimilarNode) -> float:
    """Return how like an earlier call has to be, so that a call is no first question.

    What follows from the results of other steps is no question: it is compared in any case.
    """
    return 0.0 if call.parents else FLOOR


def newest_of_codes(calls: Sequence[SimilarNode]) -> list[SimilarNode]:
    """Return the newest call of each code, for the newest codes; `calls` and the result begin with the newest."""
    newest = {call.code: call for call in reversed(calls)}
    return [call for call in calls if newest[call.code] is call][:VERSIONS]


def of_closest_code(
    this: PartsOfCode, alike: Sequence[SimilarNode], codes: Mapping[bytes, PartsOfCode]
) -> list[SimilarNode]:
    """Return the calls whose code differs from `this` in the fewest parts, in their order."""
    parts = {name: digest for name, (digest, _) in this.items()}
    differ = {
        code: len(changed_names(parts, {name: digest for name, (digest, _) in codes[code].items()}))
        for code in {call.code for call in alike}
    }
    fewest = min(differ.values(), default=0)
    return [call for call in alike if differ[call.code] == fewest]


def nearest(
    this: SimilarNode,
    inputs: Mapping[bytes, Any],
    alike: Sequence[SimilarNode],
    codes: Mapping[bytes, PartsOfCode],
    floor: float,
    kin: Mapping[bytes, int],
) -> Nearest | None:
    """Return the call in `alike` that is most like a call; None if the likeness of none reaches `floor`.

    A call of the same code comes first, or of the code that differs in the fewest parts. Of these, it is the one with
    the most tags of its run in common (`kin`, by node), then with the most words, then the one whose input differs at
    the fewest places. `inputs` are those that are stored, as a reader sees them, by their hashes.
    """
    like = _like(this, alike, {digest: words_of(value) for digest, value in inputs.items()}, floor)
    if not like:
        return None
    if like[0][1].code != this.code:
        closest = of_closest_code(codes[this.code], [call for _, call in like], codes)
        like = [(share, call) for share, call in like if call in closest]
    ranks = [(kin.get(call.node, 0), share) for share, call in like]
    calls = [call for rank, (_, call) in zip(ranks, like, strict=True) if rank == max(ranks)]
    reason, given = difference(this, calls[0]), inputs.get(this.input_hash)
    pairs = [(call, inputs[call.input_hash]) for call in calls if call.input_hash in inputs]
    if given is None or not pairs or calls[0].input_hash == this.input_hash:
        return Nearest(calls[0], reason, (), varies=False)
    places = [how_many(value, given) for _, value in pairs]
    pairs = [pair for pair, number in zip(pairs, places, strict=True) if number == min(places)]
    call, value = pairs[0]
    fields = tuple(differences(value, given))
    varies = reason is ReplayReason.INPUT_CHANGED and _varies(given, fields, [value for _, value in pairs])
    hidden = () if fields else tuple(places_of(given, HIDDEN))
    return Nearest(call, reason, fields, varies, hidden)


def _like(
    this: SimilarNode, alike: Sequence[SimilarNode], words: Mapping[bytes, frozenset[str]], floor: float
) -> list[tuple[float, SimilarNode]]:
    """Return the calls whose likeness reaches `floor`, each after it; those of another code only if no other does.

    A call whose words are not known counts as just alike.
    """
    own, like = words.get(this.input_hash), []
    for call in alike:
        other = words.get(call.input_hash)
        share = floor if own is None or other is None else likeness(own, other)
        if share >= floor:
            like.append((share, call))
    return [pair for pair in like if pair[1].code == this.code] or like


def _shared(call: SimilarNode, facts: Collection[str]) -> tuple[Any, ...]:
    return tuple((fact, getattr(call, fact)) for fact in facts)


def _count_same(this: SimilarNode, other: SimilarNode) -> int:
    return len(this.arguments.items() & other.arguments.items())


def _varies(this: Any, fields: Sequence[Difference], inputs: Sequence[Any]) -> bool:
    """Return whether one place differs in each of several inputs, and the input holds more than that place.

    What a person may have asked differs by its nature. So the place has to hold a number or an id, such as a time.
    """
    if len(fields) != 1 or len(inputs) < ENOUGH or _leaves(this) < 2 or not MACHINE_MADE.fullmatch(fields[0].after):
        return False
    return all([field.path for field in differences(value, this)] == [fields[0].path] for value in inputs)


def _leaves(value: Any) -> int:
    """Return how many values that are not empty there are in plain data."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return sum(map(_leaves, parts)) if parts is not None else value is not None
