"""The modules of graph-weather's WeatherMesh (1.0.146), unmodified, on nalab's natten 0.21; and on a gather."""

import gather
import nalab.natten
import pytest

nalab.natten.install("0.21.0")
for name in ("dacite", "einops"):
    pytest.importorskip(name)
gather.package_without_init("graph_weather")

import natten  # noqa: E402
import torch  # noqa: E402

gather.package_without_init("graph_weather.models")
from graph_weather.models.weathermesh.decoder import WeatherMeshDecoder  # noqa: E402
from graph_weather.models.weathermesh.encoder import WeatherMeshEncoder  # noqa: E402
from graph_weather.models.weathermesh.processor import WeatherMeshProcessor  # noqa: E402


def compare(run, monkeypatch):
    with torch.no_grad():
        own = run()
        monkeypatch.setattr(natten.NeighborhoodAttention3D, "forward", gather.module_forward)
        gather.assert_same(own, run())


def test_processor(monkeypatch):
    torch.manual_seed(0)
    processor = gather.fill(WeatherMeshProcessor(64, n_layers=2))
    x = torch.randn(1, 6, 9, 8, 64)
    compare(lambda: processor(x), monkeypatch)


def test_encoder_and_decoder(monkeypatch):
    torch.manual_seed(0)
    encoder = gather.fill(WeatherMeshEncoder(3, 2, 32, 6, 1, 16, (3, 5, 5), 4, 2))
    decoder = gather.fill(WeatherMeshDecoder(32, 3, 2, 1, 16, (3, 5, 5), 4, 2))
    surface, levels = torch.randn(1, 3, 16, 20), torch.randn(1, 2, 6, 16, 20)

    def run():
        latent = encoder(surface, levels)
        return [latent, *decoder(latent)]

    compare(run, monkeypatch)
