"""Objects that stand before one of the user's, which is neither derived from, nor copied, nor ended by that."""

from __future__ import annotations

from types import MethodType
from typing import Any, Final

__all__ = ["BEHIND", "StandIn"]

BEHIND: Final = "musubito_behind"


class StandIn:
    """Pass for the object behind. Its attributes are the object's, apart from what is given `instead`, and the object's
    own methods see them so. A class derived from this one has its own methods instead."""

    def __init__(self, behind: Any, **instead: Any) -> None:
        vars(self).update({BEHIND: behind, **instead})

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__(self, "__dict__")
        if name in own or (name != "__class__" and hasattr(type(self), name)):
            return object.__getattribute__(self, name)
        behind = own[BEHIND]
        value = getattr(behind, name)
        if isinstance(value, MethodType) and value.__self__ is behind:
            return MethodType(value.__func__, self)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self):
            object.__setattr__(self, name, value)
        else:
            setattr(vars(self)[BEHIND], name, value)

    def __delattr__(self, name: str) -> None:
        delattr(vars(self)[BEHIND], name)

    def __repr__(self) -> str:
        return repr(vars(self)[BEHIND])

    def __reduce__(self) -> Any:
        # Else pickle would take it for an object of the class that it passes for.
        return _made, (type(self),), vars(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def _made(cls: type[StandIn]) -> StandIn:
    """Make one without its fields: what they hold may hold it in turn."""
    return object.__new__(cls)
