"""Whether another pynetdicom than the one that is known is found out, and how clearly.

Enters: a pynetdicom that was changed. Leaves: an error that names the change. Never: a start that hopes for the best.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pynetdicom
import pytest
from pynetdicom import association, dimse, dul

from fastscp.association import check_pynetdicom, compat
from fastscp.association.acse import StoreAcse
from fastscp.association.association import StoreAssociation
from fastscp.association.dul import LocalDimse, PumpedDul, _StateMachine
from fastscp.association.transport import WireSocket
from fastscp.errors import ConfigError


def test_the_installed_one_is_known() -> None:
    check_pynetdicom()


@pytest.mark.parametrize("version", ["2.1.1", "3.1.0", "4.0.0.dev0", "30.0.1", "3"])
def test_another_version(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(pynetdicom, "__version__", version)
    with pytest.raises(ConfigError, match=rf"^pynetdicom: version {version} is installed, fastscp needs 3\.0\.x$"):
        check_pynetdicom()


@pytest.mark.parametrize(("owner", "name", "parameters"), compat._RELIED_ON, ids=lambda value: getattr(value, "__name__", str(value)))
@pytest.mark.parametrize("change", ["gone", "another parameter", "not callable"])
def test_a_function_that_has_changed(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, parameters: tuple[str, ...], change: str
) -> None:
    if change == "gone":
        # What is inherited, such as object's constructor, remains, with other parameters.
        monkeypatch.delattr(owner, name)
    else:
        monkeypatch.setattr(owner, name, (lambda self, changed: None) if change == "another parameter" else 7)
    with pytest.raises(ConfigError, match=rf"{owner.__name__}\.{name} has changed"):
        check_pynetdicom()


@pytest.mark.parametrize("made", [association.Association, dul.DULServiceProvider, dimse.DIMSEServiceProvider])
@pytest.mark.parametrize("change", ["more", "fewer"])
def test_an_attribute_that_has_changed(monkeypatch: pytest.MonkeyPatch, made: Any, change: str) -> None:
    original = made.__init__
    fewer = {"Association": "_sent_release", "DULServiceProvider": "_recv_pdu", "DIMSEServiceProvider": "message"}[made.__name__]

    # The parameters are looked at too, so they stay what they were.
    if made is association.Association:

        def changed(self: Any, ae: Any, mode: Any) -> None:
            original(self, ae, mode)
            change_attributes(self)
    else:

        def changed(self: Any, assoc: Any) -> None:  # type: ignore[misc]
            original(self, assoc)
            change_attributes(self)

    def change_attributes(instance: Any) -> None:
        if change == "more":
            instance._of_a_later_version = 1
        else:
            delattr(instance, fewer)

    monkeypatch.setattr(made, "__init__", changed)
    what = "_of_a_later_version" if change == "more" else fewer
    with pytest.raises(ConfigError, match=rf"{made.__name__} has changed: {what}$"):
        check_pynetdicom()


CHANGES = {
    "pynetdicom.__version__ = '3.1.0'": "version 3.1.0",
    "pynetdicom.fsm.StateMachine.do_action = lambda self, event, more: None": "StateMachine.do_action",
    "del pynetdicom.evt._add_handler": "_add_handler",
}


@pytest.mark.parametrize("change", CHANGES)
def test_serve_does_not_start(tmp_path: Path, change: str) -> None:
    """One line that says what is different, exit code 2."""
    # Imported by every interpreter that starts: each worker's among them.
    (tmp_path / "sitecustomize.py").write_text(f"import pynetdicom, pynetdicom.fsm\n{change}\n")
    command = [sys.executable, "-m", "fastscp", "serve", "--port", "0", "--admin-port", "0", "--store", str(tmp_path / "received")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert "pynetdicom" in lines[0]
    assert CHANGES[change] in lines[0]
    assert not (tmp_path / "received").exists()


def test_what_is_overridden_has_the_parameters_of_what_it_overrides() -> None:
    for ours in (StoreAssociation, StoreAcse, PumpedDul, LocalDimse, _StateMachine, WireSocket):
        theirs = ours.__mro__[1]
        for name, function in vars(ours).items():
            if not inspect.isfunction(function) or name == "__init__" or not hasattr(theirs, name):
                continue
            expected = list(inspect.signature(getattr(theirs, name)).parameters)
            assert list(inspect.signature(function).parameters)[: len(expected)] == expected, f"{ours.__name__}.{name}"
