"""SETR: segmentation transformer.

Zheng, Lu, Zhao, Zhu, Luo, Wang, Fu, Feng, Xiang, Torr, Zhang. "Rethinking Semantic Segmentation
from a Sequence-to-Sequence Perspective with Transformers", CVPR 2021.
https://arxiv.org/abs/2012.15840; details as in the authors' fudan-zvg/SETR.

    part      operations                                                      channels    stride
    patches   conv16x16/16, class token, positions                            D           16
    blocks    x += attention(LN(x)), x += MLP(LN(x))                          D           16
    naive     LN, conv1x1                                                     256         16
              conv1x1 to num_classes, resize                                  K           1
    pup       LN, conv3x3, four of them, each of the first three enlarged x2  256         2
              conv1x1 to num_classes, resize                                  K           1
    mla       of four blocks LN, conv1x1; each level added to those of the
              deeper blocks, conv3x3                                          256         16
              each: two conv3x3, enlarged x4 (align_corners); concat          4 x 128     4
              conv3x3 to num_classes, resize                                  K           1
    aux       training only. naive: as its head. pup: LN, conv3x3, x4,
              conv1x1, resize. mla: conv1x1 on each level, resize             256, K      1

                D      blocks   heads   auxiliary heads of naive, pup    blocks of mla
    large       1024   24       16      10 15 20, 10 15 20 24            6 12 18 24
    base        768    12       12      3 6 9, 5 8 10 12                 3 6 9 12

    parameters without, with auxiliary heads
    crop, K             naive                     pup                       mla
    large 768,  19  305,728,019 306,537,548  309,596,947 319,064,927  310,737,427 310,756,883
    large 512, 150  304,450,966 305,361,496  308,319,894 317,922,542  310,030,486 310,184,086
    large 480,  60  304,300,860 305,142,000  308,169,788 317,679,916  309,488,700 309,550,140
    base  768,  19   87,619,859  88,231,244   90,964,499  98,071,135   92,431,123  92,450,579
    base  512, 150   86,670,486  87,382,872   90,015,126  97,256,430   92,051,862  92,205,462

Batch normalisation and ReLU follow every convolution but those to the classes; those of naive and
pup have a bias as well. mla drops the class token before the first block: its D weights are among
the parameters, but frozen.

Faithful: ViT without its last normalisation, exact GELU, LN with epsilon 1e-6, no dropout, the
class token kept in naive and pup, both resize conventions, weights N(0, 0.02) and positions alike.
Where we differ: the reference takes square images of the training crop only. Here any height and
width that are multiples of 16 work, also unknown ones: positions are learned for the grid of
`crop_size` and interpolated for other images, in the graph, the way the reference fits those of a
classifier when it loads them. Results are best at the crop's size (the paper's sliding window),
and attention costs the square of the number of patches.
"""

import keras
from keras import layers

from keras_seg.backbones import vit
from keras_seg.layers import (
    Resize,
    TokenMap,
    check_size,
    conv_bn_relu,
    image_input,
    preprocess,
    resize_logits,
    uniform_fan_in,
)
from keras_seg.utils import check_counts, is_count, unknown_name
from keras_seg.weights import load_own

PATCH = 16
VARIANTS = {"large": (1024, 24, 16), "base": (768, 12, 12)}  # width, blocks, heads

# Factors by which the map grows behind each convolution, of the head and of auxiliary heads.
UPSAMPLING = {"naive": ((1,), (1,)), "pup": ((2, 2, 2, 1), (4,)), "mla": None}
# Blocks with an auxiliary head, counted from 1 as in the paper; mla has one at each of its blocks.
AUX_BLOCKS = {
    ("naive", 24): (10, 15, 20),
    ("pup", 24): (10, 15, 20, 24),
    ("naive", 12): (3, 6, 9),
    ("pup", 12): (5, 8, 10, 12),
}


def SETR(
    num_classes,
    input_shape=(None, None, 3),
    *,
    decoder="pup",
    variant="large",
    embed_dim=None,
    depth=None,
    num_heads=None,
    crop_size=None,
    mla_blocks=None,
    filters=256,
    aux=False,
    aux_blocks=None,
    preprocessing="imagenet",
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    weights=None,
    name="setr",
):
    """Build SETR as a functional model.

    Args:
        num_classes: channels of the output; the ignore label is not counted.
        input_shape: (H, W, C), H and W multiples of 16, or None for any such multiple.
        decoder: "naive", "pup" (progressive upsampling) or "mla" (multi-level aggregation).
        variant: of ViT: "large" or "base".
        embed_dim, depth, num_heads: width, blocks and heads, where they are not the variant's.
        crop_size: side, or (height, width), of the training crops in pixels, multiples of 16:
            the grid that positions are learned for. Default: H and W of `input_shape` if known,
            else 512.
        mla_blocks: the four blocks that "mla" reads, counted from 1. Default: at each quarter.
        filters: channels of the decoder; the two convolutions of each level of "mla" have half.
        aux: add the outputs "aux1", "aux2", ..., one for each of `aux_blocks`, each for a further
            loss (weight 0.4).
        aux_blocks: blocks with an auxiliary head, counted from 1; with "mla" some of
            `mla_blocks`. Default: the table at the top of this file, for other depths each quarter
            (without the last for "naive").
        preprocessing: what is done to pixels 0..255 first, see `keras_seg.layers.Preprocess`.
        bn_momentum, bn_epsilon: of every batch normalisation.
        weights: None, or a file that this model wrote (`.weights.h5`, `.keras`).

    Returns:
        `keras.Model` from images (N, H, W, C), pixels 0..255, to float32 logits
        (N, H, W, num_classes); with `aux` to {"logits": ..., "aux1": ..., ...}, all of that shape.

    Raises:
        ValueError: for an unknown decoder or variant, blocks that are not there, a wrong number
            of classes, a crop that is no multiple of 16, or an image whose size is none, also when
            the model is called (`keras_seg.layers.CheckSize`).
    """
    if decoder not in UPSAMPLING:
        raise unknown_name("decoder", decoder, UPSAMPLING)
    if variant not in VARIANTS:
        raise unknown_name("variant", variant, VARIANTS)
    embed_dim, depth, num_heads = (
        own if given is None else given
        for given, own in zip((embed_dim, depth, num_heads), VARIANTS[variant], strict=True)
    )
    check_counts(embed_dim=embed_dim, depth=depth, num_heads=num_heads)
    quarters = tuple(depth * i // 4 for i in (1, 2, 3, 4))
    read = range(1, depth + 1)
    if decoder == "mla":
        read = mla_blocks = _blocks("mla_blocks", mla_blocks, quarters, read)
        if len(mla_blocks) != 4:
            raise ValueError(f"mla_blocks must be four blocks, got {mla_blocks}.")
    if aux:
        own = {"naive": quarters[:3], "pup": quarters, "mla": mla_blocks}[decoder]
        default = AUX_BLOCKS.get((decoder, depth), own)
        aux_blocks = _blocks("aux_blocks", aux_blocks, default, read)
    normalisation = {"momentum": bn_momentum, "epsilon": bn_epsilon, "initializer": uniform_fan_in}

    image = image_input(input_shape, num_classes, filters=filters)
    x = preprocess(check_size(image, PATCH, PATCH), preprocessing)
    tokens = vit(
        x,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        patch_size=PATCH,
        grid=_grid(crop_size, image.shape[1:3]),
        class_token=decoder != "mla",
    )

    def normalised_map(x, name):
        """LN of tokens, as a map (N, h, w, D)."""
        x = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
        return TokenMap(decoder != "mla", name=f"{name}_map")(x, tokens["patches"])

    def to_classes(x, name, kernel_size=1, use_bias=True):
        x = layers.Conv2D(
            num_classes,
            kernel_size,
            padding="same",
            use_bias=use_bias,
            kernel_initializer=uniform_fan_in(),
            name=f"{name}_low",
        )(x)
        return resize_logits(x, image, name=name)

    def upsampling_head(x, factors, name):
        """Convolutions, each with a resize behind it where its factor is not 1."""
        head = "head" if name == "logits" else f"{name}_head"
        x = normalised_map(x, head)
        for i, factor in enumerate(factors, start=1):
            x = conv_bn_relu(
                x,
                filters,
                1 if decoder == "naive" else 3,
                use_bias=True,
                name=f"{head}{i}",
                **normalisation,
            )
            if factor > 1:
                x = Resize(scale=factor, name=f"{head}{i}_resize")(x)
        return to_classes(x, name)

    def aggregated_levels():
        """Of each level the sum with the deeper ones, smoothed: four maps (N, h, w, filters)."""
        levels, total = [], None
        for level, block in reversed([*enumerate(mla_blocks, start=2)]):
            x = normalised_map(tokens[f"block{block}"], f"mla{level}")
            x = conv_bn_relu(x, filters, 1, name=f"mla{level}_reduce", **normalisation)
            total = x if total is None else layers.Add(name=f"mla{level}_add")([total, x])
            levels.append(conv_bn_relu(total, filters, 3, name=f"mla{level}", **normalisation))
        return levels[::-1]

    def aggregation_head(levels):
        maps = []
        for level, x in enumerate(levels, start=2):
            for i in (1, 2):
                x = conv_bn_relu(x, filters // 2, 3, name=f"head{level}_{i}", **normalisation)
            maps.append(Resize(scale=4, align_corners=True, name=f"head{level}_resize")(x))
        return to_classes(layers.Concatenate(name="head_concat")(maps), "logits", kernel_size=3)

    # "features" ends what the release trains at the base learning rate; with mla it is four maps.
    if decoder == "mla":
        levels = layers.Identity(name="features")(aggregated_levels())
        outputs = {"logits": aggregation_head(levels)}
    else:
        factors, aux_factors = UPSAMPLING[decoder]
        x = layers.Identity(name="features")(tokens[f"block{depth}"])
        outputs = {"logits": upsampling_head(x, factors, "logits")}
    if aux:
        for i, block in enumerate(aux_blocks, start=1):
            name = f"aux{i}"
            if decoder == "mla":
                level = levels[mla_blocks.index(block)]
                outputs[name] = to_classes(level, name, use_bias=False)
            else:
                outputs[name] = upsampling_head(tokens[f"block{block}"], aux_factors, name)
    model = keras.Model(image, outputs if aux else outputs["logits"], name=name)
    if weights is not None:
        load_own(model, weights)
    return model


def _blocks(argument, blocks, default, known):
    """`blocks`, or `default` for None; ValueError if they do not ascend or are not all `known`."""
    blocks = default if blocks is None else blocks
    blocks = tuple(blocks) if isinstance(blocks, list | tuple) else (blocks,)
    if not blocks or any(b not in known for b in blocks) or list(blocks) != sorted(set(blocks)):
        raise ValueError(
            f"{argument} must be ascending numbers of blocks out of {list(known)}, got {blocks}."
        )
    return blocks


def _grid(crop_size, image_size):
    """(rows, columns) of patches that positions are learned for."""
    if crop_size is None:
        crop_size = (512, 512) if None in image_size else image_size
    size = crop_size if isinstance(crop_size, list | tuple) else (crop_size, crop_size)
    if len(size) != 2 or any(not is_count(n, PATCH) or n % PATCH for n in size):
        raise ValueError(f"crop_size must be a multiple of {PATCH}, or two, got {crop_size!r}.")
    return tuple(int(n) // PATCH for n in size)
