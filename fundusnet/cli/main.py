"""``fundusnet VERB [key=value ...]``: takes the verb off and hands the rest to Hydra.

Nothing heavy is imported before a verb runs: ``fundusnet --help`` answers at once.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fundusnet.cli.usage import VERBS, usage, verb_usage
from fundusnet.errors import RankError, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Where the work of a verb is done; `train` and its sweeps have more to it.
WORK = {
    "annotate": ("fundusnet.commands.annotate", "annotate"),
    "prepare": ("fundusnet.commands.prepare", "prepare_folder"),
    "evaluate": ("fundusnet.commands.evaluate", "evaluate"),
    "predict": ("fundusnet.commands.predict", "predict"),
    "export": ("fundusnet.commands.export", "export"),
    "report": ("fundusnet.commands.report", "report"),
}
# What Hydra takes with two dashes, in full or cut short; it answers any other with a page of usage.
FLAGS = (
    *("--cfg", "--config-dir", "--config-name", "--config-path", "--experimental-rerun", "--help", "--hydra-help"),
    *("--info", "--multirun", "--package", "--resolve", "--run", "--shell-completion", "--version"),
)
# What a folder that cannot be written, or a full disk, raises.
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
FAILURE = 1
USAGE_ERROR = 2
_leads_jobs = False  # whether this process started a sweep; a launcher's worker did not


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 when done, 2 after an error the user can put right, 1 where a job or a rank failed."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else USAGE_ERROR
    if words[0] == "--version":
        from fundusnet import __version__

        print(__version__)
        return 0
    if words[0] in ("-sc", "--shell-completion"):
        return _complete(words)
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        close = get_close_matches(verb, VERBS, n=1, cutoff=0.5)
        meant = f"did you mean {close[0]}?" if close else f"the verbs are {', '.join(VERBS)}"
        return _complain(f"unknown verb {verb}; {meant}")
    if not {"-h", "--help"}.isdisjoint(rest):
        print(verb_usage(verb))
        return 0
    for word in rest:
        flag = word.partition("=")[0]
        if flag.startswith("--") and not any(known.startswith(flag) for known in FLAGS):
            return _complain(f"{flag} is no flag; keys have no dashes: {flag.lstrip('-').replace('-', '_')}=VALUE")
    return _run(verb, rest)


def _run(verb: str, rest: list[str]) -> int:
    import hydra

    from fundusnet.config.compose import COMPOSITION_ERRORS, conf_folder, one_line, quoted

    rest = [word if word.startswith("-") else quoted(word) for word in rest]
    # Training is a plain function of this module, so that launchers can send it to other processes by name.
    stub = _train if verb == "train" else _stub(verb)
    sweeps = verb == "train" and not {"-m", "--multirun"}.isdisjoint(rest)
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    try:
        sys.argv = [argv[0], *rest]
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets errors through instead of ending the process
        if sweeps:
            return _sweep(rest)
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=verb)(stub)()
    except (_RefusedError, UserError, *COMPOSITION_ERRORS) as stop:
        error = stop.__cause__ if isinstance(stop, _RefusedError) else stop
        code = FAILURE if isinstance(error, RankError) else USAGE_ERROR
        if _debugging(rest):
            traceback.print_exc()
            return code
        _complain(one_line(error, verb))
        return code
    finally:
        sys.argv = argv
        if full_error is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error
    return 0


def _sweep(rest: list[str]) -> int:
    """Run a training for each point of a sweep; 0 when every one of them is done."""
    import hydra

    from fundusnet.cli import sweeps as sweeping
    from fundusnet.config.compose import COMPOSITION_ERRORS, conf_folder

    global _leads_jobs
    _leads_jobs = True
    before = sweeping.undone
    # Hydra reads overrides on one side of its flags only.
    words = [word for word in rest if word not in ("-m", "--multirun")]
    sys.argv = [sys.argv[0], "--multirun", *words, *sweeping.naming(words)]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")(_train)()
    except (UserError, *COMPOSITION_ERRORS):
        raise  # the sweep itself cannot be composed
    except Exception as error:  # a launcher whose worker died, a sweeper without one good result
        if _debugging(rest):
            traceback.print_exc()
        _complain(f"the sweep ended early: {type(error).__name__}: {error}")
        sweeping.summarise()
        return FAILURE
    return FAILURE if sweeping.undone > before else 0


def _train(cfg: DictConfig) -> float | None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from fundusnet.cli.sweeps import run_job

        _show_messages()
        return run_job(cfg, _own_config_folders(), in_a_worker=not _leads_jobs)

    def work() -> Path | None:
        if cfg.resume:
            _refuse_changes()
        else:
            cfg.run_dir = str(_run_folder(cfg))
        from fundusnet.commands.train import train
        from fundusnet.fitting.processes import is_worker

        run = train(cfg).run_dir
        return None if is_worker() else run

    _job(cfg, "train", work)
    return None


def _stub(verb: str) -> Callable[[DictConfig], None]:
    """What Hydra calls for a verb that is one function of a config, in a module of its own."""

    def stub(cfg: DictConfig) -> None:
        module, function = WORK[verb]
        _job(cfg, verb, lambda: getattr(import_module(module), function)(cfg))

    return stub


class _RefusedError(BaseException):
    """A user's error in a single run; no ``Exception``, so that Hydra adds no line of its own."""


def _job(cfg: DictConfig, verb: str, work: Callable[[], Path | None]) -> None:
    """Check the configuration before anything slow is imported, work, print where the result lies, if anywhere."""
    from omegaconf.errors import OmegaConfBaseException

    from fundusnet.config.compose import check

    _show_messages()
    try:
        check(cfg, verb, _own_config_folders())
        if result := work():
            print(result)
    except (UserError, RankError, OmegaConfBaseException) as error:
        raise _RefusedError from error
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning makes an exit of Ctrl-C; SIGTERM is an exit by itself.
        by_key = isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt)
        if not by_key and stop.code != 128 + signal.SIGTERM:  # type: ignore[union-attr]
            raise
        _complain(f"stopped{_goes_on(cfg, verb)}")
        raise SystemExit(128 + (signal.SIGINT if by_key else signal.SIGTERM)) from None
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        told = UserError(f"{error.filename or 'the disk'}: {error.strerror}; choose another place, or make room")
        told.__cause__ = error
        raise _RefusedError from told


def _goes_on(cfg: DictConfig, verb: str) -> str:
    """What to type after a stop, where what was done so far is kept."""
    if verb == "train":
        return f"; fundusnet train resume={cfg.resume or cfg.run_dir} goes on"
    return "; the same command goes on" if verb in ("prepare", "predict") else ""


def _show_messages() -> None:
    import logging

    # Of the processes of a torchrun the first one tells what all of them do.
    follows = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"
    logging.basicConfig(level=logging.ERROR if follows else logging.WARNING, format="%(message)s")
    logging.getLogger("fundusnet").setLevel(logging.ERROR if follows else logging.INFO)


def _own_config_folders() -> list[Path]:
    """The user's ``--config-dir``, whose files may name further findings."""
    from hydra.core.hydra_config import HydraConfig

    sources = HydraConfig.get().runtime.config_sources
    return [Path(source.path) for source in sources if source.provider == "command-line"]


def _refuse_changes() -> None:
    """A resumed run has its own configuration: another learning rate half way would be a run nobody asked for."""
    from hydra.core.hydra_config import HydraConfig

    for override in HydraConfig.get().overrides.task:
        if override.partition("=")[0].lstrip("+") not in ("resume", "debug"):
            raise UserError(f"resume goes on with the run's own configuration; leave out {override}")


def _run_folder(cfg: DictConfig) -> Path:
    """Where a single training writes: ``run_dir``, else by experiment and time."""
    from datetime import datetime

    from hydra.core.hydra_config import HydraConfig

    if cfg.run_dir:
        return Path(cfg.run_dir)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError("under torchrun each process would choose a folder of its own; give run_dir=FOLDER")
    name = HydraConfig.get().runtime.choices.get("experiment") or cfg.task
    return Path("outputs", name, datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")[:-3])


def _debugging(words: list[str]) -> bool:
    return any(word.lstrip("+").lower() in ("debug=true", "debug=1") for word in words)


def _complete(words: list[str]) -> int:
    """Answer the shell. Hydra knows no verbs, and finds the words typed so far in ``COMP_LINE`` alone."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()[1:]
    if "query=" not in "".join(words):
        return _run("train", words)  # the script to install is the same for every verb
    if not typed or (len(typed) == 1 and not line.endswith(" ")):
        print(" ".join(verb for verb in VERBS if verb.startswith("".join(typed))))
        return 0
    verb = typed[0]
    if verb not in VERBS:
        return 0
    os.environ["COMP_LINE"] = re.sub(rf"^(\s*\S+\s+){verb}\s*", r"\1", line)
    return _run(verb, words)


def _complain(message: str) -> int:
    print(f"fundusnet: {' '.join(message.split())}", file=sys.stderr)
    return USAGE_ERROR
