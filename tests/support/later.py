"""``cpns`` as a made-up later version has it: electives (docs/protocol.md section 3) wherever it may say some.

python -m tests.support.later server run --data DIR
"""

from dataclasses import replace
from typing import Any

from cpns.cli.main import main
from cpns.gateway.app import Gateway
from cpns.gateway.claim import EukeyClaim
from cpns.pne.join import Join
from cpns.server.app import Server
from cpns.wire import application
from cpns.wire.declare import Electives

MORE: Electives = ((200, 7), (300, b"new"), (301, "more"))


def later(role: Any) -> None:
    """Have *role* say more."""
    begin = role.__init__
    role.__init__ = lambda self, config, *rest, **named: begin(self, replace(config, electives=MORE), *rest, **named)


if __name__ == "__main__":
    for role in (Gateway, EukeyClaim, Join, Server):
        later(role)
    say = application.encode_group_text
    setattr(application, "encode_group_text", lambda said: say(said, MORE))  # noqa: B010  # mypy knows what it takes
    main()
