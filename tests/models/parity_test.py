"""nalab's models against those of torch_models.py: nalab infer with the same weights and input, to 1e-5.

    parity_test.py NALAB [--full]

Every mistake of torch_models.MISTAKES must be seen by the same comparison. --full takes NAT-T, DiNAT-T, DiNATs-T and
StyleNAT-256 at the size of the papers instead of small models, and needs PyYAML. Exit 77 where PyTorch or h5py is missing.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import h5py
    import torch
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

import torch_models

BOUND = 1e-5
CONVERT = str(pathlib.Path(__file__).parents[2] / "python/convert_weights.py")

SMALL = [
    {"name": "nat", "kind": "nat", "depths": [2, 3], "heads": [1, 2], "channels": [32, 64], "window": 3,
     "dilation": [3, 1], "mlp_ratio": 3, "layer_scale": 1, "classes": 10},
    {"name": "dinats", "kind": "dinats", "depths": [2, 2, 1], "heads": [1, 2, 4], "channels": [32, 64, 128],
     "window": 3, "dilation": [2, 2, 1], "classes": 10},
    {"name": "isotropic", "kind": "isotropic", "depths": [3], "heads": [4], "channels": [64], "patch": 4, "window": 5,
     "dilation": [2], "classes": 10},
    {"name": "stylenat", "kind": "stylenat", "depths": [2, 2, 2, 1], "heads": [4, 2, 2, 2],
     "channels": [64, 32, 32, 16], "dilation": [1, 1, 2, 4], "input": 32, "style": 32},
]
# Extents of the images of each small model, odd ones so that every padding is needed.
SIZES = {"nat": (37, 42), "dinats": (45, 51), "isotropic": (42, 49)}
FULL = {"nat": "NAT-T", "dinat": "DiNAT-T", "dinats": "DiNATs-T", "stylenat": "StyleNAT-256"}


def relative(found, expected):
    return float((found.double() - expected).norm() / expected.norm())


def data_of(shape):
    """Latents, or faint images: then the epsilon of the first norm matters."""
    return torch.randn(shape) if len(shape) == 2 else 0.1 * torch.randn(shape)


def as_checkpoint(definition, weights):
    """The weights as the original code saves them, buffers and old names included."""
    if definition["kind"] != "stylenat":
        return weights
    state = {"to_rgbs.1.upsample.kernel": torch.zeros(4, 4),
             "layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.int64)}
    for name, value in weights.items():
        if name.startswith("layers.1.") and name.endswith("rpb.0"):
            state[name[:-2] + "0"], state[name[:-2] + "1"] = value.chunk(2)
        else:
            state[name] = value
    return {"g_ema": state}


class Checks:
    """Says of each comparison whether it holds, and counts those that do not."""

    failures = 0

    def expect(self, holds, text):
        print(("ok      " if holds else "FAILED  ") + text)
        self.failures += not holds


class Parity(Checks):
    def __init__(self, nalab, folder):
        self.nalab, self.folder = nalab, folder

    def run(self, definition, weights, data, *options):
        """What nalab infer gives, with weights from a checkpoint of PyTorch."""
        name = definition["name"]
        paths = [str(self.folder / file) for file in ("weights.h5", "in.h5", "out.h5")]
        dataset, result = ("latents", "images") if definition["kind"] == "stylenat" else ("images", "logits")
        checkpoint = str(self.folder / "checkpoint.pth")
        torch.save(as_checkpoint(definition, weights), checkpoint)
        subprocess.run([sys.executable, CONVERT, checkpoint, paths[0], "--model", name], check=True,
                       stdout=subprocess.DEVNULL)
        with h5py.File(paths[1], "w") as file:
            file[dataset] = data.numpy()
        subprocess.run([self.nalab, "infer", name, *paths[1:], "--weights", paths[0], *options], check=True,
                       stdout=subprocess.DEVNULL)
        with h5py.File(paths[2]) as file:
            return torch.from_numpy(file[result][()])

    def check(self, definition, data, options):
        name, kind = definition["name"], definition["kind"]
        weights = torch_models.sharp_weights(definition, 1)
        if kind == "stylenat":  # sharp weights of many levels are ill-conditioned
            weights = {n: w * 0.3 if n.endswith(("proj.weight", "fc2.weight")) else w for n, w in weights.items()}
        expected = torch_models.model(definition, weights)(data)
        found = self.run(definition, weights, data, *options)
        error = relative(found, expected)
        self.expect(found.shape == expected.shape and error < BOUND, f"{name} f32 {error:.1e}")
        for mistake in torch_models.MISTAKES[kind]:
            error = relative(found, torch_models.model(definition, weights, [mistake])(data))
            self.expect(error > BOUND, f"{name} {mistake} is seen: {error:.1e}")


def main():
    nalab, full = sys.argv[1], "--full" in sys.argv
    torch.manual_seed(2)
    with tempfile.TemporaryDirectory() as folder:
        parity = Parity(nalab, pathlib.Path(folder))
        if full:
            import yaml

            source = pathlib.Path(__file__).parents[2] / "data/models"
            for file, name in FULL.items():
                listed = yaml.safe_load((source / f"{file}.yaml").read_text())["models"]
                definition = next(d for d in listed if d["name"] == name)
                side = definition.get("input", 224)
                shape = (1, 512) if file == "stylenat" else (1, side, side, 3)
                parity.check(definition, data_of(shape), [])
        else:
            definitions = pathlib.Path(folder) / "small.yaml"
            definitions.write_text(json.dumps({"models": SMALL}))  # JSON is YAML
            for definition in SMALL:
                size = SIZES.get(definition["name"])
                data = data_of((2, *size, 3) if size else (2, definition["style"]))
                parity.check(definition, data, ["--definitions", str(definitions)])
    sys.exit(1 if parity.failures else 0)


if __name__ == "__main__":
    main()
