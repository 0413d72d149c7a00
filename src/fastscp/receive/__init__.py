"""One instance from its first fragment to its commit: store this, then answer that.

Enters: instances from the association layer. Leaves: commits, and the answer to each C-STORE-RQ.
Never: Success for what is not committed, an exception for what a peer did.
"""

from fastscp.receive.intake import Answer, Intake
from fastscp.receive.opening import open_store
from fastscp.receive.s3_store import S3Store

__all__ = ["Answer", "Intake", "S3Store", "open_store"]
