"""One receiver from its settings to its exit code: the supervisor of its workers.

Enters: the settings. Leaves: 0 when it has drained. Never: an acknowledged instance that is not committed.
"""

import contextlib
import functools
import queue
import resource
import signal
from collections.abc import Callable

import fastscp
from fastscp.errors import ConfigError
from fastscp.observe.admin import AdminServer
from fastscp.observe.emf import EmfReporter
from fastscp.observe.families import Family, families_of, merged, text_of
from fastscp.observe.health import Health
from fastscp.observe.log import get_logger, set_level
from fastscp.observe.metrics import Metrics
from fastscp.service.disk import disk_reasons
from fastscp.service.listener import Listener, bind
from fastscp.service.pool import WorkerPool
from fastscp.service.signals import block, end_by, watch
from fastscp.settings import ABORT_GRACE_S, EXIT_GRACE_S, Settings, change

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_log = get_logger("service")


def run(settings: Settings, read_settings: Callable[[], Settings]) -> int:
    """Serve until SIGTERM or SIGINT, drain, and return the exit code. A second signal ends the process at once.

    Args:
        read_settings: reads them anew, on SIGHUP; may raise ConfigError.
    Raises ConfigError where the settings cannot be carried out.
    """
    block(_SIGNALS)
    _raise_descriptor_limit()
    metrics = Metrics(fastscp.__version__)
    health = Health()
    health.set_ready("listener", False, "starting")
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(contextlib.closing(bind(settings.host, settings.port)))
        address = listening.getsockname()
        pool = stack.enter_context(contextlib.closing(WorkerPool(settings, address[:2])))
        listener = Listener(listening, pool, metrics, settings.associate_timeout_s)

        def families() -> list[Family]:
            return merged([families_of(metrics.registry), pool.families()])

        admin = AdminServer(settings.admin_host, settings.admin_port, health, lambda: text_of(families()))
        admin.start()
        stack.callback(admin.stop)
        health.ask(pool.reasons_not_ready)
        health.ask(functools.partial(disk_reasons, settings.store))
        signals = _signals(pool.kill)
        pool.start()
        if settings.emf_namespace:
            # Its last line comes when all workers have ended, and have said what they counted.
            stack.enter_context(EmfReporter(settings.emf_namespace, families))
        health.watch("listener", listener.is_alive)
        health.watch("workers", pool.is_alive)
        listener.start()
        health.set_ready("listener", True)
        _log.info(
            "ready",
            version=fastscp.__version__,
            host=settings.host,
            port=address[1],
            aet=settings.aet,
            admin_port=admin.port,
            store=str(settings.store),
            workers=settings.workers,
        )
        while signals.get() == signal.SIGHUP:
            settings = _reload(settings, read_settings, pool)
        health.set_ready("listener", False, "draining")
        _log.info("draining", deadline_s=settings.drain_timeout_s)
        health.unwatch("listener")
        health.unwatch("workers")
        listener.stop()
        unclean_count = pool.drain(settings.drain_timeout_s + ABORT_GRACE_S + settings.put_timeout_s + EXIT_GRACE_S)
        _log.info("drained", workers_unclean=unclean_count)
    return 1 if unclean_count else 0


def _reload(settings: Settings, read_settings: Callable[[], Settings], pool: WorkerPool) -> Settings:
    try:
        changed = change(settings, read_settings())
    except ConfigError as error:
        _log.error("not_reloaded", option=error.option, problem=error.problem)
        return settings
    set_level(changed.settings.log_level)
    pool.reload(changed.settings)
    if changed.needs_restart:
        _log.warning("reloaded", changed=changed.changed, needs_restart=changed.needs_restart)
    else:
        _log.info("reloaded", changed=changed.changed, needs_restart=[])
    return changed.settings


def _signals(insist: Callable[[], None]) -> "queue.SimpleQueue[int]":
    """The signals that come, as they come; a second one to stop ends the process."""
    received: queue.SimpleQueue[int] = queue.SimpleQueue()
    stopping = False

    def on_signal(number: int) -> None:
        nonlocal stopping
        if stopping and number != signal.SIGHUP:
            # Somebody insists. What is acknowledged is committed; what is not, the peer sends again.
            insist()
            end_by(number)
        stopping = stopping or number != signal.SIGHUP
        received.put(number)

    watch(_SIGNALS, on_signal)
    return received


def _raise_descriptor_limit() -> None:
    # The soft limit is 1024 for the sake of programs that use select(); this one does not. Workers inherit it.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
