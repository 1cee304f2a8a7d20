"""Numbers, tables and plots of how well detectors tell images apart."""
