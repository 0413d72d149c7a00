"""Where what lies in the two buckets, and how an attempt is named.

Enters: prefixes, batch ids, UIDs, keys. Leaves: keys and URIs, or what they name. Never: a key made of anything that is not key-safe.
"""

import re

BATCH_ID = "[0-9a-f]{16}-[0-9a-f]{12}"

_batch_id = re.compile(BATCH_ID).fullmatch
_key_safe = re.compile(r"[0-9](?:[0-9.]{0,62}[0-9])?", re.ASCII).fullmatch


def is_batch_id(text: str) -> bool:
    """Whether this is the name of a batch."""
    return _batch_id(text) is not None


def is_key_safe(uid: str) -> bool:
    """Whether a UID can be part of a key: 1 to 64 of digits and dots, no dot at either end."""
    return _key_safe(uid) is not None


def attempt_name(batch_id: str, attempt: int) -> str:
    """Name of an attempt to import a batch: of its first execution, of its job, its clientToken."""
    return f"{batch_id}-{attempt}"


class Keys:
    """The keys of one store in the DICOM bucket.

    Attributes:
        open: prefix of the markers.
        batches: prefix of the manifests.
        inbox: prefix of the files that come from elsewhere.
    """

    def __init__(self, prefix: str) -> None:
        """
        Args:
            prefix: of the store, empty or with a slash at its end.
        """
        self._prefix = prefix
        self.open = f"{prefix}open/"
        self.batches = f"{prefix}batches/"
        self.inbox = f"{prefix}inbox/"

    def instances(self, batch_id: str) -> str:
        """Prefix of a batch's instances, with a slash at its end."""
        return f"{self._prefix}instances/{batch_id}/"

    def instance(self, batch_id: str, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> str:
        """Key of an instance."""
        return f"{self.instances(batch_id)}{study_instance_uid}/{series_instance_uid}/{sop_instance_uid}.dcm"

    def quarantine(self, batch_id: str) -> str:
        """Prefix of those instances of a batch that were not imported."""
        return f"{self._prefix}quarantine/{batch_id}/"

    def marker(self, batch_id: str) -> str:
        """Key of a batch's marker."""
        return f"{self.open}{batch_id}.json"

    def manifest(self, batch_id: str) -> str:
        """Key of a batch's manifest."""
        return f"{self.batches}{batch_id}.json"

    def uids(self, batch_id: str, key: str) -> tuple[str, str, str] | None:
        """Study, Series and SOP Instance UID that the key of an instance of this batch names; None for any other key."""
        prefix = self.instances(batch_id)
        if not key.startswith(prefix) or not key.endswith(".dcm"):
            return None
        uids = key[len(prefix) : -len(".dcm")].split("/")
        if len(uids) != 3 or not all(map(is_key_safe, uids)):
            return None
        return uids[0], uids[1], uids[2]

    def batch_of_marker(self, key: str) -> str | None:
        """Batch whose marker has this key, None for any other key."""
        return _batch_of(key, self.open)

    def batch_of_manifest(self, key: str) -> str | None:
        """Batch whose manifest has this key, None for any other key."""
        return _batch_of(key, self.batches)

    def is_inbox(self, key: str) -> bool:
        """Whether this is a file that came from elsewhere."""
        return key.startswith(self.inbox) and key.endswith(".dcm")


def output_prefix(results_prefix: str, batch_id: str, attempt: int) -> str:
    """Prefix of what HealthImaging writes about the job of an attempt, with a slash at its end."""
    return f"{results_prefix}output/{batch_id}/{attempt}/"


def result_key(results_prefix: str, batch_id: str, attempt: int) -> str:
    """Key of the result object of an attempt."""
    return f"{results_prefix}results/{batch_id}/{attempt}.json"


def _batch_of(key: str, prefix: str) -> str | None:
    batch_id = key.removeprefix(prefix).removesuffix(".json")
    return batch_id if is_batch_id(batch_id) and key == f"{prefix}{batch_id}.json" else None
