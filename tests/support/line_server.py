"""A TCP server for the socket source."""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
from collections.abc import Iterator

from streaming_lakehouse.domains.weather.events import READINGS
from streaming_lakehouse.pipeline.synthetic import FaultRates, generate_records

NO_FAULTS = FaultRates(duplicates=0, late=0, malformed=0, unknown_fields=0)


@contextlib.contextmanager
def line_server() -> Iterator[int]:
    """Sends weather events to whoever connects, again and again; its port."""
    lines = [record.value for record in generate_records(READINGS, seed=1, start=0, end=100, rates=NO_FAULTS)]

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while True:
                    self.request.sendall(b"\n".join(line for line in lines if line) + b"\n")
                    time.sleep(0.05)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
