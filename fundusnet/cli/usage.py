"""What ``--help`` prints: of the command its verbs, of a verb its keys as ``conf/`` explains them."""

from __future__ import annotations

import re
from textwrap import fill

from fundusnet.config.keys import VERBS


def usage() -> str:
    """What ``fundusnet --help`` prints."""
    verbs = "\n".join(f"  {name:<10}{verb.summary}" for name, verb in VERBS.items())
    return (
        "usage: fundusnet VERB [key=value ...]\n\n"
        f"{verbs}\n\n"
        "fundusnet VERB --help      the keys and groups of a verb\n"
        "fundusnet VERB --cfg job   the configuration it would run with\n"
        "fundusnet train -m seed=0,1,2              a sweep\n"
        'eval "$(fundusnet -sc install=bash)"      completion in bash\n'
        "debug=true brings the traceback of an error back"
    )


def verb_usage(verb: str) -> str:
    """What ``fundusnet VERB --help`` prints: its file in ``conf/`` without what only Hydra reads, examples first."""
    from fundusnet.config.compose import conf_folder

    text = (conf_folder() / f"{verb}.yaml").read_text(encoding="utf-8")
    above, rest = text.split("defaults:\n", 1)
    defaults, keys = rest.partition("\nhydra:\n")[0].split("\n\n", 1)
    lines = []
    for group in re.findall(r"^  - (\w+):", defaults, flags=re.MULTILINE):
        for folder in (conf_folder() / group, *sorted((conf_folder() / group).glob("*/"))):
            options = ", ".join(sorted(file.stem for file in folder.glob("*.yaml") if file.stem != "default"))
            name = folder.relative_to(conf_folder()).as_posix()
            if options:
                lines.append(fill(options, width=100, initial_indent=f"  {name:<17}", subsequent_indent=" " * 19))
    chosen = ["Groups of keys, chosen by GROUP=NAME:", *lines, ""] if lines else []
    return "\n".join(
        [
            re.sub(r"^# ?", "", above, flags=re.MULTILINE),
            keys.rstrip(),
            "",
            *chosen,
            f"fundusnet {verb} --cfg job shows all keys with the values they would have.",
        ]
    )
