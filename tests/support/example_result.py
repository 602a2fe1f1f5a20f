"""Made-up times in result.json of a run."""

PHASES = {"data": 4.0, "transfer": 1.0, "forward": 20.0, "backward": 40.0, "exchange": 5.0, "update": 10.0}
RUN = {
    "device": "cpu",
    "steps": 100,
    "train_s": 82.0,
    "evaluate_s": 6.0,
    "checkpoint_s": 1.0,
    "start_s": 11.0,
    "held_s": 100.0,
    "phases_s": PHASES,
}
KNOWN = {"flops_per_step": 1e12, "peak_flops_per_s": 5e12, "best_step_s": 0.35, "kernel_step_s": 0.6}
