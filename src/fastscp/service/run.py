"""One receiver from its settings to its exit code.

Enters: the settings. Leaves: 0 when it has drained. Never: an acknowledged instance that is not committed.
"""

import contextlib
import functools
import os
import resource
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import fastscp
from fastscp.association import Acceptor, check_pynetdicom
from fastscp.observe.admin import AdminServer
from fastscp.observe.health import Health
from fastscp.observe.log import get_logger
from fastscp.observe.metrics import Metrics
from fastscp.receive import open_store
from fastscp.service.listener import Listener, bind
from fastscp.settings import Settings

ABORT_GRACE_S = 5.0
"""How long associations may take to end after the drain deadline has aborted them."""

_log = get_logger("service")


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, drain, and return the exit code. A second signal ends the process at once.

    Raises ConfigError where the settings cannot be carried out.
    """
    check_pynetdicom()
    _raise_descriptor_limit()
    metrics = Metrics(fastscp.__version__)
    health = Health()
    health.set_ready("listener", False, "starting")
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(contextlib.closing(bind(settings.host, settings.port)))
        store = stack.enter_context(contextlib.closing(open_store(settings, functools.partial(health.set_ready, "store"))))
        acceptor = stack.enter_context(contextlib.closing(Acceptor(settings, store, metrics, listening.getsockname())))
        listener = Listener(listening, acceptor, metrics, settings.associate_timeout_s)
        admin = AdminServer(settings.admin_host, settings.admin_port, health, metrics)
        admin.start()
        stack.callback(admin.stop)
        health.watch("listener", listener.is_alive)
        with _stop_signals() as stop:
            listener.start()
            health.set_ready("listener", True)
            _log.info(
                "ready",
                version=fastscp.__version__,
                host=settings.host,
                port=listening.getsockname()[1],
                aet=settings.aet,
                admin_port=admin.port,
                store=str(settings.store),
            )
            stop.wait()
            health.set_ready("listener", False, "draining")
            left_count = _drain(settings, health, listener, acceptor)
    if left_count:
        # Their threads are stuck in the store and would keep the process from ending.
        os._exit(1)
    return 0


def _drain(settings: Settings, health: Health, listener: Listener, acceptor: Acceptor) -> int:
    _log.info("draining", deadline_s=settings.drain_timeout_s)
    acceptor.begin_drain()
    health.unwatch("listener")
    listener.stop()
    left_count = acceptor.wait_ended(settings.drain_timeout_s)
    if left_count:
        _log.warning("drain_deadline", associations_aborted=left_count)
        acceptor.abort_all()
        left_count = acceptor.wait_ended(ABORT_GRACE_S)
    _log.info("drained", associations_left=left_count)
    return left_count


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            # Somebody insists. What is acknowledged is committed; what is not, the peer sends again.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise_descriptor_limit() -> None:
    # The soft limit is 1024 for the sake of programs that use select(); this one does not.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
