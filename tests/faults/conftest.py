"""Engines of both kinds behind the fault proxy."""

from tests.stores_s3.conftest import aws_environment, certificates, kind, open_at, plain_server, rclone  # noqa: F401
