"""The store that the settings name.

Enters: the settings. Leaves: an open store. Never: one that cannot be written to.
"""

from pathlib import Path

from fastscp.batches import Limits
from fastscp.errors import ConfigError
from fastscp.receive.s3_store import S3Store
from fastscp.settings import Settings
from fastscp.stores import FileStore, NullStore, Report, Store, StoreHealth
from fastscp.stores.s3 import EngineError, S3Options, open_engine


def open_store(settings: Settings, report: Report = lambda ready, why: None) -> Store:
    """The store that `--store` names. Raises ConfigError where it cannot be used.

    Args:
        report: told by the S3 store when S3 begins or ceases to refuse access; in any thread.
    """
    target = settings.store
    replace = settings.on_duplicate == "overwrite"
    if target.kind == "null":
        return NullStore()
    if target.kind == "file":
        return FileStore(Path(target.path), fsync=settings.fsync, replace=replace)
    # Three attempts within the deadline, most of each for sending and waiting.
    attempt_timeout_s = settings.put_timeout_s / 3
    options = S3Options(
        bucket=target.bucket,
        region=settings.aws_region or None,
        expected_bucket_owner=settings.bucket_owner or None,
        encryption=settings.encryption,
        kms_key_id=settings.kms_key or None,
        connection_count=settings.max_associations,
        connect_timeout_s=min(3.0, attempt_timeout_s / 6),
        attempt_timeout_s=attempt_timeout_s,
    )
    engine = open_engine(settings.s3_engine, options)
    try:
        engine.check(target.path, deadline_s=settings.put_timeout_s)
    except EngineError as error:
        engine.close()
        raise ConfigError("--store", f"cannot write to {target}: {error.code}") from error
    limits = Limits(quiet_s=settings.quiet_period_s, put_deadline_s=settings.put_timeout_s)
    return S3Store(engine, target.path, limits, StoreHealth(report), replace=replace)
