"""The command line tools of the wheel: one program, started under its names."""
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import cdna
from cdna import _tools

if _tools.find_tool() is None:
    pytest.skip("this wheel has no tools", allow_module_level=True)

SCRIPTS = Path(sysconfig.get_path("scripts"))


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("word", ["inspect", "fsck"])
def test_scripts_and_words_are_the_same(word, tmp_path):
    path = cdna.save(None, {"w": [[1.0, 2.0]]})
    file = tmp_path / "m.cdna"
    file.write_bytes(path)
    by_script = run(SCRIPTS / f"cdna-{word}", file)
    by_module = run(sys.executable, "-m", "cdna", word, file)
    by_program = run(SCRIPTS / "cdna", word, file)
    assert by_script == by_module == by_program
    assert by_script[0] == 0 and "m.cdna" in by_script[1]
    assert run(SCRIPTS / f"cdna-{word}", tmp_path / "missing.cdna") == run(sys.executable, "-m", "cdna", word, tmp_path / "missing.cdna")
    assert run(SCRIPTS / f"cdna-{word}", tmp_path / "missing.cdna")[0] != 0


def test_what_is_missing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(_tools, "find_tool", lambda: None)
    assert _tools.run_tool(["inspect"]) == 127
    assert "CLI11" in capsys.readouterr().err
