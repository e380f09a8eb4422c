"""Processes, progress, logging and files: nothing here knows about photographs."""
