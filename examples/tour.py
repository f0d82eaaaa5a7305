# %% [markdown]
# # A tour: encode, render, edit, save, load
#
#     python examples/tour.py [FOLDER]
#
# or cell by cell, in an editor that knows `# %%`.

# %% A picture becomes Gaussians. Steps are few here; `seconds=10` is the default.
import sys
from pathlib import Path

import taichi2dgs as t2

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
image = t2.read_image("sample:astronaut")[:256, 128:384].contiguous()  # her face
g = t2.encode(image, k=5_000, steps=40)
print(len(g), "Gaussians of", g.size)

# %% How many should there be? As many as reach 32 dB, or as fit in 20,000 bytes.
enough = t2.encode(image, target_psnr=32, steps=20)
small = t2.encode(image, target_bytes=20_000, steps=20)
print(len(enough), "reach 32 dB;", len(small), "take 20,000 bytes")

# %% Any size out, and any part of it. Smaller sizes are averaged, not sampled.
t2.write_image(folder / "tour-large.png", g.render(size=(1024, 1024), crop=(384, 320, 400, 400)))
t2.write_image(folder / "tour-thumbnail.png", g.render(size=(48, 48)))
t2.write_image(folder / "tour-jagged.png", g.render(size=(48, 48), antialias=False))

# %% Edit: beside the picture, its mirror image in sepia.
height, width = g.size
sepia = [[0.39, 0.77, 0.19], [0.35, 0.69, 0.17], [0.27, 0.53, 0.13]]
mirrored = g.transform([[-1, 0, 2 * width], [0, 1, 0]], size=(height, 2 * width)).recolor(sepia)
wide = g.transform([[1, 0, 0], [0, 1, 0]], size=(height, 2 * width))
pair = wide.select((0, 0, height, width)).concat(mirrored.select((0, width, height, width)))
t2.write_image(folder / "tour-pair.jpg", pair.render())

# %% A file, and back. It holds what a render needs; any backend opens it.
pair.save(folder / "tour.t2d")
again = t2.load(folder / "tour.t2d")
print((folder / "tour.t2d").stat().st_size, "bytes;", len(again), "Gaussians of", again.size)
