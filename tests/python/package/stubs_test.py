"""The stubs of the extension module, types, and the examples in docstrings."""
from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pathlib
import shutil
import subprocess
import sys

import pytest

import cdna
from cdna import _core

PACKAGE = pathlib.Path(cdna.__file__).parent
MODULES = ("_arrays", "_convert", "_encoded", "_errors", "_file", "_matmul", "_metadata", "_progress", "_tensor", "numpy")


def stated_names():
    """{class or "": names} of the stub file."""
    names = {"": set()}
    for node in ast.parse((PACKAGE / "_core.pyi").read_text()).body:
        if isinstance(node, ast.FunctionDef):
            names[""].add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names[""].add(node.target.id)
        elif isinstance(node, ast.ClassDef) and node.name != "Buffer":
            names[node.name] = {
                part.name if isinstance(part, ast.FunctionDef) else part.target.id
                for part in node.body
                if isinstance(part, (ast.FunctionDef, ast.AnnAssign))
            }
    return names


def test_stubs_state_what_is_there():
    stated = stated_names()
    found = {name for name in dir(_core) if not name.startswith("__")}
    assert found == stated[""] | (set(stated) - {""})
    for kind in set(stated) - {""}:
        members = {name for name in vars(getattr(_core, kind)) if not name.startswith("__") or name == "__len__"}
        assert members == stated[kind] - {"__buffer__"}


def test_types_are_strict(tmp_path):
    pytest.importorskip("mypy")
    shutil.copytree(PACKAGE, tmp_path / "cdna", ignore=shutil.ignore_patterns("*.so", "__pycache__", "torch"))
    command = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "-p", "cdna"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_public_names_are_documented_and_annotated():
    for name in cdna.__all__:
        value = getattr(cdna, name)
        if name != "__version__":
            assert value.__doc__, name
        if inspect.isfunction(value):
            assert inspect.signature(value).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(f"cdna.{name}")
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for node in ast.parse(pathlib.Path(module.__file__).read_text()).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            for test in finder.find(getattr(module, node.name), node.name, module=False, globs={}):
                runner.run(test)
    assert runner.failures == 0
    if name in ("_convert", "_encoded", "_file", "_metadata", "_tensor", "numpy"):
        assert runner.tries > 0
