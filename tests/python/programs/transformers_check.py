"""Nat and Dinat of transformers (4.40.2 has both), unmodified, on nalab's natten; and on a gather."""

import nalab.natten
import pytest

nalab.natten.install("0.14.6")
transformers = pytest.importorskip("transformers")
if not hasattr(transformers, "NatConfig"):
    pytest.skip("needs transformers 4.40 or earlier", allow_module_level=True)

import gather  # noqa: E402
import torch  # noqa: E402

SMALL = dict(depths=[2, 2, 2], num_heads=[2, 4, 8], embed_dim=64, out_features=["stage1", "stage2", "stage3"])
MODELS = {
    "Nat, as published": ("Nat", {}),
    "Dinat, as published": ("Dinat", {}),
    "Nat, small": ("Nat", SMALL),
    "Dinat, small": ("Dinat", {**SMALL, "dilations": [[1, 4], [1, 2], [1, 1]]}),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["ForImageClassification", "Backbone"])
def test_same_as_by_gather(name, kind, monkeypatch):
    model_name, options = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, model_name + "Config")(**options)
    model = gather.fill(getattr(transformers, model_name + kind)(config))
    images = torch.randn(1, 3, *((224, 224) if not options else (130, 117)))

    def run():
        with torch.no_grad():
            outputs = model(images)
        return outputs.logits if kind == "ForImageClassification" else outputs.feature_maps

    own = run()
    modeling = getattr(transformers.models, model_name.lower())
    modeling = getattr(modeling, f"modeling_{model_name.lower()}")
    monkeypatch.setattr(modeling, "natten2dqkrpb", gather.qkrpb)
    monkeypatch.setattr(modeling, "natten2dav", gather.av)
    gather.assert_same(own, run())


def test_a_training_step_has_the_gradients_of_the_gather(monkeypatch):
    torch.manual_seed(0)
    model = gather.fill(transformers.DinatForImageClassification(transformers.DinatConfig(**SMALL)))
    images = torch.randn(2, 3, 64, 72)

    def gradients():
        model.zero_grad()
        model(images, labels=torch.tensor([0, 1])).loss.backward()
        return [p.grad.clone() for n, p in model.named_parameters() if p.grad is not None and "rpb" in n or "query" in n]

    own = gradients()
    modeling = transformers.models.dinat.modeling_dinat
    monkeypatch.setattr(modeling, "natten2dqkrpb", gather.qkrpb)
    monkeypatch.setattr(modeling, "natten2dav", gather.av)
    gather.assert_same(own, gradients(), 1e-3)
