"""Key material that does not show."""

from typing import NoReturn

from cryptography.hazmat.primitives import constant_time


class Secret:
    """Bytes that never appear in repr, str, format, logs or pickles.

    Python can't wipe memory reliably, and this class does not claim to; it keeps a key from being printed or stored by
    mistake. Equality is in constant time. `reveal` is the one way out, and easy to search for.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """Return the bytes themselves."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and constant_time.bytes_eq(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash table compares in variable time

    def __repr__(self) -> str:
        return f"<Secret of {len(self._value)} bytes>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied; seal it in the vault")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied; seal it in the vault")
