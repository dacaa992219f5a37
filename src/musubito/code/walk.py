"""Define what the describers need of a walk; `musubito.code.reachability` implements it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from types import FunctionType, ModuleType
from typing import Any, Protocol

from musubito.code.fixpoint_facts import FixpointFacts
from musubito.code.graph_record import Emptied, Namespace
from musubito.code.guard import Guard
from musubito.code.ownership import Owners
from musubito.code.state.access_reader import PlaceReader
from musubito.code.state.write_limits import WriteLimits


class Walk(Protocol):
    """One walk over all that a function reaches, as the functions see it that describe what is reached."""

    function: Callable[..., Any]
    owner: type | None
    """The class of the receiver, if the function is a method."""
    facts: FixpointFacts
    limits: WriteLimits
    guard: Guard
    read: PlaceReader
    origins: Owners
    live: bool
    """Whether code that can run leads to the thing that is being described."""
    outermost: bool
    """Whether no other walk has started this walk."""
    digest_apart: Callable[[Any], bytes]
    """Return the digest of a thing described for itself, wherever it is reached; nothing of that walk is kept."""
    released: Collection[str]
    """The modules of released packages that the step runs as its own."""
    unpatched: dict[int, type | ModuleType]
    """The classes and modules of packages that were searched for the user's code, by id."""
    reached: dict[tuple[str, str], list[type]]
    """The user's classes, by module and qualified name."""
    steps: set[str]
    """Names of the steps that were reached."""
    met: list[Any]
    """Objects of the classes that an adapter has registered."""
    counting: dict[int, Any]
    """Things held by packages that can be identified with all that they hold, by id."""
    not_counting: dict[int, tuple[Any, bool]]
    """Things held by packages that cannot be identified, by id, each with whether it holds too much."""
    others: set[str]
    """The packages of others that the code reaches: they count by names."""
    modules: set[str]
    """The full names of other packages' modules that the code names, and of attributes that may be modules."""
    owners: dict[int, tuple[type, bool]]
    """Functions that are methods, by id: the class, and whether the receiver is the class itself."""
    unreadable: set[str]
    """The names of databases in memory whose content cannot be read."""
    unseen: set[str]
    """One sentence for each thing that functions read and that the walk cannot follow."""

    # -- references ----------------------------------------------------------------------------------------------------
    def link(
        self,
        value: Any,
        name: str,
        *,
        member: bool = False,
        runs: bool = True,
        whole: bool = True,
        shown: bool = False,
    ) -> bytes:
        """Return a reference to `value`: plain data is written out, anything else is numbered and described later.

        - `member`: a function that is reached through the receiver of the step.
        - `runs`: false if no code that can run seems to use the value.
        - `whole`: false if code reaches only fields of the object, by their names.
        - `shown`: the value is reached only to be shown.
        """

    def links(self, pairs: Iterable[tuple[Any, Any]], name: str) -> list[tuple[str, bytes]]:
        """Return references, with their labels, to several things that a thing called `name` leads to."""

    def constant(self, value: Any, name: str, *, runs: bool = True, whole: bool = True, shown: bool = False) -> bytes:
        """Return a reference to a value that is bound to a name; plain data becomes a part of its own."""

    def part_name(self, value: Any, name: str) -> str:
        """Return the name of a part.

        Functions, classes and modules have names of their own. Anything else gets `name`, which says where it is bound.
        """

    def namespace(self, names: dict[str, Any]) -> Namespace:
        """Return the one `Namespace` that stands for these globals."""

    def emptied(self, container: Any) -> Emptied:
        """Return the one `Emptied` that stands for this container."""

    def original(self, value: Any, reader: FunctionType | None = None, name: str = "") -> Any:
        """Return the thing that `value` is a copy of, if that was met, else `value`.

        A function is looked up by its own name, an object by the name under which code reads it.
        """

    # -- what the walk is told -----------------------------------------------------------------------------------------
    def note_link(self, value: Any) -> None:
        """Note that the thing that is being described leads to `value`."""

    def note_call(self, value: Any) -> None:
        """Note that code which can run calls `value`."""

    def note_request(self, kind: str, what: str) -> None:
        """Note a request of the function that is being described, whose answer differs each time."""

    def note_state(self, name: str) -> None:
        """Note that the reached code itself writes the place of this name."""

    def note_client(self, value: Any) -> None:
        """Note that `value` connects, runs or locks: as far as it is small, the things that it holds are settings."""

    def note_untracked(self, name: str, value: Any) -> None:
        """Note that `value` counts by its type alone."""

    def note_unidentified(self, name: str, value: Any) -> None:
        """Note that `value` is data and yet counts by its type alone."""

    def note_missing(self, module: str, error: BaseException) -> None:
        """Note that a module which the user's code imports cannot be described, because its import fails."""

    # -- what the walk knows -------------------------------------------------------------------------------------------
    def enters(self, container: Any) -> bool:
        """Return whether to enter a container that cannot be identified: it is small, and this is the first time."""

    def is_within_client(self) -> bool:
        """Return whether a client led to the thing that is being described."""

    def is_unsettled(self, value: Any) -> bool:
        """Return whether other threads change `value` faster than it can be walked, so that this walk leaves it out."""

    def is_shown(self, value: Any) -> bool:
        """Return whether `value` is reached only to be shown."""
