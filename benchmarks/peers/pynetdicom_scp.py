"""A stock pynetdicom Storage SCP: every storage class in every transfer syntax, as its own storescp application has it.

Enters: associations on PORT. Leaves: a Part-10 file per instance in DIRECTORY, or nothing where none is given. Never: anything tuned but
the maximum PDU length and the number of associations, which are limits and not speed.
"""

import sys
from pathlib import Path
from typing import cast

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.dimse_primitives import C_STORE


def keep(event: evt.Event, directory: Path) -> int:
    """Write the instance as it came, under its SOP Instance UID."""
    request = cast(C_STORE, event.request)
    (directory / f"{request.AffectedSOPInstanceUID}.dcm").write_bytes(event.encoded_dataset())
    return 0x0000


def drop(event: evt.Event) -> int:
    """Answer Success and keep nothing."""
    return 0x0000


def main(port: int, directory: Path | None) -> None:
    """Serve until the process is ended."""
    entity = AE(ae_title="PYNETDICOM")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    entity.maximum_pdu_size = 131072
    entity.maximum_associations = 1000
    handler = (evt.EVT_C_STORE, keep, [directory]) if directory else (evt.EVT_C_STORE, drop)
    entity.start_server(("127.0.0.1", port), block=True, evt_handlers=[handler])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
