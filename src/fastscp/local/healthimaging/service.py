"""The operations.

Enters: HTTP requests that an AWS SDK signed for medical-imaging. Leaves: answers. Never: an operation made up: what is not here is
answered with an error that says so.
"""

import base64
import gzip
import itertools
import json
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from werkzeug.wrappers import Request, Response

from fastscp.local.healthimaging.clock import Clock, instant
from fastscp.local.healthimaging.errors import ServiceError
from fastscp.local.healthimaging.faults import Call, Faults
from fastscp.local.healthimaging.image_sets import ImageSet, ImageSets, metadata
from fastscp.local.healthimaging.jobs import Job, Jobs, Objects
from fastscp.local.healthimaging.limits import Limits, Throttle
from fastscp.local.healthimaging.search import search, summary
from fastscp.local.healthimaging.shapes import Model, answer, error_answer, parameters
from fastscp.local.objects import ACCOUNT_ID

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_T = TypeVar("_T")
_Handler = Callable[[dict[str, Any]], dict[str, Any]]
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All that the service knows, to go on with later. Tokens are not part of it.

    Attributes:
        datastores: properties by id.
        image_sets: of each data store by its id.
    """

    datastores: dict[str, dict[str, Any]]
    image_sets: dict[str, list[ImageSet]]
    jobs: list[Job]


class HealthImaging:
    """The service, as a WSGI application. Thread-safe.

    Attributes:
        faults: what is to fail, and what was called.
        jobs: the import jobs.
    """

    def __init__(self, objects: Objects, *, limits: Limits | None = None, clock: Clock | None = None, seed: int | None = None) -> None:
        self._limits = limits or Limits()
        self._clock = clock or Clock()
        self._lock = threading.RLock()
        self._throttle = Throttle(self._limits.rates)
        self._model = Model()
        self._datastores: dict[str, dict[str, Any]] = {}
        self._datastore_tokens: dict[str, tuple[float, str]] = {}
        self._image_sets: dict[str, ImageSets] = {}
        random_source = random.Random(seed)  # noqa: S311 - ids, not secrets
        self._new_ids = ("".join(random_source.choices(_ALPHABET, k=32)) for _ in itertools.count())
        self.faults = Faults()
        self.jobs = Jobs(objects, self._clock, self._limits, self.image_sets, self._new_ids, self._lock)
        self._handlers: dict[str, _Handler] = {
            "CreateDatastore": self._create_datastore,
            "GetDatastore": self._get_datastore,
            "ListDatastores": self._list_datastores,
            "StartDICOMImportJob": self._start_job,
            "GetDICOMImportJob": self._get_job,
            "ListDICOMImportJobs": self._list_jobs,
            "SearchImageSets": self._search,
            "GetImageSet": self._get_image_set,
            "GetImageSetMetadata": self._get_metadata,
            "ListImageSetVersions": self._list_versions,
        }

    def start(self) -> None:
        self.jobs.start_thread()

    def stop(self) -> None:
        self.jobs.stop()

    def state(self) -> State:
        """As it is now."""
        with self._lock:
            times = ("createdAt", "updatedAt")
            datastores = {key: {**one, **{name: one[name].timestamp() for name in times}} for key, one in self._datastores.items()}
            image_sets = {key: list(sets) for key, sets in self._image_sets.items()}
            return State(datastores=datastores, image_sets=image_sets, jobs=self.jobs.every())

    def restore(self, state: State) -> None:
        """Go on with what another left, before this one is asked anything. Jobs that had not ended begin anew."""
        with self._lock:
            for key, one in state.datastores.items():
                self._datastores[key] = {**one, **{name: instant(one[name]) for name in ("createdAt", "updatedAt")}}
                self._image_sets[key] = ImageSets()
                for image_set in state.image_sets[key]:
                    self._image_sets[key].add(image_set)
            self.jobs.restore(state.jobs)

    def image_sets(self, datastore_id: str) -> ImageSets:
        """The image sets of a data store. Raises ServiceError where there is no such data store."""
        self._datastore(datastore_id)
        return self._image_sets[datastore_id]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        return self._respond(Request(environ))(environ, start_response)

    def _respond(self, request: Request) -> Response:
        at_s = self._clock.now_s()
        found = self._model.find(request.method, request.path)
        if found is None:
            return error_answer(ServiceError("ValidationException", f"{request.method} {request.path} is no operation of the service"))
        operation, in_path = found
        name = operation.name
        fault = self.faults.next_call(name)
        try:
            if fault is not None and not fault.reply_lost:
                raise ServiceError(fault.error, "injected")
            with self._lock:
                if not self._throttle.admits(name, at_s):
                    raise ServiceError("ThrottlingException", f"rate of {name} exceeded")
            handler = self._handlers.get(name)
            if handler is None:
                raise ServiceError("InternalServerException", f"this emulator does not have {name}")
            response = answer(operation, handler(parameters(operation, in_path, request)))
            if fault is not None:
                raise ServiceError(fault.error, "injected, after the operation was carried out")
        except ServiceError as error:
            response = error_answer(error)
        self.faults.record(Call(name, at_s, response.status_code))
        return response

    def _datastore(self, datastore_id: str) -> dict[str, Any]:
        datastore = self._datastores.get(datastore_id)
        if datastore is None:
            raise ServiceError("ResourceNotFoundException", f"there is no data store {datastore_id}")
        return datastore

    def _create_datastore(self, given: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            now_s = self._clock.now_s()
            made_at_s, datastore_id = self._datastore_tokens.get(given["clientToken"], (float("-inf"), ""))
            if now_s >= made_at_s + self._limits.token_memory_s:
                datastore_id = self.add_datastore(given.get("datastoreName"), given.get("losslessStorageFormat", "HTJ2K"))
                self._datastore_tokens[given["clientToken"]] = now_s, datastore_id
            return {"datastoreId": datastore_id, "datastoreStatus": "CREATING"}

    def add_datastore(self, name: str | None, lossless_format: str = "HTJ2K") -> str:
        """A new data store, which is ACTIVE at once. Returns its id."""
        with self._lock:
            datastore_id = next(self._new_ids)
            made_at = instant(self._clock.now_s())
            self._datastores[datastore_id] = {
                "datastoreId": datastore_id,
                "datastoreName": name or datastore_id,
                "datastoreStatus": "ACTIVE",
                "datastoreArn": f"arn:aws:medical-imaging:us-east-1:{ACCOUNT_ID}:datastore/{datastore_id}",
                "losslessStorageFormat": lossless_format,
                "createdAt": made_at,
                "updatedAt": made_at,
            }
            self._image_sets[datastore_id] = ImageSets()
            return datastore_id

    def _get_datastore(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"datastoreProperties": self._datastore(given["datastoreId"])}

    def _list_datastores(self, given: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            every = [one for one in self._datastores.values() if given.get("datastoreStatus") in (None, one["datastoreStatus"])]
        page, token = _page(every, given)
        absent = ("losslessStorageFormat",)
        return {"datastoreSummaries": [{k: v for k, v in one.items() if k not in absent} for one in page], "nextToken": token}

    def _start_job(self, given: dict[str, Any]) -> dict[str, Any]:
        self._datastore(given["datastoreId"])
        job = self.jobs.start(given)
        submitted_at = instant(job.submitted_at_s)
        return {"datastoreId": job.datastore_id, "jobId": job.job_id, "jobStatus": job.status, "submittedAt": submitted_at}

    def _get_job(self, given: dict[str, Any]) -> dict[str, Any]:
        self._datastore(given["datastoreId"])
        job = self.jobs.get(given["datastoreId"], given["jobId"])
        asked = ("dataAccessRoleArn", "inputS3Uri", "outputS3Uri", "importConfiguration")
        return {"jobProperties": {**_job_summary(job), **{name: job.request.get(name) for name in asked}}}

    def _list_jobs(self, given: dict[str, Any]) -> dict[str, Any]:
        self._datastore(given["datastoreId"])
        page, token = _page(self.jobs.newest_first(given["datastoreId"], given.get("jobStatus")), given)
        return {"jobSummaries": [_job_summary(job) for job in page], "nextToken": token}

    def _search(self, given: dict[str, Any]) -> dict[str, Any]:
        criteria = given.get("searchCriteria", {})
        with self._lock:
            page, token = _page(search(self.image_sets(given["datastoreId"]), criteria), given)
            return {"imageSetsMetadataSummaries": [summary(one) for one in page], "sort": criteria.get("sort"), "nextToken": token}

    def _image_set(self, given: dict[str, Any]) -> ImageSet:
        image_set = self.image_sets(given["datastoreId"]).get(given["imageSetId"])
        if image_set is None or not 1 <= int(given.get("versionId", image_set.version)) <= image_set.version:
            raise ServiceError("ResourceNotFoundException", f"there is no such image set or version: {given['imageSetId']}")
        return image_set

    def _get_image_set(self, given: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            image_set = self._image_set(given)
            version = int(given.get("versionId", image_set.version))
            arn = f"{self._datastore(given['datastoreId'])['datastoreArn']}/imageset/{image_set.image_set_id}"
            return {
                **_version(image_set, version),
                "datastoreId": given["datastoreId"],
                "imageSetArn": arn,
                "storageTier": "FREQUENT_ACCESS",
            }

    def _get_metadata(self, given: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            image_set = self._image_set(given)
            if int(given.get("versionId", image_set.version)) != image_set.version:
                raise ServiceError("InternalServerException", "this emulator keeps the metadata of the newest version only")
            document = metadata(given["datastoreId"], image_set)
        blob = gzip.compress(json.dumps(document).encode(), mtime=0)
        return {"imageSetMetadataBlob": blob, "contentType": "application/json", "contentEncoding": "gzip"}

    def _list_versions(self, given: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            image_set = self._image_set(given)
            versions = [_version(image_set, number) for number in range(image_set.version, 0, -1)]
        page, token = _page(versions, given)
        # The model spells this one member of the list differently.
        return {
            "imageSetPropertiesList": [{**one, "ImageSetWorkflowStatus": one["imageSetWorkflowStatus"]} for one in page],
            "nextToken": token,
        }


def _version(image_set: ImageSet, number: int) -> dict[str, Any]:
    return {
        "imageSetId": image_set.image_set_id,
        "versionId": str(number),
        "imageSetState": "ACTIVE",
        "imageSetWorkflowStatus": "CREATED" if number == 1 else "UPDATED",
        "createdAt": instant(image_set.versions[0]),
        "updatedAt": instant(image_set.versions[number - 1]),
        "isPrimary": image_set.is_primary,
    }


def _job_summary(job: Job) -> dict[str, Any]:
    return {
        "jobId": job.job_id,
        "jobName": job.name,
        "jobStatus": job.status,
        "datastoreId": job.datastore_id,
        "dataAccessRoleArn": job.request["dataAccessRoleArn"],
        "submittedAt": instant(job.submitted_at_s),
        "endedAt": instant(job.ended_at_s) if job.ended_at_s is not None else None,
        "message": job.message or None,
    }


def _page(every: Sequence[_T], given: dict[str, Any]) -> tuple[Sequence[_T], str | None]:
    """The part that is asked for, and the token of the next one. Raises ServiceError."""
    token = given.get("nextToken")
    try:
        begin = int(base64.urlsafe_b64decode(token)) if token else 0
    except ValueError as error:
        raise ServiceError("ValidationException", "nextToken is not one of this service") from error
    end = begin + given.get("maxResults", 50)
    return every[begin:end], base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(every) else None
