"""The credentials of the standard AWS chain, looked for anew where S3 says that those in use are over.

Enters: the chain. Leaves: what a request is signed with. Never: a credential in a log or an error.
"""

import threading
import time
from collections.abc import Callable

import botocore.session
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError

USED_AFTER_S = 1.0
"""Requests may be signed with the credentials before for so long after a change: obstore keeps what it was given for a tenth of that."""


class ChainCredentials(Credentials):
    """Thread-safe. Credentials with an end that botocore knows of (roles, `credential_process`) are refreshed by botocore itself;
    those without (keys in a shared file) are read once by it, and would be used for ever.
    """

    def __init__(self, find: Callable[[], Credentials | None]) -> None:
        """
        Args:
            find: walks the chain from its beginning.
        """
        found = find()
        if found is None:
            raise LookupError
        # The parent's attributes stay empty: who signs asks for frozen credentials.
        super().__init__("", "")
        self._find = find
        self._found = found
        self._lock = threading.Lock()
        self._current = found.get_frozen_credentials()
        self._looked_at_s = self._changed_at_s = float("-inf")

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """What to sign with now. May ask the source for new ones."""
        frozen = self._found.get_frozen_credentials()
        if frozen != self._current:
            self._current, self._changed_at_s = frozen, time.monotonic()
        return frozen

    def renew(self, since_s: float) -> bool:
        """Look for other credentials, unless somebody has looked since. Returns whether they have changed since then.

        Args:
            since_s: when a request began that S3 refused for its credentials, monotonic.
        """
        with self._lock:
            if self._looked_at_s < since_s:
                try:
                    self._found = self._find() or self._found
                    self.get_frozen_credentials()
                except (BotoCoreError, OSError):
                    pass  # The source is out of reach: what is there stays, and the next refusal asks again.
                self._looked_at_s = time.monotonic()
            return self._changed_at_s >= since_s - USED_AFTER_S


class Chain:
    """A botocore session's provider of credentials, that provides these."""

    def __init__(self, credentials: ChainCredentials) -> None:
        self._credentials = credentials

    def load_credentials(self) -> ChainCredentials:
        """The credentials."""
        return self._credentials


def find_in_chain() -> Credentials | None:
    """Walk the standard AWS chain: environment, profile, container, instance."""
    return botocore.session.get_session().get_credentials()
