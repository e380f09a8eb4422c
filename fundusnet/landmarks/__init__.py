"""Optic disc and fovea: finding their centres in a photograph, on which all regions depend (S1.1)."""
