"""Keeps the records as a file declares them while the service runs: at start and after each change.

The file is read every second and compared with the content that was applied last. Change notifications
(inotify) do not report changes on network file systems, and depend on how Kubernetes swaps the symbolic links
of a ConfigMap; reading a small file is cheap and detects every change.
"""

import hashlib
from pathlib import Path

from identity_service.domain.errors import ConfigurationError, UnavailableError
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.ports import EventLog, PublicKeyChecker
from identity_service.domain.secret import Secret
from identity_service.principals.apply import PrincipalRecords, carry_out, plan
from identity_service.principals.file import read_principals


class PrincipalsKeeper:
    """A keeper of one principals file: `apply` applies it for the first time, `look` after each change."""

    def __init__(
        self,
        path: Path,
        records: PrincipalRecords,
        keys: PublicKeyChecker,
        event_log: EventLog,
        *,
        own: IssuerNames | None = None,
    ) -> None:
        """Create a keeper; `own` are this service's issuer names, which the file may not declare."""
        self._own = own
        self._path = path
        self._records = records
        self._keys = keys
        self._event_log = event_log
        self._last_digest = b""
        """The digest of the content when it was read last."""
        self._handled_digest = b""
        """The digest of the content that was applied or refused last."""

    def apply(self) -> None:
        """Apply the file as it is now.

        Raises:
            ConfigurationError: the file is wrong or was refused; one line for each problem.
            UnavailableError: the store cannot be reached.
        """
        content = self._read()
        self._apply(content)
        self._last_digest = self._handled_digest = _digest(content)

    def look(self) -> None:
        """Apply the file if it has changed. Log its problems once; an invalid file changes nothing."""
        content = self._read()
        digest = _digest(content)
        settled, self._last_digest = digest == self._last_digest, digest
        if digest == self._handled_digest or not settled:
            return  # unless two reads in a row find the same content, the file may be half written
        try:
            self._apply(content)
        except ConfigurationError as error:
            problems = str(error).split("\n")
            self._event_log.record("principals_refused", file=str(self._path), problems=problems)
        except UnavailableError:
            return  # the next read tries again
        self._handled_digest = digest

    def _read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except OSError:
            return None

    def _apply(self, content: bytes | None) -> None:
        if content is None:
            raise ConfigurationError(f"principals_file: {self._path} cannot be read")
        declaration = read_principals(content, str(self._path), self._keys, own=self._own)
        steps = plan(declaration, self._records)
        carry_out(steps, self._records, self._record_unseen_secret)
        changes = [f"{step.action} {step.kind} {step.name}" for step in steps]
        self._event_log.record("principals_applied", file=str(self._path), changes=changes)

    def _record_unseen_secret(self, client_id: str, _: Secret) -> None:
        """Log that no operator has seen the new secret; `identity client rotate-secret` prints a new one."""
        self._event_log.record("client_secret_unseen", client_id=client_id)


def _digest(content: bytes | None) -> bytes:
    """Return the digest of the file's content; b"" if the file could not be read."""
    return b"" if content is None else hashlib.sha256(content).digest()
