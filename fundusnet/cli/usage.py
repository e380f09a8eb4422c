"""What ``--help`` prints: of the command its verbs, of a verb its keys as ``conf/`` explains them."""

from __future__ import annotations

import re
from textwrap import fill

VERBS = {
    "annotate": "serve the page on which annotators click the regions of a finding",
    "prepare": "turn photographs into a prepared set: cropped, resized, memory-mapped",
    "train": "fit a network, choose its operating point on validation, score the test split",
    "evaluate": "score a finished run again, on its own data or on another set",
    "predict": "read photographs with a trained network: predictions, heat maps and a page",
    "export": "write a trained network as ONNX and plain weights, with its model card",
    "report": "write one page that compares finished runs",
}


def usage() -> str:
    """What ``fundusnet --help`` prints."""
    verbs = "\n".join(f"  {verb:<10}{line}" for verb, line in VERBS.items())
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
    """What ``fundusnet VERB --help`` prints: the verb's file in ``conf/``, without what only Hydra reads."""
    from fundusnet.config.compose import conf_folder

    text = (conf_folder() / f"{verb}.yaml").read_text(encoding="utf-8")
    first, rest = text.split("\n", 1)
    defaults, keys = rest.partition("\nhydra:\n")[0].split("\n\n", 1)
    groups = {}
    for group in re.findall(r"^  - (\w+):", defaults, flags=re.MULTILINE):
        options = sorted(file.stem for file in (conf_folder() / group).glob("*.yaml"))
        groups[group] = ", ".join(option for option in options if option != "default")
    lines = [
        fill(options, width=100, initial_indent=f"  {group:<12}", subsequent_indent=" " * 14)
        for group, options in groups.items()
        if options
    ]
    chosen = ["Groups of keys, chosen by GROUP=NAME:", *lines, ""] if lines else []
    return "\n".join(
        [
            first.removeprefix("# "),
            "",
            keys.rstrip(),
            "",
            *chosen,
            f"fundusnet {verb} --cfg job shows all keys with the values they would have.",
        ]
    )
