"""Who asks the API: on the socket that only the server's own user may open, that is the operator of this machine."""

from typing import Annotated

from fastapi import Depends

from cpns.domain.actor import OPERATOR, Actor


def on_the_socket() -> Actor:
    """Return who asks."""
    return OPERATOR


Who = Annotated[Actor, Depends(on_the_socket)]
"""Given to each handler that changes something."""
