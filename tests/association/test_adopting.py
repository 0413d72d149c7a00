"""Settings that change while an association is being negotiated.

Enters: other settings, between request and answer. Leaves: an association that goes by one of them. Never: by one here and another there.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from pynetdicom import evt

from tests.association.inprocess import Running, nothing_left_open
from tests.peers import encoding as enc
from tests.peers.datasets import make
from tests.peers.encoding import Context

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
CONTEXTS = [Context(1, enc.CT_IMAGE), Context(3, MR_IMAGE)]


@pytest.fixture(autouse=True)
def _left() -> Iterator[None]:
    with nothing_left_open():
        yield


@pytest.mark.parametrize(("before", "after"), [((), (enc.CT_IMAGE,)), ((enc.CT_IMAGE,), ())])
def test_a_limit_of_sop_classes_holds_for_contexts_and_instances_alike(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    """The limit comes, or goes, once the request was read."""
    changed = False

    def change(event: evt.Event) -> None:
        nonlocal changed
        if not changed:
            running.acceptor.adopt(msgspec.structs.replace(running.settings, sop_classes=after))
        changed = True

    other = make(sop_class=MR_IMAGE)
    with Running([(evt.EVT_REQUESTED, change)], sop_classes=before) as running:
        for limit in (before, after):
            with running.connect() as scu:
                assert scu.associate(CONTEXTS).results == {1: 0, 3: 3 if limit else 0}
                # An instance of the other class, on the context that is accepted either way.
                assert scu.store(other.sop_class, other.sop_instance, other.data_set).status == (0x0122 if limit else 0x0000)
                scu.release()
            running.wait_none_left()
