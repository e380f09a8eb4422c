"""The annotation page's server, its export and its links: what the ``annotate`` verb does."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
from contextlib import suppress
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
    """Serve the annotation page until it is stopped; or write what was read so far, or new links, and end.

    Returns
    -------
    The study's folder, or that of the export.

    Raises
    ------
    UserError: a setting, the folder of photographs or the database is wrong.
    """
    try:
        from fundusnet.annotation.exchange import export, take_in
        from fundusnet.annotation.study import Study
    except ModuleNotFoundError as error:
        raise UserError(f"annotate needs {error.name}; pip install 'fundusnet[annotate]'") from error
    folder = study_folder(cfg)
    study = _open(cfg, folder, Study)
    try:
        if cfg.export:
            return export(study, Path(cfg.export))
        if cfg.links:
            _print_links(study, list(cfg.links))
            return folder
        study.begin(_manifest(cfg), cfg.seed)
        if cfg.earlier:
            take_in(study, Path(cfg.earlier))
        _serve(cfg, study, links=study.enrol(list(cfg.annotators), list(cfg.adjudicators), cfg.annotator))
    finally:
        study.storage.close()
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

    file = folder / "study.sqlite"
    if not cfg.database:
        if (cfg.export or cfg.links) and not file.is_file():
            raise UserError(f"there is no study in {folder}; start it first, with the same data.root or folder")
        folder.mkdir(parents=True, exist_ok=True)
    return kind(
        Storage(cfg.database or f"sqlite:///{file.resolve()}"),
        Photographs(Path(cfg.data.root), folder / "screen"),
        list(cfg.finding.names),
        cfg.readings_per_image,
        cfg.data.present,
    )


def _print_links(study: Study, names: list[str]) -> None:
    """A new link for each name; what signed them in so far ends."""
    from fundusnet.annotation.access import end_sessions, new_link
    from fundusnet.annotation.storage import setting

    people = {person.name: person.id for person in study.people()}
    with study.storage.write() as connection:
        address = setting(connection, "address")
        if setting(connection, "links") is None:
            raise UserError("nobody of this study signs in by link; start it with annotators=[...]")
        if unknown := [name for name in names if name not in people]:
            raise UserError(f"links: {unknown[0]} takes no part in this study; {', '.join(people)} do")
        for name in names:
            end_sessions(connection, people[name])
        tokens = {name: new_link(connection, people[name]) for name in names}
    for name, token in tokens.items():
        print(f"{name}: {address}/join/{token}")


def _serve(cfg: DictConfig, study: Study, *, links: bool) -> None:
    import uvicorn

    from fundusnet.annotation.access import LOOPBACK, has_entry, new_link
    from fundusnet.annotation.server import create_app
    from fundusnet.annotation.storage import set_setting

    if cfg.host not in LOOPBACK and not links:
        raise UserError(f"host={cfg.host} lets anyone in; name annotators=[...], who then sign in by link")
    listening = _listen(cfg.host, cfg.port)
    address = (cfg.public or _address(cfg.host, listening.getsockname()[1])).rstrip("/")
    if cfg.host not in LOOPBACK and not address.startswith("https:"):
        log.warning("links and answers travel unencrypted; put a proxy with TLS before the page and name it in public=")
    waiting = study.people() if links else []
    with study.storage.write() as connection:
        set_setting(connection, "address", address)
        tokens = {
            member.name: new_link(connection, member.id) for member in waiting if not has_entry(connection, member.id)
        }
    print(f"annotate at {address}/")
    for name, token in tokens.items():
        print(f"{name}: {address}/join/{token}")
    print("stop with Ctrl-C; what the page calls saved is on disk", flush=True)
    app = create_app(study, links=links, host=cfg.host, public=cfg.public)
    # No access log: it would hold the links' tokens.
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, ws="none", lifespan="off")
    with suppress(KeyboardInterrupt):  # how one stops it
        uvicorn.Server(config).run(sockets=[listening])


def _address(host: str, port: int) -> str:
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on host={host} port={port}: {reason}; try port=0") from error
