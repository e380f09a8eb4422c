"""Refusing keys that no code reads and values that do not fit, before anything slow is imported.

What a key may be is written once: in the signature of the constructor that takes it, or in ``config/keys.py``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from fundusnet.config.conf import conf_folder, flat_keys, keys_of, places_of_keys, select, values_in_files
from fundusnet.config.keys import TASKS, TRAINING, VERBS
from fundusnet.config.monitors import higher_is_better
from fundusnet.config.nearest import nearest
from fundusnet.config.signatures import Signature, is_defined, signature_of
from fundusnet.config.values import check_value, kinds_of
from fundusnet.errors import UserError

# Constructor arguments that are not config keys of their groups, because code passes them.
PASSED = {
    "data": {"findings", "feature_size", "relabel", "mask_folds", "left_out", "masks", "seed"},
    "model": {"findings", "size", "classes", "network_class"},
    "model.network": {"findings", "classes"},
    "model.stage1.network": {"findings", "classes"},
    "trainer": {
        *("folder", "seed", "callbacks", "loggers", "plugins", "logger", "strategy", "num_nodes", "default_root_dir"),
        *("use_distributed_sampler",),
    },
}
HYDRA = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}
# Groups of named objects: each is null or has a _target_.
NAMED = ("callbacks", "logger", "data.augment")
# What a task logs of each validation, besides the values of single findings and grades.
MONITORS = {
    "findings": ("val/loss", "val/classification", "val/guidance", "val/auroc"),
    "grading": ("val/loss", "val/accuracy"),
    "landmarks": ("val/loss", "val/error", "val/error_disc", "val/error_fovea"),
}
# Keys with content of any kind: the options of a source, the names of the user's own data.
FREE = ("data.options", "labels")
# Groups of ``predict`` that are not a choice of a file and may not be null.
GROUPS_OF_KEYS = ("heatmaps", "report")


def check(
    cfg: DictConfig,
    verb: str = "train",
    overrides: Sequence[str] = (),
    own_folders: Sequence[Path] = (),
    choices: Mapping[str, Any] | None = None,
) -> None:
    """Refuse keys that no code reads, and values that do not fit the signature that takes them.

    What ``conf/`` offers to every task and model and this one does not read is taken out of ``cfg``; it is refused
    where the user gave it.

    Args:
        cfg: The composed configuration; changed in place.
        verb: The command it is for.
        overrides: What the user gave on the command line.
        own_folders: The user's own configuration trees.
        choices: Group → the name of the file chosen.

    Raises:
        UserError: Names the key, and the nearest valid one or the values it may have.
    """
    task = _task(cfg) if verb in TRAINING else None
    known = _known(verb, task)
    if task == "findings" and select(cfg, "finding") is None:
        raise UserError(f"{select(cfg, 'model.network._target_')} needs findings; choose some, such as finding=drusen")
    _check_groups(cfg, known)
    given = _given_keys(overrides, own_folders, choices or {})
    _drop_foreign_options(cfg, given)
    for key, node in list(_nodes(cfg)):
        for name in _unread(key, node, known):
            full = f"{key}.{name}" if key else name
            if not key and name in ("experiment", "sweep", "debug"):
                raise UserError(f"the file chosen by {name}= lacks '# @package _global_'; write it at the top")
            if full in given:
                if full in places_of_keys(verb):
                    use = f"task={task}" if task else f"fundusnet {verb}"
                    raise UserError(f"{full} is not used by {use}; leave it out")
                raise UserError(unknown_key(full, _all_keys(cfg, known), verb))
            with open_dict(node):
                del node[name]
    _restore_text(cfg, overrides, known)
    for key, node in _nodes(cfg):
        _check_node(key, node, known, verb)
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{missing[0]} is not given; add {missing[0]}=VALUE")
    _check_relations(cfg, task)
    folders = [conf_folder(), *own_folders]
    if select(cfg, "data") is not None:
        _check_source(cfg.data, folders)
    if "finding" in cfg:
        _check_findings(cfg, folders)


def _check_groups(cfg: DictConfig, known: Mapping[str, Signature]) -> None:
    """Refuse a value in place of a group of keys, as in ``report=false``; some groups may be null."""
    for group, signature in known.items():
        value = select(cfg, group)
        if not group or OmegaConf.is_dict(value) or (value is None and group not in GROUPS_OF_KEYS):
            continue
        keys = " or ".join(f"{group}.{name}" for name in list(signature.types)[:2])
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
        raise UserError(f"{group}={shown} is not valid: {group} has keys of its own; set {keys}")


def _drop_foreign_options(cfg: DictConfig, given: set[str]) -> None:
    """Take out what an experiment says of another source's options, as in ``experiment=quickstart data=csv``."""
    options, types = select(cfg, "data.options"), _option_types(cfg)
    if options is None or types is None or types.takes_any:
        return
    for name in [each for each in map(str, options) if each not in types.types and f"data.options.{each}" not in given]:
        with open_dict(options):
            del options[name]


def _given_keys(overrides: Sequence[str], own_folders: Sequence[Path], choices: Mapping[str, Any]) -> set[str]:
    """Dotted keys that the user gave, and the groups above them."""
    chosen = [(folder, f"{group}/{name}") for folder in own_folders for group, name in choices.items()]
    given = {key for folder, name in chosen for key in keys_of(folder / f"{name}.yaml", folder)}
    for override in map(OverridesParser.create().parse_override, overrides):
        key = str(override.key_or_group)
        given |= {key, *flat_keys(override.value(), f"{key}.")}
    return given | {key[:end] for key in given for end, letter in enumerate(key) if letter == "."}


def check_job(cfg: DictConfig, verb: str, hydra: Any) -> None:
    """``check`` within a Hydra job, given ``HydraConfig.get()``."""
    sources = hydra.runtime.config_sources
    own_folders = [Path(each.path) for each in sources if each.provider == "command-line"]
    check(cfg, verb, hydra.overrides.task, own_folders, hydra.runtime.choices)


def _task(cfg: DictConfig) -> str:
    task, fits = select(cfg, "task"), select(cfg, "model.task")
    if fits not in TASKS:
        raise UserError(f"model.task={fits} is not valid; a model file says task: findings, grading or landmarks")
    if task != fits:
        raise UserError(f"task={task} does not fit the model, which is for {fits}; leave task out and choose a model")
    return str(fits)


def _known(verb: str, task: str | None) -> dict[str, Signature]:
    """The signature of each group of a verb: those of all that take its keys, joined."""
    layout = {group: list(targets) for group, targets in VERBS[verb].keys.items()}
    for group, targets in TASKS.get(task or "", {}).items():
        layout.setdefault(group, []).extend(targets)
    return {group: _joined(targets, group) for group, targets in layout.items()}


def _joined(targets: Sequence[str], group: str) -> Signature:
    signatures = [signature for target in targets if (signature := signature_of(target))]
    types = {name: kind for each in reversed(signatures) for name, kind in each.types.items()}
    return Signature({name: kind for name, kind in types.items() if name not in PASSED.get(group, ())})


def _nodes(cfg: DictConfig, above: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every group of ``cfg`` with its dotted key, the top level first."""
    yield above, cfg
    for name in map(str, cfg):
        key = f"{above}.{name}" if above else name
        node = cfg._get_node(name)
        if key in FREE or not isinstance(node, DictConfig):
            continue
        if not (node._is_none() or node._is_missing() or node._is_interpolation()):
            yield from _nodes(node, key)


def _signature(key: str, node: DictConfig, known: Mapping[str, Signature]) -> Signature | None:
    """What a group can hold; None if its keys are names, or its source does not show it."""
    if key not in known and "_target_" in node:
        return signature_of(str(node._target_))
    return known.get(key)


def _unread(key: str, node: DictConfig, known: Mapping[str, Signature]) -> list[str]:
    """The keys of a group that nothing reads."""
    signature = _signature(key, node, known)
    if signature is None or (signature.takes_any and "_target_" in node):
        return [name for name in map(str, node) if name in PASSED.get(key, ())]
    read = signature.types.keys() - PASSED.get(key, set()) | HYDRA
    return [name for name in map(str, node) if name not in read]


@cache
def text_keys(verb: str) -> frozenset[str]:
    """The keys of a verb that hold a name or a path whatever else is chosen."""
    groups = [VERBS[verb].keys, *(TASKS.values() if verb in TRAINING else ())]
    return frozenset(
        f"{group}.{name}" if group else name
        for layout in groups
        for group, targets in layout.items()
        for name, kind in _joined(targets, group).types.items()
        if str in kinds_of(kind) and not {int, float, bool} & {*kinds_of(kind)}
    )


def _restore_text(cfg: DictConfig, overrides: Sequence[str], known: Mapping[str, Signature]) -> None:
    """Set names and paths to what was typed where YAML read something else, as in ``input=2024_01``."""
    for override in overrides:
        key, _, typed = override.lstrip("+").partition("=")
        group, _, name = key.rpartition(".")
        node = select(cfg, group) if group else cfg
        if not isinstance(node, DictConfig) or name not in node or OmegaConf.is_interpolation(node, name):
            continue
        signature = _option_types(cfg) if group == "data.options" else _signature(group, node, known)
        kinds = kinds_of(signature.types.get(name)) if signature else []
        value: Any = None if OmegaConf.is_missing(node, name) else node[name]
        if OmegaConf.is_list(value) and any(get_args(kind)[:1] == (str,) for kind in kinds):
            items = [item.strip() for item in typed[1:-1].split(",")]
            if len(items) == len(value):
                node[name] = [item if isinstance(item, str) else text for item, text in zip(value, items, strict=True)]
        elif value is not None and not isinstance(value, str) and str in kinds and not {int, float, bool} & {*kinds}:
            node[name] = typed


def _option_types(cfg: DictConfig) -> Signature | None:
    """The options that the source takes."""
    source = str(select(cfg, "data.source"))
    return signature_of(source if "." in source else f"fundusnet.data.sources.{source}.load")


def _check_node(key: str, node: DictConfig, known: Mapping[str, Signature], verb: str) -> None:
    """Check the values of a group."""
    if key in NAMED:
        _check_named(key, node)
    signature = _signature(key, node, known)
    if signature is None:
        target = str(node.get("_target_", ""))
        if target and not (target.startswith("fundusnet.") and is_defined(target)):
            _check_import(f"{key}._target_", target)
        return
    for name in map(str, node):
        if name in signature.types and not OmegaConf.is_missing(node, name):
            check_value(f"{key}.{name}" if key else name, node[name], signature.types[name], verb)


def _check_named(key: str, node: DictConfig) -> None:
    for name, value in node.items():
        if value is not None and not (OmegaConf.is_dict(value) and "_target_" in value):
            raise UserError(f"{key}.{name!s}={value} is not valid: use null, or a _target_, the dotted name of a class")


def _check_import(key: str, target: str) -> None:
    """Import what its source does not describe: slow, but better than an error after hours."""
    try:
        resolve_name(target)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{key}={target} cannot be imported: {reason}; check the name, install its package, or add the folder that "
            "holds it to PYTHONPATH"
        ) from error


def _all_keys(cfg: DictConfig, known: Mapping[str, Signature]) -> list[str]:
    """Every key there is or may be, in dotted form."""
    found = [f"{group}.{name}" if group else name for group, each in known.items() for name in each.types]
    for key, node in _nodes(cfg):
        described = signature_of(str(node._target_)) if "_target_" in node else None
        names = [*map(str, node), *(described.types if described else ())]
        found += [f"{key}.{name}" if key else name for name in names if name not in PASSED.get(key, ())]
    return list(dict.fromkeys(key for key in found if not key.endswith("_")))


def unknown_key(key: str, known: Sequence[str], verb: str) -> str:
    """The line about a key that nothing reads."""
    known = [each for each in known if each != key]
    return f"unknown key {key}{nearest(key, known) or f'; fundusnet {verb} --help lists the keys'}"


def _check_relations(cfg: DictConfig, task: str | None) -> None:
    """What no single signature can say."""
    fractions = select(cfg, "data.fractions")
    if fractions is not None and (len(fractions) != 3 or min(fractions) < 0 or fractions[0] == 0):
        raise UserError(
            f"data.fractions={list(fractions)} are not shares of train, val and test; use for example [0.7,0.1,0.2]"
        )
    if select(cfg, "data.fold") and select(cfg, "data.folds") is None and task is not None:
        raise UserError(f"data.fold={cfg.data.fold} needs data.folds: the number of folds")
    rate = select(cfg, "model.optimizer.lr")
    if isinstance(rate, int | float) and rate <= 0:
        raise UserError(f"model.optimizer.lr={rate} is not valid: use a value greater than 0")
    _check_monitor(cfg, task)
    _check_batch_norm(cfg, task)
    size, reductions = select(cfg, "data.size"), select(cfg, "model.network.reductions")
    if task == "findings" and None not in (reductions, size) and size % 2**reductions:
        stride = 2**reductions
        fits = max(round(size / stride), 1) * stride
        raise UserError(
            f"data.size={size} is not a multiple of {stride}, the stride of "
            f"model.network.reductions={reductions}; use data.size={fits} or fewer reductions"
        )
    for key in ("model.network.shrink", "model.stage1.network.shrink"):
        shrink = select(cfg, key)  # a single factor for landmarks
        factors = list(shrink or [1]) if OmegaConf.is_list(shrink) else [shrink or 1]
        if size is not None and max(factors) > size:
            raise UserError(f"{key}={shrink} leaves nothing of data.size={size}; use smaller factors")


def _check_batch_norm(cfg: DictConfig, task: str | None) -> None:
    """Refuse a training in which batch normalisation would see a single value."""
    size, reductions = select(cfg, "data.size"), select(cfg, "model.network.reductions")
    if task == "findings" and reductions and size == 2**reductions and select(cfg, "data.batch_size") == 1:
        raise UserError(
            f"data.size={size} with model.network.reductions={reductions} leaves one cell, and data.batch_size=1 one "
            "image, which batch normalisation cannot normalise; use a larger size or batch"
        )


def _check_monitor(cfg: DictConfig, task: str | None) -> None:
    """Refuse a monitor that nothing logs; a callback of the user's own may log anything."""
    monitor, known = select(cfg, "trainer.monitor"), MONITORS.get(task or "", ())
    if monitor is None:
        return
    targets = [str(select(cfg, f"callbacks.{name}._target_")) for name in select(cfg, "callbacks") or ()]
    ours = all(each.startswith(("fundusnet.", "pytorch_lightning.", "None")) for each in targets)
    if ours and known and monitor not in known and not str(monitor).startswith(("val/auroc/", "val/loss_gt_")):
        raise UserError(f"trainer.monitor={monitor} is not logged{nearest(monitor, list(known), list_all=True)}")
    if select(cfg, "trainer.mode") is None and higher_is_better(str(monitor)) is None:
        raise UserError(f"trainer.monitor={monitor}: say with trainer.mode=max or min whether a higher value is better")


def _check_source(data: DictConfig, folders: Sequence[Path]) -> None:
    known = sorted(str(source) for source in values_in_files(folders, "data", "source"))
    if data.source not in known and "." not in data.source:  # dotted: a function of the user's own
        raise UserError(f"unknown data.source={data.source}{nearest(data.source, known, list_all=True)}")


def _check_findings(cfg: DictConfig, folders: Sequence[Path]) -> None:
    known = sorted({str(name) for names in values_in_files(folders, "finding", "names") for name in names})
    names = select(cfg, "finding.names") or []
    if not names and not select(cfg, "questions"):  # readers may be asked for a grade only
        raise UserError(f"finding.names is empty; name one or more of {', '.join(known)}")
    if not set(map(str, names)) <= set(known):
        known = sorted({*known, *_findings_of_tables(cfg)})
    for name in names:
        if list(names).count(name) > 1:
            raise UserError(f"finding.names lists {name} twice; list it once")
        if name not in known:
            raise UserError(f"unknown finding {name}{nearest(name, known, list_all=True)}")


def _findings_of_tables(cfg: DictConfig) -> set[str]:
    """The findings that a manifest of the user's own names, which may be called as he likes."""
    found: set[str] = set()
    if select(cfg, "data.source") != "csv" or not select(cfg, "data.root"):
        return found
    for file in (Path(cfg.data.root).expanduser() / name for name in ("readings.csv", "lesions.csv")):
        if file.is_file():
            lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            lines = lines[1:] if lines and lines[0].lower().startswith("sep=") else lines
            delimiter = max(",;\t|", key=lines[0].count) if lines else ","
            found |= {(row.get("finding") or "").strip() for row in csv.DictReader(lines, delimiter=delimiter)}
    return found - {""}
