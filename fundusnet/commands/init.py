"""From a table of labels that the user has to a manifest: the ``init`` verb."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from fundusnet.data.intake.columns import ROLES, Columns, understand_columns
from fundusnet.data.intake.joining import read_tables
from fundusnet.data.intake.photographs import Photographs
from fundusnet.data.intake.reading import Understood, read_rows
from fundusnet.data.intake.shapes import is_made
from fundusnet.data.intake.table import Table
from fundusnet.data.manifest import COORDINATES, VISIT, write_manifest
from fundusnet.errors import UserError
from fundusnet.system.files import write_text

log = logging.getLogger(__name__)

RECORD = "init.yaml"  # beside the tables: what they were made from
LINK = "photographs"  # in an output folder elsewhere
SHOWN = 20  # findings that are listed
MOST = 8  # findings in the command that is suggested, the most frequent ones
FEW = 10  # photographs with a finding, or without it, below which nothing can be learnt


def init(cfg: DictConfig) -> Path:
    """Write the manifest of ``cfg.table``; on a terminal, show what was understood and ask first.

    Returns:
        The folder that ``data=csv data.root=`` reads.

    Raises:
        UserError: The table cannot be read, no column of it names a photograph, a column is unknown, or the output
            folder holds a manifest that ``init`` did not write.
    """
    files = [Path(name).expanduser() for name in ([cfg.table] if isinstance(cfg.table, str) else cfg.table)]
    if not files:
        raise UserError("table=[] names no table; give table=labels.csv")
    place = Path(cfg.images).expanduser() if cfg.images else files[0].parent
    if not place.is_dir():
        raise UserError(f"images={place} is not a folder; give the folder that holds the photographs")
    output = Path(cfg.output).expanduser() if cfg.output else place
    _check_output(output, files)
    columns_asked: Any = OmegaConf.to_container(cfg.columns, resolve=True)
    given = {role: name for role, name in columns_asked.items() if name is not None}
    pictures = Photographs(place)
    read = read_tables(files, pictures)
    table, columns = understand_columns(read, pictures, given)
    sheet = f" (sheet '{table.sheet}' of {len(read)})" if len(read) > 1 else ""
    understood = read_rows(table, columns, pictures, list(cfg.classes))
    log.info(
        "%s%s: %d rows, %s",
        " and ".join(map(str, files)),
        sheet,
        len(set(table.lines)),
        _columns(table, columns, given),
    )
    for line in _summary(understood):
        log.info("%s", line)
    if sys.stdin.isatty() and sys.stderr.isatty():
        _ask(output)
    tables = [str(file.resolve()) for file in files]
    _write(
        understood,
        output,
        place,
        {
            "table": tables[0] if len(tables) == 1 else tables,
            "columns": _chosen(table, columns, given),
            **_classes(understood),
        },
    )
    log.info("next: %s", "\n      ".join(_next_commands(understood, output)))
    return output


def _check_output(output: Path, tables: Sequence[Path]) -> None:
    if (output / RECORD).is_file():
        return  # written by an earlier init, and replaced
    for name in ("images.csv", "readings.csv", "lesions.csv"):
        if (output / name).exists():
            own = "is your table" if (output / name).resolve() in map(Path.resolve, tables) else "exists"
            raise UserError(f"{output / name} {own} and would be replaced; choose another folder with output=FOLDER")


def _columns(table: Table, columns: Columns, given: Mapping[str, object]) -> str:
    """What each column was taken for, a line each."""
    taken = [
        f"  {role:<10}{' and '.join(table.origins.get(name, (name,)))}"
        f"{'' if role in given or is_made(name) else ' (guessed)'}"
        for role, name in columns.one.items()
    ]
    if columns.findings:
        count = f"{len(columns.findings)} columns: " if len(columns.findings) > 1 else ""
        guessed = "" if "findings" in given else " (guessed)"
        taken.append(f"  {'findings':<10}{count}{_listed(columns.findings, 8)}{guessed}")
    if columns.unused:
        unused = [before for name in columns.unused for before in table.origins.get(name, (name,))]
        taken.append(f"  {'not used':<10}{_listed(unused, 8)}")
    return "\n".join(["columns:", *taken])


def _summary(understood: Understood) -> list[str]:
    """How many photographs, patients, eyes, findings and grades there are, and what is missing."""
    images, grades = understood.manifest.images, understood.grades
    patients = images["patient_id"][images["patient_id"] != ""]
    lines = [f"photographs: {len(images)}"]
    if len(patients):
        unknown = _unless_none(len(images) - len(patients), " photographs of unknown ones")
        lines.append(f"patients: {patients.nunique()}{unknown}")
    else:
        lines.append(
            "patients: unknown, so the eyes of one may be in different splits; columns.patient=NAME names them"
        )
    for title, column in (("eyes", "eye"), ("splits", "split")):
        counts = images[column].value_counts()
        if set(counts.index) - {""}:
            lines.append(f"{title}: " + ", ".join(f"{count} {name or 'unknown'}" for name, count in counts.items()))
    if VISIT in images:
        taken = images[VISIT][images[VISIT] != ""]
        unknown = _unless_none(len(images) - len(taken), " photographs of unknown ones")
        # Dates are in order as text, numbers are not.
        span = sorted(set(taken), key=lambda visit: (len(visit), visit))
        lines.append(f"visits: {len(span)}, {span[0]} to {span[-1]}{unknown}")
    if grades:
        counted = ", ".join(f"{count} {name}" for name, count in grades.items())
        lines.append(f"grades, lowest first: {counted}{_unless_none(int(images['grade'].isna().sum()), ' without')}")
    if findings := understood.findings:
        shown = list(findings.items())[:SHOWN]
        width = max(len("finding"), *(len(name) for name, _ in shown))
        lines.append(f"  {'finding':<{width}} present   absent")
        lines += [f"  {name:<{width}}{present:>8}{absent:>9}" for name, (present, absent) in shown]
        lines += [f"  and {len(findings) - SHOWN} more"] if len(findings) > SHOWN else []
        unread = len(images) - understood.manifest.readings["image_id"].nunique()
        lines += [f"  not read: {unread} photographs"] if unread else []
        lines.append(_regions(understood))
    elif not grades:
        lines.append("no findings or grades: columns.findings=[…] or columns.grade=NAME names them")
    return [*lines, *(f"note: {remark}" for remark in understood.remarks)]


def _unless_none(count: int, what: str) -> str:
    return f", {count}{what}" if count else ""


def _regions(understood: Understood) -> str:
    """What guidance by regions lacks."""
    marked, points = _marked(understood)
    if marked:
        others = ", and looked for in the others" if points < len(understood.manifest.images) else ""
        return f"regions: marked in {marked} photographs; disc and fovea known in {points}{others}"
    return "regions: none are marked, so labels alone are learnt (unguided_findings); fundusnet annotate marks them"


def _marked(understood: Understood) -> tuple[int, int]:
    """In how many photographs a region is marked, and disc and fovea are known."""
    readings, images = understood.manifest.readings, understood.manifest.images
    marked = readings.loc[readings["regions"] != "", "image_id"].nunique()
    return int(marked), int(images[list(COORDINATES)].notna().all(axis=1).sum())


def _ask(output: Path) -> None:
    print(f"Write this to {output}? [Y/n] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()  # "" at the end of input, "\\n" for the enter key
    if answer.strip().lower() not in ("", "y", "yes") or not answer:
        raise UserError("nothing was written; columns.image=NAME, columns.patient=NAME … say what the columns are")


def _write(understood: Understood, output: Path, place: Path, record: Mapping[str, object]) -> None:
    manifest = understood.manifest
    output.mkdir(parents=True, exist_ok=True)
    if output.resolve() != place.resolve():
        link = output / LINK
        if link.is_symlink():
            link.unlink()
        elif link.exists():
            raise UserError(f"{link} exists, where a link to the photographs would be; choose another output=FOLDER")
        link.symlink_to(place.resolve(), target_is_directory=True)
        images = manifest.images.assign(path=[f"{LINK}/{path}" for path in manifest.images["path"]])
        manifest = replace(manifest, root=output, images=images)
    header = "# Written by fundusnet init, which replaces images.csv and readings.csv beside it when it is run again.\n"
    write_text(output / RECORD, header + yaml.safe_dump(dict(record), sort_keys=False, allow_unicode=True))
    write_manifest(manifest, output)


def _chosen(table: Table, columns: Columns, given: Mapping[str, object]) -> dict[str, object]:
    """What ``columns=`` would have to say to get the same again."""
    chosen: dict[str, object] = {}
    for role in ROLES:
        if (name := columns[role]) and not is_made(name):
            before = table.origins.get(name, (name,))
            chosen[role] = list(before) if role == "image" and len(before) > 1 else before[0]
    if columns.findings:
        chosen["findings"] = [before for name in columns.findings for before in table.origins.get(name, (name,))]
    return chosen | {role: name for role, name in given.items() if role == "image" or name is False}


def _classes(understood: Understood) -> dict[str, object]:
    return {"classes": list(understood.grades)} if understood.grades else {}


def _next_commands(understood: Understood, output: Path) -> list[str]:
    """The commands that train on the data set."""
    data = f"data=csv data.root={shlex.quote(str(output))}"
    commands = []
    if understood.grades:
        names = ",".join(understood.grades)
        commands.append(f"fundusnet train experiment=grading {data} data.options.classes=[{names}]")
    enough = [name for name, (present, absent) in understood.findings.items() if min(present, absent) >= FEW]
    if enough:
        votes = 1 if understood.readers < 2 else 2
        recipe = "findings" if _marked(understood)[0] else "unguided_findings"
        names = ",".join(enough[:MOST])
        commands.append(f"fundusnet train experiment={recipe} {data} finding.names=[{names}] data.present={votes}")
    elif understood.findings:
        log.warning("no finding is present in %d photographs and absent in as many: too few to train on", FEW)
    if not commands:
        commands.append(f"fundusnet annotate {data}")
    return commands


def _listed(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)
