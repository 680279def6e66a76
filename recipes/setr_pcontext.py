"""SETR on PASCAL Context (Zheng et al. 2021), by the authors' released configurations.

    python recipes/setr_pcontext.py --data-dir VOC2010 --folder runs/setr_pcontext \\
        --weights vit_large.pth

60 classes with background: 4,998 images for training, 5,105 for validation. The decoder is PUP, or
--naive, or --mla; --base builds on ViT-Base for ViT-Large.

As recipes/setr_cityscapes.py, which it shares its code with, but: crop 480, batch 16, 80 epochs of
1000 steps, learning rate 0.001, images within 520 x 520; test by windows of 480 at strides of 320.
Hardware: GPUs for 16 crops of 480 x 480 a step; not timed.
Published: val, one scale and six: naive 52.89 and 53.61, PUP 54.37 and 55.27, MLA 55.01 and 55.83.
Where we differ: as there.
Measured: not run at full length.
"""

import setr_cityscapes as setr


def main(arguments=None):
    options = setr.read_options(__doc__, "runs/setr_pcontext", 80, "pascal_context", arguments)
    setr.run(
        options, learning_rate=1e-3, crop=480, batch=16, bound=(520, 520), stride=320, protocol="60"
    )


if __name__ == "__main__":
    main()
