"""Encode instances of user classes: enums, dataclasses, namedtuples, pydantic models, classes derived from builtins.

The class's name and the whole state of the instance are written. The state is every slot and everything in the
`__dict__`, whether it is a field or not. An instance is rebuilt from its state without running a line of the class: no
`__init__`, no `__new__`, no validator, no `__setattr__`. A class is found by name among the classes that the step's
code reached, and in modules that are already imported. Only `__dict__`s are read: nothing is imported and no
`__getattr__` is called.
"""

from __future__ import annotations

import sys
from enum import Enum, EnumType, Flag
from types import (
    BuiltinFunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any, Generic, NamedTuple
from weakref import WeakKeyDictionary

from musubito.model import MusubitoResult
from musubito.values.class_names import (
    NAMESPACE,
    Ambiguous,
    find_module,
    is_of_two,
    module_of_class,
    note_sent_script,
    qualified_name,
    secret_kind,
)
from musubito.values.msgpack_writer import Code, UnsupportedError
from musubito.values.own_names import now_called

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_MRO: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
"""Returns the bases of a class, without asking its metaclass."""
HEAP_TYPE = 1 << 9
"""The flag of classes that are made at run time, as a class statement does."""
_MADE_IN_C = (GetSetDescriptorType, MethodDescriptorType, WrapperDescriptorType)
"""Types of the members that a class written in C has."""
MISSING = object()
"""Stands for an attribute that is not there."""
_BUILTINS: Mapping[type, Callable[[Any], object]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}
"""Types that classes are derived from, each with how to read its content without a method of the derived class."""
_TEXT = frozenset({str})
_PYDANTIC_SLOTS = ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
"""Slots in which pydantic keeps the parts of a model."""


def static(cls: type, name: str) -> Any:
    """Return the class attribute as it lies there, or `MISSING`; no descriptor or metaclass is asked."""
    for base in _MRO(cls):
        namespace = NAMESPACE(base)
        if name in namespace:
            return namespace[name]
    return MISSING


class ClassLayout(NamedTuple):
    """The way to take instances of one class apart and to rebuild them."""

    code: int
    name: tuple[str, str]
    fields: list[str]
    slots: dict[str, MemberDescriptorType]
    has_dict: bool
    unfit: str
    """Why an instance cannot be rebuilt; empty if it can."""


_PLANS: WeakKeyDictionary[type, ClassLayout | None] = WeakKeyDictionary()
"""The plans of classes that were asked for."""


def layout_of(cls: type) -> ClassLayout | None:
    """Return how instances of `cls` are encoded, or None for a class that this module does not know."""
    try:
        return _PLANS[cls]
    except KeyError:
        pass
    plan = _PLANS[cls] = _make_plan(cls)
    return plan


def count_script_as(name: str) -> None:
    """Let the things of a script that was sent here count under the name that they have where they come from."""
    if note_sent_script(name):
        _PLANS.clear()


def _make_plan(cls: type) -> ClassLayout | None:
    mro = _MRO(cls)
    if issubclass(type(cls), EnumType):
        flag = Flag in mro
        unfit = ""
        if flag and (
            static(cls, "_missing_") is not NAMESPACE(Flag)["_missing_"]
            or static(cls, "_member_type_") not in (object, int)
            or type(cls) is not EnumType
        ):
            unfit = "a Flag that makes its members itself"
        return ClassLayout(Code.FLAG if flag else Code.ENUM, qualified_name(cls), [], {}, False, unfit)
    if secret_kind(cls) is not None:
        return None  # even if it is a dataclass, too: its fields would hold the secret
    names = static(cls, "_fields") if tuple in mro else MISSING
    base = _base_of(cls)
    if cls is MusubitoResult:
        code, fields = Code.RESULT, list(static(cls, "__dataclass_fields__"))
    elif type(names) is tuple and all(type(name) is str for name in names):
        if not all(map(_is_plain, (base for base in mro if base is not tuple))):
            return None
        return ClassLayout(Code.NAMEDTUPLE, qualified_name(cls), list(names), {}, _has_dict(mro), _unfit(cls))
    elif _is_pydantic(mro):
        code = Code.PYDANTIC
        declared = static(cls, "__pydantic_fields__")
        fields = list(declared if type(declared) is dict else static(cls, "model_fields"))
    elif static(cls, "__dataclass_fields__") is not MISSING:
        code = Code.DATACLASS
        fields = [
            name
            for name, field in static(cls, "__dataclass_fields__").items()
            if field._field_type.name == "_FIELD"  # neither ClassVar nor InitVar; as in dataclasses.fields
        ]
    elif base is not None and base is not cls:
        code, fields = Code.DERIVED, []
    else:
        return None
    if not all(map(_is_plain, (each for each in mro if code != Code.DERIVED or each is not base))):
        return None  # its instances hold more than slots and a __dict__
    slots = {
        name: attribute
        for base in mro
        for name, attribute in list(NAMESPACE(base).items())
        if type(attribute) is MemberDescriptorType and not (code == Code.PYDANTIC and name in _PYDANTIC_SLOTS)
    }
    return ClassLayout(code, qualified_name(cls), fields, slots, _has_dict(mro), _unfit(cls))


def _base_of(cls: type) -> type | None:
    return next((base for base in _MRO(cls) if base in _BUILTINS), None)


def is_derived(value: object) -> bool:
    """Return whether a value's class is derived from a builtin type and adds nothing that is hidden."""
    plan = layout_of(type(value))
    return plan is not None and plan.code == Code.DERIVED


def _is_plain(cls: type) -> bool:
    """Return whether a class was made in Python: it adds nothing to its instances but slots and a `__dict__`."""
    if cls is object or cls is Generic:
        return True
    namespace = NAMESPACE(cls)
    if not cls.__flags__ & HEAP_TYPE or isinstance(namespace.get("__new__"), BuiltinFunctionType):
        return False
    return not any(
        type(attribute) in _MADE_IN_C and attribute.__objclass__ is cls and name not in ("__dict__", "__weakref__")
        for name, attribute in list(namespace.items())
    )


def _has_dict(mro: tuple[type, ...]) -> bool:
    return any(type(NAMESPACE(base).get("__dict__")) is GetSetDescriptorType for base in mro)


def _unfit(cls: type) -> str:
    return "its class has a __del__" if static(cls, "__del__") is not MISSING else ""


def _is_pydantic(mro: tuple[type, ...]) -> bool:
    pydantic = sys.modules.get("pydantic.main")
    return pydantic is not None and getattr(pydantic, "BaseModel", None) in mro


def _state(value: object, plan: ClassLayout) -> dict[str, object]:
    state: dict[str, object] = {}
    for name, slot in plan.slots.items():
        try:
            state[name] = slot.__get__(value)
        except AttributeError:
            continue  # never set, or deleted: the absence is kept
    if plan.has_dict:
        contents: dict[str, object] = object.__getattribute__(value, "__dict__")
        if not state:
            return contents
        if not state.keys().isdisjoint(contents):
            raise UnsupportedError("a slot and an attribute of the same name")
        state.update(contents)
    return state


def split_record(value: Any) -> tuple[int, list[object]] | None:
    """Return the ext code and parts of an instance, or None if this module does not know its class."""
    cls = type(value)
    plan = layout_of(cls)
    if plan is None:
        return None
    code, (module, qualname), fields = plan[:3]
    if code in (Code.ENUM, Code.FLAG):
        return code, [module, qualname, value._name_, value._value_]
    if code == Code.NAMEDTUPLE:
        if tuple.__len__(value) != len(fields):
            raise UnsupportedError("a namedtuple that does not have its fields")
        if plan.has_dict and object.__getattribute__(value, "__dict__"):
            raise UnsupportedError("a namedtuple with attributes of its own")
        return code, [module, qualname, fields, list(tuple.__iter__(value))]
    if code == Code.PYDANTIC:
        chosen, extra, private = [object.__getattribute__(value, name) for name in _PYDANTIC_SLOTS]
        return code, [module, qualname, fields, sorted(chosen), extra, private, _state(value, plan)]
    if code == Code.DERIVED:
        content = next(read(value) for base, read in _BUILTINS.items() if isinstance(value, base))
        return code, [module, qualname, content, _state(value, plan)]
    return code, [module, qualname, fields, _state(value, plan)]


def unfit(value: object) -> str:
    """Return why this instance cannot be rebuilt from its parts; empty if it can."""
    plan = layout_of(type(value))
    return plan.unfit if plan is not None else ""


def find_class(module: object, qualname: object, classes: Mapping[tuple[str, str], type]) -> type:
    """Return the class of that name, from the step's code or an imported module, or raise `LookupError`."""
    if type(module) is not str or type(qualname) is not str:
        raise TypeError("a class name that is no text")
    reached = classes.get((module, qualname))
    if reached is not None:
        return reached
    package, name = now_called(module, qualname)
    if is_of_two(package):
        raise LookupError(f"{module!r} is the script and a module that was imported, and {qualname!r} may be of either")
    value = _class_in(find_module(package), module, name)
    if qualified_name(value) != (module, qualname):
        raise LookupError(f"{module}.{qualname} is another class now")
    return value


def _class_in(value: Any, module: str, qualname: str) -> type:
    if value is None or ModuleType not in _MRO(type(value)):
        raise LookupError(f"the module {module!r} of class {qualname!r} is not imported")
    namespace: Mapping[str, Any] = object.__getattribute__(value, "__dict__")
    for part in qualname.split("."):
        value = namespace.get(part)
        if type not in _MRO(type(value)):
            raise LookupError(f"there is no class {module}.{qualname}")
        namespace = NAMESPACE(value)
    cls: type = value
    return cls


def not_found_again(met: Iterable[type], classes: Mapping[tuple[str, str], type]) -> list[str]:
    """Return the names of classes whose stored instances cannot be rebuilt.

    Neither a module nor the step's code leads to these classes.
    """
    names: list[str] = []
    for cls in met:
        module, qualname = qualified_name(cls)
        try:
            if find_class(module, qualname, classes) is not Ambiguous:
                continue
        except LookupError:
            pass  # this error is the answer to the question
        names.append(f"{module}.{qualname}")
    return sorted(names)


def lies_in_its_module(cls: type) -> bool:
    """Return whether a class's module holds the class under its own name."""
    try:
        return _class_in(module_of_class(cls), *now_called(*qualified_name(cls))) is cls
    except LookupError:
        return False


def rebuild(code: int, parts: list[Any], classes: Mapping[tuple[str, str], type]) -> object:
    """Rebuild the instance that `split_record` took apart; raise if its class is gone or has changed."""
    if code == Code.RESULT:
        cls: type = MusubitoResult
    else:
        cls = find_class(parts[0], parts[1], classes)
    plan = layout_of(cls)
    if plan is None or plan.code != code or plan.unfit:
        raise TypeError(f"{parts[1]} is not the kind of class it was")
    if code in (Code.ENUM, Code.FLAG):
        return _member(cls, parts, code)
    fields, state = [] if code == Code.DERIVED else parts[2], parts[-1]
    if type(fields) is not list or fields != plan.fields or not _TEXT.issuperset(map(type, fields)):
        raise TypeError(f"the fields of {parts[1]} have changed")
    if code == Code.NAMEDTUPLE:
        if type(state) is not list or len(state) != len(fields):
            raise TypeError("a namedtuple that does not have its fields")
        return tuple.__new__(cls, state)
    if type(state) is not dict:
        raise TypeError("an instance without a state")
    value: object = object.__new__(cls) if code != Code.DERIVED else _with_content(cls, parts[2])
    if code == Code.PYDANTIC:
        _, _, _, chosen, extra, private, state = parts
        if type(chosen) is not list or not isinstance(extra, dict | None) or not isinstance(private, dict | None):
            raise TypeError("a pydantic model that is none")
        for name, content in zip(_PYDANTIC_SLOTS, (set(chosen), extra, private), strict=True):
            slot = static(cls, name)
            # A RootModel has None there, once for all objects; an object that has its own keeps it in its `__dict__`.
            if slot is not None:
                slot.__set__(value, content)
            elif content is not None and name not in state:
                raise TypeError("a pydantic model that is none")
    _set_state(value, state, plan)
    return value


def _with_content(cls: type, content: Any) -> object:
    base: Any = _base_of(cls)
    if type(content) is not base:
        raise TypeError(f"{cls.__qualname__} is not derived from what it was")
    if base not in (list, dict, set):
        return base.__new__(cls, content)
    value: object = base.__new__(cls)
    (base.extend if base is list else base.update)(value, content)
    return value


def _set_state(value: object, state: dict[Any, Any], plan: ClassLayout) -> None:
    if not _TEXT.issuperset(map(type, state)):
        raise TypeError("an attribute name that is no text")
    slots, contents = plan.slots, state
    if slots:
        contents = {name: part for name, part in state.items() if name not in slots}
        for name in slots.keys() & state.keys():
            slots[name].__set__(value, state[name])
    if contents:
        if not plan.has_dict:
            raise TypeError("attributes that the class has no room for")
        object.__getattribute__(value, "__dict__").update(contents)


def _member(cls: Any, parts: list[Any], code: int) -> object:
    _, _, name, value = parts
    members: Mapping[str, Enum] = static(cls, "_member_map_")
    member: Any = members.get(name) if type(name) is str else None
    if member is None and code == Code.FLAG and type(value) is int:
        return cls(value)  # a combination of flags; Flag's own _missing_ makes it
    if member is None:
        raise LookupError(f"{parts[1]} has no member {name!r} any more")
    return member
