"""Buckets of an S3-speaking server on loopback: `s3_endpoint` of conftest.py."""

from __future__ import annotations

import uuid

import pytest

from benchmarks.fault_proxy import s3_environment


def point_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process look for its object store there."""
    for name, value in s3_environment(endpoint).items():
        monkeypatch.setenv(name, value)


def make_bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a new bucket, and point the process at its server."""
    point_at(endpoint, monkeypatch)
    return create_bucket(endpoint)


def create_bucket(endpoint: str) -> str:
    """Return the URL of a new bucket."""
    import boto3

    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
    return f"s3://{bucket}"
