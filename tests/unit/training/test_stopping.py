import os
import signal
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from longact_cli.errors import CellStoppedError
from longact_cli.training.stopping import StopCallback, refuse_if_stopped, stoppable


def after_step(out, step, *, every=2):
    control = TrainerControl()
    state = TrainerState(global_step=step, max_steps=8)
    arguments = SimpleNamespace(world_size=1)
    StopCallback(out, every=every).on_step_end(arguments, state, control)
    assert control.should_save == control.should_training_stop
    return control.should_training_stop


def test_a_run_stops_with_a_checkpoint_where_a_regular_one_could_lie(tmp_path):
    assert not after_step(tmp_path, 4)
    with stoppable(tmp_path):
        os.kill(os.getpid(), signal.SIGTERM)
        assert [after_step(tmp_path, step) for step in (3, 4, 5, 6)] == [False, True, False, True]
        assert not after_step(tmp_path, 8)
        with pytest.raises(CellStoppedError, match="checkpoint at step 4 of 8"):
            refuse_if_stopped(tmp_path, step=4, steps=8)
        refuse_if_stopped(tmp_path, step=8, steps=8)
    refuse_if_stopped(tmp_path, step=4, steps=8)


def test_a_second_signal_ends_the_process_and_the_handler_is_given_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with stoppable(tmp_path):
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before
