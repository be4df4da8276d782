"""Models in service: safe files, and ONNX."""

from ._onnx import to_onnx
from ._onnx_inputs import onnx_inputs
from ._save import load, save

__all__ = ["load", "onnx_inputs", "save", "to_onnx"]
