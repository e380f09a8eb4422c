"""Fitting a network: one Trainer for every task, in one process or several, that goes on where it was cut short."""
