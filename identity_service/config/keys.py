"""The settings of keys: how long a key signs, and the master keys that seal all keys in the store.

The master keys are secrets, which no `repr` shows.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr

from identity_service.config.values import Duration, within
from identity_service.domain.errors import ConfigurationError
from identity_service.domain.secret import Secret
from identity_service.process.file_access import MOUNT_ADVICE, irregular, others_may_read, why_unread


class KeySettings(BaseModel):
    """The keys of the service; a part of `Settings`."""

    algorithm: Literal["ES256", "ES384", "EdDSA", "RS256", "PS256", "ML-DSA-44", "ML-DSA-65", "HS256"] = (
        Field("ES256", description="algorithm of the signing key that `identity init` creates")
    )
    rotate_every: Annotated[Duration, within("1m", "400d")] = Field(
        timedelta(days=30), description="how long a key is in use; 1m to 400d, more than publish_before"
    )
    publish_before: Annotated[Duration, within("0s", "30d")] = Field(
        timedelta(hours=1),
        description="how long a key is published before it signs, since verifiers keep copies; at most 30d",
    )
    master_key: SecretStr | None = Field(
        None, description="seals the keys in the store; 32 characters or more"
    )
    master_key_file: Path | None = Field(None, description="a file (mode 0600) that holds the master key")
    other_master_key: SecretStr | None = Field(
        None, description="also opens keys, while the master key is changed"
    )
    other_master_key_file: Path | None = Field(
        None, description="a file (mode 0600) that holds the other master key"
    )

    def read_master_key(self) -> Secret:
        """Return the master key, without blanks around it.

        Raises ConfigurationError if none is set, or if its file cannot be read or is readable by other users.
        """
        found = _read("master_key_file", self.master_key, self.master_key_file)
        if found is None:
            raise ConfigurationError(
                "master_key: is not set; make one with `openssl rand -base64 32`, keep it in a file of mode "
                "0600 and set IDENTITY_MASTER_KEY_FILE"
            )
        return found

    def untrimmed_master_key(self) -> Secret | None:
        """Return `master_key` with its blanks, or None if it has none: older versions did not strip them."""
        written = self.master_key.get_secret_value() if self.master_key is not None else ""
        return Secret(written) if written != written.strip() else None

    def read_other_master_key(self) -> Secret | None:
        """Return the other master key, or None. Raises ConfigurationError if its file cannot be used."""
        return _read("other_master_key_file", self.other_master_key, self.other_master_key_file)

    def _wrong_keys(self) -> Iterator[str]:
        """Report each invalid combination of these settings."""
        for name in ("master_key", "other_master_key"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                yield f"{name}: set either this or {name}_file, not both"
        if self.rotate_every <= self.publish_before:
            yield "rotate_every: must be more than publish_before"


def _read(name: str, value: SecretStr | None, file: Path | None) -> Secret | None:
    """Return the value, or else the secret in the file that the setting `name` names; None without both."""
    if value is not None:
        return Secret(value.get_secret_value().strip())
    return None if file is None else _read_file(name, file)


def _read_file(name: str, path: Path) -> Secret:
    """Return the secret in the file that the setting `name` names, without blanks around it.

    Raises ConfigurationError if the file cannot be read, is not a regular file, or is readable by other
    users.
    """
    try:
        file = path.stat()
        if kind := irregular(file):
            raise ConfigurationError(f"{name}: {path} is {kind}; name a regular file that holds the secret")
        if others_may_read(file):
            raise ConfigurationError(
                f"{name}: other users may read {path}; run `chmod 600 {path}`, or {MOUNT_ADVICE}"
            )
        return Secret(path.read_text(encoding="utf-8").strip())
    except UnicodeDecodeError:
        # `from None`: the library's error holds the content.
        raise ConfigurationError(
            f"{name}: {path} is not a text file; make one with `openssl rand -base64 32`"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{name}: cannot read {path}: {why_unread(error, path)}") from error
