"""Ctrl-C and SIGTERM are kept until training can stop, and given back. Whole runs are in tests/recipes."""

import signal
import threading

import pytest

from kreid.training import Stopped, StopSignals, plain_errors

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers():
    """The handlers before a test, which are there after it."""
    before = {number: signal.getsignal(number) for number in BOTH}
    yield before
    assert {number: signal.getsignal(number) for number in BOTH} == before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "name", "status"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)]
)
def test_a_signal_is_kept_until_the_check(number, name, status, capfd):
    reached = []
    with pytest.raises(SystemExit) as stopped, plain_errors(), StopSignals() as signals:
        signals.check("epoch 1")
        assert not signals.came
        signal.raise_signal(number)
        reached.append(signals.came)
        signals.check("step 2 of epoch 3")
    assert reached == [True]
    assert stopped.value.code == status
    first, *_, last = capfd.readouterr().err.strip().splitlines()
    assert first == f"{name}: training stops with a checkpoint after this step or evaluation; again: at once"
    assert last == f"stopped by {name}; the same command continues after step 2 of epoch 3"


def test_a_second_signal_stops_at_once():
    with (
        pytest.raises(Stopped, match="stopped at once by Ctrl-C; the same command continues after the last") as stopped,
        StopSignals(),
    ):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("went on")
    assert stopped.value.status == 130
    assert isinstance(stopped.value, KeyboardInterrupt)


def test_a_signal_after_the_last_check_stops_too():
    with pytest.raises(Stopped, match="stopped by SIGTERM"), StopSignals():
        signal.raise_signal(signal.SIGTERM)


def test_an_error_is_not_hidden_by_a_signal():
    with pytest.raises(ValueError, match="mine"), StopSignals():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("mine")


def test_it_can_be_entered_again():
    signals = StopSignals()
    with pytest.raises(Stopped), signals:
        signal.raise_signal(signal.SIGINT)
    with signals:
        assert not signals.came


def test_ignored_signals_stay_ignored(handlers):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGINT)
            assert not signals.came
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handlers[signal.SIGINT])


def test_another_thread_than_the_main_one_takes_none(handlers):
    seen = []

    def enter():
        with StopSignals():
            seen.append({number: signal.getsignal(number) for number in BOTH})

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [handlers]
