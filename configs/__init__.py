"""One typed configuration a run; `python train.py --config=configs/NAME.py`."""
