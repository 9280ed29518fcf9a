"""The stubs of the extension module, types, and the examples in docstrings."""
from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pathlib
import shutil

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


def parameters(function):
    """(names, how many are by position only, defaults) of a function in a stub; without self."""
    arguments = function.args
    positional = [argument.arg for argument in arguments.posonlyargs if argument.arg != "self"]
    named = [argument.arg for argument in arguments.args if argument.arg != "self"]
    return positional + named, len(positional), [ast.unparse(default) for default in arguments.defaults]


def runtime_parameters(function):
    """The same of a function of the extension module, by what nanobind says of it; names by position only are its own."""
    text, _, defaults = function.__nb_signature__[0]
    for number, value in enumerate(defaults or ()):
        text = text.replace(f"\\{number}", repr(value))
    return parameters(ast.parse(text + ": ...").body[0])


def stated_functions():
    """(what it is in the module, its node) of every function and method of the stub file that is no property."""
    for node in ast.parse((PACKAGE / "_core.pyi").read_text()).body:
        if isinstance(node, ast.FunctionDef):
            yield getattr(_core, node.name), node
        elif isinstance(node, ast.ClassDef) and node.name != "Buffer":
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and not part.decorator_list and not part.name.startswith("__"):
                    yield getattr(getattr(_core, node.name), part.name), part


def test_stubs_state_parameters():
    count = 0
    for function, node in stated_functions():
        names, by_position, defaults = parameters(node)
        found_names, found_by_position, found_defaults = runtime_parameters(function)
        assert (len(names), by_position, defaults) == (len(found_names), found_by_position, found_defaults), node.name
        assert names[by_position:] == found_names[by_position:], node.name
        count += 1
    assert count > 30


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
