"""Mappings and lists that cannot be changed, for the parts of a spec without a schema of their own.

They are dicts and lists to whoever reads, compares, dumps or merges them; a copy is a plain one, to change at will.
"""

from __future__ import annotations

from typing import Any, NoReturn


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    raise TypeError(f"a {type(self).__name__} is part of a spec and never changes: copy it")


class FrozenDict(dict[str, Any]):
    """A dict as it was parsed."""

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[list[tuple[str, Any]]]]:
        """What copy and pickle make of it."""
        return dict, (list(self.items()),)


class FrozenList(list[Any]):
    """A list as it was parsed."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[type[list[Any]], tuple[tuple[Any, ...]]]:
        """What copy and pickle make of it."""
        return list, (tuple(self),)


def freeze(value: Any) -> Any:
    """The same value, frozen to the bottom."""
    if isinstance(value, dict):
        return FrozenDict({name: freeze(part) for name, part in value.items()})
    if isinstance(value, list):
        return FrozenList(map(freeze, value))
    return value
