"""The parts of the engines that need no server: waiting, errors, bodies."""

import hashlib

import pytest

from fastscp.errors import ConfigError
from fastscp.stores.s3 import AccessProblem, ChecksumMismatch, EngineError, NotFound, PreconditionFailed, S3Options, open_engine
from fastscp.stores.s3.body import SegmentsBody
from fastscp.stores.s3.errors import error_of_answer
from fastscp.stores.s3.obstore_engine import ObstoreEngine
from fastscp.stores.s3.retry import Retrier


class Time:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.waits_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)
        self.now_s += seconds

    def retrier(self, draw: float) -> Retrier:
        return Retrier(20.0, clock=lambda: self.now_s, sleep=self.sleep, draw=lambda: draw)


def failing(time: Time, error: EngineError, takes_s: float = 0.0, times: int = 10**6) -> tuple[list[bool], object]:
    calls: list[bool] = []

    def attempt(may_have_taken_effect: bool) -> str:
        calls.append(may_have_taken_effect)
        time.now_s += takes_s
        if len(calls) > times:
            return "done"
        raise error

    return calls, attempt


def test_waits_double_up_to_a_ceiling() -> None:
    time = Time()
    _, attempt = failing(time, EngineError("SlowDown", retryable=True), times=9)
    assert time.retrier(1.0).call(60.0, attempt) == "done"  # type: ignore[arg-type]
    assert time.waits_s == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])


def test_jitter_is_full() -> None:
    time = Time()
    _, attempt = failing(time, EngineError("SlowDown", retryable=True), times=3)
    time.retrier(0.25).call(60.0, attempt)  # type: ignore[arg-type]
    assert time.waits_s == pytest.approx([0.025, 0.05, 0.1])


@pytest.mark.parametrize("takes_s", [0.0, 0.5, 19.0, 20.0])
@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_no_attempt_begins_that_could_end_after_the_deadline(takes_s: float, draw: float) -> None:
    time = Time()
    begins: list[float] = []

    def attempt(_: bool) -> None:
        begins.append(time.now_s)
        time.now_s += max(takes_s, 0.01)
        raise EngineError("SlowDown", retryable=True)

    with pytest.raises(EngineError):
        time.retrier(draw).call(60.0, attempt)
    assert max(begins) <= 100.0 + 60.0 - 20.0
    assert len(begins) > 1
    assert time.now_s <= 160.0


def test_one_attempt_is_made_however_short_the_time() -> None:
    time = Time()
    calls, attempt = failing(time, EngineError("SlowDown", retryable=True))
    with pytest.raises(EngineError):
        time.retrier(0.0).call(1.0, attempt)  # type: ignore[arg-type]
    assert calls == [False]


def test_what_is_not_retryable_ends_at_once() -> None:
    time = Time()
    calls, attempt = failing(time, AccessProblem("AccessDenied"))
    with pytest.raises(AccessProblem):
        time.retrier(1.0).call(60.0, attempt)  # type: ignore[arg-type]
    assert (len(calls), time.waits_s) == (1, [])


@pytest.mark.parametrize("unknown", [False, True])
def test_an_attempt_is_told_of_an_unknown_outcome(unknown: bool) -> None:
    time = Time()
    calls, attempt = failing(time, EngineError("x", retryable=True, unknown=unknown), times=2)
    time.retrier(0.0).call(60.0, attempt)  # type: ignore[arg-type]
    assert calls == [False, unknown, unknown]


@pytest.mark.parametrize("last", [EngineError("SlowDown", retryable=True), AccessProblem("AccessDenied")])
def test_the_outcome_is_unknown_where_that_of_any_attempt_is(last: EngineError) -> None:
    time = Time()
    errors = [EngineError("ConnectionLost", retryable=True, unknown=True)]

    def attempt(_: bool) -> None:
        time.now_s += 1
        raise errors.pop() if errors else last

    with pytest.raises(EngineError) as caught:
        time.retrier(0.5).call(60.0, attempt)
    assert caught.value is last
    assert last.unknown


def test_attempts_that_were_not_the_first_are_counted() -> None:
    time = Time()
    retrier = time.retrier(0.0)
    for _ in range(2):
        _, attempt = failing(time, EngineError("SlowDown", retryable=True), times=3)
        retrier.call(60.0, attempt)  # type: ignore[arg-type]
    assert retrier.retry_count == 6


@pytest.mark.parametrize("found", [True, False])
def test_a_refused_key_is_worth_another_attempt_where_there_is_another_key(found: bool) -> None:
    time = Time()
    retrier = time.retrier(0.0)
    asked: list[float] = []
    retrier.renew_credentials = lambda since_s: asked.append(since_s) or found  # type: ignore[func-returns-value]
    calls, attempt = failing(time, AccessProblem("InvalidAccessKeyId"), times=1)
    if found:
        retrier.call(60.0, attempt)  # type: ignore[arg-type]
    else:
        with pytest.raises(AccessProblem):
            retrier.call(60.0, attempt)  # type: ignore[arg-type]
    assert len(calls) == 1 + found
    assert asked == [100.0]


@pytest.mark.parametrize(
    ("status", "code", "kind", "retryable", "unknown"),
    [
        (503, "SlowDown", EngineError, True, False),
        (500, "InternalError", EngineError, True, True),
        (502, "", EngineError, True, True),
        (429, "", EngineError, True, False),
        (200, "InternalError", EngineError, True, True),
        (400, "RequestTimeout", EngineError, True, False),
        (400, "ExpiredToken", EngineError, True, False),
        (409, "ConditionalRequestConflict", EngineError, True, False),
        (412, "PreconditionFailed", PreconditionFailed, False, False),
        (412, "", PreconditionFailed, False, False),
        (400, "BadDigest", ChecksumMismatch, False, False),
        (403, "AccessDenied", AccessProblem, False, False),
        (403, "", AccessProblem, False, False),
        (400, "KMS.DisabledException", AccessProblem, False, False),
        (404, "NoSuchBucket", AccessProblem, False, False),
        (301, "", AccessProblem, False, False),
        (404, "NoSuchUpload", NotFound, False, False),
        (404, "404", NotFound, False, False),
        (400, "EntityTooLarge", EngineError, False, False),
        (403, "Not a word: \r\n", AccessProblem, False, False),
    ],
)
def test_what_an_answer_means(status: int, code: str, kind: type[EngineError], retryable: bool, unknown: bool) -> None:
    error = error_of_answer(status, code)
    assert (type(error), error.retryable, error.unknown) == (kind, retryable, unknown)


def body_of(parts: list[bytes], timeout_s: float = 60.0) -> SegmentsBody:
    return SegmentsBody([memoryview(part) for part in parts], timeout_s)


@pytest.mark.parametrize("size", [1, 3, 4, 100, -1])
def test_a_body_reads_as_its_segments_joined(size: int) -> None:
    parts = [b"", b"abcd", b"", b"e", b"fghijkl", b""]
    body = body_of(parts)
    assert len(body) == 12
    for start in range(13):
        assert body.seek(start) == body.tell() == start
        pieces = list(iter(lambda: body.read(size), b""))
        assert b"".join(pieces) == b"".join(parts)[start:]
        assert size == -1 or max(map(len, pieces), default=0) <= size
    assert body.seek(-3, 2) == 9
    assert body.seek(-2, 1) == 7
    assert body.read(0) == b""


def test_a_body_lends_its_memory_and_does_not_copy() -> None:
    memory = bytearray(b"abcd")
    body = SegmentsBody([memoryview(memory)], 60.0)
    piece = body.read(4)
    memory[0] = ord("x")
    assert hashlib.sha256(piece).digest() == hashlib.sha256(b"xbcd").digest()


def test_a_body_ends_an_attempt_that_takes_too_long() -> None:
    body = body_of([b"abcd"], timeout_s=-1.0)
    with pytest.raises(TimeoutError):
        body.read(1)


def test_an_engine_that_is_not_installed_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"fastscp\[fast\]") as caught:
        open_engine("obstore", S3Options("bucket"))
    assert caught.value.option == "--s3-engine"
    engine = open_engine("auto", S3Options("bucket", region="us-east-1"))
    assert type(engine).__name__ == "BotocoreEngine"
    engine.close()


def test_auto_is_obstore() -> None:
    engine = open_engine("auto", S3Options("bucket", region="us-east-1"))
    assert type(engine).__name__ == "ObstoreEngine"
    engine.close()


@pytest.mark.parametrize(
    ("bucket", "endpoint"),
    [("images", "https://images.s3.eu-west-1.amazonaws.com"), ("images.example", "https://s3.eu-west-1.amazonaws.com")],
)
def test_obstore_finds_the_bucket_at_aws(bucket: str, endpoint: str) -> None:
    engine = open_engine("obstore", S3Options(bucket, region="eu-west-1"))
    assert isinstance(engine, ObstoreEngine)
    config = engine._store.config
    assert config["endpoint_url_s3"] == endpoint
    assert config["virtual_hosted_style_request"] == ("true" if bucket == "images" else "false")
    engine.close()
