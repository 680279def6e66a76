"""Vision transformer (ViT), the trunk of SETR.

Dosovitskiy et al. "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
ICLR 2021. https://arxiv.org/abs/2010.11929

                width   blocks   heads   parameters without positions
    ViT-Base      768       12      12     85,645,824
    ViT-Large    1024       24      16    303,097,856

Positions add (1 + h w) * width for the grid of h x w patches that they are learned for.
"""

from keras import layers

from keras_seg.layers import GELU, SelfAttention, TokenEmbedding, normal_002, uniform_fan_in


def vit(
    image,
    *,
    embed_dim=768,
    depth=12,
    num_heads=12,
    patch_size=16,
    grid=(24, 24),
    class_token=True,
    prefix="",
):
    """Apply a ViT without its last normalisation and its classifier.

    A block is x += attention(LN(x)), x += MLP(LN(x)), the MLP four times as wide, with exact GELU.
    Nothing is dropped at random.

    Args:
        image: tensor (N, H, W, C), normalised, H and W multiples of `patch_size`.
        embed_dim: D, channels of a token.
        depth: number of blocks.
        num_heads: of each attention, a divisor of `embed_dim`.
        patch_size: side of a patch in pixels.
        grid: (rows, columns) of patches that positions are learned for; those of an image of
            another size are interpolated.
        class_token: whether the blocks see the class token.
        prefix: put before every layer's name.

    Returns:
        dict: "patches", the map (N, H / patch_size, W / patch_size, D) before positions, and
        "block1", "block2", ..., the tokens (N, T, D) behind each block, the class token first.
        Layers are `patch_embed`, `tokens`, `block1_norm1`, `block1_qkv`, `block1_attention`,
        `block1_proj`, `block1_norm2`, `block1_fc1`, `block1_fc2`, `block1_out`, ...

    Raises:
        ValueError: if `num_heads` does not divide `embed_dim`.
    """

    def norm(x, name):
        return layers.LayerNormalization(epsilon=1e-6, name=f"{prefix}{name}")(x)

    def dense(x, units, name):
        return layers.Dense(int(units), kernel_initializer=normal_002(), name=f"{prefix}{name}")(x)

    def block(x, name):
        y = dense(norm(x, f"{name}_norm1"), 3 * embed_dim, f"{name}_qkv")
        y = SelfAttention(num_heads, name=f"{prefix}{name}_attention")(y)
        x = layers.Add(name=f"{prefix}{name}_add")([x, dense(y, embed_dim, f"{name}_proj")])
        y = dense(norm(x, f"{name}_norm2"), 4 * embed_dim, f"{name}_fc1")
        y = dense(GELU(name=f"{prefix}{name}_gelu")(y), embed_dim, f"{name}_fc2")
        return layers.Add(name=f"{prefix}{name}_out")([x, y])

    patches = layers.Conv2D(
        embed_dim,
        patch_size,
        strides=patch_size,
        kernel_initializer=uniform_fan_in(),
        name=f"{prefix}patch_embed",
    )(image)
    x = TokenEmbedding(grid, class_token, name=f"{prefix}tokens")(patches)
    features = {"patches": patches}
    for i in range(1, depth + 1):
        x = features[f"block{i}"] = block(x, f"block{i}")
    return features
