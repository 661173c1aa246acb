"""The conformance report: which clause of docs/requirements.md is shown by which test.

A test names its clauses with ``@pytest.mark.req("AUTH-P1")``, one or more. An ID that is not in docs/requirements.md
is a collection error. With ``--conformance PATH`` a table of all clauses is printed and written to PATH as
``{ID: {"tests": [node ids], "passed": bool}}``; a clause without a test is "open": listed, and no failure.

Under xdist the workers hand the IDs to the controller in each report's `user_properties`; the controller writes.
"""

import json
import re
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "docs" / "requirements.md"
_ROW = re.compile(r"\| ([A-Z]+-[A-Z0-9.]+) \| (.+) \|")
_PROPERTY = "req"
_CLAUSE_CHARS = 72


def read_clauses(text: str) -> dict[str, str]:
    """Return ID to clause, in the order of the document.

    Raises:
        ValueError: an ID comes twice.
    """
    clauses: dict[str, str] = {}
    for line in text.splitlines():
        if row := _ROW.fullmatch(line):
            if row[1] in clauses:
                raise ValueError(f"{row[1]} comes twice")
            clauses[row[1]] = row[2]
    return clauses


def unknown_ids(items: Iterable[pytest.Item], known: Iterable[str]) -> list[str]:
    """Return a line for each marker of *items* that names no clause."""
    known = frozenset(known)
    lines = []
    for item in items:
        for mark in item.iter_markers("req"):
            wrong = [argument for argument in mark.args if argument not in known]
            if wrong or not mark.args or mark.kwargs:
                what = ", ".join(map(repr, wrong)) or "nothing"
                lines.append(f"{item.nodeid}: req names {what}; the IDs are in docs/requirements.md")
    return lines


class Conformance:
    """Gathers the results of marked tests; one per controller."""

    def __init__(self, clauses: dict[str, str]) -> None:
        self.clauses = clauses
        self.tests: dict[str, dict[str, bool]] = {clause: {} for clause in clauses}
        self._skipped: set[str] = set()

    def add(self, report: pytest.TestReport) -> None:
        """Take in one phase of one test; a test passed when its call did and no phase failed or was skipped."""
        for name, value in report.user_properties:
            if name == _PROPERTY and isinstance(value, str):
                results = self.tests[value]
                results[report.nodeid] = results.get(report.nodeid, True) and report.passed
                if report.skipped:
                    self._skipped.add(report.nodeid)

    def state(self, clause: str) -> str:
        """Return ``open`` (no test), ``ok``, ``skip`` (none failed, not all ran) or ``FAIL``."""
        results = self.tests[clause]
        if not results:
            return "open"
        if all(results.values()):
            return "ok"
        return "skip" if all(passed or test in self._skipped for test, passed in results.items()) else "FAIL"

    def as_json(self) -> dict[str, dict[str, object]]:
        """Return what is written: every ID, with or without tests."""
        return {
            clause: {"tests": sorted(self.tests[clause]), "passed": self.state(clause) == "ok"}
            for clause in self.clauses
        }

    def table(self) -> list[str]:
        """Return the lines of the report."""
        lines = [f"{'clause':<11}{'state':<6}{'tests':>5}  what it asks for"]
        for clause, text in self.clauses.items():
            short = text if len(text) <= _CLAUSE_CHARS else text[: _CLAUSE_CHARS - 3] + "..."
            lines.append(f"{clause:<11}{self.state(clause):<6}{len(self.tests[clause]):>5}  {short}")
        states = [self.state(clause) for clause in self.clauses]
        counts = ", ".join(f"{states.count(state)} {state}" for state in ("ok", "FAIL", "skip", "open"))
        return [*lines, f"{len(states)} clauses: {counts}"]


_REPORT = pytest.StashKey[Conformance]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--conformance", metavar="PATH", help="print the table of clauses, and write it to PATH (JSON)")


def pytest_configure(config: pytest.Config) -> None:
    clauses = read_clauses(REQUIREMENTS.read_text(encoding="utf-8"))
    config.stash[_REPORT] = Conformance(clauses)
    config.pluginmanager.register(_Hooks(config), "cpns-conformance")


class _Hooks:
    def __init__(self, config: pytest.Config) -> None:
        self._report = config.stash[_REPORT]
        target = config.getoption("--conformance")
        writes = target and not hasattr(config, "workerinput") and not config.option.collectonly
        self._target = Path(target) if writes else None

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        items = [node for node in report.result or [] if isinstance(node, pytest.Item)]
        if wrong := unknown_ids(items, self._report.clauses):
            return pytest.CollectReport(collector.nodeid, "failed", "\n".join(wrong), [])
        for item in items:
            named = [argument for mark in item.iter_markers("req") for argument in mark.args]
            item.user_properties.extend((_PROPERTY, clause) for clause in dict.fromkeys(named))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._report.add(report)

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._target is None:
            return
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:  # every clause is open: said, and no failure
            session.exitstatus = pytest.ExitCode.OK
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._target.write_text(json.dumps(self._report.as_json(), indent=1) + "\n", encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._target is not None:
            terminalreporter.section("conformance")
            for line in self._report.table():
                terminalreporter.write_line(line)
