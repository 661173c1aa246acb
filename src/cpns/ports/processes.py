"""What the processes of a server need of the store they share."""

from typing import Protocol

from cpns.domain.process import Process


class ProcessStore(Protocol):
    """The processes of a server that share its store. See `cpns.ports.Store`."""

    async def is_there(self, own: Process) -> tuple[float, list[Process]]:
        """Note that a process of the server is there. Return as `processes`, it included."""
        ...

    async def processes(self) -> tuple[float, list[Process]]:
        """Return what the store's clock says, and the processes that said lately that they are there."""
        ...

    async def leaves(self, process_id: str) -> None:
        """Forget a process that ends."""
        ...
