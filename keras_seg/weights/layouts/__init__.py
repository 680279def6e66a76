"""Whose names a state has. One module a reference; a further one is a table and an entry here."""

from keras_seg.weights.layouts import (
    caffe,
    deconvnet,
    deeplab,
    dilation,
    drn,
    encoding,
    inplace_abn,
    kazuto1011,
    keras_applications,
    milesial,
    pix2pix,
    segnet,
    semseg,
    setr,
    smp,
    tiramisu,
    torchvision,
    wkentaro,
)

# Keys of LAYOUTS are the names that `keras_seg.weights.load` takes.
LAYOUTS = {
    "caffe": caffe.LAYOUT,
    "deconvnet": deconvnet.LAYOUT,
    "deeplab": deeplab.LAYOUT,
    "dilation": dilation.LAYOUT,
    "drn": drn.LAYOUT,
    "encoding": encoding.LAYOUT,
    "inplace_abn": inplace_abn.LAYOUT,
    "kazuto1011": kazuto1011.LAYOUT,
    "keras_applications": keras_applications.LAYOUT,
    "milesial": milesial.LAYOUT,
    "pix2pix": pix2pix.LAYOUT,
    "segnet": segnet.LAYOUT,
    "semseg": semseg.LAYOUT,
    "setr": setr.LAYOUT,
    "smp": smp.LAYOUT,
    "tiramisu": tiramisu.LAYOUT,
    "torchvision": torchvision.LAYOUT,
    "wkentaro": wkentaro.LAYOUT,
}
