"""What is told without a key about a configuration that is not in effect."""

from __future__ import annotations

from fleetgate.http.status import Status


def test_nothing_is_said_while_the_file_is_in_effect() -> None:
    assert Status("1", 0.0).rejected_briefly() is None


def test_a_rejection_is_counted_and_not_quoted() -> None:
    status = Status("1", 0.0, rejected="secret details")
    status.rejected_findings = [{}]
    assert status.rejected_briefly() == "1 finding; see `fleetgate config show`"
    status.rejected_findings = [{}, {}]
    assert status.rejected_briefly() == "2 findings; see `fleetgate config show`"


def test_a_change_that_needs_a_restart_has_no_findings() -> None:
    status = Status("1", 0.0, rejected="gateway.listen can only change with a restart")
    assert status.rejected_briefly() == "it needs a restart; see `fleetgate config show`"


def test_a_held_change_says_what_confirms_it() -> None:
    status = Status("1", 0.0, rejected="it drops a limit", held=True)
    assert status.rejected_briefly() == "waits for `fleetgate reload`"
