"""Composing and checking a configuration: what the command line and a notebook share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml.error import MarkedYAMLError

from fundusnet.config.schema import CHOICES, TASK_CHOICES, schema_of
from fundusnet.errors import UserError

# What Hydra, OmegaConf and YAML raise where overrides or files do not make a configuration.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, MarkedYAMLError)


def compose(overrides: Sequence[str] = (), verb: str = "train") -> DictConfig:
    """The checked configuration that ``fundusnet VERB OVERRIDES`` would run with.

    Raises
    ------
    UserError: an override, key or value is wrong.

    Examples
    --------
    >>> compose(["experiment=quickstart", "seed=3"]).seed
    3
    """
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            cfg = hydra_compose(verb, [quoted(override) for override in overrides])
    except COMPOSITION_ERRORS as error:
        raise UserError(one_line(error, verb)) from error
    check(cfg, verb)
    return cfg


def quoted(override: str) -> str:
    """An override with quotes around what Hydra's grammar cannot read, such as a folder named ``x_seed=1``.

    Examples
    --------
    >>> quoted("runs=[sweep/seed=0,other]")
    'runs=["sweep/seed=0",other]'
    """
    key, _, value = override.partition("=")
    listed = re.fullmatch(r"\[(.*)\]", value)
    items = listed[1].split(",") if listed else [value]
    if not value or _parses(override) or any(re.search(r"""["'{}\[\]]|\\$""", item) for item in items):
        return override
    text = ",".join(item if _parses(f"{key}={item}") else f'"{item}"' for item in items)
    return f"{key}=[{text}]" if listed else f"{key}={text}"


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def check(cfg: DictConfig, verb: str = "train", folders: Sequence[Path] = ()) -> None:
    """Refuse keys that no code reads, and values no network can be built with.

    Hydra refuses a misspelt key among the overrides, but takes it from a file: both end here.

    Parameters
    ----------
    folders: the user's own config folders, whose ``finding/*.yaml`` name further findings.

    Raises
    ------
    UserError: names the key, and the nearest right one or the values it may have.
    """
    task = _select(cfg, "task")
    schema = OmegaConf.structured(schema_of(verb, task))
    known = list(_keys(schema))
    for key in _keys(cfg):
        if key not in known and not key.startswith(("data.options.", "labels.")):
            _refuse(key, known, verb, task)
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{missing[0]} is not given; add {missing[0]}=VALUE")
    try:
        whole = OmegaConf.merge(schema, cfg)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error, verb)) from error
    # A group that is null, with one of its keys given after all.
    if missing := sorted(OmegaConf.missing_keys(whole)):
        raise UserError(f"{missing[0]} is not given; choose the model that has this group, or give all of it")
    for key, allowed in {**CHOICES, **TASK_CHOICES.get(task or "", {})}.items():
        value = _select(cfg, key)
        if value is not None and value not in allowed:
            raise UserError(f"{key}={value} is unknown; use {' or '.join(allowed)}")
    _check_numbers(cfg)
    if _select(cfg, "data") is not None:
        _check_source(cfg.data.source)
    if "finding" in cfg:
        _check_findings(cfg, [conf_folder(), *folders])


def conf_folder() -> Path:
    """Absolute path of the configuration tree: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise UserError(f"the configuration tree is missing beside {package}; install fundusnet again")


def as_list(value: Any) -> list[str]:
    """The words of a key that takes one or a list of them."""
    return [str(each) for each in value] if OmegaConf.is_list(value) else [str(value)]


def one_line(error: BaseException | None, verb: str) -> str:
    """What we, Hydra or OmegaConf found, as one line that names the key and the nearest right one."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        place = f"{mark.name}, line {mark.line + 1}" if mark else "a configuration file"
        return f"{place}: {error.problem}; this is no YAML, mind brackets, tabs and indentation"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        options = sorted(set(error.options))
        return f"{group}={name} is unknown{_nearest(name, options, all_of_them=True)}"
    if found := re.search(r"(?:Could not override|Could not find group) '([^']+)'", text):
        known = [key for task in TASK_CHOICES for key in _keys(OmegaConf.structured(schema_of(verb, task)))]
        if found[1] in known:
            return f"{found[1]} is no key of this experiment, but of another task or model; --cfg job shows its own"
        return _unknown(found[1], known, verb)
    if isinstance(error, OverrideParseException):
        return f"{error.override} is no override ({text.splitlines()[0]}); write key=value"
    # OmegaConf adds lines of its own; only the one with the key says more than the first.
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    key = re.search(r"full_key: (\S+)", text)
    return f"{key[1]}: {first}" if key and key[1] not in first else first


def _refuse(key: str, known: Sequence[str], verb: str, task: str | None) -> None:
    """Say that no code reads ``key``; a key of the other task came in with that task's model or finding."""
    if key.partition(".")[0] == "experiment":
        raise UserError("the experiment's file starts without the line '# @package _global_'; write it at the top")
    for other in set(TASK_CHOICES) - {task}:
        if verb == "train" and key in _keys(OmegaConf.structured(schema_of(verb, other))):
            raise UserError(
                f"{key} belongs to task={other}, and this is task={task}; choose an experiment of one task, such as "
                f"experiment={'grading_ranking' if other == 'grading' else 'findings'}"
            )
    raise UserError(_unknown(key, known, verb))


def _unknown(key: str, known: Sequence[str], verb: str) -> str:
    return f"unknown key {key}{_nearest(key, known) or f'; fundusnet {verb} --help lists the keys'}"


LEAST = {
    "data.size": 1,
    "data.workers": 0,
    "data.num_workers": 0,
    "data.batch_size": 1,
    "data.present": 1,
    "trainer.max_epochs": 1,
    "trainer.patience": 1,
    "model.loss.weight": 0,
    "model.loss.warmup_epochs": 0,
    "model.optimizer.lr": 0,
    "model.optimizer.weight_decay": 0,
    "model.network.reductions": 1,
    "model.network.width": 1,
    "model.network.hidden": 1,
    "model.stage1.folds": 1,
    "model.stage1.max_epochs": 1,
    "evaluation.bootstrap": 1,
    "evaluation.panels": 0,
    "readings_per_image": 1,
    "batch_size": 1,
    "workers": 0,
    "report.pictures": 0,
    "seed": 0,
}


def _check_numbers(cfg: DictConfig) -> None:
    for key, least in LEAST.items():
        value = _select(cfg, key)
        if isinstance(value, int | float) and value < least:
            raise UserError(f"{key}={value} is too small; use {least} or more")
    fractions = _select(cfg, "data.fractions")
    if fractions is not None and (len(fractions) != 3 or min(fractions) < 0 or fractions[0] == 0):
        raise UserError(
            f"data.fractions={list(fractions)} are no shares of train, val and test; use such as [0.7,0.1,0.2]"
        )
    for key in ("scale", "intensity"):
        span = _select(cfg, f"data.augment.{key}")
        if span is not None and (len(span) != 2 or not 0 <= span[0] <= span[1] or (key == "scale" and span[0] == 0)):
            raise UserError(f"data.augment.{key}={list(span)} is no range of factors; use such as [0.9,1.1]")
    for key, most in (("rotate", 180), ("translate", 1), ("shear", 89)):
        value = _select(cfg, f"data.augment.{key}")
        if value is not None and not 0 <= value <= most:
            raise UserError(f"data.augment.{key}={value:g} is outside 0 to {most}")
    for rate in _flat(_select(cfg, "finding.dilations")):
        if rate < 1:
            raise UserError(f"finding.dilations holds {rate}; a dilation is 1 or more")
    size, reductions = _select(cfg, "data.size"), _select(cfg, "model.network.reductions")
    if _select(cfg, "model.network.name") == "guided" and size % 2**reductions:
        stride = 2**reductions
        fits = max(round(size / stride), 1) * stride
        raise UserError(
            f"data.size={size} does not divide by {stride}, the stride of "
            f"model.network.reductions={reductions}; use data.size={fits} or fewer reductions"
        )


def _check_source(name: str) -> None:
    from fundusnet.data.sources import SOURCES  # pandas comes with it, which no misspelt key shall wait for

    if name not in SOURCES:
        raise UserError(f"data.source={name} is unknown{_nearest(name, list(SOURCES), all_of_them=True)}")


def _check_findings(cfg: DictConfig, folders: Sequence[Path]) -> None:
    files = [file for folder in folders for file in sorted((folder / "finding").glob("*.yaml"))]
    known = sorted({str(name) for file in files for name in _select(OmegaConf.load(file), "names") or ()})
    names = _select(cfg, "finding.names") or []
    if not names:
        raise UserError(f"finding.names is empty; name one or more of {', '.join(known)}")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"finding.names holds {name} twice; name it once")
        if name not in known:
            raise UserError(f"unknown finding {name}{_nearest(name, known, all_of_them=True)}")


def _keys(cfg: DictConfig, above: str = "") -> Iterator[str]:
    """Every key of ``cfg`` in dotted form, groups before what they hold."""
    for name in cfg:
        key = f"{above}{name!s}"
        yield key
        node = cfg._get_node(name)
        if isinstance(node, DictConfig) and not (node._is_none() or node._is_missing() or node._is_interpolation()):
            yield from _keys(node, f"{key}.")


def _nearest(name: str, known: Sequence[str], all_of_them: bool = False) -> str:
    """The end of a line about a wrong name: what was meant, where that can be guessed, and all there are if wanted."""
    # The right name in the wrong place goes before one that merely looks like it.
    close = [key for key in known if key.rpartition(".")[2] == name.rpartition(".")[2]][:1]
    close = close or get_close_matches(name, known, n=1)
    meant, listed = f"; did you mean {close[0]}?" if close else "", ", ".join(known)
    if not all_of_them:
        return meant
    return f"{meant} There are {listed}" if meant else f"; there are {listed}"


def _select(cfg: Any, key: str) -> Any:
    return OmegaConf.select(cfg, key, throw_on_missing=False)


def _flat(values: Any) -> Iterator[Any]:
    """The numbers in a list, or in lists within a list."""
    for value in values or ():
        if OmegaConf.is_list(value):
            yield from _flat(value)
        else:
            yield value
