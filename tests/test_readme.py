"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
QUESTION = Path(__file__).parent / "data" / "sense_and_sensibility_01_austen_64kb-0880.wav"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_processor_passes_its_test(pytester: pytest.Pytester) -> None:
    _, processor, test = blocks()
    imports, function = test.split("\n\n", 1)
    source = f"import pytest\n{imports}\n{processor}\n@pytest.mark.virtual_time\n{function}"
    pytester.makepyfile(test_shout=source)
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=1)


@pytest.mark.local_models
def test_the_bot_talks(tmp_path: Path) -> None:
    (tmp_path / "question.wav").write_bytes(QUESTION.read_bytes())
    subprocess.run([sys.executable, "-c", blocks()[0]], cwd=tmp_path, check=True, timeout=600)
    assert (tmp_path / "conversation.wav").stat().st_size > 100_000


def test_the_picture_is_there() -> None:
    for name in re.findall(r"!\[.*?\]\((.*?)\)", README.read_text()):
        assert (README.parent / name).stat().st_size > 10_000
