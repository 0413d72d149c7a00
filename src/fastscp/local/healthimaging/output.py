"""The files that a job writes below its output URI.

Enters: what became of each file. Leaves: key and content of each output file. Never: an empty list of lines as a file.

Source: https://docs.aws.amazon.com/healthimaging/latest/devguide/understanding-import-jobs.html
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastscp.local.healthimaging.image_sets import ImageSet
from fastscp.local.healthimaging.instance import Warned


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file.

    Attributes:
        key: of the object, without the bucket.
        image_set: where it was stored, None where it was not.
        version: of the image set with it.
        failure: why it was not stored.
        server_failure: whether that was the service's fault.
    """

    key: str
    image_set: ImageSet | None = None
    version: int = 0
    warnings: tuple[Warned, ...] = ()
    failure: str = ""
    server_failure: bool = False


def output_folder(output_uri: str, datastore_id: str, job_id: str) -> str:
    """The folder that a job makes for itself: an S3 URI that ends in a slash."""
    return f"{output_uri.rstrip('/')}/{datastore_id}-DicomImport-{job_id}/"


def output_files(
    outcomes: Iterable[Outcome], *, job_id: str, datastore_id: str, input_uri: str, output_uri: str
) -> Iterator[tuple[str, bytes]]:
    """Name below the folder, and content, of each file; the manifest comes last."""
    outcomes = list(outcomes)
    folder = output_folder(output_uri, datastore_id, job_id)
    success, warning, failure = [], [], []
    matched: Counter[str] = Counter()
    image_sets: dict[str, tuple[ImageSet, int]] = {}
    for outcome in outcomes:
        if outcome.image_set is None:
            kind = "InternalServerException" if outcome.server_failure else "ValidationException"
            failure.append({"inputFile": outcome.key, "exception": {"exceptionType": kind, "message": outcome.failure}})
            continue
        matched[outcome.image_set.image_set_id] += 1
        image_sets[outcome.image_set.image_set_id] = outcome.image_set, outcome.version
        response = {
            "imageSetId": outcome.image_set.image_set_id,
            "imageSetVersion": outcome.version,
            "isPrimary": outcome.image_set.is_primary,
        }
        success.append({"inputFile": outcome.key, "importResponse": response})
        if outcome.warnings:
            warnings = [{"warning_reason_code": one.code, "type": one.kind, "message": one.message} for one in outcome.warnings]
            warning.append({"inputFile": outcome.key, "importResponse": {**response, "warnings": warnings}})
    for name, lines in (("SUCCESS/success", success), ("WARNING/warning", warning), ("FAILURE/failure", failure)):
        if lines:
            yield f"{name}.ndjson", "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    summary = {
        "jobId": job_id,
        "datastoreId": datastore_id,
        "inputS3Uri": input_uri,
        "outputS3Uri": folder,
        "successOutputS3Uri": f"{folder}SUCCESS/",
        "failureOutputS3Uri": f"{folder}FAILURE/",
        "warningsOutputS3Uri": f"{folder}WARNING/",
        "numberOfScannedFiles": len(outcomes),
        "numberOfImportedFiles": len(success),
        "numberOfFilesWithCustomerError": sum(1 for one in outcomes if one.image_set is None and not one.server_failure),
        "numberOfFilesWithServerError": sum(1 for one in outcomes if one.image_set is None and one.server_failure),
        "numberOfGeneratedImageSets": len(image_sets),
        "imageSetsSummary": [
            {
                "imageSetId": image_set.image_set_id,
                "imageSetVersion": version,
                "isPrimary": image_set.is_primary,
                "numberOfMatchedSOPInstances": matched[image_set_id],
            }
            for image_set_id, (image_set, version) in image_sets.items()
        ],
    }
    yield "job-output-manifest.json", json.dumps({"jobSummary": summary}, indent=2).encode()
