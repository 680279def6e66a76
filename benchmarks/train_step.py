"""One training step here and in PyTorch: the same network, weights, batch and optimizer, in turns.

    pip install torch torchvision segmentation-models-pytorch
    python benchmarks/train_step.py                            # every network on all cores
    python benchmarks/train_step.py fcd67 --rounds 10 --parts
    KERAS_BACKEND=jax python benchmarks/train_step.py --precision mixed_bfloat16 \\
        --columns keras torch "torch channels last" "torch compiled" --batch 16 --steps 20
                                                           # where there is a GPU

A step is forward, cross entropy, backward and SGD with momentum, normalisations in training, drop
out left out. Each network is built in PyTorch, `keras_seg.weights.load` puts its weights into ours,
and the losses of the first two turns are printed: they prove that both compute the same. Then the
columns run in turns in this process, and the table holds the minimum of each over the rounds. A
turn is `--steps` steps on a batch that lies on the device, ours by `fit`, and its time is from the
end of the first of them, or with one step from the call, to the last loss on the host.

"torch" is eager, channels first, as its users write it; "torch channels last" the same in the other
order in memory; "torch compiled" is torch.compile of that. In bfloat16 PyTorch runs under autocast.
`--parts` adds where our step spends its time on TensorFlow: the operators of a profile.
"""

import argparse
import contextlib
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch shares the GPU

with contextlib.suppress(ImportError):  # torchvision crashes where TensorFlow was imported first
    import torchvision  # noqa: F401

import keras
import numpy as np
from export_speed import CLASSES, DEVIATION, MEAN, psp50, smp

from keras_seg import losses, models, training, weights
from keras_seg.utils import versions

RATE, MOMENTUM = 1e-3, 0.9
COLUMNS = ("keras", "torch", "torch channels last", "torch compiled")


def fcd67():
    """FC-DenseNet67 in PyTorch, with the names of bfortuner's pytorch_tiramisu, without dropout."""
    import torch
    from torch import nn

    growth, count, blocks = 16, 5, 5

    class Unit(nn.Module):
        def __init__(self, inputs, outputs, size):
            super().__init__()
            self.norm = nn.BatchNorm2d(inputs, eps=1e-4)
            self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)

        def forward(self, x):
            return self.conv(torch.relu_(self.norm(x)))

    class Block(nn.Module):
        def __init__(self, inputs):
            super().__init__()
            self.layers = nn.ModuleList(Unit(inputs + i * growth, growth, 3) for i in range(count))

        def forward(self, x):
            new = []
            for layer in self.layers:
                new.append(layer(x))
                x = torch.cat([x, new[-1]], 1)
            return x, torch.cat(new, 1)

    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            self.convTrans = nn.ConvTranspose2d(count * growth, count * growth, 3, 2)

        def forward(self, x, skip):
            x = self.convTrans(x)[:, :, : skip.shape[2], : skip.shape[3]]
            return torch.cat([x, skip], 1)

    class Bottleneck(nn.Module):
        def __init__(self, inputs):
            super().__init__()
            self.bottleneck = Block(inputs)

        def forward(self, x):
            return self.bottleneck(x)

    class FCDenseNet(nn.Module):
        def __init__(self):
            super().__init__()
            maps = [48 + growth * count * i for i in range(blocks + 1)]
            self.firstconv = nn.Conv2d(3, 48, 3, padding=1)
            self.denseBlocksDown = nn.ModuleList(Block(n) for n in maps[:-1])
            self.transDownBlocks = nn.ModuleList(Unit(n, n, 1) for n in maps[1:])
            self.bottleneck = Bottleneck(maps[-1])
            self.transUpBlocks = nn.ModuleList(Up() for _ in range(blocks))
            skips = maps[:0:-1]
            self.denseBlocksUp = nn.ModuleList(Block(n + growth * count) for n in skips)
            self.finalConv = nn.Conv2d(skips[-1] + 2 * growth * count, CLASSES, 1)

        def forward(self, x):
            x = self.firstconv(x)
            skips = []
            for block, down in zip(self.denseBlocksDown, self.transDownBlocks, strict=True):
                x, _ = block(x)
                skips.append(x)
                x = torch.max_pool2d(down(x), 2)
            _, x = self.bottleneck(x)
            for up, block in zip(self.transUpBlocks, self.denseBlocksUp, strict=True):
                whole, x = block(up(x, skips.pop()))
            return self.finalConv(whole)

    return FCDenseNet()


# name: (builder, its options, side of the image, batch, PyTorch's network, layout, preprocessing)
NETWORKS = {
    "unet": ("SMPUnet", {"backbone": "resnet34"}, 256, 4, smp("Unet", "resnet34"), "smp", "torch"),
    "psp50": ("PSPNet", {"backbone": "resnet50", "dropout": 0}, 233, 2, psp50, "semseg", "torch"),
    "fcd67": ("FCDenseNet67", {"dropout": 0}, 224, 3, fcd67, "tiramisu", "unit"),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(NETWORKS)} (all)")
    parser.add_argument("--columns", nargs="+", default=COLUMNS[:3], help=f"of {COLUMNS}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="of a turn (1; 20 on a GPU)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of PyTorch (all)")
    parser.add_argument("--batch", type=int, help="images a step (of each network)")
    parser.add_argument("--side", type=int, help="of the images (of each network)")
    parser.add_argument("--precision", default="float32", help="float32 or mixed_bfloat16")
    parser.add_argument("--parts", action="store_true", help="where our step spends its time")
    options = parser.parse_args()
    for name in options.names or NETWORKS:
        measure(name, options)
        keras.backend.clear_session()
    print(", ".join(f"{package} {version}" for package, version in versions().items()))


def measure(name, options):
    """Print one network's lines."""
    import torch

    builder, settings, side, batch, build_torch, layout, mode = NETWORKS[name]
    side, batch = options.side or side, options.batch or batch
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (batch, side, side, 3)).astype("float32")
    label = rng.integers(0, CLASSES, (batch, side, side)).astype("int32")
    given = (image - MEAN) / DEVIATION if mode == "torch" else image / 255
    given = given.astype("float32").transpose(0, 3, 1, 2).copy()

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    state = build_torch().state_dict()
    calls = {}
    for column in options.columns:
        if column == "keras":
            calls[column] = keras_step(builder, settings, state, layout, image, label, options)
        else:
            network = build_torch()
            network.load_state_dict(state)
            calls[column] = torch_step(network, column, given, label, options.precision)
    first = {column: [turn(call, 1)[1] for _ in range(2)] for column, call in calls.items()}
    times = {column: [] for column in calls}
    for number in range(options.rounds + 1):
        for column, call in calls.items():
            seconds, _ = turn(call, options.steps)
            if number:  # the first one after others' warms up
                times[column].append(seconds)
    backend = keras.backend.backend()
    print(f"{name}, {batch} x {side} x {side}, {options.precision}, Keras on {backend}")
    for column, seconds in times.items():
        line = f"  {column:20s} {1000 * min(seconds):8.1f} ms"
        if "torch" in times:
            line += f"  {min(seconds) / min(times['torch']):6.3f} x torch"
        print(f"{line}  first losses {first[column][0]:.5f} {first[column][1]:.5f}", flush=True)
    if options.parts and "keras" in calls:
        print_parts(lambda: turn(calls["keras"], 1))


def keras_step(builder, settings, state, layout, image, label, options):
    """A function that trains some steps, calls `tick` after the first, returns the last loss."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(options.precision)
    model = getattr(models, builder)(CLASSES, **settings)
    keras.config.set_dtype_policy("float32")
    weights.load(model, state, layout=layout)
    optimizer = training.SGD(RATE, momentum=MOMENTUM)
    compiled = keras.backend.backend() == "jax"
    model.compile(optimizer, losses.CrossEntropy(), jit_compile=compiled)
    batch = tuple(keras.ops.convert_to_tensor(array) for array in (image, label))

    def run(steps, tick):
        if steps == 1:
            tick()
            return float(model.train_on_batch(*batch))
        clock = Clock(tick)
        model.fit(Repeated(batch, steps), verbose=0, shuffle=False, callbacks=[clock])
        return clock.loss

    return run


class Repeated(keras.utils.PyDataset):
    """One batch again and again."""

    def __init__(self, batch, steps):
        super().__init__()
        self.batch, self.steps = batch, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return self.batch


class Clock(keras.callbacks.Callback):
    """Calls `tick` when the first step has ended, and waits for the last one's loss."""

    def __init__(self, tick):
        super().__init__()
        self.tick = tick

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            float(logs["loss"])  # waits for the device
            self.tick()
        if batch + 1 == self.params["steps"]:
            self.loss = float(logs["loss"])


def turn(call, steps):
    """(seconds a step, last loss) of `steps` steps of `call`."""
    ticks = []
    loss = call(steps, lambda: ticks.append(time.perf_counter()))
    return (time.perf_counter() - ticks[0]) / max(1, steps - 1), loss


def torch_step(network, column, given, label, precision):
    """The same in PyTorch, on a GPU if there is one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    order = torch.contiguous_format if column == "torch" else torch.channels_last
    network = network.to(device, memory_format=order).train()
    x = torch.from_numpy(given).to(device, memory_format=order)
    y = torch.from_numpy(label.astype("int64")).to(device)
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=MOMENTUM)
    half = torch.autocast(device, torch.bfloat16, enabled=precision == "mixed_bfloat16")
    forward = torch.compile(network) if column == "torch compiled" else network

    def run(steps, tick):
        if steps == 1:
            tick()
        for number in range(steps):
            optimizer.zero_grad()
            with half:
                loss = torch.nn.functional.cross_entropy(forward(x).float(), y)
            loss.backward()
            optimizer.step()
            if steps > 1 and number == 0:
                loss.item()  # waits for the device, as Keras' float() does
                tick()
        return loss.item()

    return run


def print_parts(call):
    """Operators of one step on TensorFlow by the time they took, more than one core's together."""
    import collections
    import pathlib
    import tempfile

    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        call()
        tf.profiler.experimental.stop()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    spent = collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                # "name of the operator:its kind", of a kernel that ran
                kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if kind[1]:
                    spent[kind[2]] += event.duration_ps / 1e9
    for kind, milliseconds in spent.most_common(15):
        print(f"    {milliseconds:8.1f} ms  {kind}")


if __name__ == "__main__":
    main()
