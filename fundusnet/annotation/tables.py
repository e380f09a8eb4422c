"""The tables of a study's database; ``schema_upgrade`` adds to those of an earlier version what these have besides."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = sa.MetaData()

settings = Table("settings", metadata, Column("name", String(64), primary_key=True), Column("value", Text))

images = Table(
    "images",
    metadata,
    Column("image_id", String(255), primary_key=True),
    Column("path", String(4096), nullable=False),
    Column("patient_id", String(255), nullable=False, index=True),
    Column("eye", String(8), nullable=False),
    Column("split", String(8), nullable=False),
    *(Column(name, Float) for name in ("disc_x", "disc_y", "fovea_x", "fovea_y", "grade")),
    Column("position", Integer, nullable=False),
    # False for images that the source no longer has: they are hidden, but their readings are kept.
    Column("listed", Boolean, nullable=False),
    # SHA-256 of the file, by which an image is known wherever the file lies; NULL: never read (0.1.0, or unreadable).
    Column("digest", String(64)),
    # Size in pixels; NULL until the photograph is first decoded.
    Column("width", Integer),
    Column("height", Integer),
    Column("visit", String(255)),  # NULL if unknown
)

# The digest of each file that was read, so that only new and changed files are read again.
files = Table(
    "files",
    metadata,
    Column("path", String(4096), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
)

annotators = Table(
    "annotators",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    # False for annotators who left: their readings are kept, but they cannot sign in.
    Column("active", Boolean, nullable=False),
    Column("group_name", String(80), nullable=False, server_default=""),  # "" in a study without groups
)

links = Table(
    "links",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("annotator_id", ForeignKey("annotators.id"), nullable=False, index=True),
    Column("used", Boolean, nullable=False),
    Column("expires", Float, nullable=False, server_default="0"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("annotator_id", ForeignKey("annotators.id"), nullable=False, index=True),
    Column("created", Float, nullable=False),
    # The link that started the session, until the page makes its first request, which uses the link up.
    Column("link_hash", String(64)),
    Column("ended", String(16)),  # "signed_out" by the person, "revoked" by whoever leads the study
)

# Who reads which image, and the state of each reading. ``version`` is the newest in ``answers``; 0 = none yet. Rows are
# never deleted: an image that was somebody's may be answered, whoever it is dealt to since.
assignments = Table(
    "assignments",
    metadata,
    Column("annotator_id", ForeignKey("annotators.id"), primary_key=True),
    Column("image_id", ForeignKey("images.image_id"), primary_key=True, index=True),
    Column("version", Integer, nullable=False, default=0),
    Column("state", String(16), nullable=False, default="todo"),
    # False where the image was dealt to others since, the reader left it unfinished, or it is no longer listed.
    Column("shown", Boolean, nullable=False, server_default=sa.true()),
    Column("seconds", Float, nullable=False, server_default="0"),  # of the newest answer
    Index("ix_assignments_progress", "annotator_id", "shown", "state", "seconds"),
)

# Every version ever saved; rows are only added.
answers = Table(
    "answers",
    metadata,
    Column("annotator_id", ForeignKey("annotators.id"), primary_key=True),
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("change", String(36), nullable=False),
    Column("state", String(16), nullable=False),
    Column("content", sa.JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("saved", Float, nullable=False),
    UniqueConstraint("annotator_id", "change"),
    Index("ix_answers_saved", "annotator_id", "saved"),
    Index("ix_answers_newest", "saved"),
)

# Decisions of adjudicators on one finding of one image; ``present`` is NULL if withdrawn.
decisions = Table(
    "decisions",
    metadata,
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("finding", String(255), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("annotator_id", ForeignKey("annotators.id"), nullable=False),
    Column("change", String(36)),
    Column("present", Boolean),
    Column("regions", sa.JSON, nullable=False),
    Column("saved", Float, nullable=False),
)

# Decisions of adjudicators on questions; ``choice`` is NULL if withdrawn.
choice_decisions = Table(
    "choice_decisions",
    metadata,
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("finding", String(255), primary_key=True),  # "" = the image as a whole
    Column("question", String(80), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("annotator_id", ForeignKey("annotators.id"), nullable=False),
    Column("change", String(36)),
    Column("choice", String(80)),
    Column("saved", Float, nullable=False),
)

# What trained networks suggest for an image (``fundusnet.annotation.suggestions``); rows are only added.
suggestions = Table(
    "suggestions",
    metadata,
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("networks", String(16), primary_key=True),
    Column("content", sa.JSON, nullable=False),
    Column("uncertainty", Float, nullable=False),
    Column("made", Float, nullable=False),
)

# Who was shown which suggestion, and when first.
shown_suggestions = Table(
    "shown_suggestions",
    metadata,
    Column("annotator_id", ForeignKey("annotators.id"), primary_key=True),
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("networks", String(16), primary_key=True),
    Column("at", Float, nullable=False),
)

# What the finished answers for an image add up to: ``fundusnet.annotation.tallies`` derives it from the tables above.
tallies = Table(
    "tallies",
    metadata,
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("gradable", Integer, nullable=False, index=True),
    Column("ungradable", Integer, nullable=False, index=True),
    Column("points", String(16), nullable=False, index=True),  # how readers' points disagree: "", "apart", "mirrored"
)

# How far each annotator is: ``fundusnet.annotation.progress`` derives it from the assignments.
progress = Table(
    "progress",
    metadata,
    Column("annotator_id", ForeignKey("annotators.id"), primary_key=True),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("median_seconds", Float),  # of gradable readings
)

# Of each finding that somebody marked: how many did, and how many in each region, as one character each ("0" + count).
marks = Table(
    "marks",
    metadata,
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("finding", String(255), primary_key=True),
    Column("gradable", Integer, nullable=False),
    Column("present", Integer, nullable=False),
    Column("regions", String(8), nullable=False),
    Column("complete", Integer, nullable=False),  # answers, ungradable ones too; 0 while somebody has still to answer
    Index("ix_marks_patterns", "finding", "gradable", "present", "regions"),
    Index("ix_marks_undecided", "present", "complete"),
)

# How the readers of a group answered: ``fundusnet.annotation.patterns`` derives it from the answers.
patterns = Table(
    "patterns",
    metadata,
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("group_name", String(80), primary_key=True),  # "" = everybody
    Column("finding", String(255), primary_key=True),  # "" = the image as a whole
    Column("question", String(80), primary_key=True),  # "" = whether and where the finding is
    Column("pattern", Text, nullable=False),
    Index("ix_patterns_question", "group_name", "question", "finding", "pattern"),
)

# Questions that the readers of an image answered differently, once all have answered:
# ``fundusnet.annotation.disputes`` derives it from the answers.
disputes = Table(
    "disputes",
    metadata,
    Column("image_id", ForeignKey("images.image_id"), primary_key=True),
    Column("finding", String(255), primary_key=True),  # "" = the image as a whole
    Column("question", String(80), primary_key=True),
    Index("ix_disputes_question", "question", "image_id", "finding"),
)
