"""The data set as tensorflow-datasets builds it: `tfds build data_pipelines/exif_photos`."""
