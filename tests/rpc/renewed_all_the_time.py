"""A program with a TLS server whose certificate is replaced every millisecond. It must not crash.

Its own clients connect concurrently. It ends after at least 12 renewals and at least 6 seconds.
"""

import socket
import ssl
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import grpc

from identity_service.grpc_api.tls import server_credentials
from identity_service.transport.tls import Certificates, Content, TlsFiles
from tests.fakes.event_logs import RecordingEventLog
from tests.tls import Certifier

_RENEWALS: Final = 12
_SECONDS: Final = 6.0
_INTERVAL: Final = 0.001


class Renewed(Certificates):
    """Two certificates that replace each other every millisecond.

    Both are in memory, so that no time is spent on reading files.
    """

    def __init__(self, folder: Path) -> None:
        certifier = Certifier(folder)
        made = [certifier.server(name) for name in ("one", "two")]
        files = TlsFiles(key=made[0].key_file, certificate=made[0].certificate_file)
        self.renewals = 0
        self._due = 0.0
        self._contents = [
            Content(each.certificate_file.read_bytes(), each.key_file.read_bytes(), None) for each in made
        ]
        super().__init__(files, RecordingEventLog())

    def latest(self) -> Content:
        """Return the certificate in use, which changes if a millisecond has passed."""
        if time.monotonic() > self._due:
            self.renewals += 1
            self._due = time.monotonic() + _INTERVAL
        return self._contents[self.renewals % 2]


def main() -> None:
    """Make TLS handshakes from eight threads, and print the number of handshakes and of renewals."""
    done, begun = [0], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        certificates = Renewed(Path(folder))
        server = grpc.server(ThreadPoolExecutor(2))
        port = server.add_secure_port("127.0.0.1:0", server_credentials(certificates, ask=False))
        server.start()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])

        def shake_hands() -> None:
            while certificates.renewals < _RENEWALS or time.monotonic() - begun < _SECONDS:
                with (
                    socket.create_connection(("127.0.0.1", port)) as plain,
                    context.wrap_socket(plain, server_hostname="localhost"),
                ):
                    done[0] += 1

        with ThreadPoolExecutor(8) as pool:
            for shaken in [pool.submit(shake_hands) for _ in range(8)]:
                shaken.result()
        server.stop(None).wait()
    print(f"{done[0]} handshakes, {certificates.renewals} certificates")  # noqa: T201  # for the test


if __name__ == "__main__":
    main()
