"""What a person is told: each batch as it is received, started and imported, and what was imported in the end.

Enters: the rows of the batch table, again and again; answers of HealthImaging. Leaves: lines on stdout. Never: a row changed.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import ROUNDED, SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastscp.local.samples import Sent

WATCH_INTERVAL_S = 0.5
_COUNTS = ("importedCount", "warningCount", "failedCount", "missingCount", "unexpectedCount", "nonPrimaryCount")
_STARTED, _ENDED = ("IMPORTING", "DONE", "FAILED"), ("DONE", "FAILED")
Row = Mapping[str, Any]


class Story:
    """Watches the batch table in a thread and prints what happens.

    Args:
        table: a boto3 Table of the batches.
        console: where to.
    """

    def __init__(self, table: Any, console: Console) -> None:
        self._table = table
        self._console = console
        self._told: dict[str, set[str]] = {}
        self._rows: dict[str, Row] = {}
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="story", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Look once more, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def rows(self) -> list[Row]:
        """The batches as they were seen last."""
        with self._changed:
            return list(self._rows.values())

    def wait_ended(self, study_instance_uids: Iterable[str], timeout_s: float) -> bool:
        """Wait until all batches that are known are DONE or FAILED and each of these studies has one. False where that takes too long."""
        wanted = set(study_instance_uids)

        def ended() -> bool:
            done = [row for row in self._rows.values() if row["state"] in _ENDED]
            return len(done) == len(self._rows) and wanted <= {str(row.get("studyInstanceUID", "")) for row in done}

        with self._changed:
            return self._changed.wait_for(ended, timeout_s)

    def _run(self) -> None:
        while True:
            last = self._stopping.wait(WATCH_INTERVAL_S)
            self._look()
            if last:
                return

    def _look(self) -> None:
        rows = [row for row in _scan(self._table) if "state" in row]
        for row in sorted(rows, key=lambda row: str(row.get("closedAt", ""))):
            told = self._told.setdefault(f"{row['batchId']} {row.get('attempt', 1)}", set())
            for step, line in _steps(row):
                if step not in told:
                    told.add(step)
                    self._console.print(line, soft_wrap=True)
        with self._changed:
            self._rows = {str(row["batchId"]): row for row in rows}
            self._changed.notify_all()


def _scan(table: Any) -> list[Row]:
    answer = table.scan(ConsistentRead=True)
    items = list(answer["Items"])
    while "LastEvaluatedKey" in answer:
        answer = table.scan(ConsistentRead=True, ExclusiveStartKey=answer["LastEvaluatedKey"])
        items += answer["Items"]
    return items


def _steps(row: Row) -> Iterable[tuple[str, Text]]:
    """What there is to tell of a batch, in order."""
    count = int(row.get("instanceCount", 0))
    instances = f"{count} instance{'s' if count != 1 else ''}"
    senders = ", ".join(str(title) for title in row.get("callingAeTitles", ()))
    sender = f" from {senders}" if senders else ""
    yield "received", _line("received", "cyan", row, f"{instances}{sender}, study {row.get('studyInstanceUID', 'unknown')}")
    if row["state"] in _STARTED and row.get("jobId"):
        yield "started", _line("started", "yellow", row, f"import job {row['jobId']}")
    if row["state"] == "DONE":
        counts = {name: int(row.get(name, 0)) for name in _COUNTS}
        taken = counts["importedCount"] + counts["warningCount"]
        others = ", ".join(f"{value} {name.removesuffix('Count')}" for name, value in counts.items() if value and name != "importedCount")
        style = "green" if taken == count else "red"
        yield "ended", _line("imported", style, row, f"{taken} of {instances}{f' ({others})' if others else ''}")
    if row["state"] == "FAILED":
        yield "ended", _line("failed", "red", row, str(row.get("message", "")))


def _line(what: str, style: str, row: Row, rest: str) -> Text:
    return Text.assemble(time.strftime("%H:%M:%S"), "  ", (f"{what:<9}", style), " ", (str(row["batchId"]), "dim"), "  ", _plain(rest))


def _plain(text: str) -> str:
    """Peers' text without what a terminal would obey."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def sent_table(sent: Iterable[Sent]) -> Table:
    table = Table(title="Sent", title_justify="left")
    for heading in ("SOP class", "Transfer syntax"):
        table.add_column(heading)
    table.add_column("File", justify="right")
    for heading in ("Sent by", "Status"):
        table.add_column(heading)
    for one in sent:
        status = Text("0000 Success", "green") if one.acknowledged else Text("not received", "red")
        table.add_row(one.sop_class, one.transfer_syntax, f"{one.size_bytes / 1000:,.1f} kB", one.sender, status)
    return table


_COLUMNS = {
    "Modality": "DICOMSeriesModality",
    "Patient ID": "DICOMPatientId",
    "Study date": "DICOMStudyDate",
    "Series Instance UID": "DICOMSeriesInstanceUID",
    "Instances": "DICOMNumberOfStudyRelatedInstances",
}
_WIDE_ONLY = ("Study date", "Series Instance UID")


def image_sets_table(medical_imaging: Any, datastore_id: str, *, wide: bool) -> Table:
    """All image sets of the data store, as SearchImageSets lists them.

    Args:
        wide: whether there is room for 160 characters; otherwise it is for 80.
    """
    headings = [heading for heading in _COLUMNS if wide or heading not in _WIDE_ONLY]
    table = Table(title="Image sets", title_justify="left", box=ROUNDED if wide else SIMPLE_HEAD, pad_edge=wide)
    for heading in (*headings, "Primary", "Version", "Image set"):
        table.add_column(heading, justify="right" if heading in ("Instances", "Version") else "left", overflow="fold")
    for page in medical_imaging.get_paginator("search_image_sets").paginate(datastoreId=datastore_id):
        for found in page["imageSetsMetadataSummaries"]:
            cells = [_plain(str(found["DICOMTags"].get(_COLUMNS[heading], ""))) for heading in headings]
            table.add_row(*map(Text, cells), "yes" if found["isPrimary"] else "no", str(found["version"]), found["imageSetId"])
    return table
