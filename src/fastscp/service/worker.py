"""A worker: a process with associations, a store and no listening socket.

Enters: settings, then connections, from the supervisor. Leaves: an exit code, 0 when it has drained.
Never: an association begun after the supervisor is gone, an acknowledged instance left behind.
"""

import contextlib
import functools
import os
import pickle
import signal
import socket
import sys
import threading
from multiprocessing import connection as pipes

import fastscp
from fastscp.association import Acceptor, Connection, check_pynetdicom
from fastscp.errors import ConfigError
from fastscp.observe import log
from fastscp.observe.families import families_of
from fastscp.observe.health import Health
from fastscp.observe.metrics import Metrics
from fastscp.receive import S3Store, open_store
from fastscp.service.handover import Ask, Draining, MessageChannel, NoDescriptorLeft, Ready, Reload, Report, Unusable, receive_connection
from fastscp.service.signals import block, end_by, watch
from fastscp.service.slots import SlotTable, WorkerSlots
from fastscp.settings import ABORT_GRACE_S, EXIT_GRACE_S, Settings
from fastscp.stores import Store

_log = log.get_logger("worker")


def _serve(
    settings: Settings, local_address: tuple[str, int], channel: socket.socket, messages: MessageChannel, slots: SlotTable, index: int
) -> int:
    check_pynetdicom()
    metrics = Metrics(fastscp.__version__)
    health = Health()
    health.set_ready("store", True)
    store = open_store(settings, functools.partial(health.set_ready, "store"))
    if isinstance(store, S3Store):
        metrics.track_batches(store.open_batches, store.oldest_batch_age_s, store.retry_count)
    own = slots.slots(index)
    with contextlib.closing(Acceptor(settings, store, metrics, local_address, own)) as acceptor:
        threading.Thread(target=_answer, args=(messages, metrics, health, acceptor), name="messages", daemon=True).start()
        _drain_on_signals(messages)
        ended = threading.Event()
        acceptor.serve(lambda: _next_connection(channel, own, ended))
        messages.send(Ready())
        ended.wait()
        left_count = _drain(settings, acceptor)
    closed = _close(store, settings.put_timeout_s + EXIT_GRACE_S / 2)
    messages.send(Report(0, families_of(metrics.registry), {}))
    if left_count or not closed:
        # Threads are stuck in the store and would keep the process from ending.
        os._exit(1)
    return 0


def _next_connection(channel: socket.socket, slots: WorkerSlots, ended: threading.Event) -> Connection | None:
    # The end of the channel is the order to drain: from the supervisor, or because it is gone.
    while True:
        try:
            connection = receive_connection(channel)
        except NoDescriptorLeft:
            slots.connection_ended()
            _log.error("no_descriptor")
            continue
        if connection is None:
            ended.set()
        return connection


def _answer(messages: MessageChannel, metrics: Metrics, health: Health, acceptor: Acceptor) -> None:
    while (message := messages.to_worker()) is not None:
        match message:
            case Ask():
                messages.send(Report(message.number, families_of(metrics.registry), health.reasons_not_ready()))
            case Reload():
                settings: Settings = pickle.loads(message.settings)  # noqa: S301 - from the process that started this one
                log.set_level(settings.log_level)
                acceptor.adopt(settings)


def _drain_on_signals(messages: MessageChannel) -> None:
    told = False

    def on_signal(number: int) -> None:
        nonlocal told
        if told:
            end_by(number)
        told = True
        # Somebody wants this one process to end, or the whole group. The supervisor then hands nothing over any more.
        messages.send(Draining())

    watch({signal.SIGTERM}, on_signal)


def _drain(settings: Settings, acceptor: Acceptor) -> int:
    acceptor.begin_drain()
    left_count = acceptor.wait_ended(settings.drain_timeout_s)
    if left_count:
        _log.warning("drain_deadline", associations_aborted=left_count)
        acceptor.abort_all("the deadline of the drain")
        left_count = acceptor.wait_ended(ABORT_GRACE_S)
    return left_count


def _close(store: Store, timeout_s: float) -> bool:
    # What a store does at its end, such as writing manifests, has a deadline too, whatever it waits for.
    closer = threading.Thread(target=store.close, name="closer", daemon=True)
    closer.start()
    closer.join(timeout_s)
    if closer.is_alive():
        _log.error("store_not_closed", waited_s=timeout_s)
    left_count = store.open_batches() if isinstance(store, S3Store) else 0
    return not closer.is_alive() and not left_count


def main(arguments: list[str]) -> int:
    """Run one worker.

    Args:
        arguments: its index, then descriptors: of the channel for connections, of that for messages, of the table of slots.
    """
    # Ctrl-C on a terminal reaches every process of it, and SIGHUP may: the supervisor decides what they mean.
    block((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    index, channel_fd, messages_fd, slots_fd = map(int, arguments)
    connection = pipes.Connection(messages_fd)
    settings, local_address = pickle.loads(connection.recv_bytes())  # noqa: S301 - from the process that started this one
    log.configure(settings.log_level, settings.log_format, worker=index + 1)
    messages = MessageChannel(connection)
    channel = socket.socket(fileno=channel_fd)
    try:
        return _serve(settings, local_address, channel, messages, SlotTable(slots_fd), index)
    except ConfigError as error:
        messages.send(Unusable(error.option, error.problem))
        return 2
    except Exception as error:
        # Nobody after this one could turn it into a record.
        _log.error("failed", reason=f"{type(error).__name__}: {error}", exc_info=True)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
