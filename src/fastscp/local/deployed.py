"""Where the templates and the functions are: beside this package's checkout, or inside the installed package.

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


def templates_directory() -> Path:
    """The directory that holds main.yaml, what it nests, and in statemachine/ what these name. Raises ConfigError."""
    return _find("cfn/main.yaml").parent


def _find(name: str) -> Path:
    for root in (_BUNDLED, _CHECKOUT):
        if (root / name).exists():
            return root / name
    raise ConfigError("fastscp local", f"this installation lacks {name}: install a wheel built from a checkout, or run from one")
