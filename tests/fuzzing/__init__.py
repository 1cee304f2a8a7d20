"""Hostile image files, grown from healthy ones; `python -m tests.fuzzing` prepares thousands.

seeds   healthy photos in all formats, and the parts that files are made of
bombs   small files that ask for much      exif    EXIF that lies
files   all kinds, in any number, the same for the same seed
memory  what the processes that read them take up
"""
