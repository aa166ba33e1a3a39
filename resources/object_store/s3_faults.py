"""What each answer of S3 means: try again, look first, or tell the operator what to change.

Source: Amazon S3 API reference, "Error responses", and the codes of stores that speak the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping

from fleet.errors import NotFoundError, PermanentError, StoreUnavailableError, TooLargeError
from resources.object_store.retrying import Chance, Fault

EXISTS = {"PreconditionFailed", "412"}
_MISSING = {"NoSuchKey", "NoSuchVersion", "404"}
_SLOWER = {"SlowDown", "503", "TooManyRequests", "Throttling", "ThrottlingException", "429"}
_AGAIN = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "BadDigest"}
_FULL = {
    "QuotaExceeded",
    "QuotaExceededException",
    "InsufficientStorage",
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "507",
}
_HINTS: Mapping[str, str] = {
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"),
        "The credentials have expired: renew them, then run it again.",
    ),
    **dict.fromkeys(
        ("RequestTimeTooSkewed", "RequestExpired"),
        "This machine's clock is wrong: set it, then run it again.",
    ),
    **dict.fromkeys(
        ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403", "AllAccessDisabled"),
        "Check credentials and bucket policy; a lock also denies the deletion of a version.",
    ),
    "NoSuchBucket": "Check the bucket's name and the endpoint.",
    "PermanentRedirect": "Check the bucket's region.",
    "NotImplemented": "This store lacks what a vault needs; use another one.",
}


def classify_fault(error: Exception, place: str, key: str) -> Fault | None:
    """What a failed request means; None for what does not come from the store's client.

    Args:
        error: as boto3 or the network raised it.
        place: of the store: `s3://bucket/prefix`.
        key: of the object or folder.
    """
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    what = f"store {place}: object {key}"
    if isinstance(error, ClientError):
        fields = error.response.get("Error", {})
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return _answered(str(fields.get("Code", "")), status, f"{what}: {error}")
    if isinstance(error, (BotoCoreError, HTTPClientError, OSError)):
        text = f"{what}: {type(error).__name__}: {error}"
        return Fault(
            StoreUnavailableError(text, hint="Check that the endpoint is reachable, and its load."),
            Chance.UNSURE,
        )
    return None


def _answered(code: str, status: int, text: str) -> Fault:
    if code in _MISSING:
        return Fault(NotFoundError(f"{text}: it does not exist"), Chance.NONE)
    if code == "EntityTooLarge":
        hint = "The store refuses objects of this size; a vault needs 32 MiB."
        return Fault(TooLargeError(text, hint=hint), Chance.NONE)
    chance, hint = _outlook(code, status)
    is_final = chance is Chance.NONE
    error = (PermanentError if is_final else StoreUnavailableError)(text, hint=hint)
    return Fault(error, chance)


def _outlook(code: str, status: int) -> tuple[Chance, str]:
    """Whether asking again can help, and what the operator does."""
    is_failing = status >= 500 or not status
    rules = (
        (code in _HINTS, Chance.NONE, _HINTS.get(code, "")),
        (
            code in _FULL or status == 507,
            Chance.NONE,
            "The store is full: free space, or raise its quota.",
        ),
        (
            code in _SLOWER or status in {429, 503},
            Chance.SLOWER,
            "The store is overrun; run it again later.",
        ),
        (code in _AGAIN, Chance.AGAIN, "Run it again."),
        (
            is_failing,
            Chance.UNSURE,
            "The store fails: look at its own health, and run it again later.",
        ),
    )
    none = (Chance.NONE, "See the store's documentation of this error.")
    return next(((chance, hint) for holds, chance, hint in rules if holds), none)
