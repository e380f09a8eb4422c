"""Fitting a network: one Trainer for every task, resumable, in one process or several."""
