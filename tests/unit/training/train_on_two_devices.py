"""Trains on one and on two logical devices of the processor; takes a folder to write to and the pictures."""

import sys
from pathlib import Path

from tiny_training import Listener, settings

from vggflow.gate.scan import scan
from vggflow.training.fitting import fit
from vggflow.training.job import TrainingJob

folder, pictures = Path(sys.argv[1]), Path(sys.argv[2])
# Batches of 6 leave 4 images for the last one, and valid splits into 6 and 6.
chosen = {"batch_size": 6, "class_weights": "balanced"}
histories = []
# Two first: what TensorFlow makes of the processor it makes when it starts.
for devices in (2, 1):
    asked = settings(chosen | {"devices": devices})
    trained = fit(TrainingJob(asked, scan(pictures), pictures, None, folder / str(devices)), Listener())
    assert trained.facts["devices"] == devices
    histories.append(trained.history)
names = ("loss", "val_loss", "accuracy", "val_accuracy")
apart = max(abs(one[name] - two[name]) for one, two in zip(*histories, strict=True) for name in names)
sys.stdout.write(f"largest difference of a loss or an accuracy: {apart:.2e}\n")
