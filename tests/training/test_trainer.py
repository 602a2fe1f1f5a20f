"""The trainer without a session: one save per step, after its evaluation."""

from distdl.core.config import CheckpointConfig


def test_a_step_at_the_end_of_an_epoch_is_saved_once_after_its_evaluation(make) -> None:
    """96 samples in batches of 32: steps 3 and 6 end an epoch."""
    trainer = make(epochs=2, checkpoint=CheckpointConfig(every_steps=1, every_epochs=1, keep=9))
    trainer.run.enter(trainer.config, strategy="single")
    saved = []
    begin = trainer.checkpoints.begin
    trainer.checkpoints.begin = lambda step: saved.append((step, "test" in trainer.metrics)) or begin(step)
    assert trainer.fit() == "completed"
    assert saved == [(1, False), (2, False), (3, True), (4, True), (5, True), (6, True)]
    assert trainer.metrics["test"]["step"] == 6
