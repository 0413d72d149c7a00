"""`fastscp local`: the embedded AWS, the receiver and the story, from the first line to the last.

Enters: options of the receiver. Leaves: 0 after Ctrl-C or SIGTERM and a clean drain. Never: a process left behind.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

from rich.console import Console
from rich.text import Text

from fastscp.local import wiring
from fastscp.local.embedded import EmbeddedAws, EmbeddedOptions
from fastscp.local.receiver import Receiver, Record
from fastscp.local.samples import send_samples
from fastscp.local.story import Story, image_sets_table, sent_table
from fastscp.settings import replace_environment

OK, FAILED = 0, 1
DEMO_TIMEOUT_S = 300.0
WIDE = 160
"""Characters in a line for the table of image sets with all its columns."""
_LOUD = ("warning", "error", "critical")


@dataclass(frozen=True, kw_only=True)
class LocalOptions:
    """What `fastscp local` runs with.

    Attributes:
        receiver: options of `fastscp serve` beside those that concern the store, and --log-format.
        host: where the receiver can be reached from here.
        aet: its AE title.
        demo: whether to send the sample images.
        embedded: of the embedded AWS.
    """

    receiver: Sequence[str]
    host: str
    aet: str
    demo: bool
    embedded: EmbeddedOptions


def run(options: LocalOptions) -> int:
    """Run until SIGINT or SIGTERM. Raises ConfigError."""
    console = Console(highlight=False)
    # The profile, the endpoint and the keys that a person has for AWS are for AWS.
    replace_environment("AWS_", wiring.NOBODYS)
    with _stop_signals() as stop, EmbeddedAws(options.embedded) as aws:
        resource = wiring.session().resource("dynamodb", endpoint_url=aws.url)
        story = Story(resource.Table(aws.resolved.outputs["BatchTableName"]), console)
        environ = replace_environment("AWS_", wiring.aws_environment(aws.url)) | aws.receiver_environment
        receiver = Receiver(options.receiver, environ, lambda record: _tell(console, record))
        try:
            ready = receiver.wait_ready()
            if ready is None:
                code = receiver.drain()
                print("\n".join(receiver.plain) or "fastscp: the receiver did not start", file=sys.stderr)
                return code if code > 0 else FAILED
            port = int(ready["port"])
            _introduce(console, aws, options, port)
            story.start()
            failed = options.demo and not _demo(console, aws, story, options, port, stop)
            ended = _wait(receiver, stop)
            if ended is None:
                console.print("\nDraining: what is being sent is finished ...")
                code = receiver.drain()
            else:
                code = ended
                print("\n".join(receiver.plain), file=sys.stderr)
        finally:
            receiver.kill()
        story.stop()
        _say_goodbye(console, story, code)
        return FAILED if code or failed else OK


def _introduce(console: Console, aws: EmbeddedAws, options: LocalOptions, port: int) -> None:
    console.print(f"fastscp listens on port {port}, AE title {options.aet}; AWS is at {aws.url}, data store {aws.datastore_id}.")
    console.print("\nSend your own images:\n")
    console.print(f"    storescu -aec {options.aet} +sd +r {options.host} {port} <folder with DICOM files>", markup=False, soft_wrap=True)
    console.print("\nLook at what is there, with any AWS SDK or the AWS CLI:\n")
    for name in sorted(wiring.aws_environment(aws.url).keys() - wiring.NOBODYS.keys()):
        value = wiring.aws_environment(aws.url)[name]
        console.print(f"    export {name}={value}", markup=False, soft_wrap=True)
    console.print(f"    aws medical-imaging search-image-sets --datastore-id {aws.datastore_id}", markup=False, soft_wrap=True)
    console.print("    fastscp jobs --follow\n\nCtrl-C ends it.\n")


def _demo(console: Console, aws: EmbeddedAws, story: Story, options: LocalOptions, port: int, stop: threading.Event) -> bool:
    """Send the samples and wait until they are imported. Whether all of them were."""
    sent = []
    for one in send_samples(options.host, port, options.aet):
        sent.append(one)
        if stop.is_set():
            return False
    console.print(sent_table(sent))
    studies = {one.study_instance_uid for one in sent if one.acknowledged}
    waited_s = 0
    while not (ended := story.wait_ended(studies, 1.0)) and not stop.is_set() and waited_s < DEMO_TIMEOUT_S:
        waited_s += 1
    if not ended:
        return False
    console.print()
    console.print(image_sets_table(aws.client("medical-imaging"), aws.datastore_id, wide=console.width >= WIDE))
    console.print("\nCtrl-C ends it.")
    imported = sum(int(row.get("importedCount", 0)) + int(row.get("warningCount", 0)) for row in story.rows())
    return imported == len(sent)


def _wait(receiver: Receiver, stop: threading.Event) -> int | None:
    """Until there is a reason to end: the receiver's exit code where it ended by itself, None where somebody asked for it."""
    while not stop.wait(0.2):
        code = receiver.ended()
        if code is not None:
            return code or FAILED
    return None


def _say_goodbye(console: Console, story: Story, code: int) -> None:
    left = sum(1 for row in story.rows() if row["state"] not in ("DONE", "FAILED"))
    if left:
        console.print(f"{left} batch{'es were' if left > 1 else ' was'} not imported yet.")
    console.print("Drained, everything acknowledged is stored." if code == OK else f"The receiver ended with exit code {code}.")


def _tell(console: Console, record: Record) -> None:
    if record.get("level") in _LOUD:
        console.print(Text(f"receiver: {record}"), soft_wrap=True)


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            # Somebody insists: what waits is left, and what was started is ended on the way out.
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
