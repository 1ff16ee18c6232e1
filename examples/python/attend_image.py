"""Neighborhood attention on an image: where a pixel looks, how long it takes beside dense attention, and a plot.

    pip install . numpy torch matplotlib
    python examples/python/attend_image.py [--size 48] [--window 7] [--plot attention.png]

An image of smooth blobs gets features, q = k = patches of pixels and v = colours: each pixel becomes the mean of its
neighbours, weighted by how alike their surroundings are (non-local means). The weights of one pixel are drawn, and the time of
attention for windows of growing size is compared with PyTorch's dense attention.
"""

import argparse
import time

import numpy as np
import torch

import nalab
import nalab.torch


def make_image(size, generator):
    """[size, size, 3] in 0..1: five discs of different colours, with noise."""
    y, x = np.mgrid[:size, :size] / size
    image = np.full((size, size, 3), 0.1)
    for _ in range(5):
        centre, radius, colour = generator.random(2), 0.1 + 0.2 * generator.random(), generator.random(3)
        image[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2] = colour
    return image, np.clip(image + 0.15 * generator.standard_normal(image.shape), 0, 1)


def patches(image, radius=1):
    """Each pixel's surroundings as a feature: [size, size, 3 * (2 radius + 1)^2]."""
    size = image.shape[0]
    padded = np.pad(image, [(radius, radius), (radius, radius), (0, 0)], mode="reflect")
    shifts = range(2 * radius + 1)
    return np.concatenate([padded[i : i + size, j : j + size] for i in shifts for j in shifts], -1)


def denoise(image, window):
    """The image, and the weights of every pixel [size, size, window, window]."""
    features = patches(image).astype(np.float32)[None, :, :, None]  # [batch, y, x, heads, dim]
    # -|a - b|^2 = 2 a.b - |b|^2 + a constant: the norm is one more channel of k, multiplied by one more of q.
    norm = np.square(features).sum(-1, keepdims=True)
    q = np.concatenate([2 * features, np.ones_like(norm)], -1)
    k = np.concatenate([features, -norm], -1)
    scale = 1 / (0.15**2 * 2 * 9)
    out = nalab.attention(q, k, image.astype(np.float32)[None, :, :, None], window, scale=scale)
    scores = nalab.weights(q, k, window, scale=scale)[0, :, :, 0]
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return out[0, :, :, 0], weights.reshape(*weights.shape[:2], window, window)


def best_milliseconds(call, rounds=5):
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def print_speeds(size, heads=4, head_dim=32):
    q, k, v = (torch.randn(1, size, size, heads, head_dim) for _ in range(3))
    flat = [t.flatten(1, 2).transpose(1, 2) for t in (q, k, v)]
    dense = best_milliseconds(lambda: torch.nn.functional.scaled_dot_product_attention(*flat))
    print(f"{size} x {size} tokens, {heads} heads of {head_dim}, {torch.get_num_threads()} threads, best of 5")
    print(f"{'dense, PyTorch':>16} {dense:9.2f} ms")
    for window in (3, 7, 15, 31):
        if window > size:
            break
        own = best_milliseconds(lambda: nalab.torch.na2d(q, k, v, window))
        variant = nalab.plan((size, size), window, heads=heads, head_dim=head_dim).variant
        print(f"{f'window {window}':>16} {own:9.2f} ms  {dense / own:6.1f}x  {variant}")


def plot(path, clean, noisy, result, weights):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(12, 3.2))
    middle = clean.shape[0] // 2
    pictures = (clean, noisy, result, weights[middle, middle])
    titles = ("image", "with noise", "after attention", "weights of the pixel in the middle")
    for axis, picture, title in zip(axes, pictures, titles):
        axis.imshow(np.clip(picture, 0, 1) if picture.ndim == 3 else picture)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--window", type=int, default=7)
    parser.add_argument("--plot", help="file of the plot; needs matplotlib")
    options = parser.parse_args()

    clean, noisy = make_image(options.size, np.random.default_rng(1))
    result, weights = denoise(noisy, options.window)
    error = [np.sqrt(np.square(x - clean).mean()) for x in (noisy, result)]
    print(f"error of the noisy image {error[0]:.4f}, after attention {error[1]:.4f}")
    if hasattr(torch.nn.functional, "scaled_dot_product_attention"):  # PyTorch 2
        print_speeds(options.size)
    if options.plot:
        plot(options.plot, clean, noisy, result, weights)
        print(options.plot)


if __name__ == "__main__":
    main()
