"""Serve the page of this folder on loopback, with a strict Content-Security-Policy, and end at SIGINT.

Needs the Python packages of `clients/python` for the descriptors of the API, and `npm ci` for the libraries.
"""

import argparse
import base64
import hashlib
import json
import re
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from identityapi.v1 import identity_service_pb2

FOLDER = Path(__file__).parent
LIBRARIES = "/node_modules/"
FILES = {"/": "index.html", "/app.js": "app.js", "/style.css": "style.css"}
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}


def descriptors() -> bytes:
    """Return the compiled protos of the API, each after those that it imports."""
    found: dict[str, Any] = {}

    def add(file: Any) -> None:
        for needed in file.dependencies:
            add(needed)
        found.setdefault(file.name, file)

    add(identity_service_pb2.DESCRIPTOR)
    together = FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(together.file.add())
    return together.SerializeToString()


def policy(page: str, service: str) -> str:
    """Return the Content-Security-Policy: the page's own files, its import map, and calls to the service."""
    found = re.search(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)
    if found is None:
        raise ValueError("index.html has no import map")
    digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self'; img-src data:; "
        f"connect-src 'self' {service}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


class Handler(SimpleHTTPRequestHandler):
    """Answers GET for the files of the page, its libraries, and two documents that are made here."""

    def __init__(self, *args: Any, libraries: Path, made: dict[str, tuple[str, bytes]], csp: str) -> None:
        self._libraries = libraries
        self._made = made
        self._csp = csp
        super().__init__(*args)

    def do_GET(self) -> None:  # the name that http.server calls
        """Answer one request."""
        path = urlsplit(self.path).path
        found = self._made.get(path) or self._file(path)
        if found is None:
            self.send_error(404)
            return
        kind, body = found
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-security-policy", self._csp)
        self.send_header("x-content-type-options", "nosniff")
        self.send_header("referrer-policy", "no-referrer")
        self.send_header("cache-control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as in the base class
        """Log nothing: the browser shows what it loads."""

    def _file(self, path: str) -> tuple[str, bytes] | None:
        file = FOLDER / FILES[path] if path in FILES else None
        if path.startswith(LIBRARIES):
            file = (self._libraries / path.removeprefix(LIBRARIES)).resolve()
            if not file.is_relative_to(self._libraries.resolve()):
                return None
        if file is None or file.suffix not in TYPES or not file.is_file():
            return None
        return TYPES[file.suffix], file.read_bytes()


def main() -> None:
    """Serve until the process is interrupted."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--service", default="http://127.0.0.1:8080", help="origin of the service's HTTP port"
    )
    parser.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1; 0 = a free one")
    parser.add_argument("--audience", default="demo-api", help="audience of the tokens")
    parser.add_argument("--libraries", type=Path, default=FOLDER / "node_modules", help="folder node_modules")
    given = parser.parse_args()
    if not given.libraries.is_dir():
        parser.error(f"there is no folder {given.libraries}: run `npm ci --ignore-scripts` in {FOLDER}")
    configuration = {"service": given.service, "audience": given.audience}
    made = {
        "/config.json": ("application/json", json.dumps(configuration).encode()),
        "/descriptors.binpb": ("application/octet-stream", descriptors()),
    }
    csp = policy((FOLDER / "index.html").read_text(), given.service)
    handler = partial(Handler, libraries=given.libraries, made=made, csp=csp)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", given.port), handler)
    except OSError as error:
        parser.error(f"cannot listen on port {given.port} ({error.strerror}): name another one with --port")
    with server:
        origin = f"http://127.0.0.1:{server.server_port}"
        print(f"{origin} is served; the service must allow it: IDENTITY_WEB_ORIGINS={origin}", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
