"""Every instance of a batch gets one class.

Enters: the manifest of a batch, the output of its job. Leaves: counts and lists. Never: an instance in two classes, or in none.
"""

from dataclasses import dataclass
from typing import Any

from check_status.output import Output
from importflow.documents import Entry, Manifest
from importflow.imaging import Job
from importflow.table import Item

LONGEST_WORDS = 500
"""Of one message about one instance."""


@dataclass(frozen=True, kw_only=True)
class Classes:
    """failed before warned before imported before missing; what is in the output and not in the manifest is unexpected."""

    imported: list[Entry]
    warned: list[Entry]
    failed: list[Entry]
    missing: list[Entry]
    unexpected: list[str]
    not_primary: list[Entry]

    def counts(self) -> dict[str, int]:
        """By attribute of the rows."""
        return {
            "importedCount": len(self.imported),
            "warningCount": len(self.warned),
            "failedCount": len(self.failed),
            "missingCount": len(self.missing),
            "unexpectedCount": len(self.unexpected),
            "nonPrimaryCount": len(self.not_primary),
        }


def classify(manifest: Manifest, output: Output) -> Classes:
    """Give every instance its class."""
    classes = Classes(imported=[], warned=[], failed=[], missing=[], unexpected=[], not_primary=[])
    for entry in manifest.instances:
        if entry.key in output.failed:
            classes.failed.append(entry)
            continue
        if entry.key not in output.imported:
            classes.missing.append(entry)
            continue
        (classes.warned if entry.key in output.warned else classes.imported).append(entry)
        if is_not_primary(output, entry.key):
            classes.not_primary.append(entry)
    known = {entry.key for entry in manifest.instances}
    classes.unexpected.extend(sorted((output.imported.keys() | output.failed.keys()) - known))
    return classes


def is_not_primary(output: Output, key: str) -> bool:
    """Whether a file came into an image set that plain DICOMweb reads do not show."""
    image_set = output.image_sets.get(output.imported[key])
    return key in output.not_primary or (image_set is not None and image_set.is_primary is False)


def result(row: Item, job: Job, output: Output, classes: Classes) -> dict[str, Any]:
    """The result object, see docs/workflow.md. The same output gives the same bytes."""
    counts = classes.counts()
    in_set: dict[str, int] = {}
    for image_set_id in output.imported.values():
        in_set[image_set_id] = in_set.get(image_set_id, 0) + 1
    return {
        "version": 1,
        "batchId": row["batchId"],
        "attempt": row["attempt"],
        "jobId": job.job_id,
        "jobStatus": job.status,
        "message": job.message,
        "counts": {
            "imported": counts["importedCount"],
            "warned": counts["warningCount"],
            "failed": counts["failedCount"],
            "missing": counts["missingCount"],
            "unexpected": counts["unexpectedCount"],
            "nonPrimary": counts["nonPrimaryCount"],
        },
        "imageSets": [
            {
                "imageSetId": image_set_id,
                "imageSetVersion": image_set.version,
                "isPrimary": image_set.is_primary,
                "instances": in_set.get(image_set_id, 0) if image_set.instances is None else image_set.instances,
            }
            for image_set_id, image_set in sorted(output.image_sets.items())
        ],
        "failed": [_named(entry) | {"message": output.failed[entry.key][:LONGEST_WORDS]} for entry in classes.failed],
        "warned": [_named(entry) | {"messages": [words[:LONGEST_WORDS] for words in output.warned[entry.key]]} for entry in classes.warned],
        "missing": [_named(entry) for entry in classes.missing],
        "unexpected": [{"key": key} for key in classes.unexpected],
        "nonPrimary": [
            {"sopInstanceUID": entry.sop_instance_uid, "imageSetId": output.imported[entry.key]} for entry in classes.not_primary
        ],
    }


def _named(entry: Entry) -> dict[str, Any]:
    return {"sopInstanceUID": entry.sop_instance_uid, "key": entry.key}
