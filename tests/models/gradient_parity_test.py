"""Gradients of nalab's Trainer against those that PyTorch takes of torch_models.py in float64: of every parameter, to 1e-5.

    gradient_parity_test.py GRADIENTS

GRADIENTS is the program of gradients.cpp. The models, small ones on images of odd extents, and their weights are those of
parity_test.py. Each of the mistakes of torch_models must be seen by the same comparison. Exit 77 where PyTorch or h5py is
missing.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from parity_test import SIZES, SMALL, Checks, data_of, relative  # exits where something is missing

import h5py
import torch
import torch_models

# From the images to the loss there are at most 70 operations, 12 of them in each block, and as many back. Each rounds to
# float32: if all errors added up, they would be 140 * 6e-8.
BOUND = 1e-5
BATCH = 2


def expected_gradients(definition, weights, images, labels, mistakes=(), reduction="mean"):
    leaves = {name: w.double().requires_grad_() for name, w in weights.items()}
    logits = torch_models.model(definition, leaves, mistakes)(images)
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction=reduction)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in zip(leaves.items(), gradients)}


def found_gradients(program, definition, weights, images, labels, variant):
    """Those of nalab, float32."""
    with tempfile.TemporaryDirectory() as folder:
        definitions, tensors, inputs, output = (pathlib.Path(folder) / f for f in ("d.yaml", "w.h5", "in.h5", "out.h5"))
        definitions.write_text(json.dumps({"models": [definition]}))  # JSON is YAML
        with h5py.File(tensors, "w") as file:
            file.attrs["schema"], file.attrs["model"] = "nalab.weights/1", definition["name"]
            for name, w in weights.items():
                file[name] = w.numpy()
        with h5py.File(inputs, "w") as file:
            file["images"], file["labels"] = images.numpy(), labels.float().numpy()
        subprocess.run([program, definitions, definition["name"], tensors, inputs, output, variant], check=True)
        with h5py.File(output) as file:
            values = torch.from_numpy(file["gradients"][()])
    names = sorted(weights)
    parts = values.split([weights[name].numel() for name in names])
    return {name: part.view(weights[name].shape) for name, part in zip(names, parts)}


def worst(found, expected):
    """The greatest relative error, and the parameter that has it."""
    return max((relative(found[name], g) if g.norm() > 0 else float("inf"), name) for name, g in expected.items())


def check(checks, program, definition):
    name = definition["name"]
    weights = torch_models.sharp_weights(definition, 1)
    images = data_of((BATCH, *SIZES[name], 3))
    labels = torch.randint(definition["classes"], (BATCH,))
    expected = expected_gradients(definition, weights, images, labels)
    for variant in ("naive", "gemm", "fused", ""):
        found = found_gradients(program, definition, weights, images, labels, variant)
        error, parameter = worst(found, expected)
        checks.expect(error < BOUND, f"{name} {variant or 'default'}: {error:.1e} of {parameter}")
    wrong = {mistake: expected_gradients(definition, weights, images, labels, [mistake])
             for mistake in torch_models.MISTAKES[definition["kind"]] + torch_models.GRADIENT_MISTAKES}
    wrong["sum of losses"] = expected_gradients(definition, weights, images, labels, reduction="sum")
    for mistake, gradients in wrong.items():
        error, parameter = worst(found, gradients)
        checks.expect(error > BOUND, f"{name} {mistake} is seen: {error:.1e} of {parameter}")


def main():
    torch.manual_seed(2)
    checks = Checks()
    for definition in SMALL:
        if definition["kind"] != "stylenat":  # generators are not trained
            check(checks, sys.argv[1], definition)
    sys.exit(1 if checks.failures else 0)


if __name__ == "__main__":
    main()
