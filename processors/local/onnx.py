"""Loads ONNX models into this process."""

from pathlib import Path
from typing import Any

from .packages import package_directory


def load_session(model: Path) -> Any:
    """An onnxruntime InferenceSession on one thread: two small models must not fight over the cores.

    Raises:
        LocalModelMissing: onnxruntime is not installed.
    """
    package_directory("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
