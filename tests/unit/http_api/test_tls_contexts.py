"""The TLS context of new connections while an operator replaces the files."""

from pathlib import Path

import pytest

from identity_service.http_api.tls import TlsContexts
from identity_service.transport.tls import Certificates, TlsFiles
from tests.fakes.event_logs import RecordingEventLog
from tests.tls import Certifier, replace


def test_files_that_change_while_they_are_read_leave_the_previous_context_until_they_match_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certifier = Certifier(tmp_path)
    server, other = certifier.server(), certifier.server("other")
    files = TlsFiles(certificate=server.certificate_file, key=server.key_file)
    certificates = Certificates(files, RecordingEventLog())
    contexts = TlsContexts(certificates)
    first = contexts.latest()

    old_key = server.key_file.read_bytes()
    changed = Certificates(files, RecordingEventLog()).latest()  # equal, and not the same
    replace(server.key_file, other.key_file.read_bytes())
    monkeypatch.setattr(certificates, "latest", lambda: changed)
    assert contexts.latest() is first

    replace(server.key_file, old_key)
    second = contexts.latest()
    assert second is not first
    assert contexts.latest() is second
