#!/usr/bin/env python3
"""Checkpoints of NAT, DiNAT, DiNATs, the isotropic models and StyleNAT as weights files of nalab (nalab.weights/1).

    convert_weights.py CHECKPOINT WEIGHTS.h5 --model NAME

CHECKPOINT is a .pth file of PyTorch or a .safetensors file: a state dict, or one under state_dict, model or g_ema. NAME is
one of `nalab list models`. nalab itself then compares names and shapes with the model. Needs h5py, and PyTorch or
safetensors.
"""

import argparse
import pickle
import re
import sys

import h5py

# Buffers that are no weights.
BUFFERS = re.compile(r"relative_position_index$|sin_pos_embed\._float_tensor$|upsample\.kernel$")
# The first form of StyleNAT's split heads.
OLD_TABLE = re.compile(r"(.*attn)\.rpb([01])$")


def load(path):
    """The state dict of a checkpoint."""
    if path.endswith(".safetensors"):
        from safetensors.numpy import load_file

        return load_file(path)
    import torch

    state = torch.load(path, map_location="cpu")
    for key in ("g_ema", "state_dict", "model"):
        if key in state and not hasattr(state[key], "shape"):
            return state[key]
    return state


def as_array(value):
    """float32 numbers of a tensor of PyTorch or NumPy."""
    return value.detach().float().numpy() if hasattr(value, "detach") else value.astype("float32")


def weights_of(state):
    """What nalab calls the tensors of a state dict: without buffers, and tables by their present names."""
    import numpy

    weights = {}
    for name, value in state.items():
        name = name.removeprefix("module.")
        if not BUFFERS.search(name):
            weights[OLD_TABLE.sub(r"\1.rpb.\2", name)] = as_array(value)
    # Where no half of the heads is dilated (8x8 tokens), the old form has two tables for what is one now.
    for name in [n for n in weights if re.match(r"layers\.1\..*attn\.rpb\.1$", n)]:
        first = name[:-1] + "0"
        weights[first] = numpy.concatenate([weights[first], weights.pop(name)])
    return weights


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("weights")
    parser.add_argument("--model", required=True, help="one of nalab list models")
    options = parser.parse_args()
    try:
        weights = weights_of(load(options.checkpoint))
    except (OSError, ImportError, AttributeError, RuntimeError, pickle.UnpicklingError) as error:
        sys.exit(f"convert_weights.py: {options.checkpoint}: {error}")
    with h5py.File(options.weights, "w") as file:
        file.attrs["schema"], file.attrs["model"] = "nalab.weights/1", options.model
        for name, value in weights.items():
            file[name] = value
    print(f"{options.weights}: {len(weights)} tensors of {options.model}")


if __name__ == "__main__":
    main()
