"""EncNet on ADE20K (Zhang et al. 2018), by the authors' released procedure.

    python recipes/encnet_ade20k.py --data-dir ADEChallengeData2016 --folder runs/encnet_ade20k \\
        --layers 50 --weights resnet50s.pth

The folder holds images/ and annotations/, each with training/ (20,210) and validation/ (2,000).
--layers 50 or 101.

As recipes/encnet_pcontext.py, which it shares its code with, but: 120 epochs, learning rate 0.01,
no lateral connections; with 101 layers long side 640 and crop 576.
Hardware: GPUs for 16 crops of 480 x 480 a step (101 layers: 576 x 576); not timed.
Published: 79.73 pixel accuracy / 41.11 mIoU (50), 81.69 / 44.65 (101) on val; released models, six
scales: 80.1 / 41.5 (50), 81.3 / 44.4 (101); test set, final score 0.5567.
Where we differ: as there.
Measured: not run at full length.
"""

import encnet_pcontext as encnet


def main(arguments=None):
    options = encnet.read_options(__doc__, "runs/encnet_ade20k", 120, "ade20k", arguments)
    crop, base_size = (576, 640) if options.layers == 101 else (480, 520)
    encnet.run(options, learning_rate=1e-2, crop=crop, base_size=base_size, lateral=False)


if __name__ == "__main__":
    main()
