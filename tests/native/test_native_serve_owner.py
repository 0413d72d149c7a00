"""Who commits: `Wire.serve`, or the owner who said so.

Enters: ordinary instances, and wishes of the owner's. Leaves: a commit, or a STORE. Never: an instance that nobody, or both, commit.
"""

from collections.abc import Callable
from typing import Any

import pytest

from fastscp._ext import pdu
from fastscp._ext.committer import Committer, NullCommitter
from fastscp._ext.tally import Sender, StoredTally
from reference import vectors
from reference.driving import Limits
from reference.serving import BOUNDS_S, Serving, assert_answers, assert_left_to_owner, ordinary
from reference.wiring import LONG_S, SHORT_S, Connection


def test_what_is_left_to_the_owner_is_an_event_each_time(line: Connection) -> None:
    serving = Serving(line, NullCommitter())
    assert serving.wire.leave_to_owner is False
    sent = [ordinary(number) for number in range(1, 7)]
    line.peer.sendall(b"".join(each.stream for each in sent[:4]))
    serving.wire.leave_to_owner = True
    assert serving.wire.leave_to_owner is True
    for each in sent[:3]:
        assert serving.serve() == pdu.STORE
        instance = serving.take(0xB000)
        assert instance.sop_instance_uid == each.sop_instance_uid
        instance.release()
    serving.wire.leave_to_owner = False
    assert serving.serve(SHORT_S) == pdu.TIMEOUT_IDLE
    serving.assert_committed(sent[3])
    assert_answers(line.peer, b"".join(each.answer(0xB000) for each in sent[:3]) + sent[3].answer())


def test_another_thread_may_take_the_choice_while_the_wire_waits(line: Connection, beside: Callable[..., Any]) -> None:
    serving = Serving(line, NullCommitter())
    before, after = ordinary(1), ordinary(2)
    event = beside(serving.serve)
    line.peer.sendall(before.stream)
    assert_answers(line.peer, before.answer())
    serving.wire.leave_to_owner = True
    line.peer.sendall(after.stream)
    assert event.result(LONG_S) == pdu.STORE
    assert serving.take().sop_instance_uid == after.sop_instance_uid
    assert serving.wire.committed == (1, len(before.data_set))


def test_a_committer_that_commits_nothing_leaves_each_to_the_owner(line: Connection) -> None:
    serving = Serving(line, Committer())
    line.peer.sendall(ordinary(1).stream * 2)
    for _ in range(2):
        instance = assert_left_to_owner(serving)
        assert b"".join(instance.segments()).endswith(ordinary(1).data_set)
        instance.release()
    serving.assert_committed()


def test_without_a_committer_serve_is_receive(line: Connection) -> None:
    serving = Serving(line, None)
    line.peer.sendall(ordinary(1).stream + vectors.ECHO + vectors.RELEASE_RQ)
    assert_left_to_owner(serving).release()
    assert serving.serve() == pdu.MESSAGE
    serving.reader.take_message()
    assert serving.serve() == pdu.CONTROL
    serving.reader.take_control_pdu()
    assert serving.serve(SHORT_S) == pdu.TIMEOUT_IDLE
    line.wake()
    assert serving.serve() == pdu.WOKEN
    serving.assert_committed()


def test_receive_commits_nothing_whatever_there_is_to_commit_with(line: Connection) -> None:
    serving = Serving(line, NullCommitter())
    line.peer.sendall(ordinary(1).stream)
    assert serving.wire.receive(LONG_S) == pdu.STORE
    serving.reader.take_instance().release()
    serving.assert_committed()


def test_there_is_one_committer_and_nothing_in_its_place(line: Connection) -> None:
    wire, _ = line.wire()
    tally, sender = StoredTally(BOUNDS_S), Sender()
    for arguments in ((None, tally, sender), (NullCommitter(), None, sender), (NullCommitter(), tally, None), (object(), tally, sender)):
        with pytest.raises(TypeError):
            wire.commit_with(*arguments)
    wire.commit_with(NullCommitter(), tally, sender)
    with pytest.raises(ValueError):
        wire.commit_with(NullCommitter(), tally, sender)
    assert wire.committed == (0, 0)


def test_serve_is_refused_while_a_view_is_alive(line: Connection) -> None:
    serving = Serving(line, NullCommitter(), limits=Limits(spill_threshold_bytes=1))
    line.peer.sendall(ordinary(1, bytes(4000)).stream)
    assert serving.serve() == pdu.SPILL
    views = serving.reader.instance.segments()
    with pytest.raises(BufferError):
        serving.serve()
    views.clear()
    while (event := serving.serve()) == pdu.SPILL:
        pass
    assert event == pdu.STORE


@pytest.mark.parametrize("idle_s", [-1.0, float("nan")])
def test_a_time_that_is_none_is_refused(line: Connection, idle_s: float) -> None:
    with pytest.raises(ValueError):
        Serving(line, NullCommitter()).serve(idle_s)
