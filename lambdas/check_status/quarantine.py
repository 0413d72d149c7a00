"""What was not imported is copied to where nothing expires.

Enters: instances of a batch. Leaves: their copies under `quarantine/`. Never: their bytes in this function.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from importflow.documents import Entry
from importflow.workflow import Workflow

COPIES_AT_ONCE = 32


def quarantine(workflow: Workflow, batch_id: str, entries: Iterable[Entry]) -> int:
    """Copy these instances, those aside that an earlier call has copied. Returns how many are not there any more."""
    prefix, instances = workflow.keys.quarantine(batch_id), workflow.keys.instances(batch_id)
    wanted = {f"{prefix}{entry.key.removeprefix(instances)}": entry for entry in entries}
    if not wanted:
        return 0
    there = {listed.key for listed in workflow.dicom.list(prefix)}
    # The manifest may not know the size, and a copy has to.
    sizes = {listed.key: listed.size_bytes for listed in workflow.dicom.list(instances)}
    todo = [(to, entry.key) for to, entry in wanted.items() if to not in there]
    gone = [key for _, key in todo if key not in sizes]
    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        copied = list(
            pool.map(lambda copy: workflow.dicom.copy(copy[1], copy[0], sizes[copy[1]]), [one for one in todo if one[1] in sizes])
        )
    return len(gone) + copied.count(False)
