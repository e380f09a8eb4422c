"""Composing a configuration: what the command line and a notebook share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml.error import MarkedYAMLError

from fundusnet.config.check import check, text_keys, unknown_key
from fundusnet.config.conf import conf_folder as conf_folder
from fundusnet.config.conf import default_groups, places_of_keys
from fundusnet.config.nearest import nearest
from fundusnet.config.renamed import RENAMED
from fundusnet.errors import UserError

# What Hydra, OmegaConf and YAML raise where overrides or files do not make a configuration.
COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, MarkedYAMLError)
MOST_PLACES = 3  # that a message names
NEEDED = ("data", "model", "trainer", "evaluation")  # groups of which one file is always chosen


def compose(overrides: Sequence[str] = (), verb: str = "train") -> DictConfig:
    """The checked configuration that ``fundusnet VERB OVERRIDES`` would run with.

    Raises:
        UserError: An override, key or value is wrong.

    Examples:
        >>> compose(["experiment=quickstart", "seed=3"]).seed
        3
    """
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            words = readable(overrides, verb)
            cfg = hydra_compose(verb, words)
        check(cfg, verb, words)
    except COMPOSITION_ERRORS as error:
        raise UserError(one_line(error, verb)) from error
    return cfg


def readable(overrides: Sequence[str], verb: str, sweep: bool = False) -> list[str]:
    """Overrides as Hydra's grammar reads them: names quoted, ``GROUP=null`` as ``~GROUP``.

    Args:
        overrides: As the user typed them.
        verb: The command they are for.
        sweep: Whether several values of a key are a sweep; else they are one text, such as a path with a comma.
    """
    defaults = default_groups(verb)
    words = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "data" and value.startswith("["):
            raise UserError(f"data={value} names several sources; train on one, or join their tables in a manifest")
        if value == "null" and key in NEEDED:
            raise UserError(f"{key}=null is not valid: {verb} needs it; choose a file of {key}, or set single keys")
        if value == "null" and key in defaults:
            words += [] if defaults[key] is None else [f"~{key}"]
        elif (key in defaults or "/" in key) and not key.startswith("~") and value[:1] not in ("[", '"', "'"):
            swept = sweep and re.search(r"[,(]", value)
            words.append(f"{key}={value if swept else _as_text(value)}")  # a number, too, is the name of a file
        elif key.lstrip("+") in text_keys(verb) and not re.search(r"""["'\[\]{}()$]""", value):
            words.append(f"{key}={','.join(map(_as_text, value.split(',') if sweep else [value]))}")
        elif not (key.lstrip("+") == "debug" and value.lower() in ("true", "false", "1", "0")):
            words.append(quoted(override, sweep))
    return words


def for_each_job(overrides: Sequence[str]) -> list[str]:
    """Overrides of a sweep, with those of keys that only its swept choices have as sweeps over one value.

    Hydra composes a sweep once without what it sweeps over, and would refuse these keys there.

    Raises:
        UserError: Only some of the choices that the sweep trains have such a key.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    together = [each for each in parsed if not each.is_sweep_override()]
    fixed = {
        each.key_or_group: str(each.input_line)
        for each in together
        if "." in each.key_or_group and each.type == OverrideType.CHANGE and not each.is_hydra_override()
    }
    if not fixed:
        return list(overrides)
    frame = [line for each in together if (line := str(each.input_line)) not in fixed.values()]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        once = hydra_compose("train", frame, return_hydra_config=True)
        missing = [key for key in fixed if not _has(once, key)]
        if not missing:
            return list(overrides)
        swept = [*(f"{key}={value}" for key, value in (once.hydra.sweeper.get("params") or {}).items()), *overrides]
        groups = default_groups("train")
        choices = [
            [f"{each.key_or_group}={value}" for value in each.sweep_string_iterator()]
            for each in OverridesParser.create().parse_overrides(swept)
            if each.key_or_group in groups and each.is_sweep_override()
        ]
        jobs = {words: hydra_compose("train", [*frame, *words]) for words in product(*choices)} if choices else {}
    for key in missing:
        without = [words for words, cfg in jobs.items() if not _has(cfg, key)]
        if len(without) == len(jobs):
            return list(overrides)  # Hydra says what is wrong with it
        if without:
            raise UserError(f"{key} is not a key of {' '.join(without[0])}, which this sweep trains too")
    over_one = {fixed[key]: key for key in missing}
    return [f"{over_one[word]}=choice({word.partition('=')[2]})" if word in over_one else word for word in overrides]


def _has(cfg: DictConfig, key: str) -> bool:
    """Whether a configuration has a dotted key, be its value null."""
    node: Any = cfg
    for part in key.split("."):
        if not OmegaConf.is_dict(node) or part not in node:
            return False
        node = node[part]
    return True


def _as_text(value: str) -> str:
    """``value`` as Hydra's grammar reads it as this very text; null stays null."""
    value = value.strip()
    try:
        read = OverridesParser.create().parse_override(f"key={value}")
        same = not read.is_sweep_override() and read.value() in (value, None)
    except HydraException:
        same = False
    return value if same else _in_quotes(value)


def quoted(override: str, sweep: bool = False) -> str:
    """An override with quotes around what Hydra's grammar cannot read, such as a folder named ``x_seed=1``.

    Examples:
        >>> quoted("runs=[sweep/seed=0,other]")
        'runs=["sweep/seed=0",other]'
        >>> quoted("input=eyes, 2024")
        'input="eyes, 2024"'
    """
    key, _, value = override.partition("=")
    if not value or key.startswith(("~", "hydra.", "+hydra.")) or _parses(override, sweep):
        return override
    listed = re.fullmatch(r"\[(.*)\]", value)
    if listed is None:
        return f"{key}={_in_quotes(value)}"
    items = [item if _parses(f"{key}={item}", sweep=False) else _in_quotes(item) for item in listed[1].split(",")]
    return f"{key}=[{','.join(items)}]"


def _in_quotes(text: str) -> str:
    """``text`` as a quoted value of Hydra's grammar, in which only backslashes before a quote count."""
    return '"' + re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + ("\\" + found[2] if found[2] else ""), text) + '"'


def as_list(value: Any) -> list[str]:
    """The words of a key that takes one or a list of them."""
    return [str(each) for each in value] if OmegaConf.is_list(value) else [str(value)]


def one_line(error: BaseException | None, verb: str) -> str:
    """What we, Hydra or OmegaConf found, as one line that names the key and the nearest valid one."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark
        place = f"{mark.name}, line {mark.line + 1}" if mark else "a configuration file"
        return f"{place}: {error.problem}; the file is not valid YAML: check brackets, tabs and indentation"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        if "," in name and verb == "train":
            return f"{group}={name} names several; to train each of them add -m"
        others = sorted({*error.options} - {"default"}) or error.options
        return f"unknown {group}={name}{nearest(name, others, list_all=True)}"
    if found := re.search(r"(?:Could not override|Could not find group) '([^']+)'", text):
        return _not_in_config(found[1], verb)
    if isinstance(error, OverrideParseException):
        return f"{error.override} is not a valid override ({text.splitlines()[0]}); write key=value"
    # OmegaConf adds lines of its own; only the one with the key says more than the first.
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    key = re.search(r"full_key: (\S+)", text)
    return f"{key[1]}: {first}" if key and key[1] not in first else first


def _not_in_config(key: str, verb: str) -> str:
    """The line about an overridden key that the composed configuration does not have."""
    if key in RENAMED:
        return f"{key} is now {RENAMED[key]}"
    places = places_of_keys(verb)
    if key in places:
        found = list(dict.fromkeys(places[key]))
        others = [f"{len(found) - MOST_PLACES} others"] if len(found) > MOST_PLACES + 1 else found[MOST_PLACES:]
        named = " and ".join([*found[:MOST_PLACES], *others])
        return f"{key} is a key of {named}, not of this run; --cfg job shows its keys"
    return unknown_key(key, list(places), verb)


def _parses(override: str, sweep: bool) -> bool:
    """Whether Hydra reads ``override``, as one value unless ``sweep``."""
    try:
        found = OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return sweep or not found.is_sweep_override()
