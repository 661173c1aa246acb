"""The conformance report itself, run on small test suites in processes of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SUITE = """
import pytest

@pytest.mark.req("AUTH-P1")
@pytest.mark.req("AUTH-P2", "SES-1")
def test_good(): pass

@pytest.mark.req("SES-1")
@pytest.mark.parametrize("n", [1, 2])
def test_half(n): assert n == 1

@pytest.mark.req("SES-5")
@pytest.mark.skip
def test_skipped(): pass

class TestGroup:
    @pytest.mark.req("CM-1")
    def test_inside(self): pass

@pytest.fixture
def broken(): raise OSError

@pytest.mark.req("FN-1")
def test_broken(broken): pass

def test_other(): assert False
"""


def run(tmp_path: Path, suite: str, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Return exit status, output and what was written."""
    (tmp_path / "test_suite.py").write_text(suite)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = req(id): clause\n")
    target = tmp_path / "out" / "conformance.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.conformance", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(tmp_path), "-c", str(tmp_path / "pytest.ini"), "--conformance", str(target)]
    command += [*options, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, json.loads(target.read_text()) if target.exists() else {}


def state(output: str, clause: str) -> str:
    return next(line.split()[1] for line in output.splitlines() if line.startswith(clause + " "))


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_report(tmp_path: Path, options: tuple[str, ...]) -> None:
    status, output, report = run(tmp_path, SUITE, "-m", "req", *options)
    assert status == 1
    assert len(report) == 66
    assert {
        clause: report[clause]["passed"] for clause in ("AUTH-P1", "AUTH-P2", "SES-1", "SES-5", "CM-1", "FN-1")
    } == {
        "AUTH-P1": True,
        "AUTH-P2": True,
        "SES-1": False,
        "SES-5": False,
        "CM-1": True,
        "FN-1": False,
    }
    tests = report["SES-1"]["tests"]
    assert [test.partition("::")[2] for test in tests] == ["test_good", "test_half[1]", "test_half[2]"]
    assert report["CM-1"]["tests"][0].endswith("TestGroup::test_inside")
    assert report["AUTH-P3"] == {"tests": [], "passed": False}
    states = {clause: state(output, clause) for clause in ("AUTH-P1", "SES-1", "SES-5", "FN-1", "AUTH-P3")}
    assert states == {"AUTH-P1": "ok", "SES-1": "FAIL", "SES-5": "skip", "FN-1": "FAIL", "AUTH-P3": "open"}
    assert "66 clauses: 3 ok, 2 FAIL, 1 skip, 60 open" in output


def test_open_clauses_are_no_failure(tmp_path: Path) -> None:
    status, output, report = run(tmp_path, "def test_unmarked(): assert False", "-m", "req")
    assert status == 0
    assert "66 clauses: 0 ok, 0 FAIL, 0 skip, 66 open" in output
    assert not any(entry["passed"] for entry in report.values())


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_an_unknown_id_is_a_collection_error(tmp_path: Path, options: tuple[str, ...]) -> None:
    markers = ['"AUTH-P9"', "", '"CM-1", "cm-2"', 'id="CM-1"', '"CM-1..3"']
    tests = [f"@pytest.mark.req({marker})\ndef test_{i}(): pass\n" for i, marker in enumerate(markers)]
    status, output, _report = run(tmp_path, "\n".join(["import pytest", *tests]), *options)
    assert status not in (0, 5)
    assert "error" in output.lower()
    for i in range(len(markers)):
        assert f"test_suite.py::test_{i}: req names" in output


def test_a_known_id_alone_collects(tmp_path: Path) -> None:
    status, _output, report = run(tmp_path, SUITE, "--collect-only")
    assert status == 0
    assert report == {}
