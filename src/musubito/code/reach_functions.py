"""Describe the user's functions that a walk reaches: their code, what it names, and what they hold."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

from musubito.code.classes import annotations_of, functions_below
from musubito.code.live import ABSENT
from musubito.code.made import were_sent
from musubito.code.ownership import Owner, module_of
from musubito.code.parts import CodePart
from musubito.code.reach_names import PLACES
from musubito.code.reached import ReachedFunction
from musubito.code.syntax.annotation_text import annotation_nodes
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.name_usage import ANNOTATION_READERS, DOC_READERS, SOURCE_READERS, NameRead, Root
from musubito.code.syntax.resolution import resolve
from musubito.code.syntax.statements import names_used
from musubito.code.values import is_mock_class
from musubito.code.world import environment

if TYPE_CHECKING:
    from musubito.code.walk import Walk


class FunctionDescriber:
    """Describes the functions that one walk reaches."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.reached: dict[int, ReachedFunction] = {}
        """The functions by their ids."""

    def reach(self, function: FunctionType, *, handed: bool = False, shown: bool = False) -> str:
        """Let a function of the user's count, and return the name of its part."""
        reached = self.reached.get(id(function))
        if reached is None:
            if (mock := function.__dict__.get("mock")) is not None and is_mock_class(type(mock)):
                self.walk.note_mock(function.__qualname__)
            reached = self._original(function)
        if reached is None:
            name = self.walk.graph.unique(f"{module_of(function)}.{function.__code__.co_qualname}")
            reached = self.reached[id(function)] = ReachedFunction(name, function)
        if not (shown or reached.is_used):
            reached.is_used = True
            self.walk.pending.append(functools.partial(self._describe, reached))
        if (shown or handed) and not reached.shows_signature:
            self.walk.pending.append(functools.partial(self._show_signature, reached))
        return self.walk.graph.lead_to(reached.name)

    def _original(self, function: FunctionType) -> ReachedFunction | None:
        """Return a reached function of which this is a copy: one that was sent from another process.

        Each thing that is sent has copies of the globals that it names.
        """
        if function.__closure__ or not were_sent(function.__globals__):
            return None
        return next((other for other in self.reached.values() if other.function.__code__ == function.__code__), None)

    def show_signatures(self) -> None:
        """Let the docstrings and the annotations of all functions count."""
        for reached in list(self.reached.values()):
            self._show_signature(reached)

    def _show_signature(self, reached: ReachedFunction) -> None:
        """Let the docstring and the annotations of a function count: others may read them."""
        if reached.shows_signature:
            return
        reached.shows_signature = True
        self.walk.graph.at, function = reached.name, reached.function
        self.walk.guard.attribute(function, "__doc__", function.__doc__)
        self._refer_defaults(reached)
        source = text_of(function).source
        if source is not None and hasattr(source.node, "returns"):
            for node in annotation_nodes(source.node):  # type: ignore[arg-type]
                reached.references += self.walk.names.refer_names(names_used(node), function.__globals__)
        for name, annotation in annotations_of(function).items():
            if not isinstance(annotation, str):
                reached.references.append(tokens(name, "annotation") + self.walk.values.of_type(annotation))

    def _describe(self, reached: ReachedFunction) -> None:
        function, name = reached.function, reached.name
        self.walk.graph.at = name
        self.walk.guard.attribute(function, "__code__", function.__code__)
        text = text_of(function)
        usage = text.scan
        self.walk.mentioned.update(usage.mentions)
        self.walk.acted |= usage.acted
        self.walk.entered |= usage.entered
        self.walk.stores |= usage.stores
        self.walk.reads_all_fields |= usage.reads_fields
        self.walk.lists_shown |= usage.lists_shown
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
        handed = self._handed(function, usage.handed)
        for read in self._handed(function, usage.made):
            made = resolve(function, read)
            if made.rest or not issubclass(type(made.value), type):
                continue
            if self.walk.origins.of_class(made.value) is Owner.USER:
                self.walk.of_classes.reach(made.value, whole=True)
        references = reached.references
        for read in sorted(usage.reads, key=lambda read: (read.root.value, read.name, read.attributes)):
            label = tokens(".".join((read.name, *read.attributes)))
            is_handed, shown = read in handed, read.name in usage.shown
            match read.root:
                case Root.GLOBAL:
                    if read.name not in PLACES:
                        found = self.walk.names.follow_global(
                            function.__globals__, read.name, read.attributes, is_handed, shown
                        )
                        references.append(label + found)
                case Root.CLOSURE:
                    references.append(label + self.walk.names.follow_cell(reached, cells, read, is_handed, shown))
                case Root.IMPORT:
                    references.append(label + self.walk.names.follow_import(function, read, is_handed, shown))
                case _:
                    pass  # members of the receiver's class count because they are mentioned
        if usage.dynamic:
            self.walk.names.refer_all(function.__globals__)
        for read in usage.computed:
            value = resolve(function, read).value
            if isinstance(value, ModuleType) and self.walk.origins.of_module(value) is Owner.USER:
                self.walk.names.refer_all(value.__dict__)
        self.walk.lines.refer_environment(name, *environment.variables_read(function, text))
        self._refer_defaults(reached)
        self._refer_fields(reached)

    def _handed(self, function: FunctionType, pairs: Iterable[tuple[NameRead, NameRead | None]]) -> set[NameRead]:
        """Return the reads whose values the function hands to code of packages, or to code without a name."""
        result: set[NameRead] = set()
        for read, callee in pairs:
            if callee is not None and callee.root not in (Root.RECEIVER, Root.SUPER):
                called = resolve(function, callee)
                if not called.rest and self.walk.is_users(called.value):
                    continue
            elif callee is not None:
                continue
            result.add(read)
            end, rest = resolve(function, read)
            for attribute in rest:
                end = inspect.getattr_static(end, attribute, ABSENT)
            # Of a property the value is handed on, and not its function.
            is_code = functions_below(end) and not isinstance(end, property | functools.cached_property)
            if rest and (isinstance(end, dict | list | tuple | set) or is_code):
                self.walk.values.hand_on(end)
            if read.root is Root.RECEIVER and not read.attributes:
                self._hand_on_receiver(function)
        return result

    def _hand_on_receiver(self, function: FunctionType) -> None:
        """Let all members and fields count of the classes whose methods hand their receiver on."""
        place = function.__code__.co_qualname.rpartition(".")[0]
        for reached in list(self.walk.classes.values()):
            if any(base.__qualname__ == place for base in reached.cls.__mro__):
                self.walk.of_classes.hand_on(reached)
        self.walk.values.handed_places.add(place)

    def _refer_defaults(self, reached: ReachedFunction) -> None:
        function = reached.function
        self.walk.guard.attribute(function, "__defaults__", function.__defaults__)
        self.walk.guard.attribute(function, "__kwdefaults__", function.__kwdefaults__)
        code, defaults = function.__code__, function.__defaults__ or ()
        positional = zip(code.co_varnames[: code.co_argcount][-len(defaults) :], defaults, strict=False)
        for parameter, value in [*positional, *sorted((function.__kwdefaults__ or {}).items())]:
            name = f"{reached.name}(default {parameter})"
            made = functools.partial(self.walk.lines.of_default, function, parameter, value)
            reached.references.append(tokens(parameter) + self.walk.refer(value, name, made))

    def _refer_fields(self, reached: ReachedFunction) -> None:
        """Refer to the attributes that were set on a function, and to what it wraps."""
        fields = reached.function.__dict__
        if not fields:
            return
        self.walk.guard.attribute(reached.function, "__dict__", fields)
        wrapped = fields.get("__wrapped__")
        copied = wrapped.__dict__.keys() if type(wrapped) is FunctionType and not self.walk.is_users(wrapped) else ()
        for field in sorted(fields):
            value = fields[field]
            if field.startswith("__musubito") or (field in copied and field != "__wrapped__"):
                continue
            self.walk.guard.item(fields, field, value)
            made = functools.partial(self.walk.lines.of_attribute, reached.function, field, value)
            reached.references.append(tokens(field) + self.walk.refer(value, f"{reached.name}.{field}", made))

    def parts(self) -> Iterator[CodePart]:
        """Yield the parts of all functions."""
        reads_signatures, reads_source = self.walk.reads(ANNOTATION_READERS), self.walk.reads(SOURCE_READERS)
        reads_docs = reads_signatures or self.walk.reads(DOC_READERS)
        for reached in self.reached.values():
            own = self._own(reached, docs=reads_docs, signature=reached.shows_signature or reads_signatures)
            source = text_of(reached.function).source
            if reads_source and source is not None:
                own += tokens("text", source.text)
            yield reached.part(own, None if source is None else source.text)

    def _own(self, reached: ReachedFunction, *, docs: bool, signature: bool) -> bytes:
        """Return what a function says: its normal form, or its signature alone if it is only shown."""
        function, code = reached.function, reached.function.__code__
        own = tokens("function" if reached.is_used else "shown function")
        if reached.is_used:
            own += text_of(function).normal(code, docs=docs, signature=signature)
        else:
            starred = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
            number = code.co_argcount + code.co_kwonlyargcount + starred.bit_count()
            own += tokens(code.co_argcount, starred, *code.co_varnames[:number])
        if signature or docs or not reached.is_used:
            doc = function.__doc__
            own += tokens(inspect.cleandoc(doc) if isinstance(doc, str) else None)
            own += tokens(function.__name__ if function.__name__ != function.__code__.co_name else "")
        return own
