"""Backbones, their weights and normalisation: shared by both methods."""
