"""Find what a process needs that is sent code, or the script's classes, without their modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import FunctionType
from typing import Any

from musubito.code.fingerprint import Fingerprint
from musubito.code.made import Sent
from musubito.code.ownership import Owner, owners_seen_from
from musubito.code.syntax.class_statement import class_text
from musubito.code.syntax.function_text import text_of
from musubito.code.syntax.source import File
from musubito.code.tracker import CodeTracker, tracker_of_class
from musubito.errors import MusubitoError
from musubito.values.class_instances import lies_in_its_module
from musubito.values.class_names import SCRIPT, find_module, is_of_script, is_script


def sent(*trackers: CodeTracker) -> Sent:
    """Return what another process needs that is sent this code, or the script's classes, without their modules."""
    codes: list[Fingerprint] = []
    for tracker in trackers:
        with suppress(MusubitoError):  # its first call will say why
            codes.append(tracker.current())
    reached = [reached.cls for code in codes for reached in code.walk.classes.values()]
    classes = {cls.__name__: cls for cls in reached if is_of_script(cls) and lies_in_its_module(cls)}
    for cls in dict.fromkeys(_classes_sent(cls for code in codes for cls in code.classes.values())):
        with suppress(MusubitoError):
            codes.append(tracker_of_class(cls).current())
    found: list[tuple[File, Any]] = []
    for code in codes:
        sources = [text_of(function).source for function in code.functions if not _is_of_a_module(function)]
        found += [(source.file, source.node) for source in sources if source is not None]
        for cls in [each.cls for each in code.walk.classes.values()]:
            text = class_text(cls)
            if text is not None and (is_of_script(cls) or not lies_in_its_module(cls)):
                found.append((text.file, text.node))
        found += [(lines.file, made.node) for lines in code.walk.lines.sent() for made in lines.made]
    files = {id(file): file for file, _ in found}
    return Sent(
        tuple(file.statements(node for its, node in found if its is file) for file in files.values()),
        classes,
        {name: value for code in codes for name, value in code.walk.lines.values_sent().items()},
    )


def _is_of_a_module(function: FunctionType) -> bool:
    name = function.__globals__.get("__name__")
    value: Any = find_module(str(name))
    for attribute in function.__qualname__.split("."):
        value = getattr(value, attribute, None)
    return not is_script(name) and value is not None and getattr(value, "__wrapped__", value) is function


def _classes_sent(classes: Iterable[type]) -> Iterator[type]:
    """Yield the user's classes that are sent to another process, since it finds them in no module.

    The script's classes are among them: an instance of any of them may be an argument.
    """
    whose, script = owners_seen_from(SCRIPT), find_module(SCRIPT)
    for cls in (*classes, *(() if script is None else vars(script).values())):
        if not isinstance(cls, type) or whose.of_class(cls) is not Owner.USER:
            continue
        if is_of_script(cls) or not lies_in_its_module(cls):
            yield cls
