"""SETR of fudan-zvg/SETR, `mmseg/models`: vit and vit_mla with their heads; ours is `SETR`.

Positions that were learned for another grid are resized (`TokenEmbedding.fit_positions`). Every
head of the reference carries a classifier `conv_seg` that it never uses. Checkpoints of timm's ViT
and of DeiT alone have the same names, for `keras_seg.weights.transfer`: the reference starts from
`vit_large_patch16_384`, `vit_base_patch16_384` or `deit_base_distilled_patch16_384`.
"""

import re

from keras_seg.weights.layouts.table import Layout, before, by_pattern, trunk_alone


def _names(layers):
    mla = any(layer.startswith("mla") for layer in layers)
    convolutions = sum(bool(re.fullmatch(r"head\d_conv", layer)) for layer in layers)

    def head(number):
        return "decode_head" if number is None else f"auxiliary_head.{before(number)}"

    def classifier(number):
        if mla:
            return "decode_head.cls" if number is None else f"{head(number)}.aux"
        return f"{head(number)}.conv_{convolutions if number is None else 1}"

    def block(number, part):
        part = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}.get(
            part, part
        )
        return f"backbone.blocks.{before(number)}.{part}"

    def level(number, reduce, kind):
        convolution = f"mla_p{number}_1x1" if reduce else f"mla_p{number}"
        return f"backbone.mla.{convolution}.{int(kind == 'bn')}"

    def level_head(number, i, kind):
        """Convolution, BN, ReLU, convolution, BN, ReLU."""
        return f"decode_head.mlahead.head{number}.{3 * before(i) + (kind == 'bn')}"

    return by_pattern(
        layers,
        (
            (r"patch_embed", lambda: "backbone.patch_embed.proj"),
            (r"tokens", lambda: "backbone"),
            (r"block(\d+)_(norm1|qkv|proj|norm2|fc1|fc2)", block),
            (r"(?:aux(\d)_)?head_norm", lambda aux: f"{head(aux)}.norm"),
            (r"(?:aux(\d)_)?head(\d)_conv", lambda aux, i: f"{head(aux)}.conv_{before(i)}"),
            (r"(?:aux(\d)_)?head(\d)_bn", lambda aux, i: f"{head(aux)}.syncbn_fc_{before(i)}"),
            (r"mla(\d)_norm", lambda number: f"backbone.norm_{int(number) - 2}"),
            (r"mla(\d)_(reduce_)?(conv|bn)", level),
            (r"head(\d)_(\d)_(conv|bn)", level_head),
            (r"(?:aux(\d)|logits)_low", classifier),
        ),
    )


LAYOUT = Layout(
    reference="fudan-zvg/SETR mmseg/models",
    names=_names,
    ignored=(
        r".*\.conv_seg\.(weight|bias)",
        r"backbone\.(norm|pre_logits\.fc|head|head_dist)\.(weight|bias)",  # of the classifier
        r"backbone\.dist_token",
    ),
    prepare=trunk_alone("blocks.0.attn.qkv.weight", "backbone."),
    heads=("auxiliary_head.",),
)
