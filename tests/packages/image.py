"""A Dockerfile carried out without an engine: each stage in an overlay of this machine's files, which are Debian's.

What a base image has and this machine lacks is not seen so; what the steps themselves do is.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

START = """set -eu
mount --make-rprivate /
mount -t tmpfs -o size=4g none "$1"
work=$1
new_stage() {
    root=$work/$1/root
    mkdir -p "$work/$1/upper" "$work/$1/work" "$root"
    mount -t overlay -o "lowerdir=/,upperdir=$work/$1/upper,workdir=$work/$1/work" none "$root"
    for place in proc sys dev; do mount --rbind "/$place" "$root/$place"; done
    here=/
}
step() {
    chroot "$root" env -i DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin /bin/sh -c "cd '$here' && $1" >&2
}
put() {
    mkdir -p "$(dirname "$root$2")"
    if [ -d "$1" ]; then mkdir -p "$root$2" && cp -a "$1/." "$root$2"; else cp -a "$1" "$root$2"; fi
}
"""


def instructions(text: str) -> list[tuple[str, str]]:
    """[(NAME, WORDS), ...] of a Dockerfile."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(words[0], words[1]) for words in found]


def as_script(file: Path, context: Path) -> str:
    """A shell script, for a mount namespace of its own: $1 is an empty directory; at its end $root is the image's."""
    script = START
    here = "/"
    stages = 0
    for name, words in instructions(file.read_text()):
        match name:
            case "FROM":
                stages += 1
                here = "/"
                label = re.search(r" AS (\w+)$", words)
                script += f"new_stage {label[1] if label else stages}\n"
            case "WORKDIR":
                here = words
                script += f'mkdir -p "$root{here}"\nhere={here}\n'
            case "RUN":
                script += f"step {shlex.quote(words)}\n"
            case "COPY":
                script += _copies(words.split(), here=here, context=context)
    return script


def _copies(words: list[str], *, here: str, context: Path) -> str:
    origin = str(context)
    if words[0].startswith("--from="):
        origin = f"$work/{words.pop(0).removeprefix('--from=')}/root"
    *sources, target = words
    script = ""
    for source in sources:
        to = target if target.startswith("/") else f"{here}/{target.removeprefix('./')}"
        if to.endswith("/"):
            to += Path(source).name
        script += f'put "{origin}/{source.lstrip("/")}" "{to}"\n'
    return script
