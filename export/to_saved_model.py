"""Write a trained model as a SavedModel folder and compare it with the Keras model.

    python export/to_saved_model.py runs/photos --size 256 256 --output files/server
    python export/to_saved_model.py best.keras --size 256 256 --images photos/ --output files/web

The options are those of `keras-seg export`. Exit status: 0; 1 when a file is outside of the bounds,
in which case nothing is written; 2 for bad input.
"""

import sys

if __name__ == "__main__":
    from keras_seg.cli import export_script

    sys.exit(export_script(__doc__, ["saved_model"]))
