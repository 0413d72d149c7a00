"""Where the functions and the state machine are: beside this package's checkout, or inside the installed package.

Enters: nothing. Leaves: paths. Never: another definition than the one that is deployed.
"""

from pathlib import Path

from fastscp.errors import ConfigError

_PACKAGE = Path(__file__).parent
_BUNDLED = _PACKAGE / "bundled"
_CHECKOUT = _PACKAGE.parents[2]


def functions_directory() -> Path:
    """The directory that holds trigger_import and the others. Raises ConfigError."""
    return _find("lambdas")


def state_machine_file() -> Path:
    """The definition of the state machine. Raises ConfigError."""
    return _find("cfn/statemachine/import.asl.json")


def _find(name: str) -> Path:
    for root in (_BUNDLED, _CHECKOUT):
        if (root / name).exists():
            return root / name
    raise ConfigError("fastscp local", f"this installation lacks {name}: install a wheel built from a checkout, or run from one")
