"""The public surface: what __all__ promises is there, and importing the package starts nothing."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import foveate

PACKAGES = [m.name for m in pkgutil.iter_modules(foveate.__path__) if m.ispkg]


def test_every_promised_name_is_there():
    for name in foveate.__all__:
        assert getattr(foveate, name) is not None
    assert set(foveate.__all__) <= set(dir(foveate))
    with pytest.raises(AttributeError, match="no attribute 'insrt'"):
        foveate.insrt


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_promise_only_what_they_have(package):
    module = importlib.import_module(f"foveate.{package}")
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, foveate; assert 'torch' not in sys.modules; import foveate.cli; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
