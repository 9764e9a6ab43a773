"""How much of a table one step of a walk looks at."""

from __future__ import annotations

SLICE = 2048
"""Keys of one step of a walk, while many share a decision; an eighth of it else. Both stay below 10 ms."""
