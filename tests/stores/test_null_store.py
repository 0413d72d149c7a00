"""The null store: takes everything, keeps nothing.

Enters: instances. Leaves: nothing. Never: memory that stays taken.
"""

from __future__ import annotations

from fastscp._ext import pdu
from fastscp._ext.memory import BufferPool
from fastscp.receive import open_store
from fastscp.settings import Settings, StoreTarget
from fastscp.stores import InstanceName
from fastscp.stores.null import NullStore
from reference import traffic
from reference.driving import Limits, native_reader

NAME = InstanceName("1.2", "1.2.3", "1.2.3.4")


def test_what_spills_is_dropped() -> None:
    pool, store = BufferPool(8 << 20), NullStore()
    reader = native_reader(pool, Limits(spill_threshold_bytes=1 << 20))
    # Four times what the pool may hold.
    stream = traffic.store(1, traffic.data_set(pixels=bytes(32 << 20)), pdv_bytes=16_000)
    upload = store.begin_upload(None)  # type: ignore[arg-type]
    while True:
        event, consumed = reader.feed(stream)
        stream = stream[consumed:]
        if event == pdu.STORE:
            break
        assert event == pdu.SPILL
        upload.spill(reader.instance)
    instance = reader.take_instance()
    upload.commit(instance, NAME)
    assert instance.spilled_bytes > 24 << 20
    instance.release()
    assert pool.in_use_bytes == 0
    store.close()


def test_it_is_opened_by_name() -> None:
    store = open_store(Settings(store=StoreTarget("null", ""), memory_budget_bytes=8 << 20))
    assert isinstance(store, NullStore)
    store.begin_upload(None).abandon()  # type: ignore[arg-type]
