"""Every example in the docstrings of cdna.torch runs and gives what it says, and every public function has one."""
import doctest
import importlib
import inspect
import pkgutil

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import cdna.torch  # noqa: E402

MODULES = ["cdna.torch"] + [f"cdna.torch.{module.name}" for module in pkgutil.iter_modules(cdna.torch.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_what_is_offered_has_examples():
    for name in cdna.torch.__all__:
        thing = getattr(cdna.torch, name)
        if inspect.isfunction(thing) or name == "CdnaLinear":
            assert ">>>" in inspect.getdoc(thing), name
