"""A study whose photographs have suggestions that a test decides, served in this process: no network is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from browsing import free_port
from studies import FINDINGS, link_of

from fundusnet.annotation.photographs import Photographs
from fundusnet.annotation.server import create_app
from fundusnet.annotation.storage import Storage
from fundusnet.annotation.study import Study
from fundusnet.annotation.suggester import Suggester
from fundusnet.annotation.suggestions import Suggestion, keep_suggestion
from fundusnet.data.sources import load_source

NETWORKS = "a" * 16


@dataclass
class ServedStudy:
    """A study that browsers can open at ``address``."""

    study: Study
    suggester: Suggester
    address: str

    def link(self, name: str) -> str:
        """A link that signs ``name`` in once."""
        return f"{self.address}/join/{link_of(self.study, name)}"

    def suggest(self, image_id: str, suggestion: Suggestion) -> None:
        """What the networks have found by now."""
        with self.study.storage.write() as connection:
            keep_suggestion(connection, image_id, NETWORKS, suggestion)


@contextmanager
def served_study(
    folder: Path,
    root: Path,
    suggestions: Mapping[str, Suggestion],
    readers: Sequence[str],
    *,
    adjudicators: Sequence[str] = (),
    source: str = "csv",
    findings: Sequence[str] = FINDINGS,
    share: float = 0.5,
) -> Iterator[ServedStudy]:
    """Serve a study of the photographs in ``root``, all of them read by everybody."""
    study = Study(
        Storage(f"sqlite:///{folder / 'study.sqlite'}"), Photographs(root, folder / "screen"), findings, len(readers)
    )
    study.begin(load_source(source, root), 0)
    study.enrol(readers, adjudicators)

    def no_networks() -> None:
        threading.Event().wait()  # they never get ready

    suggester = Suggester(study.storage, study.photographs, findings, NETWORKS, no_networks, study.seed, share)  # type: ignore[arg-type]
    port = free_port()
    served = ServedStudy(study, suggester, f"http://127.0.0.1:{port}")
    for image_id, suggestion in suggestions.items():
        served.suggest(image_id, suggestion)
    suggester.start([])
    app = create_app(study, links=True, suggester=suggester)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield served
    server.should_exit = True
    thread.join(10)
