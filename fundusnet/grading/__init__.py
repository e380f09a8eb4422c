"""Ordinal grading in two stages (S2): sub-classifiers, their activation maps, and the system that joins them."""
