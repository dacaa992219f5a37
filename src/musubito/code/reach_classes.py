"""Describe the user's classes that a walk reaches, by their text and by the members that count."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, ModuleType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any, Final

from musubito.code.annotations import classes_in
from musubito.code.classes import (
    UNUSED,
    annotations_of,
    functions_below,
    is_generated,
    is_schema,
    overrides,
    shows_docstring,
)
from musubito.code.client_settings import counts, is_settings
from musubito.code.live import ABSENT, ATOMS, step_of
from musubito.code.made import lines_around, lines_of_global, lines_of_method, were_sent
from musubito.code.ownership import Owner, counted_name, module_name, module_of
from musubito.code.parts import CodePart
from musubito.code.reached import Member, ReachedClass
from musubito.code.syntax.ast_digest import tokens
from musubito.code.syntax.class_statement import ClassText, class_level, class_text
from musubito.code.syntax.name_usage import DOC_READERS
from musubito.code.syntax.scopes import mangled
from musubito.code.syntax.statements import names_used, statements_by_name
from musubito.code.world import environment
from musubito.values.class_names import module_of_class, qualified_name, was_sent

if TYPE_CHECKING:
    from musubito.code.walk import Walk
DERIVED: Final = frozenset({"__annotate__", "__annotate_func__", "_is_protocol", "_is_runtime_protocol"})
"""Members that Python derives from the others."""
IN_C: Final = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)
"""Types of functions that are not written in Python."""
CONSTRUCTORS: Final = frozenset({"__init__", "__new__", "__post_init__", "__attrs_post_init__"})
"""Methods that run only if the reached code makes instances of the class."""
MAKES: Final = frozenset({"__class__", "replace"})
"""Names by which code makes an instance of a class that it does not name."""


class ClassDescriber:
    """Describes the classes that one walk reaches."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.reached: dict[int, ReachedClass] = {}
        """The classes by their ids."""
        self.by_name: dict[tuple[str, str], list[type]] = {}
        """The classes by module and qualified name."""

    def reach(self, cls: type, *, whole: bool = False, named: bool = False) -> str:
        """Let a class of the user's count, and return the name of its part."""
        reached = self.reached.get(id(cls))
        if reached is None:
            alike = self.by_name.setdefault(qualified_name(cls), [])
            alike.append(cls)
            name = self.walk.graph.unique(f"{module_name(cls)}.{qualified_name(cls)[1]}")
            reached = self.reached[id(cls)] = ReachedClass(name, cls)
            self.walk.pending.append(functools.partial(self._describe, reached))
        whole = whole or bool(self.walk.values.handed_places.intersection(base.__qualname__ for base in cls.__mro__))
        if whole:
            self.hand_on(reached)
        if named and not reached.is_named:
            reached.is_named = True
            for base in cls.__mro__[1:]:
                if self.walk.origins.of_class(base) is Owner.USER:
                    self.reach(base, named=True)
        return self.walk.graph.lead_to(reached.name)

    def hand_on(self, reached: ReachedClass) -> None:
        """Let all members of a class count, and those of its bases and of the classes that its statement names."""
        if not reached.whole:
            reached.whole = True
            self.walk.values.forget(reached.cls)
            for other in (*reached.cls.__mro__[1:], *reached.named):
                if self.walk.origins.of_class(other) is Owner.USER:
                    self.reach(other, whole=True)

    def _describe(self, reached: ReachedClass) -> None:
        cls, members = reached.cls, vars(reached.cls)
        self.walk.graph.at = reached.name
        self.walk.guard.attribute(cls, "__bases__", cls.__bases__)
        text = class_text(cls)
        names = self._names_around(cls)
        if were_sent(names):
            fields = annotations_of(cls).values()
            for other in (
                *cls.__mro__,
                *itertools.chain.from_iterable(classes_in(field, names, {}) for field in fields),
            ):
                if other.__module__ == cls.__module__:
                    names.setdefault(other.__name__, other)
        for base in (*cls.__bases__, *([type(cls)] if type(cls) is not type else [])):
            if self.walk.origins.of_class(base) is Owner.USER:
                reached.references.append(tokens("base", self.reach(base, whole=reached.whole)))
            else:
                self.walk.note_package(module_name(base))
                reached.references.append(tokens("base", *counted_name(base)))
        if text is not None:
            reads = [read for node in class_level(text) for read in names_used(node)]
            named = [read for read in reads if read[0] not in members]
            reached.references += self.walk.names.refer_names(named, names)
            self.walk.mentioned.update(read[0] for read in reads if read[0] in members)
            values = [_resolve(names, *read) for read in named] if is_schema(cls) else []
            reached.named = [value for value in values if isinstance(value, type) and value is not cls]
            for other in reached.named if reached.whole else ():
                if self.walk.origins.of_class(other) is Owner.USER:
                    self.reach(other, whole=True)
            local = {name for name, _ in named if name not in names}
            if (lines := lines_around(text.file, text.node, local, names)) is not None:
                self.walk.lines.refer(reached.name, lines)
        else:
            for name, annotation in sorted(annotations_of(cls).items()):
                shown = annotation if isinstance(annotation, str) else self.walk.values.of_type(annotation)
                reached.references.append(tokens(name, shown))
            if lines := self.walk.lines.of_object(cls) or lines_of_global(names, cls.__name__):
                self.walk.lines.refer(reached.name, lines)  # `create_model(...)`, `Page[Item]`
        if is_settings(cls):
            variables, unseen = environment.settings_variables(cls, functools.partial(counts, self.walk))
            self.walk.lines.refer_environment(reached.name, variables, ())
            if unseen:
                self.walk.not_followed.add(f"{reached.name}: settings that come from {', '.join(unseen)}")
        for name, member in list(members.items()):
            waits = self._member(cls, text, name, member)
            # Special members that are no functions stand in the text, or are derived from the others.
            is_function = waits.functions or waits.is_made
            if name not in UNUSED and name not in DERIVED and (is_function or not name.startswith(("__", "_abc_"))):
                reached.waiting[name] = waits
        self.walk.guard.members(cls, tuple(members.values()), reached.name)
        self._take_members(reached)

    def _member(self, cls: type, text: ClassText | None, name: str, value: Any) -> Member:
        functions = functions_below(value)
        if functions and all(is_generated(self.walk.origins, function, text) for function in functions):
            return Member(value, [], is_value=False, is_called=False)
        is_called = (name.startswith("__") and name.endswith("__")) or (text is not None and name in text.registered)
        is_value = not functions and self._is_value(value, text is None)
        is_made = not (functions or is_value) and text is not None and name in text.methods
        is_called = (bool(functions) or is_made) and (is_called or overrides(self.walk.origins, cls, name))
        return Member(value, functions, is_value, is_called, is_made)

    def _names_around(self, cls: type) -> dict[str, Any]:
        """Return the globals that a class was defined among."""
        module = module_of_class(cls)
        if module is not None and vars(module).get(cls.__qualname__.partition(".")[0]) is not None:
            return vars(module)
        for function in itertools.chain.from_iterable(map(functions_below, list(vars(cls).values()))):
            if function.__globals__.get("__name__") == cls.__module__:
                return function.__globals__
        return vars(module) if module is not None and not was_sent(cls) else {"__name__": cls.__module__}

    def take_members(self) -> None:
        """Describe the members of all classes that count by now."""
        for reached in list(self.reached.values()):
            self._take_members(reached)

    def _take_members(self, reached: ReachedClass) -> None:
        mentioned, every = self.walk.mentioned, self.walk.reads_all_fields
        makes = reached.is_named or not MAKES.isdisjoint(mentioned)
        for name, member in list(reached.waiting.items()):
            is_constructor = name in CONSTRUCTORS
            if not (
                name in mentioned
                or (member.is_called and (makes or not is_constructor))
                or (reached.whole and not is_constructor)
                or (every and not member.functions and not member.is_made)
            ):
                continue
            del reached.waiting[name]
            self.walk.graph.at = reached.name
            if member.functions:
                self._refer_method(reached, name, member.value, member.functions)
            elif member.is_made:
                text = class_text(reached.cls)
                assert text is not None  # noqa: S101 - it has named the function
                lines = lines_of_method(text, name, self._names_around(reached.cls))
                self.walk.lines.refer(f"{reached.name}.{name}", lines)
            elif member.is_value or self._is_bound_anew(reached.cls, name):
                reference = self.walk.refer(member.value, f"{reached.name}.{name}", lambda: None, handed=reached.whole)
                reached.references.append(tokens(name) + reference)
            elif set_below := lines_of_global(self._names_around(reached.cls), reached.cls.__name__, name):
                self.walk.lines.refer(f"{reached.name}.{name}", set_below)

    def _is_bound_anew(self, cls: type, name: str) -> bool:
        """Tell whether the reached code binds a member that the statement of the class binds: it counts by itself.

        So it is known for the step's own doing if it makes a client of a package where None was.
        """
        text = class_text(cls) if name in self.walk.stores else None
        bound = () if text is None else statements_by_name(text.node.body)
        return any(name == mangled(first, cls.__name__) for first, *rest in bound if not rest)

    def _refer_method(self, reached: ReachedClass, name: str, member: Any, functions: list[FunctionType]) -> None:
        if step_of(member) is not None:
            reached.references.append(tokens(name) + self.walk.refer(member, f"{reached.name}.{name}", lambda: None))
            return
        for function in functions:
            if self.walk.origins.of_function(function) is Owner.USER:
                reference = tokens("function", self.walk.of_functions.reach(function))
            else:
                reference = tokens("named", module_of(function), function.__code__.co_qualname)
            reached.references.append(tokens(name, type(member).__name__) + reference)

    def _is_value(self, member: Any, without_text: bool) -> bool:
        """Return whether a member counts by its value; libraries' objects count by the text of the class."""
        kind = type(member)
        if (
            kind in ATOMS
            or issubclass(kind, type)
            or step_of(member) is not None
            or self.walk.origins.of_class(kind) is Owner.USER
        ):
            return True
        if isinstance(member, dict | list | tuple | set | frozenset):
            return self.walk.origins.of_class(kind) is not Owner.OTHER  # such a one was put there by a library
        return without_text and not isinstance(member, IN_C) and not hasattr(kind, "__get__")

    def parts(self) -> Iterator[CodePart]:
        """Yield the parts of all classes."""
        reads_docs = self.walk.reads(DOC_READERS)
        for reached in self.reached.values():
            text, doc = class_text(reached.cls), vars(reached.cls).get("__doc__")
            own = tokens("class", reached.name) + (b"" if text is None else text.normal())
            if (reads_docs or shows_docstring(reached.cls)) and isinstance(doc, str):
                own += tokens(doc)
            yield reached.part(own, None if text is None else text.text())


def _resolve(names: dict[str, Any], name: str, attributes: tuple[str, ...]) -> Any:
    """Return what a name and attributes of modules lead to; ABSENT if they lead to nothing, or to no module's."""
    value = names.get(name, ABSENT)
    for attribute in attributes:
        value = value.__dict__.get(attribute, ABSENT) if isinstance(value, ModuleType) else ABSENT
    return value
