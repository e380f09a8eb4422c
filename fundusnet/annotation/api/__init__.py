"""The HTTP API of a study, one file for each kind of request, and who may send it."""
