"""Findings with localised lesions (S1): the guided network, its loss and its metrics."""
