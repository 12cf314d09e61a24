"""Run two services that call each other, and call them as two users. Needs a running identity-service.

Exits with 0 only if every step has the expected result. README.md describes the steps.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import reports_pb2
import reports_pb2_grpc
from principals import Principals, principals

from identity_client.grpc import secure_channel

FOLDER = Path(__file__).parent
ITEMS = ["apples", "pears"]


def main() -> int:
    """Run every step, and return the exit code."""
    with principals() as made:
        stock = made.service("stock")
        reports = made.service("reports", scopes=("stock.read",), calls=("stock",))
        with (
            running("stock_service.py", stock) as address,
            running("reports_service.py", reports, address) as target,
        ):
            show(made, target)
    return 0


def show(made: Principals, target: str) -> None:
    """Call the reports without a token, as ana, and as bo, who may not read the stock."""
    ana, bo = made.user("ana", "reports.read", "stock.read"), made.user("bo", "reports.read")
    with grpc.insecure_channel(target) as plain:
        items = reports_pb2_grpc.ReportsStub(plain).ListItems(reports_pb2.ListItemsRequest(), timeout=10)
        expect(list(items.items) == ITEMS, "1. the public method needs no token", items.items)
        expect(outcome(plain) == "UNAUTHENTICATED", "2. the other one does", outcome(plain))
    with secure_channel(target, ana) as channel:
        found = outcome(channel)
        expect("12 apples" in found and "5 pears" in found, "3. ana gets a report", found)
    with secure_channel(target, bo) as channel:
        expect(outcome(channel) == "PERMISSION_DENIED", "4. the stock refuses bo", outcome(channel))
    last = ("authorization", f"Bearer {ana()}")
    ana.logout()
    with grpc.insecure_channel(target) as plain:
        end = time.monotonic() + 30
        while (found := outcome(plain, last)) != "UNAUTHENTICATED" and time.monotonic() < end:
            time.sleep(0.01)  # the revocation arrives within milliseconds
        expect(found == "UNAUTHENTICATED", "5. ana has signed out, and her last token is refused", found)


def outcome(channel: grpc.Channel, *metadata: tuple[str, str]) -> str:
    """Return the report about all items, or the status of the call."""
    try:
        request = reports_pb2.WriteRequest(items=ITEMS)
        stub = reports_pb2_grpc.ReportsStub(channel)
        return stub.Write(request, metadata=metadata, timeout=10).text
    except grpc.RpcError as error:
        return error.code().name


def expect(right: bool, step: str, found: object) -> None:
    """Print the result of a step, or exit with an error if the result is wrong."""
    if not right:
        sys.exit(f"FAILED: {step}: {found}")
    print(f"{step}: {found}")


@contextmanager
def running(program: str, environment: Mapping[str, str], *arguments: str) -> Iterator[str]:
    """Run a service of this folder in a process of its own until the block ends; yield its address."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("IDENTITY_")}
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / program), *arguments],
        env={**others, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:  # which closes its input at the end, and the service ends then
        address = process.stdout.readline().strip() if process.stdout is not None else ""
        if not address:
            sys.exit(f"{program} has not started: see above")
        yield address


if __name__ == "__main__":
    sys.exit(main())
