"""Wrapping keys from where they are kept: a file, the environment, or AWS KMS.

A cipher is imported only when a key is read: the definitions name this module's callers, and every
run would pay for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fleet.backup_declaration import WrappingKeySource
from fleet.errors import NotFoundError
from fleet.ports.key_wrapper import KeyWrapper
from resources.synced_files import sync_folder

_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 20


def read_wrapping_key(source: WrappingKeySource) -> KeyWrapper:
    """A wrapping key from where it is kept; KMS is not asked before the first wrap.

    Raises:
        NotFoundError: it is not there.
        InvalidInputError: something else is there.
    """
    from resources.vault.keys.key_store import read_kek_file, read_kek_text

    if source.file:
        return read_kek_file(source.kek_id, Path(source.file))
    if source.kms:
        from resources.vault.keys.kms import KmsKeyWrapper

        return KmsKeyWrapper(_kms_client(source.kms), source.kek_id, source.kms)
    text = os.environ.get(source.env, "")
    if not text:
        raise NotFoundError(
            f"environment variable {source.env} of key {source.kek_id} is not set",
            hint="Set it to 64 hexadecimal digits.",
        )
    return read_kek_text(source.kek_id, f"environment variable {source.env}", text)


def _kms_client(key_id: str) -> Any:
    """A client in the region that an ARN names, else in boto3's own."""
    import boto3
    from botocore.config import Config

    parts = key_id.split(":")
    region = parts[3] if parts[0] == "arn" and len(parts) > 3 else None
    config = Config(connect_timeout=_CONNECT_TIMEOUT_S, read_timeout=_READ_TIMEOUT_S)
    return boto3.client("kms", region_name=region, config=config)


def create_key_file(source: WrappingKeySource) -> bool:
    """Make a key file that is missing, readable by its owner alone; whether one was made.

    Committed by the link of a synced file, so a key that wraps anything is never half there.
    """
    from fleet.pack_keys import KEY_BYTES

    if not source.file:
        return False
    path = Path(source.file)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, os.urandom(KEY_BYTES).hex().encode() + b"\n")
        os.fsync(descriptor)
        os.link(partial, path)
    except FileExistsError:
        return False
    finally:
        os.close(descriptor)
        partial.unlink()
    sync_folder(path.parent)
    return True
