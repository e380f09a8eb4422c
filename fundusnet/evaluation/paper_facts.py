"""What a run knows of itself for the methods and the checklist of a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fundusnet.evaluation.about import Counter, epochs, read_status, split_counts
from fundusnet.evaluation.groups import Group
from fundusnet.evaluation.tables import describe_images

NAMES = {"train": "training", "val": "validation", "test": "test", "all": "evaluation"}


def paper_facts(groups: Sequence[Group], counts_of: Counter) -> dict[str, Any]:
    """Return the values of ``methods.md.j2`` and ``checklist.md.j2``.

    ``systems`` has the network, its training and its operating points for each method, from its first run; the rest is
    from the first run of the first method.
    """
    run = groups[0].runs[0]
    part = run.parts[0] if run.parts else run
    config = run.config
    data, evaluation = (config.get(name) or {} for name in ("data", "evaluation"))
    splits = [
        {
            "name": NAMES.get(split, split),
            "images": counts["images"],
            "classes": ", ".join(f"{count} {name}" for name, count in counts.items() if name != "images"),
        }
        for split, counts in split_counts(part, counts_of).items()
    ]
    status = read_status(part)
    return {
        "task": str(run.results.get("task", config.get("task"))),
        "targets": [target.replace("_", " ") for target in run.targets],
        "classes": [name.replace("_", " ") for name in run.results.get("classes", [])],
        "methods": [group.label for group in groups],
        "source": data.get("source"),
        "size": data.get("size"),
        "split_by": data.get("split_by"),
        "folds": data.get("folds"),
        "present": data.get("present"),
        "cue": data.get("cue"),
        "splits": splits,
        "scored": describe_images({"n_images": len(run.image_ids), **run.results}),
        "external": config.get("evaluated"),
        "systems": [_system_facts(group) for group in groups],
        "seeds": sorted({str(one.config.get("seed")) for group in groups for one in group.runs}),
        "threshold_from": evaluation.get("operating_point"),
        "resamples": evaluation.get("bootstrap"),
        "faithfulness": bool(run.results.get("faithfulness")),
        "subgroups": bool(run.results.get("subgroups")),
        "seconds": status.get("seconds"),
        "versions": status.get("versions") or {},
        "commit": status.get("git"),
        "command": status.get("command"),
    }


def _system_facts(group: Group) -> dict[str, Any]:
    """The network of a method and how it was trained, from its first run."""
    run = group.runs[0]
    part = run.parts[0] if run.parts else run
    data, model, trainer = (run.config.get(name) or {} for name in ("data", "model", "trainer"))
    network, optimizer = (model.get(name) or {} for name in ("network", "optimizer"))
    return {
        "label": group.label,
        "network": _called(network),
        "backbone": network.get("backbone"),
        "pretrained": bool(network.get("pretrained")),
        "frozen": network.get("freeze"),
        "dilations": network.get("dilations"),
        "head": model.get("head"),
        "decision": network.get("decision"),
        "two_stage": bool(model.get("stage1")),
        "guidance": (model.get("loss") or {}).get("weight"),
        "optimizer": optimizer.get("name") or _called(optimizer),
        "lr": optimizer.get("lr"),
        "schedule": _called(model.get("schedule")),
        "batch_size": data.get("batch_size"),
        "augment": [_called(one) for one in (data.get("augment") or {}).values() if isinstance(one, Mapping)],
        "max_epochs": trainer.get("max_epochs"),
        "patience": trainer.get("patience"),
        "monitor": trainer.get("monitor"),
        "epochs": epochs(part),
        "thresholds": run.results.get("operating_points") or {},
        "calibrated": any((one or {}).get("temperature") for one in (run.results.get("validation") or {}).values()),
    }


def _called(settings: Mapping[str, Any] | None) -> str | None:
    """The class or function of a group of settings, without its package."""
    target = (settings or {}).get("_target_")
    return str(target).rpartition(".")[2] if target else None
