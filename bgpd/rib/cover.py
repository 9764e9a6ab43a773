"""The fewest prefixes that cover exactly the given ones and nothing else, kept as prefixes come and go.

The prefixes are nodes of the binary tree of addresses, each numbered like in a heap: the root is 1, the children of n
are 2n and 2n + 1. A node is *full* if it is a member itself or both of its children are full; the cover is the full
nodes that have no full node above them. One change touches only the nodes between the member and the root of the pool:
O(length of an address), and the members beneath where the member is itself a whole prefix. Never originates anything.
"""

from __future__ import annotations

from collections.abc import Iterator

_Node = int


def node_of(key: bytes) -> _Node:
    """Node of a route key."""
    length = key[0]
    return 1 << length | int.from_bytes(key[1:], "big") >> (8 * (len(key) - 1) - length)


def key_of_node(node: _Node) -> bytes:
    """Route key of a node."""
    length = node.bit_length() - 1
    size = (length + 7) >> 3
    value = (node ^ 1 << length) << (8 * size - length)
    return bytes((length,)) + value.to_bytes(size, "big")


class ExactCover:
    """The cover of the members inside one pool. Keys are route keys of the pool's family; `pool` is one too."""

    def __init__(self, pool: bytes) -> None:
        self._root = node_of(pool)
        self._members: set[_Node] = set()
        self._full: set[_Node] = set()
        self._beneath: dict[_Node, int] = {}

    def __contains__(self, key: bytes) -> bool:
        """Whether the cover has exactly this prefix."""
        node = node_of(key)
        return node in self._full and not self._is_covered(node)

    def prefixes(self) -> Iterator[bytes]:
        """The cover."""
        return map(key_of_node, self._topmost(self._root))

    def add(self, key: bytes) -> tuple[list[bytes], list[bytes]]:
        """Add a member (once) inside the pool. Returns the prefixes that entered the cover, and those that left it."""
        node = node_of(key)
        self._members.add(node)
        self._count(node, 1)
        if node in self._full:
            return [], []
        left = list(self._topmost(node))
        covered = self._is_covered(node)
        top = node
        self._full.add(top)
        while top != self._root and top ^ 1 in self._full and top >> 1 not in self._full:
            left.append(top ^ 1)
            top >>= 1
            self._full.add(top)
        if covered:
            return [], []
        return [key_of_node(top)], [key_of_node(one) for one in left]

    def remove(self, key: bytes) -> tuple[list[bytes], list[bytes]]:
        """Remove a member. Returns the prefixes that entered the cover, and those that left it."""
        node = node_of(key)
        self._members.remove(node)
        self._count(node, -1)
        if self._is_full(node):
            return [], []
        entered = []
        top = node
        self._full.remove(top)
        while top != self._root and top >> 1 in self._full and not self._is_full(top >> 1):
            entered.append(top ^ 1)
            top >>= 1
            self._full.remove(top)
        if self._is_covered(top):
            return [], []
        entered += self._topmost(node)
        return [key_of_node(one) for one in entered if one in self._full], [key_of_node(top)]

    def _is_full(self, node: _Node) -> bool:
        return node in self._members or (2 * node in self._full and 2 * node + 1 in self._full)

    def _is_covered(self, node: _Node) -> bool:
        """Whether a full node is above."""
        while node != self._root:
            node >>= 1
            if node in self._full:
                return True
        return False

    def _topmost(self, node: _Node) -> Iterator[_Node]:
        """The full nodes at or beneath `node` that have none above them there."""
        waiting = [node]
        while waiting:
            one = waiting.pop()
            if one in self._full:
                yield one
            elif one in self._beneath:
                waiting += (2 * one + 1, 2 * one)

    def _count(self, node: _Node, change: int) -> None:
        """Keep how many members are at or beneath each node."""
        while True:
            count = self._beneath.get(node, 0) + change
            if count:
                self._beneath[node] = count
            else:
                del self._beneath[node]
            if node == self._root:
                return
            node >>= 1
