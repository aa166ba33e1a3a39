"""Objects in an S3 bucket, through conditional PUT (`If-None-Match: *`).

One PUT commits one object: no multipart upload, so nothing half-written can become visible. boto3
retries by itself, and a retry after a stored but unanswered PUT is refused by the store with 412:
`create` then answers False, and the caller looks whether the object is its own.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from fleet.errors import NotFoundError, PermanentError, StoreUnavailableError
from fleet.ports.object_store import ListedObject
from resources.object_store.keys import validate_key
from resources.object_store.probe import probe_store

_DELETE_BATCH = 1000
"""Most keys that one DeleteObjects request takes (S3 API reference)."""
_EXISTS = {"PreconditionFailed", "412"}
_MISSING = {"NoSuchKey", "404"}
_DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "403"}


class S3ObjectStore:
    """The `ObjectStore` port on a bucket.

    Args:
        client: a boto3 S3 client with its own endpoint, credentials, time limits and retries.
        bucket: name of an existing bucket.
        prefix: put before each key, for several stores in one bucket; '' or ending in '/'.
    """

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        """Remember where; nothing is asked before the first call."""
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    def create(self, key: str, data: bytes) -> bool:
        """See `fleet.ports.ObjectStore.create`; committed by the conditional PUT."""
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        try:
            with _translated(key):
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + validate_key(key),
                    Body=data,
                    IfNoneMatch="*",
                    ChecksumSHA256=checksum,
                )
        except FileExistsError:
            return False
        return True

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `fleet.ports.ObjectStore.get`."""
        if length == 0:
            return b""
        last = "" if length is None else str(offset + length - 1)
        ranged = {} if offset == 0 and length is None else {"Range": f"bytes={offset}-{last}"}
        try:
            with _translated(key):
                answer = self._client.get_object(
                    Bucket=self._bucket, Key=self._prefix + validate_key(key), **ranged
                )
                body: bytes = answer["Body"].read()
        except EOFError:
            return b""
        return body

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """See `fleet.ports.ObjectStore.list_objects`; one request for each thousand keys."""
        start = {"StartAfter": self._prefix + after} if after else {}
        found = []
        with _translated(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix, **start
            )
            for page in pages:
                for one in page.get("Contents", ()):
                    key = one["Key"].removeprefix(self._prefix)
                    found.append(ListedObject(key, one["Size"], one["LastModified"]))
        return found

    def delete(self, keys: Iterable[str]) -> None:
        """See `fleet.ports.ObjectStore.delete`; one request for each thousand keys."""
        names = [{"Key": self._prefix + validate_key(key)} for key in keys]
        for start in range(0, len(names), _DELETE_BATCH):
            batch = names[start : start + _DELETE_BATCH]
            with _translated(batch[0]["Key"]):
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True}
                )
            for fault in answer.get("Errors", ()):
                raise StoreUnavailableError(f"delete of {fault['Key']}: {fault.get('Message')}")

    def check(self) -> list[str]:
        """See `fleet.ports.ObjectStore.check`."""
        return probe_store(self, uuid.uuid4().hex)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    """Turn what boto3 raises into the port's errors, naming the key."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _EXISTS:
            raise FileExistsError(key) from error
        if code == "InvalidRange":
            raise EOFError(key) from error
        if code in _MISSING:
            raise NotFoundError(f"object {key} does not exist") from error
        if code in _DENIED:
            raise PermanentError(
                f"object {key}: {error}", hint="Check credentials, bucket name and bucket policy."
            ) from error
        raise StoreUnavailableError(f"object {key}: {error}") from error
    except (BotoCoreError, HTTPClientError, OSError) as error:
        raise StoreUnavailableError(
            f"object {key}: {error}", hint="Check that the endpoint is reachable."
        ) from error
