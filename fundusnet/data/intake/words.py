"""What people write in the cells of such tables: yes and no, left and right, splits, grades, names of findings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

UNKNOWN = frozenset(
    ("", "na", "n/a", "n.a.", "nan", "none given", "null", "unknown", "?", "-", "--", "missing", "#n/a", "nd", "n.d.")
)
_YES = frozenset(("1", "yes", "y", "true", "present", "positive", "pos", "+", "x", "ja", "oui", "si", "sim", "✓"))
_NO = frozenset(("0", "no", "n", "false", "absent", "negative", "neg", "nein", "non", "nao"))
#: how much there is of a finding, where somebody says more than yes
_SOME = frozenset(("mild", "moderate", "severe", "few", "some", "many", "++", "+++", "leicht", "mittel", "schwer",
                   "leve", "moderado", "moderada", "severo", "severa", "grave"))  # fmt: skip
_NONE = frozenset(("none", "nil", "keine", "nothing", "ninguno", "ninguna", "ausente"))
_RIGHT = frozenset(("right", "r", "od", "re", "dx", "dex", "dexter", "rechts", "rechtes", "droite", "droit", "derecho",
                    "destra"))  # fmt: skip
_LEFT = frozenset(("left", "l", "os", "le", "sx", "sin", "sinister", "links", "linkes", "gauche", "izquierdo",
                   "sinistra", "oi", "og"))  # fmt: skip
_EYES = {"ra": "right", "la": "left"}  # rechtes and linkes Auge; in longer texts these are other words
_SPLITS = {
    "train": ("train", "training", "dev", "development", "derivation"),
    "val": ("val", "valid", "validation", "tune", "tuning"),
    "test": ("test", "testing", "holdout"),
}
# Words of grades, lowest first; those in a row are never in one scale together, so their order is of no matter.
_GRADES = (
    ("normal", "healthy", "none", "no", "negative", "control", "nrg", "norm", "no_dr", "nodr", "non_glaucoma",
     "no_glaucoma", "absent", "normal_control", "no_retinopathy", "kein", "keine", "gesund", "unauffallig",
     "sano", "sin_rd", "sin_retinopatia", "ninguna", "ninguno"),
    ("suspect", "suspicious", "suspected", "borderline", "questionable", "possible", "glaucoma_suspect",
     "suspected_glaucoma", "verdacht", "glaukomverdacht", "v_a_glaukom", "sospecha", "sospechoso"),
    ("mild", "early", "mild_npdr", "early_glaucoma", "low", "leicht", "gering", "leve", "rdnp_leve"),
    ("moderate", "intermediate", "moderate_npdr", "medium", "moderate_glaucoma", "mittel", "massig", "moderat",
     "moderado", "moderada", "rdnp_moderada"),
    ("severe", "advanced", "severe_npdr", "late", "high", "advanced_glaucoma", "severe_glaucoma", "schwer",
     "fortgeschritten", "severo", "severa", "grave", "avanzado", "rdnp_severa"),
    ("proliferative", "pdr", "proliferate_dr", "proliferative_dr", "end_stage",
     "proliferativa", "rdp"),
    ("glaucoma", "glaucomatous", "glaukoma", "glaukom", "rg", "referable", "abnormal", "diseased", "positive", "dr",
     "present"),
)  # fmt: skip
_RANK = {word: rank for rank, words in enumerate(_GRADES) for word in words}
# A sign before the digit alone would make it another number: -1 often stands for "not graded".
_GRADED = re.compile(r"(?:(?:grade|stage|level|class|icdr|dr|r|g)[\s_.:-]*)?(\d)(?:\.0+|,0+)?(?:[\s:=,(-]+\D.*)?")
#: a cell that says that nothing was found
_NOTHING = frozenset(("normal", "normal_fundus", "healthy", "none", "no", "nothing", "no_finding", "no_findings",
                      "negative", "control", "unremarkable", "within_normal_limits", "wnl", "nad",
                      "no_abnormality_detected", "unauffallig", "o_b", "ohne_befund", "gesund",
                      "kein_befund", "sin_hallazgos", "sano", "ninguno"))  # fmt: skip
# Other spellings of the findings that fundusnet has files for. No abbreviations: MH is macular hole or media haze.
_FINDINGS = {
    "haemorrhage": "hemorrhage", "hemorrhages": "hemorrhage", "haemorrhages": "hemorrhage",
    "exudate": "hard_exudate", "exudates": "hard_exudate", "hard_exudates": "hard_exudate",
    "hardexudate": "hard_exudate", "hardexudates": "hard_exudate",
    "soft_exudate": "cotton_wool_patch", "soft_exudates": "cotton_wool_patch", "softexudates": "cotton_wool_patch",
    "cotton_wool_spot": "cotton_wool_patch", "cotton_wool_spots": "cotton_wool_patch",
    "cotton_wool_patches": "cotton_wool_patch", "cottonwoolspots": "cotton_wool_patch",
    "microaneurysms": "microaneurysm", "microaneurism": "microaneurysm", "microaneurisms": "microaneurysm",
    "druse": "drusen", "macular_holes": "macular_hole", "epiretinal_membrane": "membrane",
    "rnfl_defects": "rnfl_defect", "retinal_nerve_fiber_layer_defect": "rnfl_defect",
    "retinal_nerve_fibre_layer_defect": "rnfl_defect",
}  # fmt: skip


def plain(text: str) -> str:
    """A text in lower-case letters, digits and underscores: "Hard exudates (OD) " → "hard_exudates_od".

    Examples:
        >>> plain("DR-Grade"), plain("Néovaisseaux"), plain("Друзы (0/1)")
        ('dr_grade', 'neovaisseaux', 'друзы_0_1')
    """
    split = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", text)  # imageName
    letters = unicodedata.normalize("NFKD", split.replace("ß", "ss"))
    without_accents = "".join(each for each in letters if not unicodedata.combining(each))
    composed = unicodedata.normalize("NFC", without_accents)  # Korean syllables
    return re.sub(r"[\W_]+", "_", composed.lower()).strip("_")


def is_unknown(cell: str) -> bool:
    """Whether a cell is empty or says that nothing is known."""
    return cell.strip().lower() in UNKNOWN


def yes_or_no(cell: str) -> bool | None:
    """Whether a cell says yes; None if it says neither."""
    word = re.sub(r"^([01])[.,]0+$", r"\1", lower_ascii(cell))
    return True if word in _YES else False if word in _NO else None


def presence(cell: str, counts: bool = False) -> bool | None:
    """Whether a cell says that something is there: yes, "mild", with ``counts`` also a number above 0."""
    answer = yes_or_no(cell)
    word = lower_ascii(cell)
    if answer is not None:
        return answer
    if word in _SOME or word in _NONE:
        return word in _SOME
    return float(word.replace(",", ".")) > 0 if counts and re.fullmatch(r"\d+(?:[.,]\d+)?", word) else None


def eye_of(cell: str) -> str:
    """ "left" or "right", "" for neither or both: R, OD, o.d., "right eye (OD)", rechts."""
    text = lower_ascii(cell).replace(".", "")
    if text in _EYES:
        return _EYES[text]
    words = set(re.findall(r"[a-z]+", text))
    right, left = bool(words & _RIGHT), bool(words & _LEFT)
    return "right" if right and not left else "left" if left and not right else ""


def side_in(name: str) -> tuple[str, str]:
    """The eye that the name of a column says, and the name without it: "Left-Fundus" → ("left", "fundus")."""
    words = plain(name).split("_")
    sides = [word for word in words if eye_of(word)]
    if len(sides) != 1:
        return "", "_".join(words)
    return eye_of(sides[0]), "_".join(word for word in words if word != sides[0])


def split_of(cell: str) -> str | None:
    """ "train", "val" or "test"; None if a cell says neither."""
    word = plain(cell).removesuffix("_set").removesuffix("_data")
    return next((split for split, words in _SPLITS.items() if word in words), None)


def is_negative(cell: str) -> bool:
    """Whether a cell is a number below zero, which in a column of grades stands for "not graded"."""
    return re.fullmatch(r"-\d+(?:[.,]0+)?", lower_ascii(cell)) is not None


def grade_number(cell: str) -> int | None:
    """The digit of a grade: 2, "2.0", "2,0", "grade 2", "2 - moderate"; None if there is none."""
    found = _GRADED.fullmatch(lower_ascii(cell))
    return int(found[1]) if found else None


def in_order(values: Collection[str]) -> list[str] | None:
    """Words of grades from the lowest to the highest; None where their order is not known.

    Examples:
        >>> in_order(["Glaucoma", "healthy", "Suspect"])
        ['healthy', 'Suspect', 'Glaucoma']
    """
    ranks = {value: _RANK.get(plain(value)) for value in values}
    if None in ranks.values() or len(set(ranks.values())) < len(ranks):
        return None
    return sorted(ranks, key=lambda value: ranks[value] or 0)


def says_nothing_found(cell: str) -> bool:
    """Whether the name of a finding says that there is none: normal, healthy …"""
    return plain(cell) in _NOTHING


def finding_name(text: str) -> str:
    """The name that a finding has here: "Haemorrhages" → "hemorrhage", "Glaucoma label" → "glaucoma"."""
    name = plain(text)
    name = re.sub(r"^(?:has|presence_of|label|is)_|_(?:label|present|presence|yes_no|y_n)$", "", name) or name
    return _FINDINGS.get(name, name)


_MINUS = str.maketrans("\u2212\u2013\u2014", "---")


def lower_ascii(cell: str) -> str:
    """A cell without accents, in lower case."""
    text = cell.strip().lower().translate(_MINUS)
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() or text
