"""Answers to what is carried on sealed. Nobody in between can open one, so the first may be forged.

One that has no OSCORE option proves nothing: a sealed one is waited for a moment longer. Behind a sealed one, others
are handed on for a moment: whoever has the session takes the one that opens.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cpns.coap.message import Message
from cpns.coap.numbers import Option
from cpns.errors import NoAnswer
from cpns.transport.relay import Sealed
from cpns.transport.waiting import HINT_GRACE, Waiting, wait_on_a_little

MAX_MORE: Final = 8
"""Sealed answers that are handed on behind the first."""
_OSCORE: Final = int(Option.OSCORE)


def sealed_in(answer: Message) -> Sealed:
    """Return what a relay sees of *answer*."""
    return Sealed(answer.code, answer.value(_OSCORE), answer.payload)


async def first_answer(exchange: Waiting, seconds: float, *, final: bool) -> Sealed:
    """Return the answer to what was carried on, and close *exchange*, at once or a moment later.

    Args:
        exchange: of the message that was carried on.
        seconds: to wait for it.
        final: nobody but the next hop can have sent an answer.

    Raises:
        NoAnswer: none came, or the way is gone.
    """
    found: Sealed | None = None
    try:
        async with asyncio.timeout(seconds) as limit:
            while found is None or found.oscore is None:
                found = sealed_in(await exchange.next())
                if final:
                    return found
                wait_on_a_little(limit)
    except (TimeoutError, ConnectionError) as error:
        if found is None:
            raise NoAnswer("relayed_without_answer") from error
    finally:
        if final or found is None or found.oscore is None:
            exchange.close()
        else:
            asyncio.get_running_loop().call_later(HINT_GRACE, exchange.close)
    return replace(found, more=_more(exchange)) if found.oscore is not None else found


def _more(exchange: Waiting) -> Callable[[Callable[[Sealed], None]], None]:
    def hand_on(take: Callable[[Sealed], None]) -> None:
        left = MAX_MORE

        def one(message: Message) -> None:
            nonlocal left
            answer = sealed_in(message)
            if answer.oscore is not None and left:
                left -= 1
                take(answer)

        exchange.hand_on(one)

    return hand_on
