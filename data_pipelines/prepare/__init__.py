"""From whatever photos people have to clean training records, step by step.

    options.py        everything that decides the content of the records, with its flags
    sidecars/         EXIF from files beside the photos
    reader.py         one photo -> its windows and values, or why it is of no use
      content_ids.py    which files are copies of one image
      looks.py          how a photo looks, in few numbers
      jpeg_windows.py   windows of a JPEG cut without decoding it
      window_quality.py flat, black and clipped windows
      not_cameras.py    scanners, screenshots, games, editors
    isolation.py      the same in a child process that may hang, grow or die
      worker.py         the child
    parts.py          some hundred files -> one part on disk, the unit of resumption
    catalogue.py      what is known of all photos, in columns
    near_copies.py    one photo saved anew, resized or cropped
    plan.py           duplicates, bursts, split, classes
    shards.py         parts -> the final shards
    engines.py        running parts and shards: local processes
      beam_engine.py    or Apache Beam
    workspace.py      the output directory while it is unfinished
    report/           what the records hold, as text, JSON and a page

Which files to read, `data_pipelines.sources` tells; what they are, `raw_files` and `jpeg_files`.
`run.prepare` runs these steps; `command.py` is the command `exif-jax prepare`.
"""
