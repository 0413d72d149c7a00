"""SearchImageSets: filters, order and summaries.

Enters: image sets and search criteria that the model has accepted. Leaves: those that match, as the answer shows them.
Never: a criterion passed over silently.

Source: https://docs.aws.amazon.com/healthimaging/latest/APIReference/API_SearchImageSets.html
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastscp.local.healthimaging.clock import instant
from fastscp.local.healthimaging.errors import ServiceError
from fastscp.local.healthimaging.image_sets import ImageSet

_FIELDS: Mapping[str, Callable[[ImageSet], Any]] = {
    "DICOMPatientId": lambda one: one.patient.get("PatientID", ""),
    "DICOMAccessionNumber": lambda one: one.study.get("AccessionNumber", ""),
    "DICOMStudyId": lambda one: one.study.get("StudyID", ""),
    "DICOMStudyInstanceUID": lambda one: one.study_instance_uid,
    "DICOMSeriesInstanceUID": lambda one: one.series_instance_uid,
    "DICOMStudyDateAndTime": lambda one: (one.study.get("StudyDate", ""), one.study.get("StudyTime", "")),
    "createdAt": lambda one: one.versions[0],
    "updatedAt": lambda one: one.versions[-1],
    "isPrimary": lambda one: one.is_primary,
}
_TAGS: Mapping[str, tuple[str, str]] = {
    "DICOMPatientId": ("patient", "PatientID"),
    "DICOMPatientName": ("patient", "PatientName"),
    "DICOMPatientBirthDate": ("patient", "PatientBirthDate"),
    "DICOMPatientSex": ("patient", "PatientSex"),
    "DICOMStudyInstanceUID": ("study", "StudyInstanceUID"),
    "DICOMStudyId": ("study", "StudyID"),
    "DICOMStudyDescription": ("study", "StudyDescription"),
    "DICOMAccessionNumber": ("study", "AccessionNumber"),
    "DICOMStudyDate": ("study", "StudyDate"),
    "DICOMStudyTime": ("study", "StudyTime"),
    "DICOMSeriesInstanceUID": ("series", "SeriesInstanceUID"),
    "DICOMSeriesModality": ("series", "Modality"),
    "DICOMSeriesBodyPart": ("series", "BodyPartExamined"),
}


def search(image_sets: Iterable[ImageSet], criteria: Mapping[str, Any]) -> list[ImageSet]:
    """The image sets that match all filters, sorted; the newest first where no order is asked for. Raises ServiceError."""
    filters = [_filter(one) for one in criteria.get("filters", ())]
    found = [one for one in image_sets if one.versions and all(matches(one) for matches in filters)]
    sort = criteria.get("sort", {"sortField": "updatedAt", "sortOrder": "DESC"})
    return sorted(found, key=_FIELDS[sort["sortField"]], reverse=sort["sortOrder"] == "DESC")


def _filter(given: Mapping[str, Any]) -> Callable[[ImageSet], bool]:
    names = {next(iter(value)) for value in given["values"]}
    if len(names) != 1:
        raise ServiceError("ValidationException", "the values of a filter must be of one attribute")
    field = _FIELDS[names.pop()]
    values = [_comparable(next(iter(value.items()))) for value in given["values"]]
    if given["operator"] == "EQUAL":
        if len(values) != 1:
            raise ServiceError("ValidationException", "EQUAL takes one value")
        return lambda one: bool(field(one) == values[0])
    if len(values) != 2:
        raise ServiceError("ValidationException", "BETWEEN takes two values")
    low, high = values
    return lambda one: bool(low <= field(one) <= high)


def _comparable(item: tuple[str, Any]) -> Any:
    name, value = item
    return (value["DICOMStudyDate"], value.get("DICOMStudyTime", "")) if name == "DICOMStudyDateAndTime" else value


def summary(image_set: ImageSet) -> dict[str, Any]:
    """An image set as SearchImageSets shows it."""
    tags = {name: getattr(image_set, level).get(keyword) for name, (level, keyword) in _TAGS.items()}
    tags["DICOMNumberOfStudyRelatedInstances"] = len(image_set.instances)
    number = image_set.series.get("SeriesNumber", "")
    if number.lstrip("+-").isdigit():
        tags["DICOMSeriesNumber"] = int(number)
    return {
        "imageSetId": image_set.image_set_id,
        "version": image_set.version,
        "createdAt": instant(image_set.versions[0]),
        "updatedAt": instant(image_set.versions[-1]),
        "isPrimary": image_set.is_primary,
        "storageTier": "FREQUENT_ACCESS",
        "DICOMTags": tags,
    }
