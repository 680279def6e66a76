"""Write a trained model as TFLite (LiteRT) files and compare each with the Keras model.

    python export/to_tflite.py runs/photos --size 256 256 --data photos/ --output files/phone
    python export/to_tflite.py best.keras --size 256 256 --quantize float16 int8 \\
        --calibration photos/images --images photos/held_out --output files/phone

The options are those of `keras-seg export`. Exit status: 0; 1 when a file is outside of the bounds,
in which case nothing is written; 2 for bad input.
"""

import sys

if __name__ == "__main__":
    from keras_seg.cli import export_script

    sys.exit(export_script(__doc__, ["tflite"]))
