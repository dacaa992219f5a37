"""Stand before an object of the user's without deriving from its class, copying it or ending it."""

from __future__ import annotations

from types import MethodType
from typing import Any, Final

BEHIND: Final = "musubito_behind"


class StandIn:
    """An object that passes for the object behind it.

    Its attributes are those of the object behind, except for the attributes given in `instead`. Methods of the object
    behind see the attributes of the stand-in. A class that is derived from this one has its own methods instead.
    """

    def __init__(self, behind: Any, **instead: Any) -> None:
        vars(self).update({BEHIND: behind, **instead})

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Return the class of the object behind, for which this one passes."""
        cls: type = vars(self)[BEHIND].__class__
        return cls

    def __getattr__(self, name: str) -> Any:
        # Python asks here only for attributes that neither the stand-in nor its class has.
        if hasattr(type(self), name):
            raise AttributeError(name)
        behind = vars(self)[BEHIND]
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
        # Without this, pickle would take the stand-in for an object of the class that it passes for.
        return _made, (type(self),), vars(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def _made(cls: type[StandIn]) -> StandIn:
    """Make a stand-in without its fields, which may hold the stand-in itself."""
    return object.__new__(cls)
