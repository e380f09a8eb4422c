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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fundusnet.cli.usage import usage, verb_usage
from fundusnet.config.keys import VERBS
from fundusnet.errors import RankError, UserError
from fundusnet.system.memory import keep_freed_memory

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Hydra's flags, which may be abbreviated; it answers any other with a page of usage.
FLAGS = (
    *("--cfg", "--config-dir", "--config-name", "--config-path", "--experimental-rerun", "--help", "--hydra-help"),
    *("--info", "--multirun", "--package", "--resolve", "--run", "--shell-completion", "--version"),
)
FLAGS_WITH_VALUE = (
    *("--cfg", "-c", "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--experimental-rerun"),
    *("--info", "--package", "-p"),
)
# Raised for a folder that cannot be written, or a full disk.
NOT_WRITABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOTDIR, errno.EEXIST),  # a file is where a folder should be
)
FAILURE = 1
USAGE_ERROR = 2
_leads_jobs = False  # whether this process started a sweep; a launcher's worker did not


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 when done, 2 after an error that the user can correct, 1 if a job or a rank failed."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        _show(usage())
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
        _show(verb_usage(verb))
        return 0
    for word in rest:
        flag = word.partition("=")[0]
        if flag.startswith("--") and not any(known.startswith(flag) for known in FLAGS):
            return _complain(f"{flag} is not a flag; keys have no dashes: {flag.lstrip('-').replace('-', '_')}=VALUE")
    return _run(verb, rest)


def _show(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # who reads it, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(verb: str, rest: list[str]) -> int:
    import hydra

    from fundusnet.config.compose import COMPOSITION_ERRORS, conf_folder, one_line, readable

    debugging = any(word.lstrip("+").lower() in ("debug=true", "debug=1") for word in rest)
    # Training is a plain function of this module, so that launchers can send it to other processes by name.
    stub = _train if verb == "train" else _stub(verb)
    sweeps = verb == "train" and not {"-m", "--multirun"}.isdisjoint(rest)
    flags, keys = _flags_and_keys(rest)
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    try:
        rest = [*flags, *readable(keys, verb, sweep=sweeps)]
        sys.argv = [argv[0], *rest]
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets errors through instead of ending the process
        if sweeps:
            return _sweep(rest, debugging)
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=verb)(stub)()
    except (_RefusedError, UserError, *COMPOSITION_ERRORS) as stop:
        error = stop.__cause__ if isinstance(stop, _RefusedError) else stop
        code = FAILURE if isinstance(error, RankError) else USAGE_ERROR
        if debugging:
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


def _flags_and_keys(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and the overrides: it reads these on one side of its flags only."""
    flags, keys = list[str](), list[str]()
    for before, word in zip(["", *words], words, strict=False):
        takes_value = (
            before.startswith("-") and "=" not in before and any(flag.startswith(before) for flag in FLAGS_WITH_VALUE)
        )
        (flags if word.startswith("-") or takes_value else keys).append(word)
    return flags, keys


def _sweep(rest: list[str], debugging: bool) -> int:
    """Run a training for each point of a sweep; 0 when every one of them is done."""
    import hydra

    from fundusnet.cli import sweeps
    from fundusnet.config.compose import COMPOSITION_ERRORS, conf_folder, for_each_job

    global _leads_jobs
    _leads_jobs = True
    before = sweeps.unfinished
    flags, keys = _flags_and_keys([word for word in rest if word not in ("-m", "--multirun")])
    sys.argv = [sys.argv[0], "--multirun", *flags, *for_each_job(keys), *sweeps.name_override(keys)]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")(_train)()
    except (UserError, *COMPOSITION_ERRORS):
        raise  # the sweep itself cannot be composed
    except Exception as error:  # a launcher whose worker died, a sweeper without one good result
        if debugging:
            traceback.print_exc()
        _complain(f"the sweep ended early: {type(error).__name__}: {error}")
        sweeps.summarise()
        return FAILURE
    return FAILURE if sweeps.unfinished > before else 0


def _train(cfg: DictConfig) -> float | None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    keep_freed_memory()
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        from fundusnet.cli.sweeps import run_job

        with _shown_messages():
            return run_job(cfg, in_a_worker=not _leads_jobs)

    def work() -> Path | None:
        if cfg.resume:
            _refuse_changes()
        else:
            from fundusnet.runs.folder import run_folder

            cfg.run_dir = str(run_folder(cfg, HydraConfig.get().runtime.choices.get("experiment")))
        from fundusnet.commands.train import train
        from fundusnet.fitting.processes import is_worker

        run = train(cfg).run_dir
        return None if is_worker() else run

    _job(cfg, "train", work)
    return None


def _stub(verb: str) -> Callable[[DictConfig], None]:
    """The function that Hydra calls for a verb."""

    def stub(cfg: DictConfig) -> None:
        keep_freed_memory()
        module, _, function = VERBS[verb].work.rpartition(".")
        _job(cfg, verb, lambda: getattr(import_module(module), function)(cfg))

    return stub


class _RefusedError(BaseException):
    """A user's error in a single run; not an ``Exception``, so that Hydra adds no line of its own."""


def _job(cfg: DictConfig, verb: str, work: Callable[[], Path | None]) -> None:
    """Check the configuration before anything slow is imported, work, and print the path of the result."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf.errors import OmegaConfBaseException

    from fundusnet.config.check import check_job

    try:
        with _shown_messages():
            check_job(cfg, verb, HydraConfig.get())
            _check_folders(cfg, verb)
            if result := work():
                print(result)
    except (UserError, RankError, OmegaConfBaseException) as error:
        raise _RefusedError from error
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning turns Ctrl-C into SystemExit; SIGTERM raises one too.
        by_key = isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt)
        if not by_key and stop.code != 128 + signal.SIGTERM:  # type: ignore[union-attr]
            raise
        _complain(f"stopped{_how_to_resume(cfg, verb)}")
        raise SystemExit(128 + (signal.SIGINT if by_key else signal.SIGTERM)) from None
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        refusal = UserError(f"{error.filename or 'the disk'}: {error.strerror}; choose another place, or make room")
        refusal.__cause__ = error
        raise _RefusedError from refusal


def _check_folders(cfg: DictConfig, verb: str) -> None:
    """Refuse folders that do not exist before torch is imported.

    A training needs those of its photographs only if they are not prepared yet.
    """
    if verb == "evaluate":
        from fundusnet.runs.folder import check_run

        check_run(Path(cfg.run))
    elif verb == "train" and not cfg.resume and not Path(cfg.data.root).expanduser().is_dir():
        from fundusnet.data.set_folders import newest, prepared_folder
        from fundusnet.data.sources import check_root

        if not (newest(prepared_folder(cfg)) / "prepared.yaml").exists():
            check_root(cfg.data.source, cfg.data.root)


def _how_to_resume(cfg: DictConfig, verb: str) -> str:
    """How to resume after a stop, if the verb can."""
    if verb == "train":
        return f"; resume with fundusnet train resume={cfg.resume or cfg.run_dir}"
    return "; resume with the same command" if verb in ("prepare", "predict") else ""


@contextmanager
def _shown_messages() -> Iterator[None]:
    """Show what the package logs; afterwards logging is as it was."""
    import logging

    root, own = logging.getLogger(), logging.getLogger("fundusnet")
    before = list(root.handlers), root.level, own.level
    # Of the processes of a torchrun only the first one reports.
    follows = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"
    logging.basicConfig(level=logging.ERROR if follows else logging.WARNING, format="%(message)s")
    own.setLevel(logging.ERROR if follows else logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        own.setLevel(before[2])


def _refuse_changes() -> None:
    """Refuse overrides for a resumed run: another learning rate half way would make it a different run."""
    from hydra.core.hydra_config import HydraConfig

    for override in HydraConfig.get().overrides.task:
        if override.partition("=")[0].lstrip("+") != "resume":
            raise UserError(f"resume uses the run's own configuration; leave out {override}")


def _complete(words: list[str]) -> int:
    """Complete words for the shell. Hydra has no verbs, and reads the words typed so far from ``COMP_LINE``."""
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
