"""Serves the annotation page, exports readings and makes links: the ``annotate`` verb."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from fundusnet.config.compose import as_list
from fundusnet.data.decode import Pixels
from fundusnet.data.sources import load_source
from fundusnet.errors import UserError
from fundusnet.prediction.inputs import find_checkpoint
from fundusnet.system.workers import cores

if TYPE_CHECKING:
    from fundusnet.annotation.settings import Settings
    from fundusnet.annotation.storage import Storage
    from fundusnet.annotation.study import Study
    from fundusnet.annotation.suggester import Suggester
    from fundusnet.landmarks.points import Landmarks

log = logging.getLogger(__name__)
PATIENCE = 3.0  # seconds that a request waits for a locked database, before the page is told to try again
ENDING = 5  # seconds that requests under way have when the server is stopped


def annotate(cfg: DictConfig) -> Path:
    """Serve the annotation page until it is stopped; with ``cfg.export`` or ``cfg.links``, only do that.

    Returns:
        The study's folder, or that of the export.

    Raises:
        UserError: A setting, the folder of photographs or the database is invalid.
    """
    try:
        from fundusnet.annotation.manifest_import import import_readings
        from fundusnet.annotation.photographs import Photographs
        from fundusnet.annotation.plan import as_groups
        from fundusnet.annotation.questions import as_questions
        from fundusnet.annotation.settings import remember, settle
        from fundusnet.annotation.study import Study
        from fundusnet.annotation.study_export import export_study
    except ModuleNotFoundError as error:
        raise UserError(f"annotate needs {error.name}; pip install 'fundusnet[annotate]'") from error
    root, folder = Path(cfg.data.root).expanduser(), study_folder(cfg)
    storage = _open(cfg, folder)
    suggester = None
    try:
        with storage.write() as connection:
            settings = settle(connection, _asked(cfg), _given())
        if not settings.groups and isinstance(annotators := _names(cfg.annotators), dict):
            settings = replace(settings, groups={name: {} for name in annotators})
        located = _locate if cfg.data.points == "auto" else None
        photographs = Photographs(root, folder / "screen", located)
        study = Study(
            storage, photographs, settings.findings, settings.readings_per_image, settings.present,
            groups=as_groups(settings.groups), reread_ungradable=settings.reread_ungradable,
            questions=as_questions(settings.questions), beside=settings.beside,
        )  # fmt: skip
        if cfg.export:
            return export_study(study, Path(cfg.export))
        if cfg.join or cfg.leave:
            study.change_people(_names(cfg.join), list(cfg.leave))
        if cfg.links or cfg.sign_out or cfg.join or cfg.leave:
            joined = _names(cfg.join)
            new = joined if isinstance(joined, list) else [name for own in joined.values() for name in own]
            _change_access(study, [*cfg.links, *new], list(cfg.sign_out))
            return folder
        study.begin(load_source(settings.source, root, dict(settings.options)), settings.seed)
        if cfg.earlier:
            import_readings(study, Path(cfg.earlier))
        links = study.enrol(_names(cfg.annotators), list(cfg.adjudicators), cfg.annotator, list(cfg.administrators))
        with storage.write() as connection:  # only what everything else goes with
            remember(connection, settings)
        suggester = _suggester(cfg, study)
        print(f"study in {folder.resolve()}: {_described(settings)}")
        _serve(cfg, study, suggester, links=links)
    finally:
        if suggester is not None:
            suggester.close()
        storage.close()
    return folder


def study_folder(cfg: DictConfig) -> Path:
    """The study's folder: ``cfg.folder``, or one that depends on where the photographs lie only.

    Studies of 0.1.0 lay below the folder where the command was started. One that is found there is linked, so that it
    is found from everywhere from then on.
    """
    if cfg.folder:
        return Path(cfg.folder).expanduser()
    root = Path(cfg.data.root).expanduser().resolve()
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    folder = Path(home, "fundusnet", "annotation", f"{root.name}-{_fingerprint([str(root)])}")
    earlier = [
        place
        for place in sorted(Path("data", "annotation").glob("*-*"))
        if place.name.rpartition("-")[2] == _fingerprint([place.name.rpartition("-")[0], str(root)])
    ]
    if earlier and not folder.exists():
        if len(earlier) > 1:
            names = ", ".join(map(str, earlier))
            raise UserError(f"there are several studies of these photographs ({names}); name one with folder=")
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(earlier[0].resolve())
    return folder.resolve()


def _fingerprint(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def _asked(cfg: DictConfig) -> Settings:
    from fundusnet.annotation.plan import as_groups
    from fundusnet.annotation.questions import as_questions
    from fundusnet.annotation.settings import Settings

    options: dict[str, Any] = OmegaConf.to_container(cfg.data.options, resolve=True)  # type: ignore[assignment]
    findings = tuple(cfg.finding.names)
    groups, questions = _plain(cfg.groups), _plain(cfg.questions)
    as_groups(groups)  # errors come before anything is opened
    as_questions(questions)
    return Settings(
        cfg.data.source, options, findings, cfg.readings_per_image, cfg.data.present, cfg.seed,
        groups, cfg.reread_ungradable, questions, tuple(cfg.beside),
    )  # fmt: skip


def _plain(given: Any) -> dict[str, Any]:
    """A mapping of the configuration, empty where it is null."""
    plain: dict[str, Any] = OmegaConf.to_container(given, resolve=True) if given else {}  # type: ignore[assignment]
    return plain


def _names(given: Any) -> list[str] | dict[str, list[str]]:
    """Names, by group where they were given so."""
    if given is None:
        return []
    names: list[str] | dict[str, list[str]] = OmegaConf.to_container(given, resolve=True)  # type: ignore[assignment]
    return names


def _given() -> set[str]:
    """Dotted keys and groups that the user gave; none where the configuration was composed in Python."""
    from hydra.core.hydra_config import HydraConfig

    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return {str(word).partition("=")[0].lstrip("+~") for word in words}


def _described(settings: Settings) -> str:
    readings = "1 reading" if settings.readings_per_image == 1 else f"{settings.readings_per_image} readings"
    groups = f", by the groups {', '.join(settings.groups)}" if settings.groups else ""
    asked = ", ".join([*settings.findings, *settings.questions])
    return f"data={settings.source}, {readings} of each photograph{groups}, {asked}"


def _open(cfg: DictConfig, folder: Path) -> Storage:
    from fundusnet.annotation.storage import Storage

    file = folder / "study.sqlite"
    if not cfg.database:
        if (cfg.export or cfg.links or cfg.sign_out or cfg.join or cfg.leave) and not file.is_file():
            raise UserError(f"there is no study in {folder}; start it first, with the same data.root or folder")
        folder.mkdir(parents=True, exist_ok=True)
    return Storage(cfg.database or f"sqlite:///{file.resolve()}")


def _suggester(cfg: DictConfig, study: Study) -> Suggester | None:
    """Start to make the suggestions of the networks ``cfg.checkpoint``, if there are any."""
    files = [find_checkpoint(Path(each)) for each in as_list(cfg.checkpoint)] if cfg.checkpoint else []
    if not files:
        if cfg.order == "uncertain":
            raise UserError("order=uncertain needs networks that can be uncertain; add checkpoint=RUN")
        return None
    import torch

    from fundusnet.annotation.suggester import Suggester
    from fundusnet.annotation.suggestions import networks_digest
    from fundusnet.prediction.findings import FindingsPredictor
    from fundusnet.prediction.loading import load
    from fundusnet.prediction.trained_network import sha256_of

    torch.set_num_threads(max(1, cores() // 2))  # the others serve the page
    predictor = load(files)
    if not isinstance(predictor, FindingsPredictor):
        raise UserError(f"checkpoint={files[0]} grades eyes; suggestions need networks for findings")
    if not set(predictor.findings) & set(study.findings):
        raise UserError(
            f"the networks predict {', '.join(predictor.findings)}, none of which can be marked in this study; "
            "choose other networks, or finding="
        )
    networks = networks_digest([sha256_of(file) for file in files])
    if cfg.order == "uncertain":
        study.uncertain = networks
    share = float(cfg.suggest)
    suggester = Suggester(
        study.storage, study.photographs, study.findings, networks, lambda: predictor, study.seed, share
    )
    suggester.start([image_id for image_id in study.image_ids() if study.uncertain or suggester.has(image_id)])
    return suggester


def _locate(pixels: Pixels) -> Landmarks:
    """Disc and fovea in a photograph, by the localiser of the package. Importing torch for it takes seconds."""
    from fundusnet.landmarks.localizer import shipped

    return shipped()(pixels)


def _change_access(study: Study, names: list[str], sign_out: list[str]) -> None:
    """Sign people out everywhere, then print a new link for each of ``names``."""
    from fundusnet.annotation.access import end_sessions, new_link
    from fundusnet.annotation.storage import setting

    people = {person.name: person.id for person in study.everybody()}
    with study.storage.write() as connection:
        address = setting(connection, "address")
        if setting(connection, "links") is None:
            raise UserError("this study has no links; start it with annotators=[...]")
        taking_part = {person.name: person.id for person in study.people()}
        for key, given, known in (("sign_out", sign_out, people), ("links", names, taking_part)):
            if unknown := [name for name in given if name not in known]:
                raise UserError(f"{key}: {unknown[0]} does not take part in this study; choose from {', '.join(known)}")
        for name in sign_out:
            end_sessions(connection, people[name])
        tokens = {name: new_link(connection, people[name]) for name in names}
    for name, token in tokens.items():
        print(f"{name}: {address}/join/{token}")


def _serve(cfg: DictConfig, study: Study, suggester: Suggester | None, *, links: bool) -> None:
    import uvicorn

    from fundusnet.annotation.access import can_sign_in, new_link
    from fundusnet.annotation.connections import PatientProtocol
    from fundusnet.annotation.request_guard import LOOPBACK
    from fundusnet.annotation.server import create_app
    from fundusnet.annotation.storage import set_setting

    if cfg.host not in LOOPBACK and not links:
        raise UserError(f"host={cfg.host} would let anyone in; name annotators=[...], who then sign in by link")
    listening = _listen(cfg.host, cfg.port)
    address = (cfg.public or _address(cfg.host, listening.getsockname()[1])).rstrip("/")
    if cfg.host not in LOOPBACK and not address.startswith("https:"):
        log.warning("links and answers travel unencrypted; put a TLS proxy in front and give its address as public=")
    people = study.people() if links else []
    with study.storage.write() as connection:
        set_setting(connection, "address", address)
        tokens = {
            member.name: new_link(connection, member.id) for member in people if not can_sign_in(connection, member.id)
        }
    study.storage.patience = PATIENCE
    print(f"annotate at {address}/")
    for name, token in tokens.items():
        print(f"{name}: {address}/join/{token}")
    print("stop with Ctrl-C; everything shown as saved is on disk", flush=True)
    app = create_app(study, links=links, host=cfg.host, public=cfg.public, suggester=suggester)
    # No access log, because it would contain the tokens of links.
    config = uvicorn.Config(
        app, http=PatientProtocol, log_level="warning", access_log=False, server_header=False, ws="none",
        lifespan="off", timeout_graceful_shutdown=ENDING,
    )  # fmt: skip
    if cfg.data.points == "auto":  # ready before the first reader has signed in
        threading.Thread(target=_locate, args=(np.zeros((64, 64, 3), dtype=np.uint8),), daemon=True).start()
    with suppress(KeyboardInterrupt):  # Ctrl-C is the normal way to stop
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
