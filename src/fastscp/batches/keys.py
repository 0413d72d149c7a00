"""Where what lies, under the prefix of the store.

Enters: batch ids and UIDs that are key-safe, or keys that a listing showed. Leaves: keys, or what they name.
Never: anything else beside the instances of a batch, because all that is there is imported.
"""

from fastscp.batches.ids import is_batch_id
from fastscp.uids import is_key_safe


class Keys:
    """The keys of one store.

    Attributes:
        open: prefix of the markers.
        batches: prefix of the manifests.
        quarantine: prefix of the instances that could not be imported.
        inbox: prefix of the files that come from elsewhere, to be imported one by one.
    """

    def __init__(self, prefix: str) -> None:
        """
        Args:
            prefix: of the store, with or without a slash at its end; empty for the whole bucket.
        """
        root = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._instances = f"{root}instances/"
        self.open = f"{root}open/"
        self.batches = f"{root}batches/"
        self.quarantine = f"{root}quarantine/"
        self.inbox = f"{root}inbox/"

    def instances(self, batch_id: str) -> str:
        """Prefix of a batch's instances. It ends in a slash: the prefix of one batch is never that of two."""
        return f"{self._instances}{batch_id}/"

    def instance(self, batch_id: str, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> str:
        """Key of an instance."""
        return f"{self._instances}{batch_id}/{study_instance_uid}/{series_instance_uid}/{sop_instance_uid}.dcm"

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
        return _batch_id(key, self.open)

    def batch_of_manifest(self, key: str) -> str | None:
        """Batch whose manifest has this key, None for any other key."""
        return _batch_id(key, self.batches)


def _batch_id(key: str, prefix: str) -> str | None:
    batch_id = key.removeprefix(prefix).removesuffix(".json")
    return batch_id if is_batch_id(batch_id) and key == f"{prefix}{batch_id}.json" else None
