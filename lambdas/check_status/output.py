"""What HealthImaging writes about a job: a manifest, and a line for each file.

Enters: the objects under the job's output. Leaves: files by outcome. Never: trust in their form, a file of another prefix.

https://docs.aws.amazon.com/healthimaging/latest/devguide/understanding-import-jobs.html
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from importflow.imaging import Job
from importflow.table import Item
from importflow.workflow import Workflow

MANIFEST = "job-output-manifest.json"
LARGEST_MANIFEST_BYTES = 64 << 20

# A string as a whole, or a word of Python's outside of one: the service's own examples have `True` for `true`.
_string_or_word = re.compile(r'("(?:\\.|[^"\\])*")|\b(True|False|None)\b')
_JSON_WORDS = {"True": "true", "False": "false", "None": "null"}


@dataclass
class ImageSet:
    """An image set that a job wrote to, with so many of its instances."""

    version: int | None = None
    is_primary: bool | None = None
    instances: int | None = None


@dataclass
class Output:
    """What a job wrote. The keys of files are those of the DICOM bucket.

    Attributes:
        complete: whether the output manifest is there, which is written last.
        imported: image set of each file that was imported, those with warnings included.
        warned: what was warned of, by file.
        failed: what went wrong, by file.
        unreadable_lines: lines that say nothing that can be understood.
    """

    complete: bool = False
    imported: dict[str, str] = field(default_factory=dict)
    warned: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    image_sets: dict[str, ImageSet] = field(default_factory=dict)
    not_primary: set[str] = field(default_factory=set)
    unreadable_lines: int = 0


def read_output(workflow: Workflow, row: Item, job: Job) -> Output:
    """Read what is there of a job's output; a file that is not there has no lines."""
    output = Output()
    folders = _folders(workflow, row, job)
    for folder in folders:
        data = workflow.results.get(f"{folder}{MANIFEST}", LARGEST_MANIFEST_BYTES)
        if data is not None:
            output.complete = True
            _take_summary(output, loads(data))
            break
    for folder in folders:
        for listed in workflow.results.list(folder):
            kind, _, name = listed.key[len(folder) :].partition("/")
            if name.endswith(".ndjson") and kind in {"SUCCESS", "FAILURE", "WARNING"}:
                _take_lines(workflow, output, kind, listed.key)
    return output


def loads(data: bytes | str) -> Any:
    """JSON, with Python's words for true, false and null taken as well; None for what is neither."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return json.loads(_string_or_word.sub(lambda found: found[1] or _JSON_WORDS[found[2]], text))
    except (ValueError, RecursionError):
        return None


def truth(value: Any) -> bool | None:
    """A boolean, however it is written; None for what is none."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(str(value).strip().lower())


def _folders(workflow: Workflow, row: Item, job: Job) -> list[str]:
    """Where the job may have written: into a folder named after it, or where GetDICOMImportJob says."""
    settings = workflow.settings
    base = f"{settings.results_prefix}output/{row['batchId']}/{row['attempt']}/"
    folder = f"{settings.datastore_id}-DicomImport-{job.job_id}/"
    said = job.output_uri.removeprefix(f"s3://{settings.results_bucket}/").rstrip("/") + "/"
    candidates = [f"{base}{folder}", f"{said}{folder}", said]
    return list(dict.fromkeys(candidate for candidate in candidates if candidate.startswith(base)))


def _take_summary(output: Output, manifest: Any) -> None:
    summary = manifest.get("jobSummary", manifest) if isinstance(manifest, dict) else {}
    sets = summary.get("imageSetsSummary") if isinstance(summary, dict) else None
    for item in sets if isinstance(sets, list) else ():
        if isinstance(item, dict) and item.get("imageSetId"):
            matched = item.get("numberOfMatchedSOPInstances")
            image_set = _image_set(output, item)
            image_set.instances = matched if isinstance(matched, int) else None


def _image_set(output: Output, item: dict[str, Any]) -> ImageSet:
    image_set = output.image_sets.setdefault(str(item["imageSetId"]), ImageSet())
    version = str(item.get("imageSetVersion", ""))
    if version.isdigit():
        image_set.version = int(version)
    is_primary = truth(item.get("isPrimary"))
    if is_primary is not None:
        image_set.is_primary = is_primary
    return image_set


def _take_lines(workflow: Workflow, output: Output, kind: str, key: str) -> None:
    for line in workflow.results.lines(key):
        if not line.strip():
            continue
        item = loads(line)
        if not isinstance(item, dict) or not isinstance(item.get("inputFile"), str):
            output.unreadable_lines += 1
            continue
        file = item["inputFile"].removeprefix(f"s3://{workflow.settings.dicom_bucket}/").lstrip("/")
        if kind == "FAILURE":
            output.failed[file] = _failure(item.get("exception"))
        else:
            _take_import(output, file, item.get("importResponse"), warned=kind == "WARNING")


def _take_import(output: Output, file: str, response: Any, *, warned: bool) -> None:
    answer = response if isinstance(response, dict) else {}
    output.imported.setdefault(file, "")
    if answer.get("imageSetId"):
        output.imported[file] = str(answer["imageSetId"])
        _image_set(output, answer)
        if truth(answer.get("isPrimary")) is False:
            output.not_primary.add(file)
    if warned:
        output.warned.setdefault(file, []).extend(_warnings(answer.get("warnings")))


def _failure(exception: Any) -> str:
    if not isinstance(exception, dict):
        return str(exception or "")
    return ": ".join(str(exception[name]) for name in ("exceptionType", "message") if exception.get(name))


def _warnings(warnings: Any) -> Iterator[str]:
    for warning in warnings if isinstance(warnings, list) else ():
        if isinstance(warning, dict):
            yield ": ".join(str(warning[name]) for name in ("type", "message") if warning.get(name))
        else:
            yield str(warning)
