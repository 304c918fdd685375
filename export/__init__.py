"""Export: torch weights to ONNX model bundles, each graph checked against torch."""
