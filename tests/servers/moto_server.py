"""AWS's protocols over real HTTP on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

ACCESS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@contextmanager
def moto_server() -> Iterator[str]:
    """A server's URL; it is always ended."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def aws_client(service: str, endpoint: str, read_timeout_s: float = 5.0) -> Iterator[Any]:
    """A client without retries of its own; it is always closed."""
    config = Config(
        connect_timeout=2, read_timeout=read_timeout_s, retries={"total_max_attempts": 1}
    )
    client = boto3.client(
        service, endpoint_url=endpoint, region_name="us-east-1", config=config, **ACCESS
    )
    try:
        yield client
    finally:
        client.close()


def fill_bucket(name: str, objects: Mapping[str, bytes]) -> None:
    """Make a bucket in the memory of this process's servers: a request for each object is slow."""
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    backend.create_bucket(name, "us-east-1")
    for key, data in objects.items():
        backend.put_object(name, key, data)


def read_bucket(name: str) -> dict[str, bytes]:
    """Everything in a bucket, out of the same memory."""
    bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_bucket(name)
    return {key: bucket.keys[key].value for key in list(bucket.keys)}


def drop_bucket(name: str) -> None:
    """Remove a bucket with all that is in it."""
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    bucket = backend.get_bucket(name)
    for key in list(bucket.keys):
        bucket.keys.pop(key)
    backend.delete_bucket(name)


def aws_environment(endpoint: str) -> dict[str, str]:
    """What boto3 reads of its surroundings, so that clients without arguments reach the server."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": ACCESS["aws_secret_access_key"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }
