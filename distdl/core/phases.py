"""The phases of a step, and what each is, in words. Here without torch, for whoever only reads what was measured."""

PHASES = ("data", "transfer", "forward", "backward", "exchange", "update")

EXPLAIN = {
    "data": "waiting for the loader",
    "transfer": "host to device, augmentation on it",
    "forward": "network and loss",
    "backward": "gradients",
    "exchange": "gradients between ranks, the part backward does not hide",
    "update": "optimizer",
}
REST = "the loop itself, display, logging"
"""What a step's time holds beside its phases."""
