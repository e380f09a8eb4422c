"""A trained network for others: as a graph for ONNX, as plain weights, and described for people."""
