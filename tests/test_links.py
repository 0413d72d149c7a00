"""Every link in the documents leads to a file that is there, and to a heading that it has."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRACKED = subprocess.run(["git", "-C", ROOT, "ls-files", "*.md"], capture_output=True, text=True, check=True).stdout.split()


def anchors(path: Path) -> set[str]:
    """What a heading is called in a link, by GitHub's rules: lower case, hyphens for spaces, letters and digits only."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken(path: Path, text: str) -> list[str]:
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("name", TRACKED)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    assert broken(path, path.read_text(encoding="utf-8")) == []


def test_a_link_that_leads_nowhere_is_noticed() -> None:
    said = "[a](docs/security.md) [b](docs/nothing.md) [c](docs/security.md#controls) [d](docs/security.md#control)"
    assert broken(ROOT / "README.md", said) == ["docs/nothing.md", "docs/security.md#control"]


def test_there_are_documents() -> None:
    assert {"README.md", "docs/security.md", "docs/deployment.md", "docs/operations.md"} <= set(TRACKED)
