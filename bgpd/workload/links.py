"""Which interfaces exist, and which of them are up, by name: from the kernel's events. Decides nothing else."""

from __future__ import annotations

from bgpd.model.kernel import LinkChanged


class Links:
    """`up`: of each existing interface, whether it is up."""

    def __init__(self) -> None:
        self.up: dict[str, bool] = {}
        self._index: dict[str, int] = {}

    def changed(self, event: LinkChanged) -> dict[str, bool]:
        """An interface came, went, changed its name, or went up or down: the names for which something changed, and
        whether their interface may have dropped its routes since.
        """
        link = event.link
        told: dict[str, bool] = {}
        if event.gone:
            if self._index.get(link.name) == link.index:
                self._set(link.name, None, told)
            return told
        if self._index.get(link.name) != link.index:
            for name in [name for name, index in self._index.items() if index == link.index or name == link.name]:
                self._set(name, None, told)
            self._index[link.name] = link.index
        self._set(link.name, link.up, told)
        return told

    def _set(self, name: str, up: bool | None, told: dict[str, bool]) -> None:
        if self.up.get(name) is up:
            return
        if up is None:
            del self.up[name]
            del self._index[name]
        else:
            self.up[name] = up
        told[name] = told.get(name, False) or not up
