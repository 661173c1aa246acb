"""A server that is one process: it has no siblings."""

from typing import Any

from cpns.ports import Answers, Handler


class Alone:
    """`cpns.ports.Siblings` where there are none."""

    others = False

    def serve(self, what: str, handler: Handler) -> None:
        """Nobody will ask."""

    async def ask(self, what: str, argument: Any, seconds: float = 0.0) -> Answers:  # noqa: ANN401  # any CBOR
        """Return that all of them, that is none, have answered."""
        return Answers((), complete=True)

    def tell(self, what: str, argument: Any) -> None:  # noqa: ANN401
        """Tell nobody."""
