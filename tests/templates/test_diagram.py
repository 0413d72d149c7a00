"""The diagram in docs/ is what the templates say."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_diagram_is_that_of_the_templates() -> None:
    specification = importlib.util.spec_from_file_location("diagram", ROOT / "scripts" / "diagram.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8") == module.draw(), "run make diagram"
