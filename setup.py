"""Builds the native modules fastscp._ext.*; everything else about the package is in pyproject.toml.

FASTSCP_BUILD chooses one of four builds: release (default), debug, coverage, asan. A failed compile fails the install.
"""

import os
import shutil
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_py import build_py

EXT_DIR = Path("src/fastscp/_ext")
MODULES = {"memory", "head", "file_meta", "part10", "dimse", "lookahead", "pdu", "wire", "committer", "files", "tally"}

# Cython writes unused helpers and parameters, and initialises type objects in part.
WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wno-unused-function",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    "-Wno-cast-function-type",
]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
COMPILE = {
    "release": ["-O3", "-g1"],
    "debug": ["-O0", "-g3", "-UNDEBUG"],
    "coverage": ["-O0", "-g1"],
    "asan": ["-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer", "-Werror", *SANITIZE],
}
# Line tracing through sys.monitoring loses lines of nogil code; the pair CYTHON_USE_SYS_MONITORING=0 and COVERAGE_CORE=ctrace works.
MACROS = {"coverage": [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]}
LINK = {"asan": SANITIZE}


def extensions(build: str) -> list[Extension]:
    sources = sorted(EXT_DIR.glob("*.pyx"))
    missing = MODULES - {source.stem for source in sources}
    if missing:
        sys.exit(f"setup.py: {EXT_DIR} lacks {', '.join(sorted(f'{name}.pyx' for name in missing))}")
    return [
        Extension(
            f"fastscp._ext.{source.stem}",
            [str(source)],
            include_dirs=[str(EXT_DIR)],
            depends=[str(header) for header in sorted(EXT_DIR.glob("*.h"))],
            define_macros=MACROS.get(build, []),
            extra_compile_args=COMPILE[build] + WARNINGS,
            extra_link_args=LINK.get(build, []),
        )
        for source in sources
    ]


class BuildPackages(build_py):
    """A wheel brings the functions and the templates along, because `fastscp local` makes and runs what they say."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        bundled = Path(self.build_lib) / "fastscp" / "local" / "bundled"
        shutil.rmtree(bundled, ignore_errors=True)
        for name in ("lambdas", "cfn"):
            # Absent where only the receiver is built, as in the image.
            if Path(name).is_dir():
                shutil.copytree(name, bundled / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "params", "rules"))


def main() -> None:
    build = os.environ.get("FASTSCP_BUILD", "release")
    if build not in COMPILE:
        sys.exit(f"setup.py: FASTSCP_BUILD is {build!r}, not one of {', '.join(COMPILE)}")
    # What another build, or another state of this file, left in this tree looks up to date and is not.
    last_build = Path("build/last_build")
    this_build = f"{build}\n{Path(__file__).read_text()}"
    changed = not last_build.exists() or last_build.read_text() != this_build
    setup(
        ext_modules=cythonize(
            extensions(build),
            include_path=["src"],
            compiler_directives={"language_level": 3, "linetrace": build == "coverage"},
            force=changed,  # and a newer .c recompiles
        ),
        cmdclass={"build_py": BuildPackages},
    )
    last_build.parent.mkdir(exist_ok=True)
    last_build.write_text(this_build)


main()
