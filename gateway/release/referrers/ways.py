"""The one way in which each trust's staff are told: to the system that the trust named, else as files in its folder.

One way and no second one behind it: whoever has a notice is not to get it once more because another way was silent.
What cannot be given waits, and an alert that waits is alarmed (SAF-68).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.model.errors import StoreUnavailable
from gateway.model.reporting.notices import Notice, Notifier
from policy.parties import TrustId


class Ways:
    """A `Notifier` over all of them."""

    def __init__(self, folder: Notifier, systems: Mapping[str, Notifier], system_of: Callable[[TrustId], str]) -> None:
        """`systems` by the name of their `[[channel]]`; `system_of` names a trust's, or none by an empty name."""
        self._folder = folder
        self._systems = systems
        self._system_of = system_of

    async def tell(self, notice: Notice) -> str:
        """See `Notifier`."""
        name = self._system_of(notice.trust)
        if not name:
            return await self._folder.tell(notice)
        system = self._systems.get(name)
        if system is None:
            raise StoreUnavailable("the system that its trust is told by is not open")
        return await system.tell(notice)
