"""What processes say, as plain values for CBOR and back: fields by name, so that two versions understand each other."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from cpns.errors import CpnsError

T = TypeVar("T")


class Misunderstood(CpnsError):
    """It is not what it should be: another version said it, or nobody of ours."""


def plain(value: object) -> Any:  # noqa: ANN401  # any CBOR
    """Return *value*, of a dataclass, as CBOR has it."""
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    return value


def understood(shape: type[T], said: object) -> T:
    """Return what was said as a *shape*, a dataclass; fields that it does not have are ignored.

    Raises:
        Misunderstood: a field without a default is missing, or one has another type.
    """
    found: T = _of(shape, said)
    return found


@lru_cache(maxsize=256)
def _fields(shape: type) -> tuple[tuple[str, Any, bool], ...]:
    hints = get_type_hints(shape)
    return tuple((one.name, hints[one.name], one.default is MISSING) for one in fields(shape))


def _of(shape: Any, said: Any) -> Any:  # noqa: ANN401
    origin, inside = get_origin(shape), get_args(shape)
    if is_dataclass(shape):
        return _record(shape, said)
    if origin in (Union, types.UnionType):
        return None if said is None else _of(next(one for one in inside if one is not type(None)), said)
    if origin is tuple and isinstance(said, list | tuple):
        if inside[-1] is ...:
            return tuple(_of(inside[0], one) for one in said)
        if len(said) == len(inside):
            return tuple(_of(kind, one) for kind, one in zip(inside, said, strict=True))
    elif origin is Mapping and isinstance(said, dict):
        return {_of(inside[0], key): _of(inside[1], one) for key, one in said.items()}
    else:
        kind = getattr(shape, "__supertype__", shape)  # of a NewType
        if kind is float and type(said) is int:
            return float(said)
        if isinstance(kind, type) and type(said) is kind:
            return said
    raise Misunderstood(f"{said!r:.80} is no {shape}")


def _record(shape: Any, said: Any) -> Any:  # noqa: ANN401
    if not isinstance(said, dict):
        raise Misunderstood(f"{said!r:.80} is no {shape.__name__}")
    found = {}
    for name, kind, needed in _fields(shape):
        if name in said:
            found[name] = _of(kind, said[name])
        elif needed:
            raise Misunderstood(f"{shape.__name__} without {name}")
    return shape(**found)
