"""Image sets: what is stored, one primary for each series, and others for what contradicts it.

Enters: imported instances. Leaves: image sets and their versions. Never: an instance in two image sets of one job.

Source: https://docs.aws.amazon.com/healthimaging/latest/devguide/understanding-image-sets.html
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastscp.local.healthimaging.instance import Imported


@dataclass
class ImageSet:
    """One image set at its newest version.

    Attributes:
        instances: by SOP Instance UID, the newest of each.
        versions: when each version was made, by number from 1, in seconds since the epoch.
    """

    image_set_id: str
    is_primary: bool
    patient: Mapping[str, str]
    study: Mapping[str, str]
    series: Mapping[str, str]
    instances: dict[str, Imported] = field(default_factory=dict)
    versions: list[float] = field(default_factory=list)

    @property
    def version(self) -> int:
        return len(self.versions)

    @property
    def study_instance_uid(self) -> str:
        return self.study["StudyInstanceUID"]

    @property
    def series_instance_uid(self) -> str:
        return self.series["SeriesInstanceUID"]


class ImageSets:
    """The image sets of one data store. Not thread-safe."""

    def __init__(self) -> None:
        self._by_id: dict[str, ImageSet] = {}
        self._of_study: dict[str, list[ImageSet]] = {}

    def __iter__(self) -> Iterator[ImageSet]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, image_set_id: str) -> ImageSet | None:
        return self._by_id.get(image_set_id)

    def add(self, image_set: ImageSet) -> None:
        self._by_id[image_set.image_set_id] = image_set
        self._of_study.setdefault(image_set.study_instance_uid, []).append(image_set)

    def place(self, instances: Iterable[Imported], new_ids: Iterator[str], now_s: float) -> list[ImageSet]:
        """Store the instances of one job. Returns, for each of them in order, its image set.

        An instance joins the primary image set of its series, or begins it, if its patient and study attributes are those of the
        primary image sets of its study, and its series attributes those of its series. Otherwise it goes into an image set of this
        job that is not primary, one for each series and set of contradicting attributes.
        """
        placed: list[ImageSet] = []
        touched: dict[str, ImageSet] = {}
        others: dict[tuple[tuple[tuple[str, str], ...], ...], ImageSet] = {}
        for instance in instances:
            image_set = self._primary_for(instance, new_ids)
            if image_set is None:
                attributes = tuple(tuple(sorted(level.items())) for level in (instance.patient, instance.study, instance.series))
                image_set = others.get(attributes)
            if image_set is None:
                image_set = ImageSet(next(new_ids), False, instance.patient, instance.study, instance.series)
                others[attributes] = image_set
                self.add(image_set)
            image_set.instances[instance.sop_instance_uid] = instance
            touched[image_set.image_set_id] = image_set
            placed.append(image_set)
        for image_set in touched.values():
            image_set.versions.append(now_s)
        return placed

    def _primary_for(self, instance: Imported, new_ids: Iterator[str]) -> ImageSet | None:
        of_study = [one for one in self._of_study.get(instance.study_instance_uid, ()) if one.is_primary]
        if any((one.patient, one.study) != (instance.patient, instance.study) for one in of_study[:1]):
            return None
        for one in of_study:
            if one.series_instance_uid == instance.series_instance_uid:
                return one if one.series == instance.series else None
        image_set = ImageSet(next(new_ids), True, instance.patient, instance.study, instance.series)
        self.add(image_set)
        return image_set


def metadata(datastore_id: str, image_set: ImageSet) -> dict[str, Any]:
    """The document of GetImageSetMetadata, without image frames and with the attributes that are kept.

    Source: https://docs.aws.amazon.com/healthimaging/latest/devguide/get-image-set-metadata.html
    """
    instances = {uid: {"DICOM": dict(one.instance), "DICOMVRs": {}} for uid, one in sorted(image_set.instances.items())}
    return {
        "SchemaVersion": "1.1",
        "DatastoreID": datastore_id,
        "ImageSetID": image_set.image_set_id,
        "Patient": {"DICOM": dict(image_set.patient)},
        "Study": {
            "DICOM": dict(image_set.study),
            "Series": {image_set.series_instance_uid: {"DICOM": dict(image_set.series), "Instances": instances}},
        },
    }
