import pytest
import tensorflow as tf

from keras_seg.training.events import EventWriter


def test_tensorflow_reads_what_we_write(tmp_path):
    """TensorFlow checks both checksums of each record; the protocol buffer is its own class."""
    writer = EventWriter(tmp_path / "train")
    writer.scalars(0, {"epoch_loss": 1.5, "epoch_mean_iou": 0.25})
    writer.scalars(300, {"epoch_loss": 0.125})
    writer.close()
    (file,) = (tmp_path / "train").iterdir()
    records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    events = [tf.compat.v1.Event.FromString(record) for record in records]
    assert events[0].file_version == "brain.Event:2"
    found = [(e.step, {v.tag: v.simple_value for v in e.summary.value}) for e in events[1:]]
    assert found == [(0, {"epoch_loss": 1.5, "epoch_mean_iou": 0.25}), (300, {"epoch_loss": 0.125})]
    assert events[1].wall_time == pytest.approx(file.stat().st_mtime, abs=10)
