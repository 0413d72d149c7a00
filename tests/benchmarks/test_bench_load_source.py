"""The load source sends what it says, and never takes anything but Success for success.

Enters: peers that record, refuse, lie or vanish. Leaves: what the load source made of it. Never: a measured time in an assertion.
"""

from collections.abc import Callable

import pytest
from pynetdicom.pdu import A_ASSOCIATE_RQ

from benchmarks import payloads
from benchmarks.load import LoadFailed, PreparedLoad
from benchmarks.payloads import INSTANCE_UID, NUMBER, NUMBER_DIGITS, Payload
from benchmarks.processes import free_port
from tests.benchmarks.peers import Floor, Recorder, altering_proxy

SMALL = payloads.small()


def expected_data_set(payload: Payload, uid: str) -> bytes:
    at = payload.data_set_number_at
    return payload.data_set[:at] + uid[-NUMBER_DIGITS:].encode() + payload.data_set[at + NUMBER_DIGITS :]


def send(load: PreparedLoad, port: int, instances: int = 5) -> None:
    with load.open(port, associations=1, instances_each=instances) as run:
        run.run()


# The second length cuts the data set in the middle of the number, the third after each byte of it.
@pytest.mark.parametrize("max_pdu_bytes", [131072, SMALL.data_set_number_at + NUMBER_DIGITS // 2 + 6, 7])
def test_every_instance_is_distinct_and_intact(prepared: PreparedLoad, record: Callable[..., Recorder], max_pdu_bytes: int) -> None:
    recorder = record(SMALL.sop_class_uid, max_pdu_bytes)
    for _ in range(2):
        with prepared.open(recorder.port, associations=2, instances_each=3) as run:
            result = run.run()
        assert (result.instances, result.data_set_bytes, result.max_pdu_bytes) == (6, 6 * len(SMALL.data_set), max_pdu_bytes)
    uids = [uid for uid, _, _ in recorder.received]
    assert len(set(uids)) == len(uids) == 12
    assert all(uid.startswith(INSTANCE_UID.removesuffix(NUMBER)) for uid in uids)
    for uid, message_id, data_set in recorder.received:
        assert data_set == expected_data_set(SMALL, uid)
        assert message_id == int(uid[-NUMBER_DIGITS:]) % 65535 + 1


@pytest.mark.parametrize("status", [0xA700, 0xB000, 0xFF00])
def test_a_status_that_is_not_success_fails_the_run(prepared: PreparedLoad, record: Callable[..., Recorder], status: int) -> None:
    recorder = record(SMALL.sop_class_uid)
    recorder.statuses = [0x0000, 0x0000, status]
    with pytest.raises(LoadFailed, match=r"4 of 5 stored, 1 refused"):
        send(prepared, recorder.port)


def test_an_abort_fails_the_run(prepared: PreparedLoad, record: Callable[..., Recorder]) -> None:
    recorder = record(SMALL.sop_class_uid)
    recorder.abort = True
    with pytest.raises(LoadFailed, match="0 of 5 stored"):
        send(prepared, recorder.port)


def test_a_refused_context_fails_the_run(prepared: PreparedLoad, record: Callable[..., Recorder]) -> None:
    with pytest.raises(LoadFailed, match="accepted"):
        send(prepared, record("1.2.840.10008.5.1.4.1.1.4").port)


def test_nobody_there_fails_the_run(prepared: PreparedLoad) -> None:
    with pytest.raises(LoadFailed, match="refused"):
        send(prepared, free_port())


COMMAND_FIELD = bytes.fromhex("0000 0001 02000000 0180".replace(" ", ""))
RESPONDED_TO = bytes.fromhex("0000 2001 02000000".replace(" ", ""))


def other_message(data: bytes) -> bytes:
    at = data.find(RESPONDED_TO)
    return data if at < 0 else data[: at + 8] + bytes([data[at + 8] ^ 1]) + data[at + 9 :]


def in_response(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: change(data) if COMMAND_FIELD in data else data


ANSWERS = {
    "the response to another message": (other_message, "not the response"),
    "a C-ECHO-RSP": (in_response(lambda data: data.replace(COMMAND_FIELD, COMMAND_FIELD[:-2] + b"\x30\x80")), "not the response"),
    "a connection that ends": (in_response(lambda data: b""), "closed the connection"),
    "an A-ABORT": (in_response(lambda data: b"\x07" + data[1:]), "aborted"),
    "a huge PDU": (in_response(lambda data: data[:2] + b"\xff" + data[3:]), "longer than any answer"),
    "a PDV beyond its PDU": (in_response(lambda data: data[:6] + b"\xff" + data[7:]), "malformed"),
}


@pytest.mark.parametrize(("alter", "reason"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_none_fails_the_run(prepared: PreparedLoad, floor: Floor, alter: Callable[[bytes], bytes], reason: str) -> None:
    with altering_proxy(floor.port, alter) as port, pytest.raises(LoadFailed, match=f"{reason}.*0 of 5 stored"):
        send(prepared, port)


def test_the_proxy_alone_fails_nothing(prepared: PreparedLoad, floor: Floor) -> None:
    with altering_proxy(floor.port, lambda data: data) as port:
        send(prepared, port)
    assert floor.counts()["instances"] == 5


def test_a_release_that_is_not_confirmed_fails_the_run(prepared: PreparedLoad, floor: Floor) -> None:
    release_rp = bytes.fromhex("06000000000400000000")
    proxy = altering_proxy(floor.port, lambda data: b"" if data == release_rp else data)
    with proxy as port, pytest.raises(LoadFailed, match="5 of 5 stored"):
        send(prepared, port)


def test_associations_one_after_the_other(prepared: PreparedLoad, record: Callable[..., Recorder]) -> None:
    recorder = record(SMALL.sop_class_uid)
    with prepared.open(recorder.port, associations=4, instances_each=1, sequential=True) as run:
        result = run.run()
    assert (result.associations, result.instances) == (4, 4)
    assert len({uid for uid, _, _ in recorder.received}) == 4


def test_associations_one_after_the_other_stop_at_a_failure(prepared: PreparedLoad, record: Callable[..., Recorder]) -> None:
    recorder = record(SMALL.sop_class_uid)
    recorder.statuses = [0x0000, 0xC000]
    load = prepared.open(recorder.port, associations=4, instances_each=1, sequential=True)
    with pytest.raises(LoadFailed, match="3 of 4 stored, 1 refused"), load:
        load.run()


def test_idle_associations_are_open_until_released(prepared: PreparedLoad, floor: Floor) -> None:
    with prepared.open(floor.port, associations=20, instances_each=0) as run:
        result = run.run()
    assert (result.associations, result.instances) == (20, 0)
    assert floor.counts() == {"associations": 20, "instances": 0, "bytes": 0}


@pytest.mark.parametrize("context_count", [1, 120])
def test_the_proposal_has_as_many_contexts_as_asked(context_count: int) -> None:
    pdu = A_ASSOCIATE_RQ()
    pdu.decode(payloads.associate_request(SMALL.sop_class_uid, context_count))
    contexts = pdu.presentation_context
    assert len(contexts) == context_count
    assert len({context.context_id for context in contexts}) == context_count
    assert len({context.abstract_syntax for context in contexts}) == context_count
    assert contexts[0].abstract_syntax == SMALL.sop_class_uid
    assert [str(uid) for uid in contexts[0].transfer_syntax] == ["1.2.840.10008.1.2.1"]
