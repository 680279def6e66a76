"""Outputs of segmentation_models.pytorch against ours, with the same random weights.

    pip install torch segmentation-models-pytorch
    KERAS_BACKEND=torch python benchmarks/smp_parity.py

Each of smp's networks is made with random weights and statistics, its `state_dict` goes through
`keras_seg.weights.load(..., layout="smp")` into ours, and both see the same two images. Printed is
the relative maximum error, max |a - b| / max |b|. Any backend of Keras that is installed will do.
"""

import keras
import numpy as np
import segmentation_models_pytorch as smp
import torch

from keras_seg import models, weights

# network of smp, its options, rows and columns of the images
CASES = [
    ("Unet", {"encoder_name": "resnet18"}, (96, 64)),
    ("Unet", {"encoder_name": "resnet18"}, (75, 101)),
    ("Unet", {"encoder_name": "resnet18", "decoder_interpolation": "bilinear"}, (70, 90)),
    ("Unet", {"encoder_name": "resnet34", "decoder_attention_type": "scse"}, (64, 96)),
    (
        "Unet",
        {
            "encoder_name": "resnet50",
            "encoder_depth": 4,
            "decoder_channels": (64, 48, 32, 16),
            "in_channels": 1,
        },
        (50, 70),
    ),
    ("Unet", {"encoder_name": "resnet152", "in_channels": 4}, (64, 64)),
    ("Unet", {"encoder_name": "vgg16"}, (64, 96)),
    ("PSPNet", {"encoder_name": "vgg16"}, (96, 64)),
    ("PSPNet", {"encoder_name": "resnet34"}, (96, 136)),
    ("PSPNet", {"encoder_name": "resnet50", "psp_out_channels": 256}, (104, 72)),
    ("PSPNet", {"encoder_name": "resnet18", "encoder_depth": 5, "upsampling": 32}, (256, 224)),
    ("DeepLabV3", {"encoder_name": "resnet18"}, (64, 104)),
    (
        "DeepLabV3",
        {
            "encoder_name": "resnet50",
            "encoder_output_stride": 16,
            "decoder_aspp_separable": True,
            "decoder_atrous_rates": (3, 6, 9),
            "decoder_channels": 128,
        },
        (96, 128),
    ),
    ("DeepLabV3Plus", {"encoder_name": "resnet101"}, (96, 128)),
    (
        "DeepLabV3Plus",
        {
            "encoder_name": "resnet18",
            "encoder_output_stride": 8,
            "decoder_aspp_separable": False,
            "aux_params": {"classes": 3},
        },
        (72, 88),
    ),
]
OURS = {
    "encoder_name": "backbone",
    "encoder_output_stride": "output_stride",
    "decoder_attention_type": "attention",
    "decoder_interpolation": "interpolation",
    "decoder_atrous_rates": "rates",
    "decoder_aspp_separable": "separable",
    "psp_out_channels": "psp_channels",
}
# Of theirs only: how far to resize, where ours resizes to the image; a classifier of images.
THEIRS = ("in_channels", "upsampling", "aux_params")
CLASSES = 5


def main():
    torch.manual_seed(0)
    for kind, options, size in CASES:
        print(f"{kind} {options} {size}: {error(kind, options, size):.1e}", flush=True)
        keras.backend.clear_session()


def error(kind, options, size):
    """Relative maximum error of one case."""
    theirs = getattr(smp, kind)(encoder_weights=None, classes=CLASSES, **options).eval()
    random = torch.Generator().manual_seed(0)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low in ((module.running_var, 0.5), (module.weight.data, 0.5)):
                tensor.copy_(low + torch.rand(tensor.shape, generator=random))
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=random))
    channels = options.get("in_channels", 3)
    images = torch.randn((2, channels, *size), generator=random)
    with torch.no_grad():
        expected = theirs(images)
    if isinstance(expected, tuple):
        expected = expected[0]

    renamed = {OURS.get(k, k): v for k, v in options.items() if k not in THEIRS}
    ours = models.build(
        f"SMP{kind}", CLASSES, (None, None, channels), preprocessing="none", **renamed
    )
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    weights.load(ours, state, layout="smp")
    got = keras.ops.convert_to_numpy(ours(images.permute(0, 2, 3, 1).numpy(), training=False))
    expected = expected.permute(0, 2, 3, 1).numpy()
    return np.abs(got - expected).max() / np.abs(expected).max()


if __name__ == "__main__":
    main()
