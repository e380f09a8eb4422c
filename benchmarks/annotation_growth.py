"""What the annotation server spends on a study of so many photographs, for ``benchmarks.growth``, which starts this."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from large_study import measure, megabytes

from benchmarks.annotation_scale import fill, started


def spent(count: int) -> dict[str, float]:
    """Processor seconds of the server for its start and for each request, and its memory after these, in MiB."""
    with tempfile.TemporaryDirectory() as name:
        fill(Path(name), count)
        server, ada, reader, restart = started(Path(name))
        try:
            found = {"restart": restart, **measure(server, ada, reader)}
            return {what: took.processor for what, took in found.items()} | {"mib": megabytes(server) / 1.048576}
        finally:
            server.kill()


if __name__ == "__main__":
    print(json.dumps(spent(int(sys.argv[1]))))
