"""The shape of the code: who imports whom, where the environment is read, how long a module is, what it says of itself."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "fastscp"
MODULES = sorted(PACKAGE.rglob("*.py"))
FUNCTIONS = sorted((ROOT / "lambdas").rglob("*.py"))
NATIVE = sorted(path for pattern in ("*.pyx", "*.pxd", "*.pyi") for path in PACKAGE.rglob(pattern))

LEAVES = {"observe", "settings", "errors", "uids"}
# Each part may import what stands to its right, and no other part; the leaves only one another, in the order of the second table.
DIRECTION = {
    "__main__": {"cli"},
    "cli": {"service", "jobs", "local", *LEAVES},
    "service": {"association", "receive", "stores", "batches", "_ext", *LEAVES},
    "association": {"receive", "stores", "batches", "_ext", *LEAVES},
    "receive": {"stores", "batches", "_ext", *LEAVES},
    "stores": {"_ext", *LEAVES},
    "batches": {"_ext", *LEAVES},
    "jobs": {"batches", *LEAVES},
    "local": {"batches", *LEAVES},
    "_ext": {"errors", "uids"},
    "settings": {"observe", "errors", "uids"},
    "observe": {"_ext", "errors"},
    "errors": set(),
    "uids": set(),
}
LONGEST_LINES = {".py": 400, ".pyx": 550, ".pxd": 150, ".pyi": 150}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py") if path.parent == PACKAGE else first


def imported(path: Path) -> Iterator[str]:
    """Absolute names of what a module imports, those inside functions and relative ones included."""
    if path.suffix != ".py":
        yield from re.findall(r"^\s*(?:from|import|cimport)\s+([\w.]+)", path.read_text(), re.MULTILINE)
        return
    package = ["fastscp", *path.relative_to(PACKAGE).parent.parts] if path.is_relative_to(PACKAGE) else []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            # "from fastscp import service" imports a part, "from fastscp.settings import Settings" a name of one.
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 10
    assert len(NATIVE) > 10


@pytest.mark.parametrize("path", MODULES + NATIVE, ids=relative)
def test_imports_go_in_one_direction(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        assert not list(imported(path)), "importing fastscp must import nothing else"
        return
    assert part in DIRECTION, f"{part} is not a part of the design"
    for name in imported(path):
        if name.startswith("fastscp."):
            other = name.split(".")[1]
            allowed = other == part or other in DIRECTION[part] or other == "__version__"
            assert allowed, f"{relative(path)} imports {name}, and {part} must not know {other}"


@pytest.mark.parametrize("path", MODULES + NATIVE, ids=relative)
def test_only_the_association_layer_knows_pynetdicom(path: Path) -> None:
    if part_of(path) != "association":
        assert not [name for name in imported(path) if name.split(".")[0] == "pynetdicom"]


def test_the_direction_has_no_cycle() -> None:
    done: set[str] = set()
    while remaining := {part: below - done for part, below in DIRECTION.items() if part not in done}:
        free = {part for part, below in remaining.items() if not below}
        assert free, f"a cycle among {sorted(remaining)}"
        done |= free


def test_the_functions_do_not_import_the_receiver() -> None:
    assert len(FUNCTIONS) > 20
    for path in FUNCTIONS:
        assert not [name for name in imported(path) if name.split(".")[0] == "fastscp"], relative(path)


@pytest.mark.parametrize("path", FUNCTIONS, ids=relative)
def test_functions_share_only_what_is_meant_to_be_shared(path: Path) -> None:
    packages = {folder.name for folder in (ROOT / "lambdas").iterdir() if folder.is_dir()}
    own = path.relative_to(ROOT / "lambdas").parts[0]
    assert not {name.split(".")[0] for name in imported(path)} & (packages - {own, "importflow"})


def test_the_environment_is_read_in_one_file_of_the_receiver_and_one_of_the_functions() -> None:
    readers = {
        relative(path)
        for path in MODULES + FUNCTIONS
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"})
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and {alias.name for alias in node.names} & {"environ", "getenv"})
    }
    assert readers == {"lambdas/importflow/settings.py", "src/fastscp/settings/load.py"}


@pytest.mark.parametrize("path", MODULES + NATIVE + FUNCTIONS, ids=relative)
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    longest = LONGEST_LINES[path.suffix]
    assert lines <= longest, f"{relative(path)} has {lines} lines; more than {longest} are two modules"


@pytest.mark.parametrize("path", [path for path in MODULES + FUNCTIONS if path != PACKAGE / "__init__.py"], ids=relative)
def test_a_module_says_what_enters_what_leaves_and_what_it_must_never_do(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    title, *rest = docstring.splitlines()
    assert title.endswith((".", ":", "?")), "the first line says what the module is"
    assert re.search(r"\bEnters:.*\bLeaves:.*\bNever:", " ".join(rest)), docstring


@pytest.mark.parametrize("path", [path for path in NATIVE if path.suffix in {".pyx", ".pyi"}], ids=relative)
def test_a_native_module_says_so_too(path: Path) -> None:
    head = path.read_text()[:1500]
    assert re.search(r'"""[^"]*\bEnters:[^"]*\bLeaves:[^"]*\bNever:[^"]*"""', head)


def tracked_files() -> list[Path]:
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_place_on_one_machine() -> None:
    # Written in pieces, so that this file does not find itself.
    places = ["/" + "work/", "/tmp/" + "venv", "/" + "root/", r"/home/[a-z]+" + "/", "py" + r"pi\.org", "python" + r"hosted\.org"]
    pattern = re.compile("|".join(rf"(?<![\w.]){place}" for place in places).encode())
    found = {relative(path): pattern.findall(path.read_bytes()) for path in tracked_files()}
    assert {name: hits for name, hits in found.items() if hits} == {}


def test_no_built_file_is_tracked() -> None:
    built = {".so", ".pyc", ".o", ".dcm"}
    assert [relative(path) for path in tracked_files() if path.suffix in built] == []
    generated = {path.with_suffix(".c") for path in PACKAGE.rglob("*.pyx")}
    assert [relative(path) for path in tracked_files() if path in generated] == []
