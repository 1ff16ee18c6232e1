"""NAT, DiNAT, DiNATs, the isotropic models and StyleNAT's generator in pure PyTorch, float64, by gathered keys.

Written apart from the C++ models, as their oracle: nothing is shared but the names of the weights. `mistakes` names what
is to be done wrong, for tests that show that such a mistake is seen.
"""

import math

import torch
import torch.nn.functional as F

MISTAKES = {
    "nat": ["no_bias", "transposed_bias", "tanh_gelu", "other_eps", "no_scale", "kv_swapped"],
    "dinats": ["merge_order", "norm_after_reduction", "no_bias"],
    "isotropic": ["no_bias", "other_eps"],
    "stylenat": ["repeated_edges", "no_bias", "no_positions", "gamma_plus_one", "tanh_gelu", "other_eps"],
}

# Right forward and wrong backward: what is called constant has no gradient.
GRADIENT_MISTAKES = ["constant_bias", "constant_statistics", "constant_sum", "constant_keys", "constant_residual"]


def neighbors(length, window, dilation):
    """Of each position along an axis: its keys, and their offsets in the bias table. Both [length, window]."""
    keys, offsets = [], []
    for i in range(length):
        group, place = i % dilation, i // dilation
        size = (length - group + dilation - 1) // dilation
        start = min(max(place - window // 2, 0), size - window)
        keys.append([group + (start + j) * dilation for j in range(window)])
        offsets.append([start + j - place + window - 1 for j in range(window)])
    return torch.tensor(keys), torch.tensor(offsets)


class Model:
    """One model with its weights; tensors are [batch, rows, columns, channels]."""

    def __init__(self, definition, weights, mistakes=()):
        self.d = definition
        self.weights = {name: torch.as_tensor(value).double() for name, value in weights.items()}
        self.mistakes = set(mistakes)
        self.eps = 1e-6 if "other_eps" in self.mistakes else 1e-5

    def w(self, name):
        return self.weights[name]

    def unless(self, mistake, x):
        return x.detach() if mistake in self.mistakes else x

    def linear(self, x, name, bias=True):
        y = x @ self.w(name + ".weight").T
        return y + self.w(name + ".bias") if bias else y

    def conv(self, x, name, bias=True, **how):
        b = self.w(name + ".bias") if bias else None
        return F.conv2d(x.permute(0, 3, 1, 2), self.w(name + ".weight"), b, **how).permute(0, 2, 3, 1)

    def layer_norm(self, x, name):
        centred = x - self.unless("constant_statistics", x.mean(-1, keepdim=True))
        variance = self.unless("constant_statistics", centred.square().mean(-1, keepdim=True))
        scaled = centred / (variance + self.eps).sqrt()
        return scaled * self.w(name + ".weight") + self.w(name + ".bias")

    def gelu(self, x):
        if "tanh_gelu" in self.mistakes:
            return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))

    def neighborhood(self, q, k, v, rpb, window, dilation):
        """q, k, v: [batch, rows, columns, heads, dim], q scaled."""
        row_keys, row_offsets = neighbors(q.shape[1], window, dilation)
        column_keys, column_offsets = neighbors(q.shape[2], window, dilation)

        def gathered(x):  # [batch, rows, columns, heads, window, window, dim]
            x = x[:, row_keys]  # [batch, rows, window, columns, heads, dim]
            return x[:, :, :, column_keys].permute(0, 1, 3, 5, 2, 4, 6)

        scores = torch.einsum("brchd,brchijd->brchij", q, gathered(self.unless("constant_keys", k)))
        if "transposed_bias" in self.mistakes:
            rpb = rpb.transpose(1, 2)
        if "no_bias" not in self.mistakes:
            table = self.unless("constant_bias", rpb)[:, row_offsets]  # [heads, rows, window, offsets]
            scores = scores + table[:, :, :, column_offsets].permute(1, 3, 0, 2, 4)
        sums = self.unless("constant_sum", scores.flatten(-2).logsumexp(-1))
        weights = (scores - sums[..., None, None]).exp()
        return torch.einsum("brchij,brchijd->brchd", weights, gathered(v))

    def attention(self, x, state, heads, window, groups):
        """groups: (name of the table, dilation); each has as many of the heads."""
        batch, rows, columns, channels = x.shape
        qkv = self.linear(x, state + "attn.qkv").view(batch, rows, columns, 3, heads, channels // heads)
        q, k, v = qkv.unbind(3)
        if "kv_swapped" in self.mistakes:
            k, v = v, k
        if "no_scale" not in self.mistakes:
            q = q * (channels // heads) ** -0.5
        each = heads // len(groups)
        parts = []
        for i, (table, dilation) in enumerate(groups):
            part = slice(i * each, (i + 1) * each)
            parts.append(self.neighborhood(q[..., part, :], k[..., part, :], v[..., part, :],
                                           self.w(state + table), window, dilation))
        return self.linear(torch.cat(parts, 3).flatten(3), state + "attn.proj")

    def mlp(self, x, state):
        return self.linear(self.gelu(self.linear(x, state + "mlp.fc1")), state + "mlp.fc2")


class Classifier(Model):
    def block(self, x, state, heads, dilation):
        def gamma(i):
            return self.weights.get(f"{state}gamma{i}", 1)

        normed = self.layer_norm(x, state + "norm1")
        branch = self.attention(normed, state, heads, self.d["window"], [("attn.rpb", dilation)])
        x = self.unless("constant_residual", x) + gamma(1) * branch
        return x + gamma(2) * self.mlp(self.layer_norm(x, state + "norm2"), state)

    def tokens(self, x):
        if self.d["kind"] == "nat":
            x = self.conv(x, "patch_embed.proj.0", stride=2, padding=1)
            x = self.conv(x, "patch_embed.proj.1", stride=2, padding=1)
        else:
            p = self.d.get("patch", 4)
            x = F.pad(x, (0, 0, 0, -x.shape[2] % p, 0, -x.shape[1] % p))
            x = self.conv(x, "patch_embed.proj", stride=p)
        return self.layer_norm(x, "patch_embed.norm")

    def downsample(self, x, state):
        if self.d["kind"] == "nat":
            return self.layer_norm(self.conv(x, state + "reduction", bias=False, stride=2, padding=1), state + "norm")
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        places = [(0, 0), (1, 0), (0, 1), (1, 1)]
        if "merge_order" in self.mistakes:
            places = [(0, 0), (0, 1), (1, 0), (1, 1)]
        x = torch.cat([x[:, r::2, c::2] for r, c in places], -1)
        if "norm_after_reduction" in self.mistakes:
            weight = self.w(state + "norm.weight")
            x = self.linear(x * weight + self.w(state + "norm.bias"), state + "reduction", bias=False)
            return F.layer_norm(x, x.shape[-1:])
        return self.linear(self.layer_norm(x, state + "norm"), state + "reduction", bias=False)

    def __call__(self, images):
        d, kind = self.d, self.d["kind"]
        x = self.tokens(torch.as_tensor(images).double())
        for i, depth in enumerate(d["depths"]):
            dilations = [d["dilation"][i] if d.get("dilation") and j % 2 else 1 for j in range(depth)]
            level = ("levels." if kind == "nat" else "layers.") + f"{i}."
            for j, dilation in enumerate(dilations):
                state = f"layers.{j}." if kind == "isotropic" else f"{level}blocks.{j}."
                x = self.block(x, state, d["heads"][i], dilation)
            if i + 1 < len(d["depths"]):
                x = self.downsample(x, level + "downsample.")
        return self.linear(self.layer_norm(x, "norm").mean((1, 2)), "head")


class Generator(Model):
    def adaptive_norm(self, x, style, state):
        weight = self.w(state + ".style.weight") / math.sqrt(style.shape[-1])
        gamma, beta = (style @ weight.T + self.w(state + ".style.bias")).chunk(2, -1)
        if "gamma_plus_one" in self.mistakes:
            gamma = gamma + 1
        centred = x - x.mean((1, 2), keepdim=True)
        normed = centred / (centred.square().mean((1, 2), keepdim=True) + self.eps).sqrt()
        return gamma[:, None, None] * normed + beta[:, None, None]

    def groups(self, level, side):
        if side == 4:
            return [("attn.rpb", 1)]
        if side == 8:
            return [("attn.rpb.0", 1)]
        return [("attn.rpb.0", 1), ("attn.rpb.1", side // 8)]

    def block(self, x, style, state, level):
        side = x.shape[1]
        normed = self.adaptive_norm(x, style, state + "norm1")
        x = x + self.attention(normed, state, self.d["heads"][level], min(side, 7), self.groups(level, side))
        return x + self.mlp(self.adaptive_norm(x, style, state + "norm2"), state)

    def positions(self, side, channels):
        quarter = channels // 4
        rates = torch.exp(-math.log(10000) * torch.arange(quarter).double() / (quarter - 1))
        angles = torch.arange(1, side + 1).double()[:, None] * rates
        table = torch.cat([angles.sin(), angles.cos()], 1)
        return torch.cat([table[None].expand(side, -1, -1), table[:, None].expand(-1, side, -1)], -1)

    def upsample(self, x, state):
        x = F.interpolate(x.permute(0, 3, 1, 2), scale_factor=2, mode="bilinear", align_corners=False)
        x = self.layer_norm(x.permute(0, 2, 3, 1), state + "norm")
        x = self.linear(x, state + "reduction", bias=False)
        if "no_positions" in self.mistakes:
            return x
        return x + self.w(state + "alpha") * self.positions(x.shape[1], x.shape[-1])

    def upsample_image(self, x):
        x = x.permute(0, 3, 1, 2)
        batch, channels, rows, columns = x.shape
        if "repeated_edges" in self.mistakes:
            return F.interpolate(x, scale_factor=2, mode="bilinear").permute(0, 2, 3, 1)
        spread = x.new_zeros(batch, channels, 2 * rows, 2 * columns)
        spread[:, :, ::2, ::2] = x
        taps = torch.tensor([1.0, 3, 3, 1]).double()
        kernel = (taps[:, None] * taps / 16).expand(channels, 1, 4, 4)
        return F.conv2d(F.pad(spread, (2, 1, 2, 1)), kernel, groups=channels).permute(0, 2, 3, 1)

    def to_rgb(self, x, state):
        weight = self.w(state + "conv.weight")[:, :, 0, 0]
        return x @ weight.T + self.w(state + "conv.bias") + self.w(state + "bias").flatten()

    def __call__(self, latents):
        w = torch.as_tensor(latents).double()
        w = w * torch.rsqrt(w.square().mean(1, keepdim=True) + 1e-8)
        for i in range(1, 9):
            weight = self.w(f"style.{i}.weight") * 0.01 / math.sqrt(w.shape[1])
            w = F.leaky_relu(w @ weight.T + 0.01 * self.w(f"style.{i}.bias"), 0.2) * math.sqrt(2)
        x = self.w("input.input").permute(0, 2, 3, 1).expand(w.shape[0], -1, -1, -1)
        image = None
        levels = len(self.d["depths"])
        for i in range(levels):
            for j in range(self.d["depths"][i]):
                x = self.block(x, w, f"layers.{i}.blocks.{j}.", i)
            if i + 1 < levels:
                x = self.upsample(x, f"layers.{i}.upsample.")
                image = self.upsample_image(image) if image is not None else None
            rgb = self.to_rgb(x, f"to_rgbs.{i}.")
            image = rgb if image is None else image + rgb
        return image


def parameters(d):
    """Name, shape and standard deviation of the sharp test weights of each parameter; a deviation of 0 means near 1."""
    kind, levels = d["kind"], len(d["depths"])
    found = []

    def add(name, *shape, deviation):
        found.append((name, shape, deviation))

    def linear(name, inputs, outputs, bias=True, deviation=None):
        add(name + ".weight", outputs, inputs, deviation=deviation or 1 / math.sqrt(inputs))
        if bias:
            add(name + ".bias", outputs, deviation=0.3)

    def conv(name, inputs, outputs, side, bias=True):
        add(name + ".weight", outputs, inputs, side, side, deviation=1 / math.sqrt(inputs * side * side))
        if bias:
            add(name + ".bias", outputs, deviation=0.03)

    def norm(name, channels):
        add(name + ".weight", channels, deviation=0)
        add(name + ".bias", channels, deviation=0.1)

    def tail(state, c):
        linear(state + "attn.qkv", c, 3 * c)
        linear(state + "attn.proj", c, c)
        linear(state + "mlp.fc1", c, int(c * d.get("mlp_ratio", 4)))
        linear(state + "mlp.fc2", int(c * d.get("mlp_ratio", 4)), c)

    def table(name, heads, window):
        add(name, heads, 2 * window - 1, 2 * window - 1, deviation=1)

    if kind == "stylenat":
        style = d.get("style", 512)
        for i in range(1, 9):
            linear(f"style.{i}", style, style, deviation=100)
        add("input.input", 1, d["channels"][0], 4, 4, deviation=1)
        for i, (depth, heads, c) in enumerate(zip(d["depths"], d["heads"], d["channels"])):
            after = d["channels"][min(i + 1, levels - 1)]
            for j in range(depth):
                state = f"layers.{i}.blocks.{j}."
                tail(state, c)
                for n in ("norm1", "norm2"):
                    linear(f"{state}{n}.style", style, 2 * c, deviation=1)
                if i == 0:
                    table(state + "attn.rpb", heads, 4)
                elif i == 1:
                    table(state + "attn.rpb.0", heads, 7)
                else:
                    for half in "01":
                        table(state + "attn.rpb." + half, heads // 2, 7)
            if i + 1 < levels:
                norm(f"layers.{i}.upsample.norm", c)
                linear(f"layers.{i}.upsample.reduction", c, after, bias=False)
                add(f"layers.{i}.upsample.alpha", 1, deviation=0)
            add(f"to_rgbs.{i}.conv.weight", 3, after, 1, 1, deviation=1 / math.sqrt(after))
            add(f"to_rgbs.{i}.conv.bias", 3, deviation=0.3)
            add(f"to_rgbs.{i}.bias", 1, 3, 1, 1, deviation=0.3)
        return found

    first = d["channels"][0]
    if kind == "nat":
        conv("patch_embed.proj.0", 3, first // 2, 3)
        conv("patch_embed.proj.1", first // 2, first, 3)
    else:
        conv("patch_embed.proj", 3, first, d.get("patch", 4))
    norm("patch_embed.norm", first)
    for i, (depth, heads, c) in enumerate(zip(d["depths"], d["heads"], d["channels"])):
        level = ("levels." if kind == "nat" else "layers.") + f"{i}."
        for j in range(depth):
            state = f"layers.{j}." if kind == "isotropic" else f"{level}blocks.{j}."
            norm(state + "norm1", c)
            norm(state + "norm2", c)
            tail(state, c)
            table(state + "attn.rpb", heads, d["window"])
            if d.get("layer_scale"):
                add(state + "gamma1", c, deviation=0)
                add(state + "gamma2", c, deviation=0)
        if i + 1 < levels:
            if kind == "nat":
                conv(level + "downsample.reduction", c, 2 * c, 3, bias=False)
                norm(level + "downsample.norm", 2 * c)
            else:
                norm(level + "downsample.norm", 4 * c)
                linear(level + "downsample.reduction", 4 * c, 2 * c, bias=False)
    norm("norm", d["channels"][-1])
    linear("head", d["channels"][-1], d.get("classes", 1000))
    return found


def sharp_weights(definition, seed):
    """float32 weights with which every part of a model matters."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape, deviation in parameters(definition):
        noise = torch.randn(shape, generator=generator)
        weights[name] = 1 + 0.2 * noise if deviation == 0 else deviation * noise
    return weights


def model(definition, weights, mistakes=()):
    return (Generator if definition["kind"] == "stylenat" else Classifier)(definition, weights, mistakes)
