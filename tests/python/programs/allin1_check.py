"""The model of allin1 (1.1.0), unmodified, on nalab's natten; and on a gather."""

import gather
import nalab.natten
import pytest

nalab.natten.install("0.14.6")
for name in ("hydra", "omegaconf"):
    pytest.importorskip(name)
gather.package_without_init("allin1")

import torch  # noqa: E402
from allin1.config import Config, HarmonixConfig  # noqa: E402
from allin1.models import dinat  # noqa: E402
from allin1.models.allinone import AllInOne  # noqa: E402


@pytest.mark.parametrize("frames, depth", [(700, 6), (5000, 11)])
def test_same_as_by_gather(frames, depth, monkeypatch):
    torch.manual_seed(0)
    model = gather.fill(AllInOne(Config(data=HarmonixConfig(), depth=depth)))
    spectrogram = torch.rand(1, 4, frames, 81)

    def run():
        with torch.no_grad():
            out = model(spectrogram)
        return [out.logits_beat, out.logits_downbeat, out.logits_section, out.logits_function, out.embeddings]

    own = run()
    for rank in (1, 2):  # what the modules look up when they are made
        layer = getattr(dinat, f"NeighborhoodAttention{rank}d", None)
        assert layer is not None
        for module in model.modules():
            if isinstance(module, layer):
                monkeypatch.setattr(module, "nattendqkrpb", gather.qkrpb)
                monkeypatch.setattr(module, "nattendav", gather.av)
    gather.assert_same(own, run())
