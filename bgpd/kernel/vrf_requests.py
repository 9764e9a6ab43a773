"""What is asked of the kernel for VRFs that are devices: rtnl.py answers it, or whoever stands for the kernel."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from bgpd.kernel.netlink import KernelError


class VrfDevice(msgspec.Struct, frozen=True):
    """What the kernel has under a VRF's name: its kind, its table if it is a VRF device, its alias."""

    index: int
    name: str
    kind: str
    table: int
    alias: str


class VrfRequests(Protocol):
    """Changes answer the kernel's refusal, or None. Readings and lost answers raise OSError."""

    def stop(self) -> None:
        """Nothing more is asked."""

    async def device(self, name: str) -> VrfDevice | None:
        """The link of this name, None if there is none."""

    async def add_vrf_device(self, name: str, table: int) -> KernelError | None:
        """Create a VRF device that is up."""

    async def set_link_up(self, index: int) -> KernelError | None:
        """Set a link up."""

    async def set_alias(self, index: int, alias: str) -> KernelError | None:
        """Give a link an alias: a note on whose it is."""

    async def set_master(self, index: int, master: int) -> KernelError | None:
        """Put a link into a VRF device, or out of it (`master` 0). The kernel takes the link down for it."""

    async def delete_link(self, index: int) -> KernelError | None:
        """Delete a link."""

    def addresses_kept(self, index: int) -> AbstractAsyncContextManager[None]:
        """After the block the link of this index has the permanent IPv6 addresses that it had before."""
