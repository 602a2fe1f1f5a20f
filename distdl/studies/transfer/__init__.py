"""Study `transfer`: from scratch, on frozen features, and fine-tuned, as documents 000, 001 (P1) and 002 compare them.

A training profile names the network, its weights and the target set. The quick version is a small network with ImageNet
weights on part of Caltech-101 at 64 x 64 pixels.
"""

from distdl.studies.base import Study
from distdl.studies.transfer.attempts import trials
from distdl.studies.transfer.settings import Settings
from distdl.studies.transfer.shown import findings

QUICK = {
    "profile": "darknet-caltech101",
}

STUDY = Study(
    name="transfer",
    summary="from scratch, frozen features, fine-tuned: rates, masks, augmentation, ten crops (documents 000-002)",
    settings=Settings,
    quick=QUICK,
    trials=trials,
    findings=findings,
)
