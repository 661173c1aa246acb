"""The times and numbers of the message layer (RFC 7252 4.8)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """Seconds, unless said otherwise; those of RFC 7252 4.8, and what it derives from them in 4.8.2.

    Attributes:
        nstart: confirmable messages under way to one peer at once (4.7).
        empty_ack_delay: how long an answer may take to go with the acknowledgement (5.2.2); less than `ack_timeout`.
    """

    ack_timeout: float = 2.0
    ack_random_factor: float = 1.5
    max_retransmit: int = 4
    nstart: int = 1
    max_latency: float = 100.0
    empty_ack_delay: float = 0.1

    @property
    def max_transmit_span(self) -> float:
        """From the first transmission to the last."""
        return self.ack_timeout * ((1 << self.max_retransmit) - 1) * self.ack_random_factor

    @property
    def max_transmit_wait(self) -> float:
        """From the first transmission until the sender gives up."""
        return self.ack_timeout * ((2 << self.max_retransmit) - 1) * self.ack_random_factor

    @property
    def exchange_lifetime(self) -> float:
        """From the first transmission until the message ID may serve anew; PROCESSING_DELAY is ACK_TIMEOUT."""
        return self.max_transmit_span + 2 * self.max_latency + self.ack_timeout
