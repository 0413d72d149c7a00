"""What ran was native code.

Enters: the imported modules. Leaves: their files. Never: a Python module under the name of a native one.
"""

import importlib
import sysconfig
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

import pytest

import fastscp._ext

MODULES = ["memory", "head", "file_meta", "part10", "dimse", "lookahead", "pdu", "wire", "committer", "files", "tally"]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


@pytest.mark.parametrize("name", MODULES)
def test_the_module_is_native(name: str) -> None:
    module = importlib.import_module(f"fastscp._ext.{name}")
    assert Path(str(module.__file__)).name == f"{name}{SUFFIX}"
    assert isinstance(module.__spec__.loader, ExtensionFileLoader)
    assert Path(str(module.__file__)).read_bytes()[:4] in (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")


@pytest.mark.parametrize("name", MODULES)
def test_what_it_defines_is_native(name: str) -> None:
    """A class or function that is written in Python has a code object that Python can run, and its lines in a file."""
    module = importlib.import_module(f"fastscp._ext.{name}")
    own = [
        value for key, value in vars(module).items() if not key.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    for value in own:
        members = [value, *(vars(value).values() if isinstance(value, type) else [])]
        assert not any(type(member).__name__ == "function" for member in members)
        assert not isinstance(value, type) or not value.__flags__ & (1 << 9)  # Py_TPFLAGS_HEAPTYPE: made by a class statement


def test_there_is_no_python_beside_them() -> None:
    (package,) = map(Path, fastscp._ext.__path__)
    assert {path.stem for path in package.glob("*.py")} == {"__init__"}
    assert {path.name.removesuffix(SUFFIX) for path in package.glob(f"*{SUFFIX}")} == set(MODULES)


def test_every_module_has_a_contract() -> None:
    (package,) = map(Path, fastscp._ext.__path__)
    assert {path.stem for path in package.glob("*.pyi")} == set(MODULES)
