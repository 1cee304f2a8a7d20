"""Hostile input and interruptions by the thousand: `python -m tests.fuzzing`, or `make fuzz`.

target     what a target is, and what counts as a find
targets/   one file each: makes cases from random numbers, and runs one
made       what the targets damage: photos, records, detectors, all made here
campaign   targets in processes of their own; finds made small and kept
prepared   hostile files by the thousand through `exif-jax prepare`: has a command of its own

seeds      healthy photos in all formats, and the parts that files are made of
bombs      small files that ask for much      exif    EXIF that lies
files      all kinds, in any number, the same for the same seed
texts      texts, names and JSON that nobody expects
memory     what processes take up
"""
