"""What both methods share once predictions exist: operating points, intervals, figures and the report."""

from __future__ import annotations

from fundusnet.evaluation.operating_points import OperatingPoint, operating_point

__all__ = ["OperatingPoint", "operating_point"]
