"""The real server, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path


class Server:
    """``fundusnet annotate`` with ``words``, started and ready; ``address`` and ``links`` are what it printed."""

    def __init__(self, *words: str, folder: Path) -> None:
        self.words, self.folder = words, folder
        self.address, self.links = "", dict[str, str]()
        self.start()

    def start(self, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fundusnet", "annotate", "data.points=given", f"port={port}", *self.words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder,
            env=os.environ | {"PYTHONUNBUFFERED": "1"}, start_new_session=True,
        )  # fmt: skip
        printed = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            printed.append(line)
            if found := re.match(r"annotate at (\S+)/$", line):
                self.address = found[1]
            elif found := re.match(r"(\w+): (\S+/join/\S+)$", line):
                self.links[found[1]] = found[2]
            elif line.startswith("stop with"):
                return
        raise AssertionError("the server ended: " + "".join(printed))

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def kill(self) -> None:
        """As the machine's power does: no warning, no last words."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)
