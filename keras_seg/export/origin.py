"""Which layer an operator of a graph or a file comes from: converters keep its path as a name."""

import re


def layer_names(model):
    """The names of a Keras model's layers, also of those within others."""
    return {layer.name for layer in model._flatten_layers(include_self=False)}


def layer_of(names, layers):
    """The layer that something in a graph or a file comes from.

    Args:
        names: of tensors or nodes, the likeliest first; such as "net_1/head_2/Softmax", several of
            them joined by ";".
        layers: the names of the model's layers.

    Returns:
        "LAYER", for one in another layer "OUTER/LAYER", or None.
    """
    for joined in names:
        for name in joined.split(";"):
            found = []
            for part in name.split("/"):
                # A second call of a layer, and every call of some, is numbered.
                known = next((p for p in (part, re.sub(r"_\d+$", "", part)) if p in layers), None)
                if known:
                    found.append(known)
            if found:
                return "/".join(found)
    return None


def name_operators(operators, model):
    """In words, operators and the layers that use them: "Erfinv (layer 'act')".

    Args:
        operators: pairs (type, path), the path None where it is not known.
        model: the Keras model.
    """
    layers, users = layer_names(model), {}
    for kind, path in operators:
        layer = path and layer_of([path], layers)
        place = f"layer {layer!r}" if layer else repr(path) if path else ""
        users.setdefault(kind, {})[place] = True
    return ", ".join(
        f"{kind} ({', '.join(filter(None, places))})" if any(places) else kind
        for kind, places in sorted(users.items())
    )
