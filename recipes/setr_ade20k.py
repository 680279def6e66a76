"""SETR on ADE20K (Zheng et al. 2021), by the authors' released configurations.

    python recipes/setr_ade20k.py --data-dir ADEChallengeData2016 --folder runs/setr_ade20k \\
        --weights vit_large.pth

The folder holds images/ and annotations/, each with training/ (20,210) and validation/ (2,000). The
decoder is PUP, or --naive, or --mla; --base builds on ViT-Base for ViT-Large.

As recipes/setr_cityscapes.py, which it shares its code with, but: crop 512, batch 16, 160 epochs of
1000 steps, learning rate 0.001, images within 2048 x 512; test by windows of 512 at strides of 341.
Hardware: GPUs for 16 crops of 512 x 512 a step; not timed.
Published: val, one scale and six: naive 48.06 and 48.80, PUP 48.62 and 50.09, MLA 48.64 and 50.28.
Where we differ: as there.
Measured: not run at full length.
"""

import setr_cityscapes as setr


def main(arguments=None):
    options = setr.read_options(__doc__, "runs/setr_ade20k", 160, "ade20k", arguments)
    setr.run(options, learning_rate=1e-3, crop=512, batch=16, bound=(2048, 512), stride=341)


if __name__ == "__main__":
    main()
