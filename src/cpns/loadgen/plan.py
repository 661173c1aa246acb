"""What is offered to a server, and what that takes of this machine."""

import resource
from dataclasses import dataclass
from typing import Final

from cpns.errors import BadInput
from cpns.transport.endpoint import PAN_RATE

SPARE_FILES: Final = 128
"""Files that a process has open besides its sockets."""
DATAGRAMS_PER_READING: Final = 2
"""What a PNE sends for one: the reading, and an acknowledgement where the answer comes late."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A load.

    Attributes:
        gateways: how many.
        pnes: behind each gateway.
        rate: readings a second, of all PNEs.
        duration: seconds that readings are offered for.
        batch: PNEs that set up at one gateway at once.
        loss: share of the datagrams between PNEs and gateways that are lost, each way.
        churn: PNEs a minute that leave their network and come back.
        processes: for the gateways, and as many for the PNEs.
        suite: of gateways and PNEs.
        presence: seconds between a PNE's signs of life.
        tls: whether the uplinks run under TLS.
    """

    gateways: int
    pnes: int
    rate: float
    duration: float
    batch: int
    loss: float
    churn: float
    processes: int
    suite: int
    presence: float
    tls: bool

    @property
    def total(self) -> int:
        """PNEs behind all gateways."""
        return self.gateways * self.pnes

    def files(self) -> int:
        """Return how many files the process with the most of them has open."""
        gateways = -(-self.gateways // self.processes)
        pnes = gateways * self.pnes
        back = pnes + self.churn * self.duration / 60 if self.loss else 0
        return int(max(pnes, 2 * gateways + back)) + SPARE_FILES

    def check(self) -> None:
        """Take what this machine gives, and see whether it is enough; processes that are started after this have it.

        Raises:
            BadInput: ``too_many_files``, ``rate_too_high`` or ``too_many_processes``.
        """
        if self.processes > self.gateways:
            raise BadInput("too_many_processes", "There are fewer gateways than --processes: each needs one at least.")
        most = PAN_RATE[0] / DATAGRAMS_PER_READING
        if self.rate / self.gateways > most:
            raise BadInput(
                "rate_too_high",
                f"A gateway takes some {most:.0f} readings a second from one host: give more --gateways.",
            )
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and self.files() > hard:
            raise BadInput(
                "too_many_files",
                f"A process would have {self.files()} files open, and may have {hard}: raise that limit "
                "(ulimit -Hn, or LimitNOFILE of systemd), or give more --processes.",
            )
        if soft < self.files():
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.files() if hard < 0 else hard, hard))
