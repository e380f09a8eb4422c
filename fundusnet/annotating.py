"""The annotation page's server, its export and its links: what the ``annotate`` verb does."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from fundusnet.data.manifest import Manifest
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError

if TYPE_CHECKING:
    from fundusnet.annotation.study import Study

log = logging.getLogger(__name__)


def annotate(cfg: DictConfig) -> Path:
    """Serve the annotation page until it is stopped.

    Returns
    -------
    The study's folder.

    Raises
    ------
    UserError: a setting, the folder of photographs or the database is wrong.
    """
    try:
        from fundusnet.annotation.study import Study
    except ModuleNotFoundError as error:
        raise UserError(f"annotate needs {error.name}; pip install 'fundusnet[annotate]'") from error
    folder = study_folder(cfg)
    study = _open(cfg, folder, Study)
    study.begin(_manifest(cfg), cfg.seed)
    links = study.enrol(list(cfg.annotators), list(cfg.adjudicators), cfg.annotator)
    _serve(cfg, study, links)
    return folder


def study_folder(cfg: DictConfig) -> Path:
    """Where a study is kept: ``folder``, or a name made from its photographs."""
    if cfg.folder:
        return Path(cfg.folder)
    mark = hashlib.sha256(json.dumps([cfg.data.source, str(Path(cfg.data.root).resolve())]).encode()).hexdigest()[:8]
    return Path("data", "annotation", f"{cfg.data.source}-{mark}")


def _manifest(cfg: DictConfig) -> Manifest:
    options: dict[str, Any] = OmegaConf.to_container(cfg.data.options, resolve=True)  # type: ignore[assignment]
    return load_source(cfg.data.source, Path(cfg.data.root), options)


def _open(cfg: DictConfig, folder: Path, kind: type[Study]) -> Study:
    from fundusnet.annotation.photographs import Photographs
    from fundusnet.annotation.storage import Storage

    folder.mkdir(parents=True, exist_ok=True)
    return kind(
        Storage(cfg.database or f"sqlite:///{(folder / 'study.sqlite').resolve()}"),
        Photographs(Path(cfg.data.root), folder / "screen"),
        list(cfg.finding.names),
        cfg.readings_per_image,
        cfg.data.present,
    )


def _serve(cfg: DictConfig, study: Study, links: bool) -> None:
    import uvicorn

    from fundusnet.annotation.access import LOOPBACK, has_entry, new_link
    from fundusnet.annotation.server import create_app

    if cfg.host not in LOOPBACK and not links:
        raise UserError(f"host={cfg.host} lets anyone in; name annotators=[...], who then sign in by link")
    listening = _listen(cfg.host, cfg.port)
    name = f"[{cfg.host}]" if ":" in cfg.host else cfg.host
    address = (cfg.public or f"http://{name}:{listening.getsockname()[1]}").rstrip("/")
    print(f"annotate at {address}/", flush=True)
    if links:
        with study.storage.write() as connection:
            for member in study.people():
                if not has_entry(connection, member.id):
                    print(f"{member.name}: {address}/join/{new_link(connection, member.id)}", flush=True)
    app = create_app(study, links=links, host=cfg.host, public=cfg.public)
    # No access log: it would hold the links' tokens.
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, ws="none", lifespan="off")
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise UserError(f"cannot listen on host={host} port={port}: {error.strerror or error}; try port=0") from None
