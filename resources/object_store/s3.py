"""Objects in an S3 bucket, through conditional PUT (`If-None-Match: *`).

One PUT commits one object: no multipart upload, so nothing half-written can become visible. Tries
are repeated here, not by boto3: with one deadline for the whole call, and with the knowledge that a
try without an answer may have stored the object. When such a call then meets an existing object, it
reads it: its own bytes there mean that it has created it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from fleet.errors import CorruptObjectError, InvalidInputError, PermanentError
from fleet.ports.object_store import ListedObject, StoreFeatures
from resources.object_store.keys import validate_folder, validate_key
from resources.object_store.probe import probe_store
from resources.object_store.retrying import Fault, Retrier, Retrying
from resources.object_store.s3_faults import EXISTS, classify_fault

T = TypeVar("T")
LOCK_MODES = ("GOVERNANCE", "COMPLIANCE")
_DELETE_BATCH = 1000
"""Most keys that one DeleteObjects request takes (S3 API reference)."""
_READ_BYTES = 16 * 1024
"""Read at a time, so that a trickling body meets its deadline."""
_UNLOCKED = "probe/"
"""Objects of the self-test are deleted at once, and never locked."""
_LOCKERS = 8


def open_s3_client(
    region: str | None,
    endpoint_url: str | None = None,
    *,
    connect_timeout_s: float = 5.0,
    read_timeout_s: float = 30.0,
    calls_at_once_max: int = 16,
    **credentials: str,
) -> Any:
    """A boto3 client that leaves all retries to `S3ObjectStore`.

    Args:
        region: of the bucket; None takes boto3's own.
        endpoint_url: of a store other than AWS.
        connect_timeout_s: for a connection.
        read_timeout_s: of silence.
        calls_at_once_max: connections kept open.
        credentials: `aws_access_key_id`, ... where the default chain is not wanted.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        max_pool_connections=calls_at_once_max,
        retries={"total_max_attempts": 1, "mode": "standard"},
    )
    return boto3.client(
        "s3", region_name=region, endpoint_url=endpoint_url, config=config, **credentials
    )


class S3ObjectStore:
    """The `ObjectStore` port on a bucket.

    Args:
        client: a boto3 S3 client with its own endpoint, credentials and time limits.
        bucket: name of an existing bucket.
        prefix: put before each key, for several stores in one bucket; '' or ending in '/'.
        lock_days: days for which each new object is locked against deletion (14 are advised);
            None for no lock. The bucket must have been made with object lock.
        lock_mode: `GOVERNANCE` (a special permission lifts it) or `COMPLIANCE` (nobody can).
        retrying: deadline, delays, calls at once.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        prefix: str = "",
        *,
        lock_days: int | None = None,
        lock_mode: str = "GOVERNANCE",
        retrying: Retrying | None = None,
    ) -> None:
        """Remember where; nothing is asked before the first call."""
        if lock_days is not None and lock_days < 1:
            raise InvalidInputError("lock_days", lock_days, "1 or more, or none")
        if lock_mode not in LOCK_MODES:
            raise InvalidInputError("lock_mode", lock_mode, " or ".join(LOCK_MODES))
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._place = f"s3://{bucket}/{prefix}"
        self._lock_days = lock_days
        self._lock_mode = lock_mode
        self._retrier = Retrier(retrying or Retrying(), self._classify)

    def create(self, key: str, data: bytes) -> bool:
        """See `fleet.ports.ObjectStore.create`; committed by the conditional PUT."""
        name = self._prefix + validate_key(key)
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()

        def attempt(is_unsure: bool, ends_s: float) -> bool:
            try:
                answer = self._client.put_object(
                    Bucket=self._bucket,
                    Key=name,
                    Body=_TimedBody(data, ends_s),
                    IfNoneMatch="*",
                    ChecksumSHA256=checksum,
                    **self._lock(key),
                )
            except self._client.exceptions.ClientError as error:
                if str(error.response.get("Error", {}).get("Code")) not in EXISTS:
                    raise
                # Perhaps an earlier try of this call stored it, and its answer was lost.
                return is_unsure and self._fetch(name, {}, ends_s) == data
            _demand_same(answer, data, checksum, f"store {self._place}: object {key}")
            return True

        return self._retrier.run(key, attempt)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `fleet.ports.ObjectStore.get`."""
        name = self._prefix + validate_key(key)
        if length == 0:
            return b""
        last = "" if length is None else str(offset + length - 1)
        ranged = {} if offset == 0 and length is None else {"Range": f"bytes={offset}-{last}"}

        def attempt(_: bool, ends_s: float) -> bytes:
            try:
                return self._fetch(name, ranged, ends_s)
            except self._client.exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") == "InvalidRange":
                    return b""
                raise

        return self._retrier.run(key, attempt)

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """See `fleet.ports.ObjectStore.list_objects`; one request for each thousand keys."""
        found: list[ListedObject] = []
        token: str | None = None
        while True:
            where: dict[str, str] = {"StartAfter": self._prefix + after} if after else {}
            if token:
                where = {"ContinuationToken": token}
            page = self._ask(prefix, "list_objects_v2", Prefix=self._prefix + prefix, **where)
            for one in page.get("Contents", ()):
                key = one["Key"].removeprefix(self._prefix)
                found.append(ListedObject(key, one["Size"], one["LastModified"]))
            token = page.get("NextContinuationToken")
            if not token:
                return found

    def delete(self, keys: Iterable[str]) -> None:
        """See `fleet.ports.ObjectStore.delete`; in a versioned bucket it hides, see `purge`.

        One request for each thousand keys.
        """
        names = [{"Key": self._prefix + validate_key(key)} for key in keys]
        for refused in self._delete_batches(names):
            raise PermanentError(
                f"store {self._place}: object {refused['Key']} is not deleted: "
                f"{refused.get('Code')} {refused.get('Message')}",
                hint="Check the bucket's policy and locks; the other objects were deleted.",
            )

    def features(self) -> StoreFeatures:
        """See `fleet.ports.ObjectStore.features`; one request, and one more with `lock_days`."""
        versioning = self._ask("", "get_bucket_versioning").get("Status") == "Enabled"
        if self._lock_days is not None:
            self._demand_lock()
        return StoreFeatures(versioning, self._lock_days, self._place)

    def extend_lock(self, keys: Iterable[str], until: datetime) -> int:
        """See `fleet.ports.ObjectStore.extend_lock`; one or two requests for each object."""
        names = [validate_key(key) for key in keys]
        self._demand_lock()
        with ThreadPoolExecutor(_LOCKERS, thread_name_prefix="s3-lock") as pool:
            return sum(pool.map(lambda key: self._extend_one(key, until), names))

    def purge(self, prefix: str) -> dict[str, datetime]:
        """See `fleet.ports.ObjectStore.purge`."""
        folder = self._prefix + validate_folder(prefix)
        versions, _ = self._list_versions(folder)
        refused = {one["Key"]: one for one in self._delete_batches(versions)}
        left, markers = self._list_versions(folder)
        locked: dict[str, datetime] = {}
        for one in left:
            key = one["Key"].removeprefix(self._prefix)
            until = self._locked_until(key, VersionId=one["VersionId"])
            if until is None:
                why = refused.get(one["Key"], {})
                raise PermanentError(
                    f"store {self._place}: version {one['VersionId']} of {key} is not deleted: "
                    f"{why.get('Code', 'it')} {why.get('Message', 'is still listed')}",
                    hint="Allow s3:DeleteObjectVersion on this bucket, then run it again.",
                )
            locked[key] = max(until, locked.get(key, until))
        self.delete(sorted(locked))
        kept = {self._prefix + key for key in locked}
        for one in self._delete_batches([one for one in markers if one["Key"] not in kept]):
            raise PermanentError(
                f"store {self._place}: marker of {one['Key']}: {one.get('Message')}",
                hint="Allow s3:DeleteObjectVersion on this bucket, then run it again.",
            )
        return locked

    def check(self) -> list[str]:
        """See `fleet.ports.ObjectStore.check`."""
        return probe_store(self, uuid.uuid4().hex)

    def _classify(self, error: Exception, key: str) -> Fault | None:
        return classify_fault(error, self._place, key)

    def _ask(self, key: str, verb: str, **fields: Any) -> Any:
        """One request that may be repeated freely."""
        call: Callable[..., Any] = getattr(self._client, verb)
        return self._retrier.run(key, lambda _, __: call(Bucket=self._bucket, **fields))

    def _fetch(self, name: str, ranged: dict[str, str], ends_s: float) -> bytes:
        """One GET, whose body must have come before the end."""
        answer = self._client.get_object(Bucket=self._bucket, Key=name, **ranged)
        body = answer["Body"]
        try:
            parts = list(_read_until(body, ends_s))
        finally:
            body.close()
        return b"".join(parts)

    def _delete_batches(self, names: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        """Delete objects or versions; those that the store refuses."""
        refused: list[dict[str, str]] = []
        for start in range(0, len(names), _DELETE_BATCH):
            batch = names[start : start + _DELETE_BATCH]
            wanted = {"Objects": batch, "Quiet": True}
            answer = self._ask(batch[0]["Key"], "delete_objects", Delete=wanted)
            refused += answer.get("Errors", ())
        return refused

    def _list_versions(self, prefix: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """Versions and delete markers below a prefix."""
        versions: list[dict[str, str]] = []
        markers: list[dict[str, str]] = []
        start: dict[str, str] = {}
        while True:
            page = self._ask(prefix, "list_object_versions", Prefix=prefix, **start)
            for found, name in ((versions, "Versions"), (markers, "DeleteMarkers")):
                found += [
                    {"Key": one["Key"], "VersionId": one["VersionId"]} for one in page.get(name, ())
                ]
            if not page.get("IsTruncated"):
                return versions, markers
            start = {
                "KeyMarker": page["NextKeyMarker"],
                "VersionIdMarker": page["NextVersionIdMarker"],
            }

    def _lock(self, key: str) -> dict[str, Any]:
        """What locks a new object."""
        if self._lock_days is None or key.startswith(_UNLOCKED):
            return {}
        until = datetime.now(UTC) + timedelta(days=self._lock_days)
        # S3 wants the algorithm named beside a lock, although the checksum itself is there.
        return {
            "ObjectLockMode": self._lock_mode,
            "ObjectLockRetainUntilDate": until,
            "ChecksumAlgorithm": "SHA256",
        }

    def _demand_lock(self) -> None:
        try:
            found = self._ask("", "get_object_lock_configuration")
            enabled = found["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled"
        except PermanentError as error:
            raise self._no_lock() from error
        if not enabled:
            raise self._no_lock()

    def _no_lock(self) -> PermanentError:
        return PermanentError(
            f"store {self._place} cannot lock objects: the bucket has no object lock",
            hint="Make a bucket with object lock, or leave lock_days out.",
        )

    def _extend_one(self, key: str, until: datetime) -> int:
        held = self._locked_until(key)
        if held is not None and held >= until:
            return 0
        retention = {"Mode": self._lock_mode, "RetainUntilDate": until}
        name = self._prefix + key
        self._ask(key, "put_object_retention", Key=name, Retention=retention)
        return 1

    def _locked_until(self, key: str, **version: str) -> datetime | None:
        head = self._ask(key, "head_object", Key=self._prefix + key, **version)
        until: datetime | None = head.get("ObjectLockRetainUntilDate")
        return until


class _TimedBody(io.BytesIO):
    """A request's body that stops being read at the deadline, however slowly it is taken."""

    def __init__(self, data: bytes, ends_s: float) -> None:
        super().__init__(data)
        self._ends_s = ends_s

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._ends_s:
            raise TimeoutError("the deadline passed while the object was sent")
        return super().read(size)


def _read_until(body: Any, ends_s: float) -> Iterator[bytes]:
    while part := body.read(_READ_BYTES):
        yield part
        if time.monotonic() > ends_s:
            raise TimeoutError("the deadline passed while the object was read")


def _demand_same(answer: Any, data: bytes, checksum: str, what: str) -> None:
    """Compare the checksum that the store says it stored; without one, its ETag where it is MD5.

    Raises:
        CorruptObjectError: the store holds other bytes under this key.
    """
    stored = answer.get("ChecksumSHA256")
    is_same = stored == checksum
    if stored is None:
        etag = str(answer.get("ETag", "")).strip('"')
        is_md5 = len(etag) == 32 and "ServerSideEncryption" not in answer
        is_same = not is_md5 or etag == hashlib.md5(data, usedforsecurity=False).hexdigest()
    if not is_same:
        raise CorruptObjectError(
            f"{what}: the store answers with the checksum of other bytes",
            hint="Something between here and the store alters data; nothing was committed.",
        )
