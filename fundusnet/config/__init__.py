"""Composing and checking a configuration."""
