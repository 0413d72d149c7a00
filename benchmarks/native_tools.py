"""The C programs of the benchmarks, compiled where they are used.

Enters: a name in `native/`. Leaves: the path of its executable. Never: a binary in the source tree's history.
"""

import hashlib
import os
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent / "native"
CACHE = Path(__file__).parents[1] / "build" / "benchmarks"
COMPILE = (os.environ.get("CC", "cc"), "-std=c11", "-O2", "-Wall", "-Wextra", "-pthread")
LIBRARIES = {"s3_sink": ("-lssl", "-lcrypto")}


def executable(name: str) -> Path:
    """Path of the compiled `native/<name>.c`; compiles it unless this source was compiled before. Raises CalledProcessError."""
    source = SOURCES / f"{name}.c"
    libraries = LIBRARIES.get(name, ())
    version = hashlib.sha256(source.read_bytes() + " ".join(COMPILE + libraries).encode()).hexdigest()[:12]
    target = CACHE / f"{name}-{version}"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}")
        subprocess.run([*COMPILE, str(source), "-o", str(unfinished), *libraries], check=True)
        unfinished.replace(target)
    return target
