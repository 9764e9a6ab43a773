"""python -m docs_site DIRECTORY: writes there what mkdocs renders, the pages of docs/ and those made of the code."""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from docs_site import errors, mqtt, reference

REPOSITORY = Path(__file__).parent.parent
CHARTS = REPOSITORY / "benchmarks" / "results"
COPIED = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
"""Pages of the repository's root, and what they are called in the site."""


def main() -> int:
    """Writes the directory anew."""
    parser = argparse.ArgumentParser(prog="python -m docs_site", description=__doc__)
    parser.add_argument("directory", type=Path, help="is emptied first")
    directory: Path = parser.parse_args().directory
    shutil.rmtree(directory, ignore_errors=True)
    write(directory)
    return 0


def write(directory: Path) -> None:
    """All that mkdocs renders. Links between pages are as in docs/; charts of the benchmarks come along."""
    shutil.copytree(REPOSITORY / "docs", directory)
    (directory / "charts").mkdir()
    for chart in CHARTS.glob("*.svg"):
        shutil.copy(chart, directory / "charts")
    for name, page in COPIED.items():
        text = (REPOSITORY / name).read_text()
        (directory / page).write_text(re.sub(r"\]\(docs/", "](", text))
    for file in directory.glob("*.md"):
        file.write_text(file.read_text().replace("](../benchmarks/results/", "](charts/"))
    (directory / "decisions" / "index.md").write_text(_decisions(directory / "decisions"))
    made = directory / "reference"
    made.mkdir(exist_ok=True)
    for name, text in reference.pages():
        (made / f"{name}.md").write_text(text)
    (made / "mqtt.md").write_text(mqtt.page())
    (made / "errors.md").write_text(errors.page(reference.PACKAGE))
    (made / "bgpd.toml.md").write_text(_commented(REPOSITORY / "conf" / "bgpd.toml"))


def _decisions(directory: Path) -> str:
    """The list of decisions, by number."""
    lines = ["# Decisions", "", "Why bgpd is as it is, one page for each decision.", ""]
    for page in sorted(directory.glob("[0-9]*.md")):
        title = page.read_text().partition("\n")[0].removeprefix("# ")
        lines.append(f"* [{title}]({page.name})")
    return "\n".join(lines) + "\n"


def _commented(file: Path) -> str:
    """A page with the whole file."""
    about = "Every setting with its default, commented. It comes with each installation, as an example."
    return f"# {file.name}\n\n{about}\n\n```toml\n{file.read_text()}```\n"


if __name__ == "__main__":
    raise SystemExit(main())
