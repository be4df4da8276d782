"""Models in service: safe files, and ONNX."""

from ._save import load, save

__all__ = ["load", "save"]
