"""Whether this process lives, and whether it is ready for associations.

Enters: what each part says of itself. Leaves: two answers and the reasons for them.
Never: an action. Who is not ready goes on serving the associations it has.
"""

import threading
from collections.abc import Callable


class Health:
    """What each part of the process last said of itself. Thread-safe.

    Ready is: at least one component has spoken, and none has a reason against it. Alive is: every watched part lives.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._components: dict[str, str | None] = {}
        self._watched: dict[str, Callable[[], bool]] = {}
        self._asked: list[Callable[[], dict[str, str]]] = []

    def set_ready(self, component: str, ok: bool, why: str = "") -> None:
        """`component` is ready, or is not and says why (a fixed text: it is shown to whoever asks)."""
        with self._lock:
            self._components[component] = None if ok else (why or "not ready")

    def ask(self, reasons_not_ready: Callable[[], dict[str, str]]) -> None:
        """Have `reasons_not_ready` answer, reason by component, whenever somebody asks whether this process is ready."""
        with self._lock:
            self._asked.append(reasons_not_ready)

    def watch(self, part: str, is_alive: Callable[[], bool]) -> None:
        """Ask `is_alive` (a thread's, say) whenever somebody asks whether the process lives. It must not block."""
        with self._lock:
            self._watched[part] = is_alive

    def unwatch(self, part: str) -> None:
        """`part` is about to end on purpose, which is no reason to take the process for dead."""
        with self._lock:
            del self._watched[part]

    def reasons_not_ready(self) -> dict[str, str]:
        """Reason by component; empty where ready."""
        with self._lock:
            if not self._components:
                return {"service": "starting"}
            reasons = {component: why for component, why in self._components.items() if why is not None}
            asked = list(self._asked)
        for ask in asked:
            reasons |= ask()
        return reasons

    def dead_parts(self) -> list[str]:
        """The watched parts that no longer live; empty where alive."""
        with self._lock:
            watched = list(self._watched.items())
        return [part for part, is_alive in watched if not is_alive()]
