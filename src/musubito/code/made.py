"""Find the lines of the user's code that made an object: the statements that bind its name or change something by it.

An object that is no data, such as a client or an engine, counts by these lines and by what they name. A global has its
lines in its module, a variable of an enclosing function in that function, and a field in the methods of its class. A
literal credential in such a line does not count.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from types import FunctionType
from typing import Any, Final, NamedTuple

from musubito.code.syntax.ast_digest import normalised_lines
from musubito.code.syntax.class_statement import ClassText
from musubito.code.syntax.expressions import body_of, default_of, parameters_of
from musubito.code.syntax.function_text import script_of, text_of
from musubito.code.syntax.source import SENT, File, cells, file_of, register_source_text, sent_texts, source_of
from musubito.code.syntax.statements import (
    Made,
    enclosing_function,
    names_used,
    plain_statements,
    statements_behind,
    statements_by_name,
)
from musubito.values.class_names import find_module, functions_in

BY_LINES: Final = "the lines that made it"
"""What most objects of packages count by."""
LINES: Final = f", {BY_LINES}"
"""The end of the name of a part that consists of such lines."""


class Sent(NamedTuple):
    """The texts, classes and digests by which code counts the same in a process that is sent it without its module."""

    texts: tuple[str, ...] = ()
    """The statements of functions and classes, and those that made objects."""
    classes: Mapping[str, type] = {}
    """Classes of the script, by name."""
    values: Mapping[str, tuple[bytes, tuple[str, ...] | None]] = {}
    """The digests of other globals, each with the globals that it leads to; None if it counts by its lines."""

    def receive(self) -> None:
        """Let all this be known in this process."""
        register_source_text(self.texts)
        _classes.update(self.classes)
        _values.update(self.values)


_classes: Final[dict[str, type]] = {}
_values: Final[dict[str, tuple[bytes, tuple[str, ...] | None]]] = {}
"""What came with code from other processes, by the name of the global: the latest is right for what runs next."""


class Lines(NamedTuple):
    """The lines that made an object, and the globals among which their names are looked up."""

    file: File
    made: tuple[Made, ...]
    names: dict[str, Any]
    parameters: frozenset[str] = frozenset()
    """Parameters of the enclosing function that the lines use: no line tells what they were given."""

    def only_import(self) -> bool:
        """Tell whether the lines only import the object, so that it was made elsewhere."""
        return all(made.is_import() for made in self.made)

    def without_conditions(self) -> Lines:
        """Return the lines without what decides whether they run."""
        return self._replace(made=tuple(Made(made.node, ()) for made in self.made))

    def normal(self) -> bytes:
        """Return what the lines do, without how they are written."""
        return normalised_lines([node for made in self.made for node in (*made.around, made.node)])

    def text(self) -> str:
        """Return the lines as they are written."""
        ordered = sorted(self._nodes(), key=lambda node: node.lineno)
        return "".join(self.file.part(node).rstrip("\n") + "\n" for node in ordered)

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the lines."""
        for node in self._nodes():
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)

    def _nodes(self) -> Iterable[Any]:
        nodes = {id(made.node): made.written() for made in self.made}
        return nodes.values()

    def reads(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the names that the lines use, but for parameters, each with the attributes that follow it."""
        for made in self.made:
            for part in (*made.around, made.node):
                yield from (read for read in names_used(part) if read[0] not in self.parameters)


def lines_of_global(names: dict[str, Any], *chain: str) -> Lines | None:
    """Return the lines that made a global of a module, or an attribute of one; None if they are not known.

    `names` are the globals of the module. A function that binds the global comes with the calls of it.
    """
    file = names.get("__file__")
    if isinstance(file, str) and names.get("__spec__") is None and not file.endswith(".py"):
        return None
    found = file_of(file) if isinstance(file, str) else None
    texts = [found] if found is not None else _last_first(cells(), chain[0])
    for text in [*sent_texts(), *texts] if were_sent(names) else texts:
        statements = statements_by_name(text.tree.body)
        made = statements.get(chain)
        if made:
            makers = dict.fromkeys(statement.maker for statement in made)
            calls = [call for maker in makers for call in statements.get((f"{maker}()",), ())]
            return Lines(text, (*made, *calls), names)
    return None


def lines_of_module(names: dict[str, Any]) -> Lines | None:
    """Return all statements of a module that are no imports and define no function and no class.

    A script has none of these: its statements also call steps.
    """
    file = names.get("__file__")
    text = file_of(file) if isinstance(file, str) and names.get("__spec__") is not None else None
    made = () if text is None else plain_statements(text.tree.body)
    return Lines(text, made, names) if text is not None and made else None


def were_sent(names: dict[str, Any]) -> bool:
    """Tell whether these globals came with code from another process: they are those of no module here."""
    module = find_module(str(names.get("__name__")))
    return module is None or vars(module) is not names


def complete(names: dict[str, Any], name: str) -> None:
    """Bind a global that code was sent without, if it is a class, a plain function or imported.

    cloudpickle sends only those globals that the code of a function names, and no other that lines name.
    """
    if name in names or hasattr(builtins, name) or not were_sent(names):
        return
    if name in _classes:
        names[name] = _classes[name]
    elif (lines := lines_of_global(names, name)) is not None:
        made = [statement for statement in lines.made if not statement.around]
        if len(made) == 1 and made[0].is_plain_function():
            _define(names, name, made[0], lines.file)
        else:
            _import(names, name, [statement for statement in made if statement.is_import()])


def _define(names: dict[str, Any], name: str, made: Made, file: File) -> None:
    """Bind a function again whose defaults are constants; any other counts by its lines."""
    code = next(code for code in file.functions[name] if made.node in file.nodes(code))
    with suppress(ValueError):
        defaults, keywords = made.literal_defaults()
        function = FunctionType(code, names, name, defaults)
        function.__kwdefaults__ = keywords
        names[name] = function


def _import(names: dict[str, Any], name: str, imports: list[Made]) -> None:
    """Bind a name by the first of these imports that does not fail; without one it counts by its lines."""
    for made in imports:
        bound: dict[str, Any] = {}
        with suppress(Exception):
            exec(made.compiled(SENT), names, bound)  # noqa: S102 - its sender has run it
            names[name] = bound[name]
            return


def sent_value(names: dict[str, Any], name: str) -> tuple[bytes, tuple[str, ...], Lines | None]:
    """Return how a global counts that code was sent without: its digest, and what it leads to or its lines."""
    if name in names or not were_sent(names):
        return b"", (), None
    digest, below = _values.get(name, (b"", None))
    return digest, below or (), lines_of_global(names, name) if below is None else None


def _last_first(texts: Iterable[File], name: str) -> list[File]:
    """Return the cells of a notebook that bind or change a name, the latest that binds it first."""
    return [text for text in reversed(list(texts)) if (name,) in statements_by_name(text.tree.body)]


def lines_of_variable(function: FunctionType, variable: str) -> Lines | None:
    """Return the lines of the function around this one that made a variable, with the lines of what these use."""
    source = text_of(function).source
    outer = None if source is None else enclosing_function(source.file, source.node)
    while source is not None and outer is not None:
        parameters = frozenset(parameter.arg for parameter in parameters_of(outer.args))
        statements = statements_by_name(outer.body)
        found, given = statements_behind(statements, [variable], parameters)
        if found or given:
            return Lines(source.file, tuple(found), function.__globals__, given)
        outer = enclosing_function(source.file, outer)
    return None


def lines_of_field(cls: type, field: str) -> Lines | None:
    """Return the lines in the methods of a class that made a field of its instances."""
    for base in cls.__mro__:
        for function in functions_in(base):
            source = source_of(function.__code__, script_of(function))
            parameters = [] if source is None else parameters_of(source.node.args)
            if source is None or not parameters:
                continue
            made = statements_by_name(body_of(source.node)).get((parameters[0].arg, field))
            if made:
                return Lines(source.file, tuple(made), function.__globals__)
    return None


def lines_of_method(text: ClassText, name: str, globals_: dict[str, Any]) -> Lines:
    """Return the lines in the statement of a class that made a member out of a function."""
    return Lines(text.file, tuple(statements_by_name(text.node.body)[name,]), globals_)


def lines_of_default(function: FunctionType, parameter: str) -> Lines | None:
    """Return the expression that made the default of a parameter."""
    source = text_of(function).source
    default = None if source is None else default_of(source.node.args, parameter)
    if source is None or default is None:
        return None
    return Lines(source.file, (Made(default, ()),), function.__globals__)


def lines_around(file: File, statement: Any, names: Collection[str], globals_: dict[str, Any]) -> Lines | None:
    """Return the lines of the function around a class statement that made the locals of these names."""
    outer = enclosing_function(file, statement)
    if outer is None:
        return None
    parameters = frozenset(parameter.arg for parameter in parameters_of(outer.args))
    found, given = statements_behind(statements_by_name(outer.body), sorted(names), parameters)
    found = [made for made in found if made.node is not statement]
    return Lines(file, tuple(found), globals_, given) if found else None
