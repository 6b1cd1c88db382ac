"""In CI nothing is skipped: what a test needs is installed there, so a skip is a hole in the check."""

import os

import hypothesis
import pytest

from josh_pipeline.store.home import Home

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run side by side: threads of several torches on the same cores slow each other down manyfold.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with two finished rounds: to be read; a test that changes it copies it first."""
    # Imported where it is used: training libraries take seconds, and most tests do without them.
    from finished_home import finished_home

    return finished_home(tmp_path_factory.mktemp("finished"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts of the real corpus, which a test has held against what they must be."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    if os.environ.get("CI") == "true" and skipped:
        for report in skipped:
            reporter.write_line(f"skipped in CI: {report.nodeid}: {report.longrepr[2]}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
