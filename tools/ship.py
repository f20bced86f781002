"""Put a trained model into the package: python tools/ship.py NAME RUN, after ddpm-lite train NAME --output RUN.

Writes the averaged network, the classifier of its data (trained here if it is not there), the mean and the covariance
of its features over the test images, what `ddpm-lite evaluate` measures, and the model cards.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save as to_bytes

from ddpm_lite.images import checkpoints, evaluate, report, shipped
from ddpm_lite.images.data import load
from ddpm_lite.train import replace_file, save

KEPT = "average."
MEASURES = {
    "frechet": "Frechet distance of the samples to the test images, on the classifier's features",
    "floor": "the same distance of as many training images (the floor)",
    "as_asked": "part of samples that the classifier reads as asked",
    "test_accuracy": "part of test images that the classifier reads right",
    "precision": "precision: part of samples that lie among the test images",
    "recall": "recall: part of test images that lie among the samples",
    "nearest": "median distance of a sample to the nearest training image, root mean square a pixel in [-1, 1]",
    "nearest_test": "the same of test images",
    "closest": "least distance of a sample to a training image",
    "closest_test": "the same of test images",
    "test_loss": "denoising loss on test images, in the weighting of the training",
    "ode_bits": "bits a dimension of test images by the probability-flow ODE",
    "bound_bits": "bits a dimension of test images by the variational bound",
}
DATA = {
    "digits": (
        "8 x 8 digits of the UCI set *Optical recognition of handwritten digits* (Alpaydin and Kaynak, 1998; CC BY "
        "4.0), as scikit-learn ships it: 1,500 to train, 297 to test"
    ),
    "fashion": "Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017; MIT licence): 60,000 images to train, 10,000 to test",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=shipped.NAMES)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("-n", type=int, default=10_000, help="how many samples are measured")
    options = parser.parse_args()
    write_network(options.name, options.run)
    write_classifier(options.name)
    write_sums()
    replace_file(shipped.FOLDER / f"{options.name}.json", as_json(report.evaluate(options.name, n=options.n)))
    write_sums()
    (shipped.FOLDER / "README.md").write_text(cards(), encoding="utf-8")
    write_sums()


def write_network(name: str, run: Path) -> None:
    """Keep the average alone of the last state of a finished run."""
    path, _ = checkpoints.last_good(run)
    if path is None:
        raise SystemExit(f"{run} holds no state")
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys() if key.startswith(KEPT)}  # noqa: SIM118
    if int(about["step"]) != json.loads(about["config"])["steps"]:
        raise SystemExit(f"{path} is not the end of its run")
    replace_file(shipped.FOLDER / f"{name}.safetensors", to_bytes(tensors, metadata=about))


def write_classifier(name: str) -> None:
    path = shipped.FOLDER / f"{name}_classifier.safetensors"
    train, test = load(name), load(name, split="test")
    if not path.exists():
        net = evaluate.train_classifier(train)
        save(path, net, net.config)
        path.with_suffix(".json").unlink()
    write_sums()
    features, _ = evaluate.features(shipped.load_classifier(name), test.pixels, test.levels)
    features = features.double()
    reference = {"mean": features.mean(0), "covariance": features.T.cov()}
    replace_file(shipped.FOLDER / f"{name}_reference.safetensors", to_bytes(reference))


def write_sums() -> None:
    paths = sorted(path for path in shipped.FOLDER.iterdir() if path.suffix in (".safetensors", ".json"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths]
    replace_file(shipped.FOLDER / shipped.SUMS, "".join(lines).encode())


def as_json(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=2) + "\n").encode()


def cards() -> str:
    """Return the text of the model cards; every number comes from the files."""
    return "\n".join(["# Models that come with the package\n", *(card(name) for name in shipped.NAMES)])


def card(name: str) -> str:
    trained, found = shipped.load(name), shipped.card(name)
    config = trained.config
    shape = " x ".join(map(str, trained.form.shape))
    parameters = sum(value.numel() for value in trained.net.parameters())
    rows = [f"| {MEASURES[key]} | {value:.4g} |" for key, value in found["measured"].items() if key in MEASURES]
    return f"""## {name}

A class-conditional denoising U-Net for images of {shape}, {parameters:,} parameters.

- **Classes**: {", ".join(trained.form.classes)}; and "no class", for guidance.
- **Data**: {DATA[name]}. Only the training images were used.
- **Training**: {config.steps:,} steps of {config.batch} images; path {config.path}, prediction {config.kind};
  Adam, learning rate {config.lr:g}, decay {config.decay}; average {config.ema:g}.
- **Command**: `ddpm-lite train {name}`, then `python tools/ship.py {name} runs/{name} -n {found["n"]}`.
- **Licence**: MIT, as the package's code.
- **Use**: `ddpm-lite sample {name}`, or `ddpm_lite.images.shipped.load("{name}")`. Made for teaching: it draws such
  pictures and nothing else.
- **Measured** by `ddpm-lite evaluate {name} --n {found["n"]}`: {found["n"]:,} samples, {found["steps"]} steps of
  {found["sampler"]}, guidance {found["guidance"]:g}, seed {found["seed"]}; bits of {found["bits_of"]} test images.

| measure | value |
|---|---|
{chr(10).join(rows)}
"""


if __name__ == "__main__":
    main()
